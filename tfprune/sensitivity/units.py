"""A weight at a level: what one process is asked for at a time, wherever it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfprune.channels.batches import Batch
from tfprune.registry import PrunableWeight

_DEATHS = 3  # of a process at the same level, before the level is taken for the cause

Unit = tuple[int | None, float]
"""A weight and a level; None is the model as it is."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A weight that is tried: its layer, the layer's path, and the weight as it was."""

    path: str
    layer: Any
    weight: PrunableWeight
    dense: np.ndarray


@dataclasses.dataclass(frozen=True)
class Work:
    """What is to be measured on a batch.

    Attributes:
        number: of the batch, from 0.
        batch: the samples.
        levels: to prune each weight to.
        known: what an earlier run has found on this batch, which is not measured again.
        keep: called with each unit and its value as soon as it is found.
        say: called with a line of text as the work goes on.
    """

    number: int
    batch: Batch
    levels: Sequence[float]
    known: Mapping[Unit, float]
    keep: Callable[[Unit, float], None]
    say: Callable[[str], None]


def units(trials: Sequence[Trial], levels: Sequence[float]) -> list[Unit]:
    """Return all that is measured on a batch, the dense model first."""
    return [(None, 0.0), *((trial, level) for trial in range(len(trials)) for level in levels)]


def together(
    values: Mapping[Unit, float], trials: Sequence[Trial], levels: Sequence[float]
) -> tuple[float, list[list[float]]]:
    """Return the dense model's value, and that for each weight at each level."""
    rows = range(len(trials))
    return values[None, 0.0], [[values[trial, level] for level in levels] for trial in rows]


def named(trials: Sequence[Trial], unit: Unit) -> str:
    """Return what a message calls it, such as "'conv1/kernel' at 50.0%"."""
    trial, level = unit
    if trial is None:
        return "The dense model"
    one = trials[trial]
    return f"'{one.path}/{one.weight.name}' at {level:.1%}"


class Deaths:
    """Counts the processes that ended at a level; one that always ends them is an error.

    Args:
        trials: the weights.
        asked: what the user asked for, for messages: "processes=2".
    """

    def __init__(self, trials: Sequence[Trial], asked: str) -> None:
        self._trials, self._asked = trials, asked
        self._counts: dict[Unit, int] = {}

    def forget(self) -> None:
        """Begin anew, with another batch."""
        self._counts = {}

    def told(self, unit: Unit, how: str) -> str:
        """Count a death at a level, and return what to tell the user.

        Raises:
            RuntimeError: it was not the first one there.
        """
        self._counts[unit] = self._counts.get(unit, 0) + 1
        if self._counts[unit] == _DEATHS:
            raise RuntimeError(
                f"{named(self._trials, unit)} ended its process {_DEATHS} times, at last: {how}. "
                "What is finished is in `record`, if one was asked for. Use fewer "
                "processes if the machine runs out of memory, or processes=1 on this machine to "
                f"see the error itself. Received: {self._asked}"
            )
        return f"{named(self._trials, unit)}: {how}; it is run again"
