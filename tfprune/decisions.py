"""What was decided about each layer of a model when it was wrapped, and why.

Decisions are remembered beside the model object, for `summary` and the TensorBoard page; a model
loaded from a file has none, and whoever asks works them out again.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

from tfprune.criteria import Criterion
from tfprune.patterns import Pattern


@dataclasses.dataclass(frozen=True)
class Decision:
    """One layer: pruned by which schedule and criterion, or left dense for which reason.

    Attributes:
        path: the layer's path in the model, such as "backbone/conv1".
        schedule: its pruning schedule, None if the layer is left dense.
        criterion: what its masks are chosen by, None if the layer is left dense.
        reason: why it is left dense, None if it is pruned.
        expected: whether nobody would expect the layer to be pruned (no weights, a norm), so that
            leaving it dense needs no warning.
    """

    path: str
    schedule: Any = None
    criterion: Criterion | None = None
    reason: str | None = None
    expected: bool = False

    @property
    def pattern(self) -> Pattern | None:
        """Where its zeros may stand, None if the layer is left dense."""
        return None if self.criterion is None else self.criterion.pattern


def refusal(layer: Any, reason: str) -> ValueError:
    """Return the error about a layer that was to be pruned alone and cannot be."""
    return ValueError(
        f"The layer '{layer.name}' cannot be pruned: {reason}. Leave it as it is, or choose "
        f"another layer or pattern. Received: a layer of type {type(layer).__name__}"
    )


def line(decision: Decision) -> str:
    """Return one line that tells a decision from any other about the same layer."""
    if decision.criterion is None:
        return f"{decision.path}: dense ({decision.reason})"
    return f"{decision.path}: {decision.schedule}, {decision.criterion}"


_DECISIONS: weakref.WeakKeyDictionary[Any, tuple[Decision, ...]] = weakref.WeakKeyDictionary()


def remember(model, decisions: list[Decision]) -> None:
    """Keep the decisions for a model as long as the model lives."""
    _DECISIONS[model] = tuple(decisions)


def recall(model) -> tuple[Decision, ...]:
    """Return the decisions remembered for a model; empty if it was not wrapped in this process."""
    return _DECISIONS.get(model, ())
