"""One sparsity, or a few cuts, at steps that are known before training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tfprune.schedules.base import PruningSchedule, check_int, check_sparsity


class ConstantSparsity(PruningSchedule):
    """The same sparsity from `begin_step` on, the mask chosen anew every `frequency` steps.

    Args:
        target_sparsity: fraction of zeros, in [0, 1).
        begin_step: step of the first update.
        end_step: step of the last update; -1 goes on for ever.
        frequency: steps between updates.

    Raises:
        ValueError: for a sparsity outside [0, 1), a negative step, `end_step <= begin_step`, or
            `frequency < 1`.

    Example:

    ```python
    tfprune.ConstantSparsity(0.5, begin_step=0)(100)  # (True, 0.5)
    ```

    Source: tfmot's `ConstantSparsity`; here the updates at both ends always happen.
    """

    def __init__(self, target_sparsity, begin_step, end_step=-1, frequency=100):
        self.target_sparsity = check_sparsity(target_sparsity, "target_sparsity")
        self.final_sparsity = self.target_sparsity
        self._set_steps(begin_step, end_step, frequency, endless_allowed=True)

    def __call__(self, step):
        """Return `(should_prune, target_sparsity)`."""
        return self._fires(step), self.target_sparsity

    def get_config(self):
        """Return the constructor arguments in tfmot's form."""
        return self._config(
            target_sparsity=self.target_sparsity,
            begin_step=self.begin_step,
            end_step=self.end_step,
            frequency=self.frequency,
        )


class Iterative(PruningSchedule):
    """Cut, train on, cut again: one step of the stair every `every` training steps.

    Args:
        sparsities: fractions of zeros, rising, each in [0, 1).
        every: training steps between two cuts (the time to recover).
        begin_step: step of the first cut.

    Raises:
        ValueError: for no sparsities, sparsities that fall, or `every < 1`.

    Example:

    ```python
    # 10 % to 50 % in five cuts, two epochs of 100 steps of training after each
    tfprune.Iterative([0.1, 0.2, 0.3, 0.4, 0.5], every=200)
    ```

    Source: iterative magnitude pruning, Han et al. 2015 (arXiv:1506.02626).
    """

    def __init__(self, sparsities: Sequence[float], every: int, begin_step: int = 0):
        received = sparsities
        sparsities = list(received) if isinstance(received, Iterable) else []
        if not sparsities:
            raise ValueError(
                "`sparsities` must be a list of at least one sparsity, for example [0.1, 0.3, 0.5]."
                f" Received: sparsities={received!r}"
            )
        self.sparsities = tuple(
            check_sparsity(s, f"sparsities[{i}]") for i, s in enumerate(sparsities)
        )
        if any(a >= b for a, b in zip(self.sparsities, self.sparsities[1:], strict=False)):
            raise ValueError(
                "`sparsities` must rise: a cut removes weights, it never brings them back. "
                f"Received: sparsities={sparsities!r}"
            )
        self.every = check_int(every, "every", 1)
        self.final_sparsity = self.sparsities[-1]
        self.begin_step = check_int(begin_step, "begin_step", 0)
        self.frequency = self.every
        self.end_step = self.begin_step + self.every * (len(self.sparsities) - 1)

    def __call__(self, step):
        """Return `(should_prune, sparsity of the latest cut)`."""
        cut = min(max(0, (step - self.begin_step) // self.every), len(self.sparsities) - 1)
        return self._fires(step), self.sparsities[cut]

    def get_config(self):
        """Return the constructor arguments."""
        return self._config(
            sparsities=list(self.sparsities), every=self.every, begin_step=self.begin_step
        )


class OneShot(PruningSchedule):
    """Prune once, at one step, and keep that mask.

    Args:
        sparsity: fraction of zeros, in [0, 1).
        step: the training step at which to prune; 0 is before the first update.

    Raises:
        ValueError: for a sparsity outside [0, 1) or a negative step.

    Example:

    ```python
    tfprune.OneShot(0.8, step=1000)
    ```

    Source: one-shot magnitude pruning, of which the iterative one is the alternative in Frankle &
    Carbin 2019 (arXiv:1803.03635).
    """

    def __init__(self, sparsity, step=0):
        self.final_sparsity = check_sparsity(sparsity, "sparsity")
        self.begin_step = self.end_step = check_int(step, "step", 0)
        self.frequency = 1

    def __call__(self, step):
        """Return `(step is the one, sparsity)`."""
        return self._fires(step), self.final_sparsity

    def get_config(self):
        """Return the constructor arguments."""
        return self._config(sparsity=self.final_sparsity, step=self.begin_step)
