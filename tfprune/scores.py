"""Which weights matter: a weight and what its gradients were in, one score for each weight out.

A score is a frozen object. `record` says what is summed over the training steps for it, in the
training step itself (`tfprune.gradients` does that): the product of weight and gradient, its
square, or the gradient. `since` says over which steps: from the start, since the last update of the
masks, or from the start to the first update. Larger scores stay.

Everywhere a score is asked for, its name does too: "magnitude", "movement", "taylor", "snip".
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from tfprune import masks
from tfprune.schedules import PruningSchedule

Record = Literal["product", "square", "gradient"]
Since = Literal["start", "update", "first update"]


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What the training steps have left of the gradients of one weight.

    Attributes:
        total: the sum of what the score records, shape of the weight.
        steps: over how many backward passes.
    """

    total: np.ndarray
    steps: int


@dataclasses.dataclass(frozen=True)
class Score:
    """How much each weight matters; by its name in rules, `Rule("conv", 0.5, score="movement")`.

    Attributes:
        name: "magnitude", "movement", "taylor", "snip", or that of a function of one's own.
        function: called with the weight, the recorded sum and its number of steps; one of one's own
            with the weight alone, or with the weight and its mean gradient.
        record: what is summed over the training steps, None if no gradient is needed.
        since: over which of them.
        own: whether the function is the user's.
    """

    name: str
    function: Callable[..., Any]
    record: Record | None = None
    since: Since = "start"
    own: bool = False

    def __str__(self) -> str:
        return self.name

    def reason_against(self, schedule: PruningSchedule) -> str | None:
        """Return why a schedule cannot go with the score, None if it can."""
        cuts_at_once = schedule.update_between(-1, 0) == 0 and schedule.sparsity(0) > 0
        if self.record is not None and cuts_at_once:
            return (
                f"the score '{self}' needs the gradients of some training steps before the first "
                "cut, and the schedule cuts at step 0. Begin later, for example with "
                "`OneShot(0.5, step=100)`, or at a sparsity of zero"
            )
        return None

    def of(self, weights: np.ndarray, recorded: Recorded | None) -> np.ndarray:
        """Return the scores of a weight, of its shape, of either sign.

        Raises:
            ValueError: the weight holds NaN or infinite values, or a function of one's own returns
                something else than one finite number for each weight.
        """
        magnitudes = masks.magnitudes(weights)  # and looks whether they are finite
        if self.name == "magnitude" and not self.own:
            return magnitudes
        if not self.own:
            assert recorded is not None  # the wrapper has seen gradients
            return self.function(weights, recorded.total, recorded.steps)
        arguments = [] if recorded is None else [recorded.total / recorded.steps]
        return self._checked(self.function(weights, *arguments), weights)

    def _checked(self, result: Any, weights: np.ndarray) -> np.ndarray:
        scores = np.asarray(result)
        real = scores.dtype.kind in "fiub"
        if scores.shape != weights.shape or not real or not np.isfinite(scores).all():
            raise ValueError(
                f"The score function '{self}' must return a numpy array with one finite number for "
                f"each weight, shape {weights.shape}. Received: {scores.dtype} of shape "
                f"{scores.shape}" + (", some not finite" if real else "")
            )
        return scores


def movement(weights: np.ndarray, total: np.ndarray, steps: int) -> np.ndarray:
    """Return how far training moves each weight away from zero: minus the sum of `w * gradient`.

    Example: a weight of 2 whose gradient is -0.5 at each of 3 steps has 3.0: it grows.
    Source: Sanh et al. 2020, "Movement Pruning" (arXiv:2005.07683).
    """
    del weights, steps
    return -total


def taylor(weights: np.ndarray, total: np.ndarray, steps: int) -> np.ndarray:
    """Return by how much the loss would change without each weight, squared: mean `(w * g)**2`.

    The mean is over backward passes: a layer that is called twice in a step has two, whose
    gradients are squared apart.

    Source: Molchanov et al. 2019, "Importance Estimation" (arXiv:1906.10771), first order.
    """
    del weights
    return total / steps


def snip(weights: np.ndarray, total: np.ndarray, steps: int) -> np.ndarray:
    """Return the sensitivity of the loss to each connection: `abs` of the mean `w * gradient`.

    Source: Lee et al. 2019, "SNIP" (arXiv:1810.02340), without its division by the sum, which
    changes no order.
    """
    del weights
    return np.abs(total) / steps


SCORES = {
    "magnitude": Score("magnitude", masks.magnitudes),
    "movement": Score("movement", movement, "product", "start"),
    "taylor": Score("taylor", taylor, "square", "update"),
    "snip": Score("snip", snip, "product", "first update"),
}
MAGNITUDE = SCORES["magnitude"]


def get(score: Any) -> Score:
    """Turn a score, its name, or a function into a score.

    A function is called with the weight as a numpy array, and with its mean gradient since the last
    update if it needs two arguments or its second one is named `gradient` or `grad`, with a default
    or without; it returns one number for each weight.

    Example: `get("movement")`; `get(lambda weight: abs(weight))`.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(score, Score):
        return score
    if isinstance(score, str) and score.strip().lower() in SCORES:
        return SCORES[score.strip().lower()]
    if callable(score) and not isinstance(score, type):
        count = _arguments(score)
        name = getattr(score, "__name__", type(score).__name__)
        if count == 1:
            return Score(name, score, own=True)
        if count == 2:
            return Score(name, score, "gradient", "update", own=True)
    raise ValueError(
        f"Unknown score. Expected one of {', '.join(repr(n) for n in SCORES)}, or a function "
        "`weight -> scores` or `(weight, mean gradient) -> scores` of numpy arrays. "
        f"Received: {score!r}"
    )


def _arguments(function: Callable) -> int:
    """Return how many arguments a function is given; -1 if it does not tell.

    Those without a default, and a second one that is named for the gradient.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return -1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [p for p in parameters if p.kind in positional]
    needed = sum(p.default is p.empty for p in taken)
    asks = needed == 1 and len(taken) > 1 and taken[1].name in ("gradient", "grad")
    return 2 if asks else needed


def positive(scores: np.ndarray, alive: np.ndarray) -> tuple[np.ndarray, float]:
    """Return scores as masks rank them, in the same order, and by how much they were shifted.

    Above zero where a weight may stay, zero elsewhere. In double precision, so that a shift by one
    large negative score makes no others equal.

    Args:
        scores: of either sign.
        alive: True where a weight may stay.

    Example: `positive([-2.0, 3.0, 5.0], [True, True, False])` is about `([0, 5, 0], 2.0)`, the
    first of them just above zero.
    """
    wide = np.asarray(scores, np.float64)
    shift = max(0.0, -float(wide.min(where=alive, initial=0.0)))
    raised = np.maximum(wide + shift, np.finfo(np.float64).tiny)
    return np.where(alive, raised, 0.0), shift
