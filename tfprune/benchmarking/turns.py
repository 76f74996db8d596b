"""Let the files take turns, so that what disturbs the machine disturbs them all.

Every runtime gives runners: one for each file, of which only one works at a time.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from tfprune.benchmarking.energy import Meter
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.figures import Figures, Plan
from tfprune.benchmarking.model import Model

TURN = 5
"""Timed runs in a row, before the next file has its turn."""


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What loading a file gave.

    Attributes:
        load_ms: milliseconds to create the interpreter and allocate its tensors.
        first_ms: milliseconds of the first run.
        outputs: of that run, in the order of the file.
    """

    load_ms: float
    first_ms: float
    outputs: tuple[np.ndarray, ...]


class Runner(Protocol):
    """One file in one runtime."""

    def load(self) -> Loaded:
        """Load the file and run it once."""
        ...

    def run(self, count: int) -> list[float]:
        """Return the milliseconds of each of `count` runs."""
        ...

    def memory(self) -> int | None:
        """Return the peak memory that the file needed, in bytes."""
        ...

    def close(self) -> None:
        """Give back what it holds, after any failure too."""
        ...


@dataclasses.dataclass
class _Record:
    """The figures of one file as they come in."""

    loaded: Loaded | None = None
    times: list[float] = dataclasses.field(default_factory=list)
    memory: int | None = None
    joules: float | None = None
    metered_runs: int = 0
    failure: str | None = None

    def figures(self) -> Figures:
        """Return what there is once everything has run."""
        if self.failure is not None or self.loaded is None:
            return Figures(failure=self.failure)
        p5, median, p95 = np.percentile(self.times, [5, 50, 95])
        energy = None if self.joules is None else 1e3 * self.joules / self.metered_runs
        return Figures(
            *(float(median), float(p5), float(p95)),
            runs=len(self.times),
            times=tuple(self.times),
            load_ms=self.loaded.load_ms,
            first_ms=self.loaded.first_ms,
            memory=self.memory,
            outputs=self.loaded.outputs,
            energy_mj=energy,
        )


class TurnTaking(abc.ABC):
    """A place where each file gets a runner, and the runners take turns."""

    @abc.abstractmethod
    def runner(self, model: Model, inputs: Sequence[np.ndarray], plan: Plan) -> Runner:
        """Return the runner of one file."""

    def measure(
        self,
        models: Sequence[Model],
        inputs: Sequence[Sequence[np.ndarray]],
        plan: Plan,
        meter: Meter | None,
        tell: Callable[[str], None],
    ) -> list[Figures]:
        """Return the figures of each file; one that fails says so in its own."""
        pairs = zip(models, inputs, strict=True)
        return take_turns([self.runner(m, arrays, plan) for m, arrays in pairs], plan, meter, tell)


def take_turns(
    runners: Sequence[Runner], plan: Plan, meter: Meter | None, tell: Callable[[str], None]
) -> list[Figures]:
    """Return the figures of all files, in their order; failed ones do not stop the others.

    Each turn starts with one run that is not timed: the files before it have emptied the caches.
    The order of the turns moves by one from round to round.

    Args:
        runners: one for each file. They are closed in any case.
        plan: how often.
        meter: of energy.
        tell: called with what is being done.
    """
    done = [_Record() for _ in runners]
    try:
        for index, runner in enumerate(runners):
            tell(f"loading file {index + 1} of {len(runners)}")
            _attempt(done[index], partial(_load, runner, done[index], plan.warmup))
        for start, count in _rounds(plan.runs):
            tell(f"{start} of {plan.runs} runs")
            turn = start // TURN % len(runners)
            for index in [*range(turn, len(runners)), *range(turn)]:
                _attempt(done[index], partial(_turn, runners[index], done[index], count, meter))
        for runner, one in zip(runners, done, strict=True):
            _attempt(one, partial(_remember, runner, one))
    finally:
        for runner in runners:
            runner.close()
    return [one.figures() for one in done]


def _attempt(one: _Record, action: Callable[[], None]) -> None:
    if one.failure is None:
        try:
            action()
        except FileFailure as failure:
            one.failure = str(failure)


def _load(runner: Runner, one: _Record, warmup: int) -> None:
    one.loaded = runner.load()
    runner.run(warmup - 1)


def _turn(runner: Runner, one: _Record, count: int, meter: Meter | None) -> None:
    before = meter.read() if meter else ()
    one.times += runner.run(count + 1)[1:]
    one.metered_runs += count + 1
    if meter:
        one.joules = (one.joules or 0.0) + meter.joules(before, meter.read())


def _remember(runner: Runner, one: _Record) -> None:
    one.memory = runner.memory()


def _rounds(runs: int) -> list[tuple[int, int]]:
    """Return (runs before it, runs in it) of each round.

    Example: `_rounds(12)` is `[(0, 5), (5, 5), (10, 2)]`.
    """
    return [(start, min(TURN, runs - start)) for start in range(0, runs, TURN)]
