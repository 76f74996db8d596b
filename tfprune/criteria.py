"""What a mask is chosen by: a pattern, a score, and whether cut weights may return, as one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfprune import masks, patterns, regrowth, scores, split_masks
from tfprune.layouts import Layout
from tfprune.patterns import NM, Pattern, Unstructured
from tfprune.regrowth import Regrowth, RigL, SoftPruning
from tfprune.schedules import PruningSchedule
from tfprune.scores import MAGNITUDE, Record, Recorded, Score, Since
from tfprune.split_masks import Part, Total

_ANY_RUN = 10_000  # steps: what is asked of a schedule here does not depend on how many


@dataclasses.dataclass(frozen=True)
class Criterion:
    """Chooses masks: weights, their present mask and their gradients in, a new mask out.

    Args:
        pattern: where zeros may stand, an object or a name.
        score: which weights matter, an object, a name or a function.
        regrowth: whether cut weights may return; None: never.

    Raises:
        ValueError: for an unknown name.

    Example: `Criterion("2:4", "movement", "soft")`.
    """

    pattern: Pattern
    score: Score = MAGNITUDE
    regrowth: Regrowth | None = None

    def __post_init__(self):
        object.__setattr__(self, "pattern", patterns.get(self.pattern))
        object.__setattr__(self, "score", scores.get(self.score))
        object.__setattr__(self, "regrowth", regrowth.get(self.regrowth))

    def __str__(self) -> str:
        by = "" if self.score == MAGNITUDE else f" by {self.score}"
        return f"{self.pattern}{by}" + ("" if self.regrowth is None else f", {self.regrowth}")

    @property
    def plain(self) -> bool:
        """Whether it is magnitude pruning as tfmot has it."""
        return self.score == MAGNITUDE and self.regrowth is None

    @property
    def takes_parts(self) -> bool:
        """Whether a weight that processes share in parts need not be put together to choose."""
        return self.plain and isinstance(self.pattern, Unstructured)

    @property
    def soft(self) -> bool:
        """Whether cut weights go on learning."""
        return isinstance(self.regrowth, SoftPruning)

    @property
    def decay(self) -> float:
        """How strongly weights are pulled to zero while they are cut."""
        return self.regrowth.decay if isinstance(self.regrowth, SoftPruning) else 0.0

    @property
    def grows(self) -> bool:
        """Whether weights that were zero come in with an update."""
        return isinstance(self.regrowth, RigL)

    @property
    def record(self) -> Record | None:
        """What must be summed over the training steps, None if nothing."""
        return "gradient" if self.grows else self.score.record

    @property
    def since(self) -> Since:
        """Over which training steps."""
        return "update" if self.grows else self.score.since

    def require(self, schedule: PruningSchedule) -> None:
        """Raise a `ValueError` that says why, if the parts do not go with each other."""
        steps = schedule.over(0, _ANY_RUN) if schedule.needs_run else schedule
        reason = self.score.reason_against(steps)
        if reason is None and self.regrowth is not None:
            reason = self.regrowth.reason_against(steps, self.pattern, self.score)
        if reason is not None:
            raise ValueError(f"{reason[0].upper()}{reason[1:]}. Received: {schedule}, {self}")

    def needs_gradients(self, mask: np.ndarray) -> bool:
        """Tell whether the next mask depends on gradients: RigL's first cut does not."""
        return self.record is not None and not (self.grows and mask.all())

    def mask(
        self,
        weights: np.ndarray,
        mask: np.ndarray,
        recorded: Recorded | None,
        layout: Layout | None,
        schedule: PruningSchedule,
        step: int,
    ) -> tuple[np.ndarray, float]:
        """Return the mask for a step of a schedule, and the score at which it was cut.

        Args:
            weights: as they are; of soft pruning, cut ones too.
            mask: the mask so far.
            recorded: what was summed over the training steps, None if nothing.
            layout: which axes of the weights are inputs.
            schedule: asked how sparse.
            step: the training step.

        Raises:
            ValueError: the weights are not finite, or a score function fails.
        """
        sparsity = schedule.sparsity(step)
        if isinstance(self.regrowth, RigL) and recorded is not None:
            return self._exchanged(self.regrowth, weights, mask, recorded, schedule, step)
        ranked, shift = self.score.of(weights, recorded), 0.0
        if self.score != MAGNITUDE:
            ranked, shift = scores.positive(ranked, np.ones_like(mask) if self.soft else mask)
        elif not self.soft:
            masks.cut(ranked, mask)
        new, limit = self.pattern.mask(ranked, layout, sparsity, schedule.final_sparsity)
        # An N:M pattern's threshold is the sum over the weights that a group has lost.
        parts = self.pattern.zeros if isinstance(self.pattern, NM) else 1
        return new, limit - shift * parts if limit else 0.0

    def masks_of_parts(
        self,
        weights: list[Part],
        mask: list[Part],
        shape: tuple[int, ...],
        sparsity: float,
        total: Total,
    ) -> tuple[list[Part], float]:
        """Return what `mask` returns, for a weight of which each process holds a part.

        Args:
            weights: what this process holds.
            mask: the mask so far, in the same parts.
            shape: of the whole weight.
            sparsity: asked for by the schedule.
            total: sums counts over the processes, which all call it.

        Raises:
            ValueError: the weights are not finite, here or elsewhere.
        """
        scores, error = [], None
        try:
            for part, kept in zip(weights, mask, strict=True):
                scores.append(part._replace(values=masks.magnitudes(part.values)))
                masks.cut(scores[-1].values, kept.values)
        except ValueError as found:
            error = found
        if total(np.array([int(error is not None)]))[0]:
            raise error or ValueError(
                "Cannot rank weights that are NaN or infinite: training has diverged, as the error "
                "of the process says that holds them"
            )
        keep = masks.kept_count(math.prod(shape), sparsity)
        new, limit = split_masks.top_k(scores, shape, keep, total)
        return [p._replace(values=m) for p, m in zip(mask, new, strict=True)], limit

    @staticmethod
    def _exchanged(
        rigl: RigL,
        weights: np.ndarray,
        mask: np.ndarray,
        recorded: Recorded,
        schedule: PruningSchedule,
        step: int,
    ) -> tuple[np.ndarray, float]:
        magnitudes = masks.magnitudes(weights)
        keep = masks.kept_count(mask.size, schedule.sparsity(step))
        count = min(round(rigl.share(schedule, step) * keep), mask.size - keep)
        new = regrowth.exchange(magnitudes, recorded.total, mask, keep, count)
        stayed = magnitudes[new & mask]
        return new, float(stayed.min()) if stayed.size else 0.0
