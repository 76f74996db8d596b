"""What wrapped layers and callbacks tell each other: the state of a weight, the count of steps."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
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

    def waits_for(self, layer: Any) -> bool:
        """Tell whether the callback looks after the model that a wrapper is in."""
        callback = self._callback and self._callback()
        return callback is not None and callback.holds(layer)

    @staticmethod
    def any_waiting(layer: Any = None) -> bool:
        """Tell whether a callback at work has not found its wrappers yet.

        Args:
            layer: a wrapper; if given, only the callback of a model that holds it counts.
        """
        if layer is None:
            return bool(_WAITING)
        return any(counter.waits_for(layer) for counter in _WAITING)


class PruningStep:
    """The number of training steps that a wrapped layer has seen.

    It is stored in a variable, which is saved and loaded with the layer's other weights, and
    counted by a callback in between: to assign the variable of each layer at every step would cost
    more than the pruning itself.

    Args:
        variable: a scalar, -1 before the first step.
        assign: called with the variable and a number, to assign it otherwise than by its method.
    """

    def __init__(self, variable: Any, assign: Callable[[Any, int], None] | None = None):
        self._variable = variable
        self._assign = assign
        self._counter: StepCounter | None = None
        self._at_attach = 0
        self._stored = -1

    def attach(self, counter: StepCounter) -> int:
        """Follow a callback's count of updates, from the stored step on, and return that step."""
        self.store()  # for a run that was interrupted
        self._stored = int(self._variable.numpy())
        self._at_attach = max(0, self._stored)
        self._counter = counter
        return self._at_attach

    def detach(self) -> None:
        """Store the step and stop following the callback."""
        self.store()
        self._counter = None

    def is_followed(self) -> bool:
        """Tell whether a callback that still lives counts the steps."""
        return self._counter is not None and self._counter.is_kept()

    def read(self) -> int:
        """Return the number of training steps seen; 0 before the first."""
        if self._counter is None:
            return max(0, int(self._variable.numpy()))
        return self._at_attach + self._counter.updates

    def store(self) -> None:
        """Write the number of training steps seen to the variable."""
        if self._counter is None:
            return
        loaded = int(self._variable.numpy())
        if loaded != self._stored:  # weights of another step were loaded, and this with them
            self._at_attach = max(0, loaded) - self._counter.latest()
        self._stored = self._at_attach + self._counter.latest()
        if self._assign is None:
            self._variable.assign(self._stored)
        else:
            self._assign(self._variable, self._stored)


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
