"""Sparsity that grows along a polynomial, between two steps or over the run."""

from __future__ import annotations

import math
import numbers

from tfprune.schedules.base import PruningSchedule, check_sparsity, is_number

_UPDATES = 50  # masks move so often at the most: each costs about as much as a few training steps


class PolynomialDecay(PruningSchedule):
    """Grow from `initial_sparsity` to `final_sparsity`, fast at first and then ever slower.

    ``s = s_final + (s_initial - s_final) * (1 - p) ** power`` with
    ``p = clip((step - begin_step) / (end_step - begin_step), 0, 1)``.

    Args:
        initial_sparsity: fraction of zeros at `begin_step`, in [0, 1).
        final_sparsity: fraction of zeros at `end_step`, in [0, 1).
        begin_step: step of the first update.
        end_step: step of the last update, after `begin_step`.
        power: exponent; 3 is the paper's cubic, 1 is a straight line.
        frequency: steps between updates.

    Raises:
        ValueError: for a sparsity outside [0, 1), `end_step <= begin_step`, `frequency < 1`, or a
            power that is not positive.

    Example:

    ```python
    schedule = tfprune.PolynomialDecay(0.5, 0.8, begin_step=0, end_step=1000)
    schedule(500)  # (True, 0.7625)
    ```

    Source: Zhu & Gupta 2017 (arXiv:1710.01878) and tfmot's `PolynomialDecay`; here the updates at
    both ends always happen.
    """

    begin_step: int
    end_step: int

    def __init__(
        self, initial_sparsity, final_sparsity, begin_step, end_step, power=3, frequency=100
    ):
        self.initial_sparsity = check_sparsity(initial_sparsity, "initial_sparsity")
        self.final_sparsity = check_sparsity(final_sparsity, "final_sparsity")
        if not is_number(power) or not 0 < power < math.inf:
            raise ValueError(
                f"`power` must be a positive number; 3 is usual. Received: power={power!r}"
            )
        self.power = int(power) if isinstance(power, numbers.Integral) else float(power)
        self._set_steps(begin_step, end_step, frequency, endless_allowed=False)

    def __call__(self, step):
        """Return `(should_prune, sparsity)` at a step."""
        done = (step - self.begin_step) / (self.end_step - self.begin_step)
        left = (1.0 - min(1.0, max(0.0, done))) ** self.power
        final = self._final_sparsity
        return self._fires(step), final + (self.initial_sparsity - final) * left

    def get_config(self):
        """Return the constructor arguments in tfmot's form."""
        return self._config(
            initial_sparsity=self.initial_sparsity,
            final_sparsity=self.final_sparsity,
            power=self.power,
            begin_step=self.begin_step,
            end_step=self.end_step,
            frequency=self.frequency,
        )


class Gradual(PruningSchedule):
    """Grow to `final_sparsity` over the first part of the run, however long that is.

    When `fit` begins, `UpdatePruningStep` puts the `PolynomialDecay` in its place that begins with
    the run and ends after three quarters of it: the last quarter is for recovery. From then on the
    model holds that one, so a saved model goes on as it began; a model built anew whose weights
    are loaded from a checkpoint goes on in a run of the same length. In a loop of your own pass
    `UpdatePruningStep(steps=...)`, for data of unknown length `steps_per_epoch`.

    Args:
        final_sparsity: fraction of zeros at the end, in [0, 1).
        initial_sparsity: fraction of zeros at the first step, in [0, 1).
        part: of the run in which zeros grow, above 0 and at most 1.

    Raises:
        ValueError: for a sparsity outside [0, 1) or a part outside (0, 1].

    Example:

    ```python
    pruned = tfprune.prune(model, tfprune.Gradual(0.8))
    pruned.compile("adam", "sparse_categorical_crossentropy")
    pruned.fit(x, y, epochs=8, callbacks=[tfprune.UpdatePruningStep()])  # 80 % after epoch 6
    ```

    Keras 3 only.

    Source: the cubic curve of Zhu & Gupta 2017 (arXiv:1710.01878); that it follows the length of
    the run is tfprune's own.
    """

    needs_run = True

    def __init__(self, final_sparsity: float, initial_sparsity: float = 0.0, part: float = 0.75):
        self.final_sparsity = check_sparsity(final_sparsity, "final_sparsity")
        self.initial_sparsity = check_sparsity(initial_sparsity, "initial_sparsity")
        if isinstance(part, bool) or not isinstance(part, (int, float)) or not 0 < part <= 1:
            raise ValueError(
                "`part` is the part of the run in which zeros grow, above 0 and at most 1. "
                f"Received: part={part!r}"
            )
        self.part = float(part)

    def __call__(self, step):
        """Return `(False, initial_sparsity)`: nothing is due before the length is known."""
        return False, self.initial_sparsity

    def over(self, begin: int, end: int | None) -> PruningSchedule:
        """Return the schedule for a run.

        Args:
            begin: step that the run begins at.
            end: step after its last, greater than `begin`; None if it is not known.

        Raises:
            ValueError: it is not known.

        Example: `Gradual(0.8).over(0, 1000)` is
        `PolynomialDecay(0.0, 0.8, begin_step=0, end_step=750, frequency=15)`.
        """
        if end is None:
            raise ValueError(
                "`Gradual` (and so `prune(model, 0.9)`) measures itself by the run, and nothing "
                "tells how long this one is: it is a loop of your own, or its data have no length. "
                "Pass `UpdatePruningStep(steps=...)` in a loop, `steps_per_epoch=` to `fit`, or "
                "prune by a schedule with steps of its own, such as `PolynomialDecay`. "
                f"Received: {self!r}"
            )
        last = begin + max(1, int(self.part * (end - begin)))
        return PolynomialDecay(
            self.initial_sparsity,
            self.final_sparsity,
            begin_step=begin,
            end_step=last,
            frequency=max(1, (last - begin) // _UPDATES),
        )

    def get_config(self):
        """Return the constructor arguments."""
        return self._config(
            final_sparsity=self.final_sparsity,
            initial_sparsity=self.initial_sparsity,
            part=self.part,
        )
