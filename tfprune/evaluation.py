"""How good a Keras 3 model is on labelled data, by one number that is larger for better models."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune import metrics
from tfprune.channels.batches import Batch, Batches
from tfprune.metrics import Metric

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
        metric: "accuracy", "loss", or a function (labels, outputs) -> a number.
        caller: the function that takes `metric`, for messages.

    Attributes:
        name: of the metric.

    Raises:
        ValueError: no such metric, or a loss without a compiled model.
    """

    def __init__(self, model: keras.Model, metric: str | Metric, caller: str) -> None:
        self._model, self._caller = model, caller
        self._metric: Metric | None = metric if callable(metric) else None
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
        found = _Labels(batch.labels)
        if self._metric is None:
            one = arrays[0] if isinstance(arrays, (list, tuple)) and len(arrays) == 1 else arrays
            if isinstance(one, (list, tuple)):
                one = {str(number): array for number, array in enumerate(one)}
            _, self._metric = metrics.metric_for(found, one, self._caller)
            arrays = one
        return metrics.score(self._metric, found, arrays)


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
    total, samples = 0.0, 0
    for batch in merged(batches):
        judge.require_labels(batch)
        inputs = batch.inputs if len(batch.inputs) > 1 else batch.inputs[0]
        with each_model_once():
            outputs = model.predict_on_batch(inputs)
        total += judge(batch, outputs) * batch.size
        samples += batch.size
    return total / samples


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
