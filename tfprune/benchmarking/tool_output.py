"""Read what TFLite's `benchmark_model` prints.

Source: tflite/tools/benchmark/benchmark_model.cc (the lines), StatWithPercentiles in XLA's
stats_calculator.h (the counts).
"""

from __future__ import annotations

import dataclasses
import re

from tfprune.benchmarking.failures import FileFailure

_NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?)"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_MEMORY = re.compile(
    rf"Memory footprint delta from the start of the tool \(MB\):.* overall={_NUMBER}"
)
_COUNT = re.compile(r"\bcount=(\d+)\b.*")
_FIELD = re.compile(rf"\b(\w+)={_NUMBER}")
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class ToolFigures:
    """The figures of one run of the tool; None where this version does not print them.

    Attributes:
        load_us: microseconds to load the file and allocate its tensors.
        first_us: microseconds of the first run.
        mean_us: microseconds of a run, on average.
        median_us: half of the runs were faster.
        p5_us: 5 % of the runs were faster.
        p95_us: 95 % of the runs were faster.
        runs: how many were timed.
        memory_mb: growth of the largest resident memory, in units of 2**20 bytes.
    """

    load_us: float
    first_us: float
    mean_us: float
    median_us: float | None
    p5_us: float | None
    p95_us: float | None
    runs: int
    memory_mb: float | None


def parse(text: str) -> ToolFigures:
    """Return the figures in the output of `benchmark_model`.

    Raises:
        FileFailure: there are none in it.
    """
    timings = _TIMINGS.search(text)
    counts = [match.group(0) for match in _COUNT.finditer(text)]
    if timings is None or not counts:
        raise FileFailure(
            "benchmark_model printed no figures. Expected: a line with `Inference timings in us` "
            f"and one with `count=`. Received: {_excerpt(text) or 'nothing'}"
        )
    fields = {name: float(value) for name, value in _FIELD.findall(counts[-1])}  # after warm-up
    memory = _MEMORY.search(text)
    return ToolFigures(
        load_us=float(timings.group(1)),
        first_us=float(timings.group(2)),
        mean_us=float(timings.group(4)),
        median_us=fields.get("median"),
        p5_us=fields.get("p5"),
        p95_us=fields.get("p95"),
        runs=int(fields["count"]),
        memory_mb=float(memory.group(1)) if memory else None,
    )


def complaint(output: str, errors: str, code: int) -> str:
    """Return why the tool failed, in its own words."""
    lines = [line.strip() for line in f"{output}\n{errors}".splitlines()]
    told = [line for line in lines if line.startswith(("ERROR", "FATAL"))]
    told = [line for line in told if "Benchmarking failed" not in line] or [
        line for line in lines if line and not line.startswith("INFO")
    ]
    said = " ".join(told[:_SHOWN])
    return f"benchmark_model failed (exit code {code}): {said or 'it gave no reason'}"


def _excerpt(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-_SHOWN:])
