"""How good outputs are by their labels: the accuracy that fits, or the user's function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

Metric = Callable[[Any, Any], float]
"""(labels, outputs) -> a number, larger is better."""
TOP_1, BINARY = "top-1 accuracy", "accuracy at the threshold 0.5"


class Labelled(Protocol):
    """Data with labels.

    Attributes:
        labels: one for each row of the outputs, an array (samples, ...).
        name: for messages.
    """

    @property
    def labels(self) -> Any:
        """Return the labels."""

    @property
    def name(self) -> str:
        """Return what to call the data in messages."""
        ...


def metric_for(
    data: Labelled,
    outputs: Any,
    caller: str = "tfprune.export_variants",
    probabilities: bool = True,
) -> tuple[str, Callable[..., float]]:
    """Return which accuracy the labels and the model's outputs call for, and its name.

    One output of several units: the share of samples whose largest unit is the label's. One unit:
    the share on the right side of 0.5, if all its outputs are between 0 and 1. Beside labels and
    outputs it takes `weights` of the samples.

    Args:
        data: its labels are class ids, shape of the output without the last axis; or one-hot, shape
            of the output.
        outputs: of the Keras model.
        caller: the function that takes a `metric`, for messages.
        probabilities: whether outputs of a single unit must lie between 0 and 1.

    Raises:
        ValueError: no accuracy can be told from them; the message says what to pass.
    """
    advice = (
        "pass a `metric`, a function of labels and outputs whose result is larger for better "
        f"models, to `{caller}`"
    )
    if isinstance(outputs, dict):
        raise ValueError(
            "Accuracy cannot be computed automatically for a model of several outputs: "
            f"{advice}. Received: the outputs {', '.join(outputs)}"
        )
    labels = np.asarray(data.labels)
    got = f"labels (y) of shape {labels.shape} and dtype {labels.dtype} in `{data.name}`"
    if outputs.ndim < 2 or outputs.shape[-1] == 1:
        if labels.shape not in (outputs.shape, outputs.shape[:-1], (*outputs.shape, 1)):
            raise ValueError(_no_fit(outputs, advice, got))
        outside = probabilities and (outputs.min() < 0 or outputs.max() > 1)
        if not np.isin(labels, (0, 1)).all() or outside:
            raise ValueError(
                "Accuracy cannot be computed automatically for a single unit unless it is a "
                "probability between 0 and 1 and the labels are 0 or 1: end the model with a "
                f"sigmoid, or {advice}. Received: outputs from {outputs.min():g} to "
                f"{outputs.max():g}; {got}, from {labels.min():g} to {labels.max():g}"
            )
        return BINARY, binary_accuracy
    if labels.shape == (*outputs.shape[:-1], 1) and outputs.ndim == 2:
        labels = labels[..., 0]
    if labels.shape == outputs.shape:
        if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(axis=-1) == 1).all():
            raise ValueError(
                "Accuracy cannot be computed automatically unless each row of the labels is "
                f"one-hot, a single 1 among zeros: {advice}. Received: {got}"
            )
        return TOP_1, top_1_accuracy
    if labels.shape != outputs.shape[:-1] or labels.dtype.kind not in "iub":
        raise ValueError(_no_fit(outputs, advice, got))
    if labels.min() < 0 or labels.max() >= outputs.shape[-1]:
        raise ValueError(
            f"Class ids must be from 0 to {outputs.shape[-1] - 1}, as the model has "
            f"{outputs.shape[-1]} classes. Received: {got}, from {labels.min()} to {labels.max()}"
        )
    return TOP_1, top_1_accuracy


def score(metric: Metric, data: Labelled, outputs: Any) -> float:
    """Return what the metric makes of the outputs.

    Raises:
        ValueError: the metric returns no finite number.
    """
    value = np.asarray(metric(data.labels, outputs))
    if value.size != 1 or value.dtype.kind not in "iubf" or not math.isfinite(value.item()):
        raise ValueError(
            "`metric` must return a finite number, larger for better models. "
            f"Received: {value.tolist()!r}"
        )
    return float(value.item())


def top_1_accuracy(labels: np.ndarray, outputs: np.ndarray, weights: Any = None) -> float:
    """Return the share of rows whose largest output is at the label.

    Args:
        labels, outputs: see `metric_for`.
        weights: how much each sample counts, or each row; None for all alike.

    Example: `top_1_accuracy([0, 1], [[0.9, 0.1], [0.8, 0.2]])` is 0.5, and 0.75 with the weights
    `[3, 1]`.

    Raises:
        ValueError: weights that do not fit the labels.
    """
    labels, outputs = np.asarray(labels), np.asarray(outputs)
    ids = labels.argmax(axis=-1) if labels.shape == outputs.shape else labels
    found = outputs.argmax(axis=-1)
    return _share(found == ids.reshape(found.shape), weights)


def binary_accuracy(labels: np.ndarray, outputs: np.ndarray, weights: Any = None) -> float:
    """Return the share of single outputs that are on the label's side of 0.5.

    Args:
        labels, outputs: see `metric_for`.
        weights: how much each sample counts, or each output; None for all alike.

    Example: `binary_accuracy([1, 0], [[0.7], [0.6]])` is 0.5.

    Raises:
        ValueError: weights that do not fit the labels.
    """
    outputs = np.asarray(outputs)
    hits = (outputs > 0.5) == (np.asarray(labels).reshape(outputs.shape) > 0.5)
    return _share(hits, weights)


def _share(hits: np.ndarray, weights: Any) -> float:
    """Return the share of hits, weighted as Keras does in `weighted_metrics`."""
    if weights is None:
        return float(np.mean(hits))
    given = np.asarray(weights, dtype=np.float64)
    wide = given[..., 0] if given.ndim == hits.ndim + 1 and given.shape[-1] == 1 else given
    wide = wide.reshape(wide.shape + (1,) * (hits.ndim - wide.ndim))
    axes = zip(wide.shape, hits.shape, strict=False)
    if wide.ndim != hits.ndim or len(wide) != len(hits) or any(n not in (1, m) for n, m in axes):
        raise ValueError(
            "Sample weights are one number for each sample, or for each label. "
            f"Received: weights of shape {given.shape} for results of shape {hits.shape}"
        )
    total = np.broadcast_to(wide, hits.shape).sum()
    return float((hits * wide).sum() / total) if total else 0.0


def _no_fit(outputs: np.ndarray, advice: str, got: str) -> str:
    units = outputs.shape[-1] if outputs.ndim > 1 else 1
    classes = f"class ids (integers, shape {outputs.shape[:-1] or outputs.shape})"
    return (
        f"The labels do not fit the outputs, of shape {outputs.shape}. Expected: {classes}"
        + (f" or one-hot rows of {units}" if units > 1 else "")
        + f". For anything else, such as regression, {advice}. Received: {got}"
    )
