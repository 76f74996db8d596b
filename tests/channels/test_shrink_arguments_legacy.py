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
