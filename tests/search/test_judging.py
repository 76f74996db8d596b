"""What the budget is measured by: the loss of the outputs alone."""

import keras
import numpy as np
import pytest
import searching

import tfprune
from tfprune.channels.batches import Batches
from tfprune.evaluation import Judge, evaluate

L = keras.layers


def penalized(kind=keras.Model):
    keras.utils.set_random_seed(0)
    strong = keras.regularizers.L2(0.5)
    inputs = keras.Input((10,))
    hidden = L.Dense(
        6,
        "relu",
        name="a",
        kernel_regularizer=strong,
        activity_regularizer=keras.regularizers.L2(1),
    )(inputs)
    outputs = L.Dense(3, "softmax", name="b", kernel_regularizer=strong)(hidden)
    return kind(inputs, outputs)


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 10)).astype("float32"), rng.integers(0, 3, 300)


def cross_entropy(model, x, y):
    return -np.log(model.predict(x, verbose=0)[np.arange(len(y)), y]).mean()


class Doubled(keras.Model):
    """A loss of its own, which knows no penalties."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 2.0 * keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred))


@pytest.mark.parametrize(("kind", "times"), [(keras.Model, 1.0), (Doubled, 2.0)])
def test_penalties_are_no_part_of_the_loss(kind, times):
    model = penalized(kind)
    x, y = data()
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.evaluate(x, y, verbose=0)
    told = float(model.get_metrics_result()["accuracy"])
    value = evaluate(model, Batches(model, (x, y)), Judge(model, "loss", "here"))
    assert value == pytest.approx(-times * cross_entropy(model, x, y), rel=1e-5)
    assert [w.regularizer is not None for w in model.trainable_weights] == [True, False] * 2
    assert float(model.get_metrics_result()["accuracy"]) == told


def test_pruning_gains_nothing_from_penalties():
    model = penalized()
    x, y = data()
    model.compile(loss="sparse_categorical_crossentropy")
    found = tfprune.sensitivity(model, (x, y), (0.9,), "loss", layers=["b"])
    before = cross_entropy(model, x, y)
    kernel = model.get_layer("b").kernel.numpy()
    least = np.sort(np.abs(kernel).ravel())[-2]  # of 18, a tenth stays
    model.get_layer("b").kernel.assign(np.where(np.abs(kernel) >= least, kernel, 0))
    assert found.weights[0].drops[0] == pytest.approx(cross_entropy(model, x, y) - before, abs=1e-5)


def test_the_budget_is_measured_on_all_samples_of_a_generator():
    model = searching.network()
    x, y = searching.data(model, 3000)
    parts = ((x[n : n + 500], y[n : n + 500]) for n in range(0, 3000, 500))
    seen = []

    def counting(labels, outputs):
        seen.append(len(labels))
        return 0.5

    options = {"metric": counting, "trials": 1, "train": searching.cut_only}
    assert tfprune.search(model, parts, 0.1, **options).met
    assert sum(seen) == 2 * 3000  # dense, and the trial
