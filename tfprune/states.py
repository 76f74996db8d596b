"""What wrapped layers and callbacks tell each other: the state of a weight, the count of steps."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

import numpy as np

from tfprune.layouts import Layout

# Callbacks at work whose model is not built yet, so that they could not attach to its wrappers.
_WAITING: weakref.WeakSet[StepCounter] = weakref.WeakSet()


class StepCounter:
    """Counts the optimizer updates of a run; the callback counts, its wrappers read.

    Attributes:
        updates: optimizer updates since the run began, as far as the callback was told.
        optimizer_counts: whether the optimizer is the one that trains, so that it can be asked.
    """

    def __init__(self, callback: Any = None):
        self.updates = 0
        self.optimizer_counts = False
        self._callback = None if callback is None else weakref.ref(callback)

    def latest(self) -> int:
        """Return the updates since the run began; the optimizer knows before the callback does."""
        callback = self._callback and self._callback()
        if callback is None or not self.optimizer_counts:
            return self.updates
        return max(self.updates, callback.optimizer_updates())

    def is_kept(self) -> bool:
        """Tell whether the callback still lives; one whose run was interrupted need not."""
        return self._callback is None or self._callback() is not None

    def wait(self) -> None:
        """Let wrappers train although no callback is attached: theirs waits for the model."""
        _WAITING.add(self)

    def stop_waiting(self) -> None:
        """Undo `wait`."""
        _WAITING.discard(self)

    @staticmethod
    def any_waiting() -> bool:
        """Tell whether a callback at work has not found its wrappers yet."""
        return bool(_WAITING)


@dataclasses.dataclass(frozen=True)
class WeightState:
    """One pruned weight as it stands: numpy copies, for summaries and reports.

    Attributes:
        name: name of the weight within its layer, such as "kernel".
        weight: its values, masked, in the shape Keras gives it.
        mask: True where the weight is kept, same shape.
        threshold: magnitude under which weights were cut at the last update.
        layout: which of the axes are inputs and outputs.
    """

    name: str
    weight: np.ndarray
    mask: np.ndarray
    threshold: float
    layout: Layout | None

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that are zero."""
        return 1.0 - np.count_nonzero(self.weight) / max(1, self.weight.size)
