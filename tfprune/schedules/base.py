"""What every schedule is, and how its arguments are checked."""

from __future__ import annotations

import abc
import math
import numbers

CLASSES: dict[str, type[PruningSchedule]] = {}
"""Every schedule by the name of its class, the user's own too: saved models name them so."""


def is_number(value) -> bool:
    """Tell whether a value is a real number; True and False are none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_sparsity(value, name: str) -> float:
    """Return `value` as a float in [0, 1), or raise a `ValueError` that names the argument."""
    # Compared before it is converted: a whole number may be too large for a float.
    if not is_number(value) or not 0 <= value < 1 or float(value) == 1.0:
        raise ValueError(
            f"`{name}` must be a sparsity (the fraction of zeros), a number in [0, 1): "
            f"for 80 % zeros pass 0.8. Received: {name}={value!r}"
        )
    return float(value)


def check_int(value, name: str, least: int) -> int:
    """Return a count of steps as an int, or raise a `ValueError` that names the argument."""
    # Whole floats too: `np.ceil(...)` gives one.
    is_whole = is_number(value) and abs(value) < math.inf and value == int(value)
    if not is_whole or value < least:
        raise ValueError(
            f"`{name}` must be a whole number of training steps, at least {least}. "
            f"Received: {name}={value!r}"
        )
    return int(value)


class PruningSchedule(abc.ABC):
    """Base class of schedules; subclass it to write your own, as with tfmot.

    A subclass implements `__call__(step) -> (should_prune, sparsity)` and `get_config`. It is
    found again by its class name when a model is loaded, so import it before loading. If it sets
    `begin_step`, `end_step` (-1: for ever) and `frequency`, updates are due at `begin_step`, every
    `frequency` steps after it, and at `end_step`.

    Example:

    ```python
    class Linear(tfprune.PruningSchedule):
        def __init__(self, final, end_step):
            self.final_sparsity, self.end_step = final, end_step

        def __call__(self, step):
            done = min(1.0, step / self.end_step)
            return step % 100 == 0 or step == self.end_step, self.final_sparsity * done

        def get_config(self):
            config = {"final": self.final_sparsity, "end_step": self.end_step}
            return {"class_name": "Linear", "config": config}
    ```

    Source: tfmot's `PruningSchedule`.
    """

    begin_step: int | None = None
    end_step: int | None = None
    frequency: int | None = None
    needs_run: bool = False
    """Whether it must see how long a run is before it can tell when updates are due."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        CLASSES[cls.__name__] = cls

    @abc.abstractmethod
    def __call__(self, step) -> tuple[bool, float]:
        """Return `(should_prune, sparsity)` for a step: is an update due, and to what sparsity."""

    @abc.abstractmethod
    def get_config(self) -> dict:
        """Return `{"class_name": ..., "config": constructor arguments}`, in tfmot's form."""

    @classmethod
    def from_config(cls, config: dict) -> PruningSchedule:
        """Build a schedule from its constructor arguments."""
        return cls(**config)

    @property
    def final_sparsity(self) -> float | None:
        """Sparsity at the end of a full run; None when a subclass does not tell."""
        return getattr(self, "_final_sparsity", None)

    @final_sparsity.setter
    def final_sparsity(self, value: float) -> None:
        self._final_sparsity = check_sparsity(value, "final_sparsity")

    def sparsity(self, step: int) -> float:
        """Return the sparsity asked for at a step, whether or not an update is due then."""
        return float(self(step)[1])

    def update_between(self, after: int, step: int) -> int | None:
        """Return the last step in `(after, step]` at which an update is due, or None."""
        if self.begin_step is None or self.frequency is None or self.end_step is None:
            due = (s for s in range(step, after, -1) if bool(self(s)[0]))
            return next(due, None)
        begin, end = self.begin_step, self.end_step
        endless = end < 0
        last = step if endless else min(step, end)
        if last < begin:
            return None
        due = begin + (last - begin) // self.frequency * self.frequency
        if not endless and last == end:
            due = end
        return due if due > after else None

    def over(self, begin: int, end: int | None) -> PruningSchedule:
        """Return the schedule for a run from one step to another: itself, where steps are fixed."""
        del begin, end
        return self

    def _should_prune_in_step(self, step, begin_step, end_step, frequency) -> bool:
        """Tell whether an update is due; tfmot's name, kept because subclasses call it."""
        if step < begin_step or (end_step >= 0 and step > end_step):
            return False
        return (step - begin_step) % frequency == 0 or step == end_step

    def _set_steps(self, begin_step, end_step, frequency, endless_allowed: bool) -> None:
        self.begin_step = check_int(begin_step, "begin_step", 0)
        self.frequency = check_int(frequency, "frequency", 1)
        endless = is_number(end_step) and end_step == -1
        if endless and endless_allowed:
            self.end_step = -1
            return
        if endless:
            raise ValueError(
                "`end_step` cannot be -1 (for ever) here: this schedule needs a step at which it "
                "arrives. Pass the last training step, for example steps_per_epoch * epochs. "
                "Received: end_step=-1"
            )
        self.end_step = check_int(end_step, "end_step", 0)
        if self.end_step <= self.begin_step:
            raise ValueError(
                "`end_step` must lie after `begin_step`. To prune at one step only, use "
                f"`OneShot(sparsity, step={self.begin_step})`. "
                f"Received: begin_step={self.begin_step}, end_step={self.end_step}"
            )

    def _fires(self, step) -> bool:
        return self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)

    def __eq__(self, other) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash(type(self))  # equal schedules may differ in `repr`: power=3 and power=3.0

    def __repr__(self) -> str:
        arguments = self.get_config()["config"].items()
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in arguments)})"

    def _config(self, **arguments) -> dict:
        return {"class_name": type(self).__name__, "config": arguments}
