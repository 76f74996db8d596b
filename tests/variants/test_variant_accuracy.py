"""Accuracy against literals, numpy and the runtime."""

import numpy as np
import pytest

from tfprune import metrics
from tfprune.export import export_tflite
from tfprune.export.interfaces import interface_of
from tfprune.export.runtime import RuntimeFailure
from tfprune.progress import Steps
from tfprune.variants import accuracy
from tfprune.variants.data import Evaluation

LOGITS = np.array([[3.0, 1.0, 0.0], [0.0, 5.0, 1.0], [2.0, 1.0, 0.0], [0.0, 0.0, 9.0]])


def labelled(labels):
    return Evaluation([], np.asarray(labels), "test.npz")


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([0, 1, 0, 2], 1.0),
        ([0, 1, 1, 0], 0.5),
        ([[0], [1], [2], [2]], 0.75),
        (np.eye(3)[[0, 0, 0, 0]], 0.5),
        (np.eye(3, dtype=bool)[[0, 1, 0, 0]], 0.75),
    ],
)
def test_top_1(labels, wanted):
    name, metric = metrics.metric_for(labelled(labels), LOGITS)
    assert name == "top-1 accuracy"
    assert metrics.score(metric, labelled(labels), LOGITS) == wanted


def test_top_1_of_each_pixel():
    outputs = np.stack([LOGITS, LOGITS])[:, :, None]  # (2, 4, 1, 3)
    labels = np.zeros((2, 4, 1), int)
    name, metric = metrics.metric_for(labelled(labels), outputs)
    assert (name, metric(labels, outputs)) == ("top-1 accuracy", 0.5)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_a_single_probability(shape):
    outputs = np.array([[0.9], [0.5], [0.51], [0.0]])
    labels = np.array([1, 0, 0, 0]).reshape(shape)
    name, metric = metrics.metric_for(labelled(labels), outputs)
    assert name == "accuracy at the threshold 0.5"
    assert metric(labels, outputs) == 0.75


@pytest.mark.parametrize(
    ("labels", "outputs", "message"),
    [
        ([0, 1, 2, 3], LOGITS, "from 0 to 2"),
        ([-1, 0, 0, 0], LOGITS, "from 0 to 2"),
        ([0.5, 1.0, 2.0, 0.0], LOGITS, "do not fit"),  # regression
        ([[1, 1, 0]] * 4, LOGITS, "one-hot"),  # several labels at once
        ([[0, 1]] * 4, LOGITS, "do not fit"),
        ([0, 1, 0, 1], np.array([[-3.0], [2.0], [0.1], [0.2]]), "sigmoid"),
        ([0.2, 1.5, 0.0, 1.0], np.full((4, 1), 0.5), "sigmoid"),
        ([0, 1, 2, 1], np.full((4, 1), 0.5), "sigmoid"),
        ([[0, 1]] * 4, np.full((4, 1), 0.5), "do not fit"),
        ([0, 1, 2, 1], {"a": LOGITS, "b": LOGITS}, "several outputs"),
    ],
)
def test_what_has_no_accuracy_asks_for_a_metric(labels, outputs, message):
    with pytest.raises(ValueError, match=message) as caught:
        metrics.metric_for(labelled(labels), outputs)
    assert "Received: " in str(caught.value)
    assert "metric" in str(caught.value) or "Class ids" in str(caught.value)


@pytest.mark.parametrize("value", [None, float("nan"), "good", [0.1, 0.2], float("inf")])
def test_a_metric_must_return_a_number(value):
    with pytest.raises(ValueError, match="finite number"):
        metrics.score(lambda labels, outputs: value, labelled([0]), LOGITS)


def test_keras_and_its_file_answer_as_numpy_does(net, answers, x, y, tmp_path):
    interface = interface_of(net, x, None)
    data = Evaluation([[one[None]] for one in x], y, "test")
    export_tflite(net, tmp_path / "net.tflite", sparse=True)
    with Steps(1, shown=False) as steps:
        keras = accuracy.keras_outputs(net, interface, data, steps)
        file = accuracy.file_outputs(tmp_path / "net.tflite", interface, data, steps, "float32")
    assert np.allclose(keras, answers(x), atol=1e-5)
    assert np.allclose(file, answers(x), atol=1e-5)
    assert metrics.top_1_accuracy(y, file) == 0.75


def test_a_file_that_does_not_run(net, x, y, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"\0" * 64)
    data = Evaluation([[x[:1]]], y[:1], "test")
    with Steps(1, shown=False) as steps, pytest.raises(RuntimeFailure):
        accuracy.file_outputs(tmp_path / "bad.tflite", interface_of(net, x, None), data, steps, "")
