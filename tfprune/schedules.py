"""When to prune and how much: a schedule maps a training step to (is it time, sparsity).

A *step* is one optimizer update; step 0 is before the first. Every schedule offers

- ``schedule(step)``: the pair tfmot's schedules return, ``(should_prune, sparsity)``;
- ``schedule.update_between(after, step)``: the last update due in ``(after, step]``, so that a loop
  which jumps over steps (``steps_per_execution``) misses none;
- ``schedule.final_sparsity``: the sparsity a full run ends at.

Unlike tfmot, an update at ``begin_step`` and one at ``end_step`` always happen.
Plain integers and floats in, plain integers and floats out: numpy is not even needed here.
"""

from __future__ import annotations

import abc
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Sequence

_CLASSES: dict[str, type[PruningSchedule]] = {}


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_sparsity(value, name: str) -> float:
    """Return `value` as a float in [0, 1), or raise a `ValueError` that names the argument."""
    # Compared before it is converted: a whole number may be too large for a float.
    if not _is_number(value) or not 0 <= value < 1 or float(value) == 1.0:
        raise ValueError(
            f"`{name}` must be a sparsity (the fraction of zeros), a number in [0, 1): "
            f"for 80 % zeros pass 0.8. Received: {name}={value!r}"
        )
    return float(value)


def _check_int(value, name: str, least: int) -> int:
    # Whole floats too: `np.ceil(...)` gives one.
    is_whole = _is_number(value) and abs(value) < math.inf and value == int(value)
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
    """

    begin_step: int | None = None
    end_step: int | None = None
    frequency: int | None = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        _CLASSES[cls.__name__] = cls

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

    def _should_prune_in_step(self, step, begin_step, end_step, frequency) -> bool:
        """Tell whether an update is due; tfmot's name, kept because subclasses call it."""
        if step < begin_step or (end_step >= 0 and step > end_step):
            return False
        return (step - begin_step) % frequency == 0 or step == end_step

    def _set_steps(self, begin_step, end_step, frequency, endless_allowed: bool) -> None:
        self.begin_step = _check_int(begin_step, "begin_step", 0)
        self.frequency = _check_int(frequency, "frequency", 1)
        endless = _is_number(end_step) and end_step == -1
        if endless and endless_allowed:
            self.end_step = -1
            return
        if endless:
            raise ValueError(
                "`end_step` cannot be -1 (for ever) here: this schedule needs a step at which it "
                "arrives. Pass the last training step, for example steps_per_epoch * epochs. "
                "Received: end_step=-1"
            )
        self.end_step = _check_int(end_step, "end_step", 0)
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
        if not _is_number(power) or not 0 < power < math.inf:
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
        self.every = _check_int(every, "every", 1)
        self.final_sparsity = self.sparsities[-1]
        self.begin_step = _check_int(begin_step, "begin_step", 0)
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
    """

    def __init__(self, sparsity, step=0):
        self.final_sparsity = check_sparsity(sparsity, "sparsity")
        self.begin_step = self.end_step = _check_int(step, "step", 0)
        self.frequency = 1

    def __call__(self, step):
        """Return `(step is the one, sparsity)`."""
        return self._fires(step), self.final_sparsity

    def get_config(self):
        """Return the constructor arguments."""
        return self._config(sparsity=self.final_sparsity, step=self.begin_step)


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


def arguments_of(name: str) -> str:
    """Return the constructor arguments of a schedule class by its name, for messages."""
    return str(inspect.signature(_CLASSES[name]))


def get(schedule) -> PruningSchedule:
    """Turn a schedule, its config, or a bare number (a constant sparsity) into a schedule.

    Example: `get(0.5)` is `ConstantSparsity(0.5, 0)`;
    `get({"class_name": "OneShot", "config": {"sparsity": 0.5}})` is `OneShot(0.5)`.
    """
    if isinstance(schedule, PruningSchedule):
        return schedule
    if isinstance(schedule, dict) and "class_name" in schedule:
        name = schedule["class_name"]
        if not isinstance(name, str) or name not in _CLASSES:
            raise ValueError(
                f"Unknown schedule class. Expected one of {sorted(_CLASSES)}; import your own "
                f"subclass of `PruningSchedule` before loading. Received: class_name={name!r}"
            )
        config = schedule.get("config", {})
        if not isinstance(config, dict):
            raise ValueError(
                f"The config of a schedule must be a dict of its arguments: {name}"
                f"{arguments_of(name)}. Received: config={config!r}"
            )
        return _CLASSES[name].from_config(config)
    if _is_number(schedule):
        return ConstantSparsity(check_sparsity(schedule, "schedule"), 0)
    hint = ""
    if callable(schedule):
        hint = " To use a function, say where it ends: `FunctionSchedule(function, end_step=...)`."
    raise ValueError(
        "Expected a pruning schedule, such as `PolynomialDecay(...)`, `ConstantSparsity(...)`, "
        f"`OneShot(...)`, `Iterative(...)`, or a sparsity in [0, 1).{hint} "
        f"Received: {schedule!r} (of type {type(schedule).__name__})"
    )


_SPARSITIES = (
    *("sparsity", "target_sparsity", "initial_sparsity", "final_sparsity", "sparsities"),
    "function",  # the table of a `FunctionSchedule`
)


def with_final(schedule: PruningSchedule, sparsity: float) -> PruningSchedule:
    """Return a schedule of the same steps that ends at another sparsity, all of it in proportion.

    Example: `with_final(PolynomialDecay(0.4, 0.8, 0, 100), 0.4)` starts at 0.2.

    Raises:
        ValueError: the schedule, of a class of the user's own, keeps its sparsities elsewhere than
            in the arguments named as those of tfprune's schedules.
    """
    final = schedule.final_sparsity
    config = schedule.get_config()["config"]
    if final:
        scale = sparsity / final
        for key in _SPARSITIES:
            if isinstance(config.get(key), (list, tuple)):
                config[key] = [value * scale for value in config[key]]
            elif key in config:
                config[key] = sparsity if config[key] == final else config[key] * scale
        made = type(schedule).from_config(config)
        if made.final_sparsity is not None and abs(made.final_sparsity - sparsity) < 1e-9:
            return made
    raise ValueError(
        "This schedule cannot be brought to another final sparsity: its `get_config` has none of "
        f"the arguments {', '.join(_SPARSITIES)}, or ends at zero. Use `PolynomialDecay`, "
        f"`ConstantSparsity`, `OneShot` or `Iterative`. Received: {schedule!r}"
    )
