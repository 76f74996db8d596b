"""Statistics of batch normalization measured anew: beside numpy, in any batches, and untouched."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune.channels import running
from tfprune.channels.batches import Batches

L = keras.layers


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype("float32")


def nested():
    """A norm, then a model called twice that holds another, along the first axis of its inputs."""
    inputs = keras.Input((5, 3))
    inner = keras.Sequential(
        [
            keras.Input((5, 3)),
            L.Dense(3, name="dense"),
            L.BatchNormalization(axis=1, name="second"),
        ],
        name="inner",
    )
    x = L.BatchNormalization(name="first", trainable=False)(inputs)
    return keras.Model(inputs, L.Add()([inner(x), inner(inputs)]))


def statistics(norm):
    return norm.moving_mean.numpy(), norm.moving_variance.numpy()


def test_each_norm_has_the_statistics_of_all_its_inputs():
    model, x = nested(), normal(30, 5, 3)
    found = tfprune.recalibrate_batch_norm(model, x)
    first, inner = model.get_layer("first"), model.get_layer("inner")
    mean, variance = statistics(first)
    np.testing.assert_allclose(mean, x.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(variance, x.var(axis=(0, 1)), rtol=1e-5)
    # The second one comes behind the first as it is now, and has seen both calls.
    behind = (x - mean) / np.sqrt(variance + first.epsilon)
    kernel, bias = inner.get_layer("dense").get_weights()
    both = np.concatenate([behind, x]) @ kernel + bias
    mean, variance = statistics(inner.get_layer("second"))
    np.testing.assert_allclose(mean, both.mean(axis=(0, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance, both.var(axis=(0, 2)), rtol=1e-4)
    assert [(row.layer, row.channels) for row in found.norms] == [
        ("first", 3),
        ("inner/second", 5),
    ]
    assert found.samples == 30
    # Means of 0 and variances of 1 before.
    assert found.norms[0].shift == pytest.approx(np.abs(x.mean(axis=(0, 1))).mean(), rel=1e-2)
    assert found.norms[0].spread == pytest.approx(np.median(x.var(axis=(0, 1))), rel=1e-2)


@pytest.mark.parametrize("size", [1, 7, 30])
def test_batches_do_not_matter(size):
    x = normal(30, 5, 3)
    whole, parts = nested(), nested()
    parts.set_weights(whole.get_weights())
    tfprune.recalibrate_batch_norm(whole, x)
    tfprune.recalibrate_batch_norm(parts, (x[n : n + size] for n in range(0, 30, size)))
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_nothing_else_changes(small_model, batch):
    x, y = batch
    small_model.compile("adam", "sparse_categorical_crossentropy")
    small_model.fit(x, y, epochs=1, verbose=0)
    norm = small_model.get_layer("norm")
    moving = {id(v) for v in (norm.moving_mean, norm.moving_variance)}
    others = [v for v in small_model.variables if id(v) not in moving]
    before = [v.numpy() for v in (*others, *small_model.optimizer.variables)]
    tfprune.recalibrate_batch_norm(small_model, x)
    after = [v.numpy() for v in (*others, *small_model.optimizer.variables)]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert small_model.compiled


def test_wrapped_models_are_measured_as_they_compute(small_model, batch):
    pruned = tfprune.prune(small_model, tfprune.ConstantSparsity(0.5, 0))
    pruned.compile("sgd", "sparse_categorical_crossentropy")
    pruned.fit(*batch, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    tfprune.recalibrate_batch_norm(pruned, batch[0])
    plain = tfprune.strip_pruning(pruned)
    values = keras.Model(plain.inputs, plain.get_layer("conv1").output).predict(batch[0], verbose=0)
    mean, variance = statistics(pruned.get_layer("norm"))
    np.testing.assert_allclose(mean, values.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, values.var(axis=(0, 1, 2)), rtol=1e-4)


def test_a_failure_leaves_the_statistics_as_they_were():
    inputs = keras.Input((2,))
    x = L.BatchNormalization(name="first")(inputs)
    x = L.Rescaling(1e38)(x)
    model = keras.Model(inputs, L.BatchNormalization(name="second")(L.Rescaling(1e3)(x)))
    with pytest.raises(ValueError, match="'second' is not finite on these data"):
        tfprune.recalibrate_batch_norm(model, normal(20, 2))
    mean, variance = statistics(model.get_layer("first"))
    assert mean.tolist() == [0.0, 0.0]
    assert variance.tolist() == [1.0, 1.0]


def test_a_table_and_json(small_model, batch):
    found = tfprune.recalibrate_batch_norm(small_model, batch)
    assert "norm " in str(found)
    assert '"samples": 64' in found.to_json()


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (lambda: keras.Sequential([keras.Input((3,)), L.Dense(2)]), (4, 3), "nothing to recalib"),
        (lambda: keras.Sequential([L.BatchNormalization()]), (4, 3), "not built yet"),
        (lambda: 3, (4, 3), r"takes a model of Keras 3.*Received: 3"),
        (
            lambda: keras.Sequential([keras.Input((3,)), L.BatchNormalization()]),
            (4, 2),
            r"\(4, 2\)",
        ),
        (
            lambda: keras.Sequential([keras.Input((3,)), L.BatchNormalization()]),
            (0, 3),
            "no samples",
        ),
        (lambda: keras.Sequential([keras.Input((3,)), L.BatchNormalization()]), (1, 3), "a single"),
    ],
    ids=["no norm", "not built", "no model", "misshaped", "empty", "one sample"],
)
def test_bad_input(model, data, message):
    with pytest.raises(ValueError, match=message):
        tfprune.recalibrate_batch_norm(model(), np.ones(data, "float32"))


def test_models_of_tf_keras_are_refused():
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.BatchNormalization()])
    with pytest.raises(ValueError, match=r"takes a model of Keras 3.*Received: .*tf_keras"):
        tfprune.recalibrate_batch_norm(model, np.ones((4, 3)))


def test_a_graph_runs_as_the_model_predicts_and_no_further_than_asked():
    model, x = nested(), normal(4, 5, 3)
    (batch,) = Batches(model, x)
    names = [layer.name for layer in running.operations(model)]
    assert names.count("dense") == 2
    steps = running.visits(model, running.tensors(model, batch))
    seen = []
    while True:
        try:
            seen.append(next(steps)[0].name)
        except StopIteration as end:
            outputs = end.value
            break
    assert seen == names
    np.testing.assert_allclose(outputs[0], model.predict(x, verbose=0), rtol=1e-5, atol=1e-5)
    calls = []
    last = model.layers[-1]
    last.call = lambda inputs: calls.append(inputs)  # would be seen if it were run
    first = model.get_layer("first")
    assert len(list(running.inputs_of(first, model, batch))) == 1
    assert not calls


def test_recurrent_layers_remember_what_they_did():
    gru = L.GRU(4, stateful=True, return_sequences=True)
    model = keras.Sequential([keras.Input(batch_shape=(4, 3, 5)), gru, L.BatchNormalization()])
    x = normal(4, 3, 5)
    model.predict(x, batch_size=4, verbose=0)
    before = gru.states[0].numpy()
    tfprune.recalibrate_batch_norm(model, x)
    np.testing.assert_array_equal(gru.states[0].numpy(), before)
    seen = gru(x).numpy().reshape(12, 4)  # from there on
    np.testing.assert_allclose(model.layers[1].moving_mean.numpy(), seen.mean(axis=0), rtol=1e-4)
