"""Two clocks for one piece of work, and how repeated figures are told.

Wall time is what a user waits for; the processor time of the process, all threads together, is what
the work costs, and hardly changes when other jobs share the machine. A wall ratio from a busy
machine is to be read beside the processor ratio.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of processor time; costs add up."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu)

    def __truediv__(self, number: float) -> Cost:
        return Cost(self.wall / number, self.cpu / number)


def now() -> Cost:
    """Read both clocks."""
    return Cost(time.perf_counter(), time.process_time())


def cost_of(work: Callable[[], Any]) -> Cost:
    """Do a piece of work once."""
    started = now()
    work()
    return now() - started


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def both_spreads(costs: list[Cost]) -> dict[str, dict[str, float]]:
    return {"wall": spread([c.wall for c in costs]), "cpu": spread([c.cpu for c in costs])}


def ratios(costs: list[Cost], bases: list[Cost]) -> dict[str, dict[str, float]]:
    """Return the spread of the repeats' ratios, by either clock."""
    pairs = list(zip(costs, bases, strict=True))
    return {
        "wall": spread([c.wall / b.wall for c, b in pairs]),
        "cpu": spread([c.cpu / b.cpu for c, b in pairs]),
    }


def cell(figures: dict[str, float] | None, unit: str, digits: int, scale: float = 1.0) -> str:
    """Write a spread as "median unit (least-most)"."""
    if figures is None:
        return "-"
    median, least, most = (scale * figures[name] for name in ("median", "least", "most"))
    return f"{median:.{digits}f}{unit} ({least:.{digits}f}-{most:.{digits}f})"
