"""Importances from the user's data, against numbers worked by hand and against numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from channels.layer_scores import layer_scores, set_weights, two_dense

layers = keras.layers
X = np.array([[1, -1, 2], [3, -1, 0]], "float32")  # behind a relu: 1 0 2, 3 0 0


def test_activation_and_zeros_by_hand():
    model = two_dense()
    # Means 2, 0, 1, divided by their own mean, which is 1.
    assert layer_scores(model, "activation", "first", X).tolist() == [2, 0, 1]
    assert layer_scores(model, "apoz", "first", X).tolist() == [1, 0, 0.5]


def test_a_nested_model_that_is_called_twice_is_measured_twice():
    body = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, "relu", use_bias=False, name="inner"),
            layers.Dense(2, name="end"),
        ],
        name="body",
    )
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    model = keras.Model([one, two], layers.Dense(1)(layers.Add()([body(one), body(two)])))
    set_weights(body, inner=[np.eye(3)])
    # The means of both calls: 2 0 1 and 0 4 1, so 1 2 1, relative to 4/3.
    other = np.array([[-1, 4, 2], [0, 4, 0]], "float32")
    wanted = [0.75, 1.5, 0.75]
    np.testing.assert_allclose(
        layer_scores(model, "activation", "body/inner", [X, other]), wanted, rtol=1e-6
    )
    named = {"two": other, "one": X}
    np.testing.assert_allclose(
        layer_scores(model, "activation", "body/inner", named), wanted, rtol=1e-6
    )
    swapped = {"one": X, "two": X}
    assert layer_scores(model, "activation", "body/inner", swapped).tolist() == [2, 0, 1]


@pytest.fixture
def network(small_model):
    rng = np.random.default_rng(1)
    for variable in small_model.get_layer("norm").variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    small_model.get_layer("norm").beta.assign(rng.normal(size=8))
    return small_model


def test_of_a_network_against_numpy(network, batch):
    """70 samples make batches of 32, 32 and 6; what a kernel reads is behind norm and relu."""
    x = np.concatenate([batch[0], batch[0][:6]]) - 0.5
    for layer, tensor in (("conv1", "relu"), ("conv2", "conv2"), ("wide", "wide")):
        seen = keras.Model(network.inputs, network.get_layer(tensor).output).predict(x, verbose=0)
        seen = seen.reshape(-1, seen.shape[-1]).astype(float)
        mean = np.abs(seen).mean(0)
        np.testing.assert_allclose(
            layer_scores(network, "activation", layer, x), mean / mean.mean(), rtol=1e-4
        )
        np.testing.assert_allclose(
            layer_scores(network, "apoz", layer, x), 1 - (seen == 0).mean(0), atol=1e-6
        )


def test_dropout_is_off_and_statistics_stay(network, batch):
    x = batch[0]
    given = keras.Input((8, 8, 2))
    model = keras.Model(given, layers.Dense(2)(layers.Dropout(0.9)(network(given))))
    before = [v.numpy() for v in model.variables]
    found = [layer_scores(model, "activation", "small/conv1", x) for _ in range(2)]
    assert found[0].tolist() == found[1].tolist()
    np.testing.assert_allclose(found[0], layer_scores(network, "activation", "conv1", x), rtol=1e-6)
    assert all(np.array_equal(a, v.numpy()) for a, v in zip(before, model.variables, strict=True))


def test_a_cut_by_activation_of_a_named_layer():
    """The 25 least active of 128, as ResNet-18 is cut by one of the write-ups."""
    given = keras.Input((6, 6, 3))
    x = layers.Conv2D(128, 3, use_bias=False, name="layer2_0_conv1")(given)
    x = layers.ReLU()(layers.BatchNormalization(name="layer2_0_bn1")(x))
    seen = keras.Model(given, x)
    x = layers.Conv2D(8, 3, use_bias=False, name="layer2_0_conv2")(x)
    model = keras.Model(given, layers.Dense(10, name="fc")(layers.Flatten()(x)))
    data = np.random.default_rng(0).normal(size=(40, 6, 6, 3)).astype("float32")
    small, report = tfprune.shrink(
        model, channels={"layer2_0_conv1": 0.2}, importance="activation", data=data
    )
    means = np.abs(seen.predict(data, verbose=0)).mean((0, 1, 2))
    assert report.history[0]["removed"] == sorted(np.argsort(means)[:25].tolist())
    assert small.get_layer("layer2_0_conv1").filters == 103
    # 27 weights, four values of the norm and 72 weights behind go with each channel.
    assert model.count_params() - small.count_params() == 25 * (27 + 4 + 72)
    assert report.touched == ("layer2_0_conv1", "layer2_0_bn1", "layer2_0_conv2")


# -- Taylor --------------------------------------------------------------------------------------


def line(**options):
    """The prediction is x (1 * 3 + 2 * -1) = x."""
    model = keras.Sequential(
        [
            keras.Input((1,)),
            layers.Dense(2, use_bias=False, name="first", **options),
            layers.Dense(1, use_bias=False, name="last"),
        ]
    )
    set_weights(model, first=[[[1, 2]]], last=[[[3], [-1]]])
    model.compile("sgd", "mse", metrics=["mae"])
    return model


ONES, ZEROS = np.array([[1.0], [2.0]]), np.zeros((2, 1))


def test_taylor_by_hand():
    """The slope of the error by the prediction's factor is the mean of 2 x², 5.

    |weight * gradient| of the first kernel is |1 * 5 * 3| and |2 * 5 * -1|, of the last the same.
    """
    np.testing.assert_allclose(layer_scores(line(), "taylor", "first", (ONES, ZEROS)), [30, 20])
    penalised = line(kernel_regularizer=keras.regularizers.L2(100.0))
    found = layer_scores(penalised, "taylor", "first", (ONES, ZEROS))
    np.testing.assert_allclose(found, [30, 20], rtol=1e-4)
    frozen = line(trainable=False)
    np.testing.assert_allclose(layer_scores(frozen, "taylor", "first", (ONES, ZEROS)), [30, 20])
    weighted = (ONES, ZEROS, np.array([1.0, 0.0]))  # 2 x² of the first sample only, halved
    np.testing.assert_allclose(layer_scores(line(), "taylor", "first", weighted), [6, 4])


def test_taylor_does_not_let_batches_cancel_out():
    """Slopes of -2 and 8: 12 and 48 for the first channel, and not 6 * 3."""
    batches = [(ONES[:1], np.array([[2.0]])), (ONES[1:], np.array([[0.0]]))]
    np.testing.assert_allclose(layer_scores(line(), "taylor", "first", iter(batches)), [30, 20])


def test_taylor_of_a_network_against_a_tape(network, batch):
    x, y = batch[0][:20], batch[1][:20]
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with tf.GradientTape() as tape:
        loss = network.loss(y, network(x, training=False))
    weights = network.trainable_variables
    slopes = tape.gradient(loss, [v.value for v in weights])
    products = {
        v.path.removeprefix("small/"): np.abs(v.numpy() * np.asarray(g))
        for v, g in zip(weights, slopes, strict=True)
    }
    wanted = (
        products["conv1/kernel"].sum((0, 1, 2))
        + products["conv1/bias"]
        + products["norm/gamma"]
        + products["norm/beta"]
        + products["conv2/kernel"].sum((0, 1, 3))
    )
    np.testing.assert_allclose(
        layer_scores(network, "taylor", "conv1", (x, y)), wanted, rtol=1e-4, atol=1e-7
    )


def test_taylor_leaves_weights_and_metrics_alone():
    model = line()
    model.evaluate(ONES, ZEROS, verbose=0)
    before = [float(v) for m in model.metrics for v in m.variables]
    weights = model.get_weights()
    tfprune.shrink(model, channels=0.5, importance="taylor", data=(ONES, ZEROS))
    assert [float(v) for m in model.metrics for v in m.variables] == before
    assert all(map(np.array_equal, weights, model.get_weights()))


def test_taylor_of_two_outputs():
    given = keras.Input((3,))
    body = layers.Dense(3, "relu", use_bias=False, name="first")(given)
    ends = [layers.Dense(1, name=n, use_bias=False)(body) for n in ("a", "b")]
    model = keras.Model(given, ends)
    set_weights(model, first=[np.eye(3)], a=[[[1], [1], [1]]], b=[[[0], [0], [0]]])
    model.compile("sgd", ["mse", "mse"], loss_weights=[1.0, 0.0])
    y = np.zeros((2, 1), "float32")
    model.evaluate(X, [y, y], verbose=0)
    before = {m.name: float(m.result()) for m in model.metrics if m.name.endswith("_loss")}
    assert before == {"a_loss": 9.0, "b_loss": 0.0}  # Keras counts them when it computes a loss
    found = layer_scores(model, "taylor", "first", (X, [y + 1, y]))
    assert {m.name: float(m.result()) for m in model.metrics if m.name in before} == before
    np.testing.assert_allclose(found, [16, 0, 8], rtol=1e-5)
    found = layer_scores(model, "taylor", "first", (X, [y, y]))
    # Predictions 3 and 3, slopes 2 * 3 / 2 a sample; sums of what goes through: 4, 0, 2. Twice.
    np.testing.assert_allclose(found, [24, 0, 12], rtol=1e-5)


def test_several_steps_with_a_loss_that_has_no_configuration():
    model = line()
    model.compile("sgd", lambda y, p: keras.ops.mean((y - p) ** 2, -1))
    small, report = tfprune.shrink(
        model, channels=0.5, importance="taylor", data=(ONES, ZEROS), steps=2
    )
    assert small.compiled
    assert report.history[0]["removed"] == [1]


@pytest.mark.parametrize("importance", ["activation", "apoz", "taylor"])
def test_a_model_that_remembers_is_as_it_was(importance):
    given = keras.Input(batch_shape=(2, 3, 4))
    x = layers.LSTM(5, stateful=True, return_sequences=True)
    x = layers.LSTM(5, stateful=True, name="lstm")(layers.Bidirectional(x, name="both")(given))
    model = keras.Model(given, layers.Dense(3)(x))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(4, 3, 4)).astype("float32")
    model.predict(x[:2], batch_size=2, verbose=0)
    states = [*model.get_layer("lstm").states, *model.get_layer("both").states]
    before = [np.array(state) for state in states]
    data = tf.data.Dataset.from_tensor_slices((x, np.ones((4, 3), "float32"))).batch(2)
    small, _ = tfprune.shrink(model, channels=0.4, importance=importance, data=data)
    assert all(np.any(state) for state in before)
    np.testing.assert_array_equal([np.array(state) for state in states], before)
    assert small.count_params() < model.count_params()


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        ("sparse_categorical_crossentropy", np.eye(2, dtype="float32")),
        ("sparse_categorical_crossentropy", np.array([0, 7])),
        ("mse", np.full((2, 2), np.nan, "float32")),
        ("categorical_crossentropy", np.zeros((2, 5), "float32")),
    ],
)
def test_labels_that_do_not_fit_the_loss(loss, labels):
    model = two_dense()
    model.compile("sgd", loss)
    message = rf"compiled loss '{loss}'.*labels in `data`.*Received: .* labels of shape \(2,"
    with pytest.raises(ValueError, match=message):
        tfprune.shrink(model, channels=0.3, importance="taylor", data=(X, labels))
