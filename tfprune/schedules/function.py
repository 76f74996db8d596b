"""Any function from steps to sparsities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from tfprune.schedules.base import PruningSchedule, check_sparsity


class FunctionSchedule(PruningSchedule):
    """Any function `step -> sparsity`, evaluated when the schedule is made.

    The function is tabulated over its update steps at once, so that a bad value is found before
    training and a saved model holds numbers, never code.

    Args:
        function: called with a whole step, returns a sparsity in [0, 1); or the table itself, a
            list with one sparsity for each update step.
        end_step: step of the last update.
        begin_step: step of the first update.
        frequency: steps between updates.

    Raises:
        ValueError: for steps out of order, or a function that returns something else than a
            sparsity (the message names the step).

    Example:

    ```python
    import math

    cosine = tfprune.FunctionSchedule(lambda t: 0.4 * (1 - math.cos(math.pi * t / 1000)), 1000)
    cosine(500)  # (True, 0.4)
    ```

    Source: tfprune's own; tfmot has no schedule of a function.
    """

    begin_step: int
    end_step: int
    frequency: int

    def __init__(
        self,
        function: Callable[[int], float] | Sequence[float],
        end_step: int,
        begin_step: int = 0,
        frequency: int = 100,
    ):
        self._set_steps(begin_step, end_step, frequency, endless_allowed=False)
        steps = [*range(self.begin_step, self.end_step, self.frequency), self.end_step]
        if not callable(function) and not isinstance(function, Iterable):
            raise ValueError(
                "`function` must be a function `step -> sparsity`, or a list with one sparsity for "
                f"each update step. Received: function={function!r}"
            )
        values = [function(s) for s in steps] if callable(function) else list(function)
        if len(values) != len(steps):
            raise ValueError(
                f"The table must hold one sparsity for each of the {len(steps)} update steps. "
                f"Received: {len(values)} values"
            )
        self.table = tuple(
            check_sparsity(_plain(v), f"sparsity at step {s}")
            for s, v in zip(steps, values, strict=True)
        )
        self.final_sparsity = self.table[-1]

    def __call__(self, step):
        """Return `(should_prune, sparsity of the latest update step)`."""
        if step >= self.end_step:
            index = len(self.table) - 1
        else:
            index = max(0, (step - self.begin_step) // self.frequency)
        return self._fires(step), self.table[index]

    def get_config(self):
        """Return the table and its steps: numbers only."""
        return self._config(
            function=list(self.table),
            end_step=self.end_step,
            begin_step=self.begin_step,
            frequency=self.frequency,
        )


def _plain(value):
    """Return the float that a scalar tensor or array holds; anything else as it is."""
    return float(value) if tuple(getattr(value, "shape", (0,))) == () else value
