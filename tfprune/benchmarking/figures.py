"""The figures of one file, as every runtime gives them, and what was asked for."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is asked of each file.

    Attributes:
        threads: of the interpreter.
        runs: timed runs.
        warmup: runs before those, the first one included.
        seconds: time limit for loading, and for one turn.
    """

    threads: int
    runs: int
    warmup: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Figures:
    """What was measured; None where the runtime does not tell, or the file failed.

    Attributes:
        median_ms: milliseconds of a run.
        p5_ms: 5 % of the runs were faster.
        p95_ms: 95 % of the runs were faster.
        runs: timed runs.
        times: milliseconds of each, empty where only the above is known.
        load_ms: milliseconds to load the file.
        first_ms: milliseconds of the first run.
        memory: peak memory in bytes.
        outputs: of the seeded inputs, in the order of the file.
        energy_mj: millijoules for each run.
        failure: why there are no figures.
        notes: what to know about them.
    """

    median_ms: float | None = None
    p5_ms: float | None = None
    p95_ms: float | None = None
    runs: int = 0
    times: tuple[float, ...] = ()
    load_ms: float | None = None
    first_ms: float | None = None
    memory: int | None = None
    outputs: tuple[np.ndarray, ...] | None = None
    energy_mj: float | None = None
    failure: str | None = None
    notes: tuple[str, ...] = ()
