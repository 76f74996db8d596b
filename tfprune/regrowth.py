"""Whether weights that were cut may return: never, softly (`SoftPruning`), or by `RigL`.

Frozen objects, and their names "soft" and "rigl" everywhere one is asked for.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import numpy as np

from tfprune import masks, scores
from tfprune.patterns import Pattern, Unstructured
from tfprune.schedules import PruningSchedule
from tfprune.scores import MAGNITUDE, Score


@dataclasses.dataclass(frozen=True)
class SoftPruning:
    """Cut weights keep their values and go on learning, and may return at the next update.

    The forward pass multiplies by the mask, the gradient passes to all weights as if it did not (a
    straight-through estimate), and each update chooses the mask anew among all weights. At the
    schedule's last update the weights are cut for good, and so they are in what `strip_pruning`
    returns. Until then, and with a schedule without an end always, a saved model holds them.

    Args:
        decay: pulls cut weights to zero while they are cut: `decay * weight` is added to their
            gradient. SR-STE takes 0.0002.

    Raises:
        ValueError: for a decay that is not a number of 0 or more.

    Example: `tfprune.Rule("conv", schedule, "2:4", regrowth=tfprune.SoftPruning(decay=2e-4))`;
    in YAML `regrowth: soft` or `regrowth: {class: SoftPruning, decay: 0.0002}`.

    Source: Guo et al. 2016, "Dynamic Network Surgery" (arXiv:1608.04493); Zhou et al. 2021,
    "Learning N:M Fine-grained Structured Sparse Neural Networks" (arXiv:2102.04010), the decay.
    """

    decay: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "decay", _number(self.decay, "decay", math.inf))

    def __str__(self) -> str:
        return f"soft, decay {self.decay:g}" if self.decay else "soft"

    def reason_against(
        self, schedule: PruningSchedule, pattern: Pattern, score: Score
    ) -> str | None:
        """Return why it cannot go with these, None if it can."""
        del pattern, score  # with all of them
        if schedule.begin_step is not None and schedule.begin_step == schedule.end_step:
            return (
                "soft pruning lets weights return at the updates after the first, and the schedule "
                "has one only; use `ConstantSparsity`, `PolynomialDecay` or `Iterative`, or leave "
                "`regrowth` out"
            )
        return None


@dataclasses.dataclass(frozen=True)
class RigL:
    """At each update the smallest weights give way to cut ones with the largest gradients.

    The first update cuts by magnitude. At each later one the fraction `fraction / 2 * (1 + cos(pi *
    p))` of the kept weights is dropped, p running from 0 at the schedule's `begin_step` to 1 at its
    `end_step`, and as many cut weights take their place, starting at zero: those whose gradient,
    had they been there, was largest in size. The number of weights stays the schedule's.

    The gradient is that of all training steps since the last update together; the paper takes the
    one batch before it.

    Args:
        fraction: of the kept weights, exchanged at first; above 0, at most 1.

    Raises:
        ValueError: for a fraction out of range.

    Example:

    ```python
    schedule = tfprune.ConstantSparsity(0.9, begin_step=0, end_step=7500, frequency=100)
    tfprune.Rule("conv", schedule, regrowth=tfprune.RigL(0.3))
    ```

    In YAML `regrowth: rigl` or `regrowth: {class: RigL, fraction: 0.3}`.

    Source: Evci et al. 2020, "Rigging the Lottery" (arXiv:1911.11134). With a schedule that grows
    it is the gradual form of Liu et al. 2021 (GraNet, arXiv:2106.10404).
    """

    fraction: float = 0.3

    def __post_init__(self):
        fraction = _number(self.fraction, "fraction", 1.0)
        if fraction == 0.0:
            raise ValueError(
                "`fraction` must be above 0: nothing would ever return. Received: fraction=0"
            )
        object.__setattr__(self, "fraction", fraction)

    def __str__(self) -> str:
        return f"RigL({self.fraction:g})"

    def reason_against(
        self, schedule: PruningSchedule, pattern: Pattern, score: Score
    ) -> str | None:
        """Return why it cannot go with these, None if it can."""
        if not isinstance(pattern, Unstructured):
            return (
                f"RigL exchanges single weights, which would break the pattern '{pattern}'; use "
                "the pattern 'unstructured', or `regrowth='soft'`, which goes with every pattern"
            )
        if score != MAGNITUDE:
            return (
                "RigL drops the smallest magnitudes and grows by gradients; leave the score at "
                f"'magnitude', not '{score}', or use `regrowth='soft'`"
            )
        begin, end = schedule.begin_step, schedule.end_step
        if begin is None or end is None or end <= begin:
            return (
                "RigL exchanges ever fewer weights until the schedule's last update, so it needs "
                "an `end_step` after `begin_step`, for example `ConstantSparsity(0.9, "
                f"begin_step=0, end_step=7500)`, not {schedule}"
            )
        return None

    def share(self, schedule: PruningSchedule, step: int) -> float:
        """Return the fraction of the kept weights to exchange at a step.

        Example: for `RigL(0.3)` 0.3 at the begin of a schedule, 0.15 half way, 0 at its end.
        """
        begin, end = schedule.begin_step, schedule.end_step
        assert begin is not None  # `reason_against` came first
        assert end is not None
        done = min(1.0, max(0.0, (step - begin) / (end - begin)))
        return self.fraction / 2 * (1.0 + math.cos(math.pi * done))


Regrowth = SoftPruning | RigL
_CLASSES: dict[str, type[SoftPruning] | type[RigL]] = {"SoftPruning": SoftPruning, "RigL": RigL}
_NAMES = {"soft": SoftPruning, "rigl": RigL}


def get(regrowth: Any) -> Regrowth | None:
    """Turn a kind of regrowth, its name or its config into an object; None stays None.

    Example: `get("soft")` is `SoftPruning()`; `get({"class_name": "RigL", "config": {}})` is
    `RigL()`.

    Raises:
        ValueError: for anything else.
    """
    if regrowth is None or isinstance(regrowth, (SoftPruning, RigL)):
        return regrowth
    if isinstance(regrowth, str) and regrowth.strip().lower() in _NAMES:
        return _NAMES[regrowth.strip().lower()]()
    if isinstance(regrowth, dict) and regrowth.get("class_name") in list(_CLASSES):
        return _CLASSES[regrowth["class_name"]](**regrowth.get("config", {}))
    raise ValueError(
        "Unknown regrowth. Expected None (a weight once cut stays cut), 'soft', 'rigl', "
        f"`SoftPruning(decay=0.0)` or `RigL(fraction=0.3)`. Received: {regrowth!r}"
    )


def config(regrowth: Regrowth | None) -> dict[str, Any] | None:
    """Return what `get` makes the same regrowth of."""
    if regrowth is None:
        return None
    return {"class_name": type(regrowth).__name__, "config": dataclasses.asdict(regrowth)}


def arguments_of(name: str) -> str:
    """Return the constructor arguments of a class by its name, for messages."""
    parameters = inspect.signature(_CLASSES[name]).parameters.values()
    return f"({', '.join(f'{p.name}={p.default}' for p in parameters)})"


def exchange(
    magnitudes: np.ndarray, gradients: np.ndarray, mask: np.ndarray, keep: int, count: int
) -> np.ndarray:
    """Return the mask of `keep` weights of which `count` were chosen by their gradients.

    The other `keep - count` are the largest of the weights that are there; what was dropped may be
    chosen again. Among equals the lower index comes first. Where fewer weights are there than are
    to stay, more are chosen by their gradients, so that `keep` weights it always is.

    Args:
        magnitudes: absolute weights, of any shape.
        gradients: of the loss by the weights, masked ones too, same shape.
        mask: the weights that are there.
        keep: weights of the new mask.
        count: of them, to be chosen by gradient.

    Example: of the weights `[4, 1, 3, 0]` without the last one, gradients `[0, 0, 0, 9]`, three
    are kept and one exchanged: `[True, False, True, True]`.
    """
    stay = _largest(magnitudes, mask, min(keep - count, int(np.count_nonzero(mask))))
    return stay | _largest(np.abs(gradients), ~stay, keep - int(np.count_nonzero(stay)))


def _largest(values: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    if count <= 0:
        return np.zeros(values.shape, bool)
    return masks.top_k(scores.positive(values, among)[0], count)[0]


def _number(value: Any, name: str, most: float) -> float:
    number = float(value) if isinstance(value, (int, float, np.number)) else math.nan
    if isinstance(value, bool) or not 0.0 <= number <= most or number == math.inf:
        limits = "of 0 or more" if most == math.inf else f"between 0 and {most:g}"
        raise ValueError(
            f"`{name}` must be a number {limits}, written like 0.0002. Received: {name}={value!r}"
        )
    return number
