"""tf_keras models: taken over into Keras 3 where that can be done, else refused."""

import keras
import numpy as np
import pytest
import tf_keras

import tfprune
from tfprune import conversion

old = tf_keras.layers


def randomised(model):
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    return model


def network():
    """Two inputs, shared and nested layers, and settings that Keras 3 does not know."""
    body = tf_keras.Sequential(
        [tf_keras.Input((6, 6, 4)), old.DepthwiseConv2D(3), old.SeparableConv2D(5, 1), old.ReLU()],
        name="body",
    )
    image, tokens = tf_keras.Input((8, 8, 3), name="image"), tf_keras.Input((7,), name="tokens")
    x = old.BatchNormalization(name="norm")(old.Conv2D(4, 3, name="conv")(image))
    shared = old.Conv2D(4, 1, name="shared")
    x = old.Add()([shared(x), shared(old.ReLU()(x))])
    x = old.GlobalAveragePooling2D()(body(x))
    y = old.Bidirectional(old.GRU(4, return_sequences=True))(old.Embedding(9, 5)(tokens))
    y = old.LSTM(3)(y)
    z = old.Concatenate()([x, y])
    ends = [old.Dense(2, activation="softmax", name="a")(z), old.Dense(1, name="b")(z)]
    return randomised(tf_keras.Model([image, tokens], ends, name="whole"))


def test_a_functional_model_is_taken_over():
    model = network()
    inputs = [np.random.default_rng(1).normal(size=(3, 8, 8, 3)), np.ones((3, 7))]
    new = conversion.to_keras3(model)
    assert isinstance(new, keras.Model)
    assert new.count_params() == model.count_params()
    for one, other in zip(model(inputs), new(inputs), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-6)
    assert [layer.name for layer in new.layers if layer.weights] == [
        layer.name for layer in model.layers if layer.weights
    ]


def test_it_is_shrunk_as_any_model_and_itself_unchanged():
    model = network()
    before = model.get_weights()
    small, report = tfprune.shrink(model, macs=0.6)
    assert isinstance(small, keras.Model)
    assert report.macs_after <= 0.6 * report.macs_before
    assert all(map(np.array_equal, before, model.get_weights()))


def test_sequential_models():
    model = randomised(tf_keras.Sequential([old.Dense(6, "relu", input_shape=(4,)), old.Dense(2)]))
    small, report = tfprune.shrink(model, channels={model.layers[0].name: 0.5})
    assert small.layers[0].units == 3
    assert report.params_before == 6 * 5 + 2 * 7


def same_answers(model, *inputs):
    """Take a model over; return what both make of some inputs, and the new one."""
    new = conversion.to_keras3(model)
    given = inputs[0] if len(inputs) == 1 else list(inputs)
    return keras.tree.map_structure(np.asarray, (model(given), new(given))), new


def test_adapted_statistics_are_used():
    norm = old.Normalization()
    norm.adapt(np.array([[10.0, 200.0], [14.0, 220.0]]))
    model = tf_keras.Sequential([tf_keras.Input((2,)), norm, old.Dense(1)])
    (one, other), new = same_answers(model, np.array([[10.0, 220.0]]))
    np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(new.layers[0](np.array([[10.0, 220.0]])), [[-1, 1]], atol=1e-6)


def test_a_difference_that_is_small_beside_a_constant(monkeypatch):
    """As in networks that are not trained, whose outputs are nearly the same for all inputs."""

    def copy_turned_round(model, new):
        kernel, bias = model.get_weights()
        new.set_weights([-kernel, bias])

    model = tf_keras.Sequential([tf_keras.Input((4,)), old.Dense(1)])
    model.set_weights([np.full((4, 1), 1e-5), np.ones(1)])
    conversion.to_keras3(model)
    monkeypatch.setattr(conversion, "_copy_weights", copy_turned_round)
    with pytest.raises(
        ValueError, match=r"be .*e-05 apart, and for other inputs they are .* apart"
    ):
        conversion.to_keras3(model)


@pytest.mark.parametrize("kind", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_rounds_more(kind):
    policy = tf_keras.mixed_precision.Policy(kind)
    x = given = tf_keras.Input((8, 8, 3))
    for _ in range(2):
        x = old.BatchNormalization(dtype=policy)(old.Conv2D(8, 3, dtype=policy)(x))
        x = old.ReLU(dtype=policy)(x)
    ends = old.Dense(4, dtype="float32")(old.GlobalAveragePooling2D(dtype=policy)(x))
    new = conversion.to_keras3(randomised(tf_keras.Model(given, ends)))
    assert new.layers[1].dtype_policy.name == kind


def test_half_precision_is_compared_too(monkeypatch):
    monkeypatch.setattr(conversion, "_copy_weights", lambda old_model, new: None)
    model = tf_keras.Sequential([tf_keras.Input((4,)), old.Dense(3, dtype="mixed_float16")])
    with pytest.raises(ValueError, match=r"outputs would be .* apart"):
        conversion.to_keras3(model)


def test_structures_stay():
    one, two = tf_keras.Input((4,), name="one"), tf_keras.Input((3,), name="two")
    ends = {"b": old.Dense(2)(one), "a": [old.Dense(3)(old.Concatenate()([one, two]))]}
    model = randomised(tf_keras.Model({"two": two, "one": one}, ends))
    (wanted, found), _ = same_answers(model, {"one": np.ones((2, 4)), "two": np.full((2, 3), 2.0)})
    assert sorted(found) == ["a", "b"]
    np.testing.assert_allclose(found["b"], wanted["b"], atol=1e-5)
    np.testing.assert_allclose(found["a"][0], wanted["a"][0], atol=1e-5)


def test_attention_and_what_is_passed_by_name():
    given, mask = tf_keras.Input((5, 8)), tf_keras.Input((5, 5), dtype="bool")
    inner = tf_keras.Model(given, old.MultiHeadAttention(2, 4)(given, given), name="inner")
    x = old.MultiHeadAttention(2, 4, value_dim=3)(inner(given), given, attention_mask=mask)
    model = randomised(tf_keras.Model([given, mask], x))
    rng = np.random.default_rng(1)
    batch = rng.normal(size=(2, 5, 8)).astype("float32"), rng.random((2, 5, 5)) < 0.5
    (wanted, found), new = same_answers(model, *batch)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert new.get_layer("inner").layers[-1].get_config()["num_heads"] == 2


def test_a_setting_that_keras_3_does_not_know_is_named():
    model = tf_keras.Sequential([tf_keras.Input((4, 3)), old.LSTM(2, time_major=True)])
    with pytest.raises(ValueError, match=r"Keras 3: .*passed to LSTM: \{'time_major': True\}"):
        conversion.to_keras3(model)


def test_what_keras_3_does_not_have():
    given = tf_keras.Input((4,))
    model = tf_keras.Model(given, old.Dense(3)(given) * 2.0, name="doubled")
    with pytest.raises(ValueError, match=r"'doubled' cannot be taken over.*a TFOpLambda, which"):
        tfprune.shrink(model, macs=0.5)


def test_outputs_that_are_not_the_same(monkeypatch):
    monkeypatch.setattr(conversion, "_copy_weights", lambda old_model, new: None)
    with pytest.raises(ValueError, match=r"outputs would be .* apart"):
        tfprune.shrink(network(), macs=0.5)


def test_other_kinds_of_model():
    class Own(tf_keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="not a built Sequential or Functional model"):
        tfprune.shrink(Own(), macs=0.5)
    with pytest.raises(ValueError, match="not a built Sequential or Functional model"):
        tfprune.shrink(tf_keras.Sequential([old.Dense(3)]), macs=0.5)


def test_a_model_wrapped_by_tfmot():
    model = tf_keras.Sequential([old.Dense(6, input_shape=(4,), name="one"), old.Dense(2)])
    wrapped = tfprune.prune_low_magnitude(model)
    with pytest.raises(ValueError, match=r"Strip it first.*such as 'one'"):
        tfprune.shrink(wrapped, macs=0.5)
