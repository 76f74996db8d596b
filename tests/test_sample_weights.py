"""Sample weights count in an accuracy as Keras counts them, whatever the batches."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune import metrics
from tfprune.channels.batches import Batches
from tfprune.evaluation import Judge, evaluate

L = keras.layers


def weighted(units, per_step=False, loss="sparse_categorical_crossentropy"):
    """Return a model, and batches that differ in how much their samples weigh."""
    keras.utils.set_random_seed(0)
    ends = "softmax" if units > 1 else "sigmoid"
    shape = (5, 4) if per_step else (4,)
    model = keras.Sequential([keras.Input(shape), L.Dense(units, ends, name="d")])
    model.compile(loss=loss, weighted_metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, *shape)).astype("float32")
    y = rng.integers(0, max(2, units), (700, *shape[:-1]))
    weights = rng.uniform(size=y.shape) * (y == 0) + 0.1
    weights[256:512] *= 7  # what is put together to run at once
    return model, x, y, weights


@pytest.mark.parametrize(
    ("units", "per_step", "loss"),
    [
        (3, False, "sparse_categorical_crossentropy"),
        (1, False, "binary_crossentropy"),
        (3, True, "sparse_categorical_crossentropy"),
    ],
)
@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_weighted_as_keras_does(units, per_step, loss, metric):
    model, x, y, weights = weighted(units, per_step, loss)
    told = model.evaluate(x, y, sample_weight=weights, batch_size=100, verbose=0, return_dict=True)
    data = (x, y, weights)
    expected = told[metric] if metric == "accuracy" else -told[metric]
    found = evaluate(model, Batches(model, data), Judge(model, metric, "here"))
    assert found == pytest.approx(expected, rel=1e-5)
    assert tfprune.sensitivity(model, data, (0.5,), metric).dense == pytest.approx(found, rel=1e-5)


def test_a_pruned_weight_is_judged_by_weights_too_and_a_record_goes_on(tmp_path):
    model, x, y, weights = weighted(3)
    path = tmp_path / "record.json"
    found = tfprune.sensitivity(model, (x, y, weights), (0.5,), record=path)
    kernel = model.get_layer("d").kernel.numpy()
    least = np.sort(np.abs(kernel).ravel())[kernel.size // 2]
    model.get_layer("d").kernel.assign(np.where(np.abs(kernel) >= least, kernel, 0))
    pruned = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)["accuracy"]
    assert found.dense - found.weights[0].drops[0] == pytest.approx(pruned, rel=1e-5)
    model.get_layer("d").kernel.assign(kernel)
    again = tfprune.sensitivity(model, (x, y, weights), (0.5,), record=path)
    assert again == found


def test_a_metric_of_ones_own_knows_no_weights():
    model, x, y, weights = weighted(3)
    by_hand = (model.predict(x, verbose=0).argmax(1) == y).mean()
    found = tfprune.sensitivity(model, (x, y, weights), (0.5,), metrics.top_1_accuracy)
    assert found.dense == pytest.approx(by_hand)


@pytest.mark.parametrize(("weights", "wanted"), [(None, 0.5), ([3, 1], 0.75), ([[3], [1]], 0.75)])
def test_shares_by_hand(weights, wanted):
    outputs = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert metrics.top_1_accuracy([0, 1], outputs, weights) == wanted
    assert metrics.binary_accuracy([1, 1], outputs[:, :1] - [[0.0], [0.5]], weights) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights * 0, "All sample weights of `data` are 0"),
        (lambda weights: -weights, r"0 or more, to weigh an accuracy\. Received: weights from -"),
        (lambda weights: weights * np.nan, r"must be finite"),
        (lambda weights: np.stack([weights] * 2, 1), r"Received: weights of shape \(256, 2\)"),
    ],
)
def test_weights_that_weigh_nothing(change, message):
    model, x, y, weights = weighted(3)
    with pytest.raises(ValueError, match=message):
        tfprune.sensitivity(model, (x, y, change(weights)), (0.5,))
