"""Network Slimming, soft channel pruning, and training only what a cut has touched."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from channels.layer_scores import set_weights

layers = keras.layers


def network(norm=True, name=None, **options):
    given = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, name="conv1", **options)(given)
    if norm:
        x = layers.BatchNormalization(name="norm1")(x)
    x = layers.Conv2D(4, 3, name="conv2", **options)(layers.ReLU()(x))
    if norm:
        x = layers.BatchNormalization(name="norm2")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(given, layers.Dense(3, name="logits")(x), name=name)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 6, 6, 2)).astype("float32"), rng.integers(0, 3, 32)


def compiled(model, learning_rate=0.05):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(learning_rate), loss)
    return model


# -- BatchNormRegularizer ------------------------------------------------------------------------


def test_the_penalty_by_hand():
    assert float(tfprune.BatchNormRegularizer(0.5)(np.array([1.0, -3.0]))) == 2.0


def test_a_copy_of_a_model_is_penalised_and_the_model_is_not(data):
    inner = network(name="inner")
    given = keras.Input((6, 6, 2))
    x = layers.BatchNormalization(scale=False)(given)
    model = keras.Model(given, layers.Dense(2)(inner(x)))
    inner.get_layer("norm1").gamma.assign([1, -2, 0, 1])
    slim = tfprune.BatchNormRegularizer(0.1).apply(model)
    assert sorted(float(x) for x in slim.losses) == pytest.approx([0.4, 0.4])
    assert not model.losses
    np.testing.assert_array_equal(slim(data[0]), model(data[0]))
    plain = tfprune.BatchNormRegularizer.remove(slim)
    assert not plain.losses
    np.testing.assert_array_equal(plain(data[0]), model(data[0]))


def test_it_acts_in_fit_and_under_a_tape(data):
    """Behind a last layer of zeros the penalty is the only thing that moves a gamma."""
    model = network()
    set_weights(model, logits=[np.zeros((4, 3)), np.zeros(3)])
    model.get_layer("norm2").gamma.assign([1, -1, 2, -2])
    slim = compiled(tfprune.BatchNormRegularizer(0.5).apply(model), 0.1)
    slim.get_layer("logits").trainable = False
    slim.fit(*data, batch_size=32, epochs=1, verbose=0)
    # One step of 0.1 times 0.5 times the sign.
    np.testing.assert_allclose(slim.get_layer("norm2").gamma, [0.95, -0.95, 1.95, -1.95], rtol=1e-6)

    gamma = slim.get_layer("norm1").gamma
    with tf.GradientTape() as tape:
        slim(data[0], training=True)
        penalty = tf.add_n(slim.losses)
    np.testing.assert_allclose(tape.gradient(penalty, gamma.value), 0.5 * np.sign(gamma))


def test_in_a_layer_of_ones_own():
    norm = layers.BatchNormalization(gamma_regularizer=tfprune.BatchNormRegularizer(0.25))
    norm.build((None, 8))
    assert float(norm.losses[0]) == 2.0


def test_other_penalties_stay_when_it_is_removed():
    given = keras.Input((4,))
    norm = layers.BatchNormalization(gamma_regularizer=keras.regularizers.L2(1.0))
    model = keras.Model(given, norm(given))
    assert float(tfprune.BatchNormRegularizer.remove(model).losses[0]) == 4.0
    assert float(tfprune.BatchNormRegularizer(1.5).apply(model).losses[0]) == 6.0


def over_steps():
    given = keras.Input((3, 6, 6, 2))
    x = layers.TimeDistributed(layers.Conv2D(4, 3, name="conv"), name="convs")(given)
    x = layers.TimeDistributed(layers.BatchNormalization(name="norm"), name="norms")(x)
    x = layers.GlobalAveragePooling3D()(layers.ReLU()(x))
    model = keras.Model(given, layers.Dense(3)(x))
    model.get_layer("norms").layer.gamma.assign([2, -0.1, 1, -3])
    return model


def test_norms_at_every_step_are_penalised_and_ranked(tmp_path):
    model = over_steps()
    slim = tfprune.BatchNormRegularizer(0.1).apply(model)
    assert [float(x) for x in slim.losses] == pytest.approx([0.61])
    assert not model.losses
    slim.save(tmp_path / "slim.keras")
    assert len(keras.models.load_model(tmp_path / "slim.keras").losses) == 1
    small, report = tfprune.shrink(slim, channels=0.5, importance="gamma")
    assert report.history[0]["removed"] == [1, 2]
    plain = tfprune.BatchNormRegularizer.remove(small)
    assert (len(small.losses), len(plain.losses)) == (1, 0)
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6, 2))
    np.testing.assert_array_equal(plain(x), small(x))


def test_a_saved_model_loads_by_importing_tfprune(run_python, tmp_path):
    """And shrinking a Keras 3 model needs no tf_keras."""
    tfprune.BatchNormRegularizer(0.1).apply(network()).save(tmp_path / "slim.keras")
    code = (
        "import sys, tfprune, keras\n"
        f"model = keras.models.load_model({str(tmp_path / 'slim.keras')!r})\n"
        "print(round(sum(map(float, model.losses)), 4))\n"
        "small, _ = tfprune.shrink(model, channels=0.25, importance='gamma')\n"
        "print(type(small.get_layer('norm1').gamma_regularizer).__name__)\n"
        "print('tf_keras' in sys.modules, 'tensorflow_model_optimization' in sys.modules)\n"
    )
    # Tests of tfmot set this variable for the whole process.
    lines = run_python(code, TF_USE_LEGACY_KERAS="0").split("\n")
    assert lines[:3] == ["0.8", "BatchNormRegularizer", "False False"]


@pytest.mark.parametrize("strength", [-1e-4, float("nan"), float("inf"), "1e-4", True, None])
def test_strengths_that_are_none(strength):
    with pytest.raises((ValueError, TypeError), match=r"`strength`.*Received: strength="):
        tfprune.BatchNormRegularizer(strength)


def test_models_without_a_gamma():
    with pytest.raises(ValueError, match="no BatchNormalization with a gamma"):
        tfprune.BatchNormRegularizer(1e-4).apply(network(norm=False))

    class Own(keras.Model):
        pass

    with pytest.raises(ValueError, match=r"own class pass `gamma_regularizer=.*Own"):
        tfprune.BatchNormRegularizer(1e-4).apply(Own())


def test_network_slimming_whole(data):
    """Train with the penalty, cut the smallest gammas of all layers, train on."""
    slim = compiled(tfprune.BatchNormRegularizer(0.02).apply(network()))
    slim.fit(*data, epochs=5, verbose=0)
    gammas = {n: np.abs(slim.get_layer(f"norm{n}").gamma.numpy()) for n in (1, 2)}
    assert max(g.max() for g in gammas.values()) < 1.1
    small, report = tfprune.shrink(slim, channels=0.375, importance="gamma")
    smallest = np.sort(np.concatenate(list(gammas.values())))[:3]
    removed = {h["layer"]: h["removed"] for h in report.history}
    gone = [gammas[n][removed.get(f"conv{n}", [])] for n in (1, 2)]
    np.testing.assert_array_equal(np.sort(np.concatenate(gone)), smallest)
    small = compiled(tfprune.BatchNormRegularizer.remove(small))
    history = small.fit(*data, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert not small.losses


# -- SoftChannelPruning --------------------------------------------------------------------------


def zero_filters(model, name="conv1"):
    return np.flatnonzero(np.abs(model.get_layer(name).kernel.numpy()).sum((0, 1, 2)) == 0).tolist()


def test_what_is_zeroed_is_what_is_least_important():
    model = network(bias_initializer="ones")
    kernel = np.ones((3, 3, 2, 4)) * [3, 1, 2, 4]
    set_weights(model, conv1=[kernel, np.ones(4)])
    soft = tfprune.SoftChannelPruning(0.5, importance="l1")
    soft.set_model(model)
    soft.on_train_begin()
    norm = model.get_layer("norm1").get_weights()
    following = model.get_layer("conv2").kernel.numpy()
    # Rows that read the channels count too: make them alike.
    set_weights(model, conv2=[np.ones_like(following), np.zeros(4)])
    soft.on_epoch_end(0)
    assert zero_filters(model) == [1, 2]
    assert model.get_layer("conv1").bias.numpy().tolist() == [1, 0, 0, 1]
    assert all(map(np.array_equal, norm, model.get_layer("norm1").get_weights()))
    assert len(zero_filters(model, "conv2")) == 2
    assert not (model.get_layer("logits").kernel.numpy() == 0).any()
    assert soft.history[0]["layer"] == "conv1"
    assert soft.history[0]["removed"] == [1, 2]


def test_channels_return_and_are_zero_again_at_the_end(data):
    model = compiled(network())
    model.get_layer("norm1").beta.assign(np.ones(4))  # behind a relu at zero nothing returns
    soft = tfprune.SoftChannelPruning(0.5)
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(zero_filters(model)),
        on_train_batch_end=lambda batch, logs: seen.append(zero_filters(model)),
    )
    model.fit(*data, epochs=3, batch_size=32, verbose=0, callbacks=[soft, watch])
    # Before and after the one step of each epoch.
    assert [len(zeros) for zeros in seen] == [0, 0, 2, 0, 2, 0]
    assert zero_filters(model) == soft.history[0]["removed"]


def test_what_is_replayed_computes_the_same_without_norms(data):
    model = compiled(network(norm=False))
    soft = tfprune.SoftChannelPruning(0.5)
    model.fit(*data, epochs=2, verbose=0, callbacks=[soft])
    small = tfprune.replay(model, soft.history)
    assert small.get_layer("conv1").filters == 2
    np.testing.assert_allclose(small(data[0]), model(data[0]), atol=1e-5)


def test_every_other_epoch_and_chosen_layers(data):
    model = compiled(network())
    soft = tfprune.SoftChannelPruning(0.25, every=2, layers=["conv2"])
    model.fit(*data, epochs=1, verbose=0, callbacks=[soft])
    assert not zero_filters(model, "conv2")
    assert soft.history == []
    model.fit(*data, initial_epoch=1, epochs=2, verbose=0, callbacks=[soft])
    assert len(zero_filters(model, "conv2")) == 1
    assert not zero_filters(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 1.0}, "between 0 and 1.*ratio=1.0"),
        ({"ratio": True}, "ratio=True"),
        ({"ratio": 0.5, "every": 0}, "every=0"),
        ({"ratio": 0.5, "importance": "taylor"}, "weights only.*importance='taylor'"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfprune.SoftChannelPruning(**arguments)


def test_driven_wrongly(data):
    soft = tfprune.SoftChannelPruning(0.5)
    with pytest.raises(ValueError, match=r"no model.*set_model"):
        soft.on_train_begin()
    soft.set_model(network())
    with pytest.raises(ValueError, match=r"on_train_begin\(\)"):
        soft.on_epoch_end(0)
    wrapped = compiled(tfprune.prune_low_magnitude(network()))
    with pytest.raises(ValueError, match="Strip it first"):
        wrapped.fit(*data, verbose=0, callbacks=[soft, tfprune.UpdatePruningStep()])


# -- unfreeze_only -------------------------------------------------------------------------------


def deep():
    """Blocks in a nested model, of which one is cut; a norm that the cut does not reach."""
    given = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(given)
    x = layers.BatchNormalization(name="stem_norm")(x)
    y = layers.ReLU()(layers.BatchNormalization(name="norm1")(layers.Conv2D(8, 3, name="conv1")(x)))
    y = layers.Conv2D(4, 3, name="conv2")(y)
    y = layers.Conv2D(4, 1, name="conv3")(y)
    body = keras.Model(given, y, name="body")
    image = keras.Input((8, 8, 3))
    z = layers.Dense(5, name="hidden")(layers.GlobalAveragePooling2D()(body(image)))
    return keras.Model(image, layers.Softmax()(layers.Dense(3, name="fc")(z)))


def test_only_the_touched_norms_and_the_classifier_train():
    model = deep()
    model.get_layer("body").trainable = False
    small, report = tfprune.shrink(model, channels={"conv1": 0.25})
    assert report.touched == ("body/conv1", "body/norm1", "body/conv2")
    small.trainable = False
    trained = tfprune.unfreeze_only(small, report)
    assert trained == ["body/stem_norm", "body/conv1", "body/norm1", "body/conv2", "fc"]
    body = small.get_layer("body")
    own = [*body.get_layer("stem_norm").weights[:2], *body.get_layer("conv1").weights]
    own += [*body.get_layer("norm1").weights[:2], *body.get_layer("conv2").weights]
    own += small.get_layer("fc").weights
    assert {v.path for v in small.trainable_variables} == {v.path for v in own}

    frozen = [body.get_layer(n).get_weights()[0] for n in ("stem", "conv3")]
    small.compile("sgd", "mse")
    before = small.get_layer("fc").get_weights()[0]
    small.fit(np.ones((4, 8, 8, 3)), np.zeros((4, 3)), verbose=0)
    after = [body.get_layer(n).get_weights()[0] for n in ("stem", "conv3")]
    assert all(map(np.array_equal, frozen, after))
    assert not np.array_equal(before, small.get_layer("fc").get_weights()[0])


def test_every_output_has_a_classifier():
    given = keras.Input((4,))
    x = layers.Dense(6, name="body")(layers.Dense(5, name="first")(given))
    ends = [layers.Dense(2, name="a")(x), layers.Activation("relu")(layers.Dense(2, name="b")(x))]
    model = keras.Model(given, ends)
    small, report = tfprune.shrink(model, channels={"first": 0.4})
    assert sorted(tfprune.unfreeze_only(small, report)) == ["a", "b", "body", "first"]


def test_the_report_of_another_model():
    _, report = tfprune.shrink(deep(), channels={"conv1": 0.25})
    other = network()
    with pytest.raises(ValueError, match=r"'body/conv1'.* is not in 'functional.*'"):
        tfprune.unfreeze_only(other, report)
    assert other.trainable_variables
    with pytest.raises(TypeError, match="what `shrink` returns"):
        tfprune.unfreeze_only(other, {"touched": []})
