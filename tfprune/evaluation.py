"""How good a Keras 3 model is on labelled data, by one number that is larger for better models."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import os
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune import metrics
from tfprune.channels import graph
from tfprune.channels.batches import Batch, Batches
from tfprune.cloning import is_graph
from tfprune.family import family, room
from tfprune.metrics import Metric
from tfprune.paths import walk

_TOGETHER = 256  # samples in a forward pass: large enough that Python costs little


@dataclasses.dataclass(frozen=True)
class _Labels:
    """What `metrics.metric_for` wants to know of data."""

    labels: Any
    name: str = "data"


class Judge:
    """Tells how good outputs are; larger is better, losses are negated.

    Args:
        model: the model; "loss" is the one that it was compiled with, without penalties of weights
            and activations: fewer weights cost less penalty, and predict no better for it.
        metric: "accuracy", "loss", or a function (labels, outputs) -> a number. Sample weights
            count for the first two, as in Keras's `evaluate`.
        caller: the function that takes `metric`, for messages.

    Attributes:
        name: of the metric.

    Raises:
        ValueError: no such metric, or a loss without a compiled model.
    """

    def __init__(self, model: keras.Model, metric: str | Metric, caller: str) -> None:
        self._model, self._caller = model, caller
        self._metric: Metric | None = metric if callable(metric) else None
        self._of_probabilities = False  # whether a batch has shown that outputs are
        self._by_loss = metric == "loss"
        if not callable(metric) and metric not in ("accuracy", "loss"):
            raise ValueError(
                "`metric` must be 'accuracy', 'loss' or a function of labels and outputs. "
                f"Received: metric={metric!r}"
            )
        if self._by_loss and not model.compiled:
            raise ValueError(
                "`metric='loss'` is the loss that the model was compiled with: call "
                "`model.compile(loss=...)` first. Received: a model that is not compiled"
            )
        named = getattr(metric, "__name__", type(metric).__name__)
        self.name = str(metric) if isinstance(metric, str) else named

    @staticmethod
    def require_labels(batch: Batch) -> None:
        """Raise unless a batch has labels."""
        if batch.labels is None:
            raise ValueError(
                "What pruning costs shows only against labels: pass `data=(inputs, labels)`, or "
                "batches of both. Received: inputs only"
            )

    def __call__(self, batch: Batch, outputs: Any) -> float:
        """Return the metric of one batch."""
        if self._by_loss:
            with _without_penalties(self._model):
                loss = self._model.compute_loss(
                    y=batch.labels, y_pred=outputs, sample_weight=batch.weights, training=False
                )
            value = -float(np.asarray(keras.ops.convert_to_numpy(loss)))
            if not math.isfinite(value):
                raise ValueError(f"The loss is not finite. Received: {-value}")
            return value
        arrays = tree.map_structure(lambda x: np.asarray(keras.ops.convert_to_numpy(x)), outputs)
        found, metric = _Labels(batch.labels), self._metric
        if metric is None:  # labels are checked in each batch; wrong ones may come late
            one = arrays[0] if isinstance(arrays, (list, tuple)) and len(arrays) == 1 else arrays
            if isinstance(one, (list, tuple)):
                one = {str(number): array for number, array in enumerate(one)}
            check = not self._of_probabilities  # a pruned model may leave 0 to 1 a little
            _, metric = metrics.metric_for(found, one, self._caller, check)
            self._of_probabilities = True
            arrays = one
            metric = functools.partial(metric, weights=_only(batch.weights))
        return metrics.score(metric, found, arrays)

    def counts(self, batch: Batch) -> float:
        """Return how much a batch counts in the mean over all: its samples, or their weights.

        Keras divides a loss by the number of samples, whatever they weigh; and a metric of the
        user's own knows no weights.

        Raises:
            ValueError: weights that are negative or not finite.
        """
        weights = None if self._by_loss or self._metric is not None else _only(batch.weights)
        if weights is None:
            return float(batch.size)
        if not np.isfinite(weights).all() or weights.min() < 0:
            raise ValueError(
                "Sample weights must be finite, 0 or more, to weigh an accuracy. "
                f"Received: weights from {weights.min():g} to {weights.max():g}"
            )
        return float(weights.reshape(len(weights), -1).mean(axis=1).sum())


def _only(weights: Any) -> np.ndarray | None:
    """Return the sample weights of a model's only output, however they are wrapped up."""
    arrays = [np.asarray(one) for one in tree.flatten(weights) or [] if one is not None]
    return np.atleast_1d(arrays[0]) if arrays else None


def mean(total: float, counted: float) -> float:
    """Return a mean over batches from what `Judge` gave, times what each counts, and the counts.

    Raises:
        ValueError: nothing counts.
    """
    if not counted:
        raise ValueError(
            "All sample weights of `data` are 0, so that no sample counts. Leave the weights out, "
            "or weigh what is to be measured. Received: weights that sum up to 0"
        )
    return total / counted


def require_model(model: Any, caller: str) -> None:
    """Raise unless a model is a built Sequential or Functional one, and not wrapped.

    Args:
        model: what the user passed.
        caller: the function, for messages.

    Example: `require_model(model, "sensitivity")`

    Raises:
        TypeError: it is no Keras 3 model.
        ValueError: it is subclassed, not built, or wrapped for pruning.
    """
    if not isinstance(model, keras.Model):
        if isinstance(model, (str, os.PathLike)):
            advice = "Load the file first: `keras.models.load_model(path)`"
        elif family(model) == "tf_keras":
            advice = (
                "Build this one of legacy Keras (`import tf_keras`) with the layers of `keras`, "
                "and copy its weights: `new.set_weights(old.get_weights())`"
            )
        else:
            advice = "Pass a trained Sequential or Functional model"
        raise TypeError(
            f"`{caller}` takes a model of Keras 3 (`import keras`). {advice}. Received: {model!r} "
            f"(of type {type(model).__module__}.{type(model).__name__})"
        )
    if not is_graph(model):
        raise ValueError(
            f"`{caller}` prunes layers by their names, and only its class knows the layers of a "
            "subclassed model. Write it with the Functional API: `keras.Model(inputs, outputs)`. "
            f"Received: {type(model).__name__} '{model.name}'"
        )
    if not model.built or not model.layers:
        raise ValueError(
            f"The model '{model.name}' has no layers or is not built, so the shapes of its weights "
            "are unknown. Add layers, and a `keras.Input(shape)` in front, or call it on data "
            f"once. Received: {len(model.layers)} layers, built={model.built}"
        )
    keras_ = room("keras")
    wrapped = next((path for path, layer in walk(model, keras_) if keras_.is_wrapped(layer)), None)
    if wrapped is not None:
        raise ValueError(
            f"The model is wrapped for pruning already, and `{caller}` prunes dense ones. Strip it "
            f"first (`tfprune.strip_pruning`). Received: the wrapped layer '{wrapped}'"
        )


@contextlib.contextmanager
def _without_penalties(model: keras.Model) -> Iterator[None]:
    """Let a model's loss be that of its outputs alone.

    Nothing is subtracted, so that a `compute_loss` of the user's own is right whether or not it
    adds penalties. In the scope Keras sees no losses of an earlier call, which may be tensors of a
    graph that is gone, and leaves the metrics of the model as they are.
    """
    held = [(weight, weight.regularizer) for weight in model.trainable_weights]
    try:
        for weight, _ in held:
            weight.regularizer = None
        with keras.StatelessScope(collect_losses=True):
            yield
    finally:
        for weight, regularizer in held:
            weight.regularizer = regularizer


@contextlib.contextmanager
def each_model_once() -> Iterator[None]:
    """Spare the user TensorFlow's advice against tracing often: every model here is another one."""
    logger = logging.getLogger("tensorflow")
    logger.addFilter(_no_advice)
    try:
        yield
    finally:
        logger.removeFilter(_no_advice)


def _no_advice(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in str(record.msg)


def evaluate(model: keras.Model, batches: Batches, judge: Judge) -> float:
    """Return the mean of a metric over the samples of all batches, in inference mode."""
    total = counted = 0.0
    for batch in merged(batches):
        judge.require_labels(batch)
        with each_model_once():
            outputs = model.predict_on_batch(_as_taken(model, batch.inputs))
        counts = judge.counts(batch)
        total += judge(batch, outputs) * counts
        counted += counts
    return mean(total, counted)


def _as_taken(model: keras.Model, inputs: list[np.ndarray]) -> Any:
    """Return inputs structured as a model takes them, by their names say: Keras insists on it."""
    if is_graph(model):
        return tree.pack_sequence_as(graph.inputs(model), inputs)
    return inputs if len(inputs) > 1 else inputs[0]  # what a `train` of the user's gave back


def merged(batches: Batches) -> Iterator[Batch]:
    """Put small batches of labelled samples together, so that fewer and larger ones are run.

    Only those whose samples have one shape (sequences may differ), and none if the model says how
    many samples it takes.

    Raises:
        ValueError: a batch has no labels.
    """
    waiting: list[Batch] = []
    for batch in batches:
        Judge.require_labels(batch)
        if waiting and (batches.fixed or _shapes(batch) != _shapes(waiting[0])):
            yield _joined(waiting)
            waiting = []
        waiting.append(batch)
        if sum(one.size for one in waiting) >= _TOGETHER:
            yield _joined(waiting)
            waiting = []
    if waiting:
        yield _joined(waiting)


def _shapes(batch: Batch) -> Any:
    """Return the shapes of one sample, structured as the batch."""
    parts = (batch.inputs, batch.labels, batch.weights)
    return tree.map_structure(lambda x: None if x is None else x.shape[1:], parts)


def _joined(parts: list[Batch]) -> Batch:
    def join(*arrays: Any) -> Any:
        return None if arrays[0] is None else np.concatenate(arrays)

    return Batch(
        inputs=[np.concatenate(arrays) for arrays in zip(*(p.inputs for p in parts), strict=True)],
        labels=tree.map_structure(join, *(p.labels for p in parts)),
        weights=tree.map_structure(join, *(p.weights for p in parts)),
    )
