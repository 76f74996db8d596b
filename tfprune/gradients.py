"""What the gradients of a weight were: summed in the training step, on their way to the optimizer.

A wrapper runs its layer with another value in the place of each pruned weight, so that the
gradient of that value comes by, dense, before it is masked. What a score needs of it is added to
weights of the wrapper there, inside `fit` and under any tape. They are saved with the model, so
that a run goes on from a checkpoint as it would have without. That a gradient may assign is so with
TensorFlow and PyTorch; JAX has functions only.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.scores import Record, Recorded, Since

# Each replica of a distribution strategy sees a gradient; the mean of them is kept. Older versions
# of Keras do not ask.
_MEAN = (
    {"aggregation": "mean"}
    if "aggregation" in inspect.signature(keras.layers.Layer.add_weight).parameters
    else {}
)


def reason_against() -> str | None:
    """Return why gradients cannot be recorded, None if they can."""
    if keras.backend.backend() in ("tensorflow", "torch"):
        return None
    return (
        "scores by gradients and RigL record gradients as they flow, which works with TensorFlow "
        f"and PyTorch as backend of Keras, not with '{keras.backend.backend()}'; there use "
        "`score='magnitude'`, with or without `regrowth='soft'`"
    )


class GradientRecord:
    """The variables in which the gradients of one weight are summed.

    Args:
        layer: the wrapper that keeps them.
        name: of the weight.
        shape: of the weight.
        record: what is summed.
        since: over which steps.
    """

    def __init__(self, layer: Any, name: str, shape: Any, record: Record, since: Since):
        self._record, self._since = record, since
        self._total = layer.add_weight(
            name=f"{name}_gradient",
            shape=shape,
            initializer="zeros",
            dtype="float32",
            trainable=False,
            **_MEAN,
        )
        # Negative once the record is closed: "snip" looks at the steps before the first cut only.
        self._steps = layer.add_weight(
            name=f"{name}_gradient_steps",
            shape=(),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            **_MEAN,
        )

    @property
    def variables(self) -> list[Any]:
        """The sum and the number of steps."""
        return [self._total, self._steps]

    def add(self, value: Any, gradient: Any, scale: Any) -> None:
        """Add one backward pass; part of the training step.

        Args:
            value: the weight, unmasked.
            gradient: of the loss by `value * mask`.
            scale: by which the loss was multiplied.
        """
        gradient = ops.cast(gradient, "float32") / scale
        # A loss scaled too far for float16 overflows; the optimizer leaves that step out.
        gradient = ops.where(ops.isfinite(gradient), gradient, 0)
        if self._record != "gradient":
            gradient = ops.multiply(ops.cast(value, "float32"), gradient)
        if self._record == "square":
            gradient = ops.square(gradient)
        one = ops.ones((), "float32")
        if self._since == "first update":
            one = ops.cast(self._steps.value >= 0, "float32")
            gradient = gradient * one
        self._total.assign(ops.add(self._total.value, gradient))
        self._steps.assign(ops.add(self._steps.value, one))

    def read(self) -> Recorded | None:
        """Return what was summed, None if no gradient has come by."""
        steps = abs(round(float(self._steps.numpy())))
        return Recorded(np.asarray(self._total.numpy()), steps) if steps else None

    def used(self) -> None:
        """Forget what counts since the last update only, after an update."""
        if self._since == "update":
            self._total.assign(np.zeros(tuple(self._total.shape), np.float32))
            self._steps.assign(0.0)
        elif self._since == "first update":
            self._steps.assign(-abs(float(self._steps.numpy())))
