"""Latency and memory of all finished files, measured together, so that they can be compared."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from tfprune.benchmarking import BenchmarkFailure, benchmark
from tfprune.benchmarking.cpu import this_cpu
from tfprune.export.interface import Arrays, Interface
from tfprune.variants.row import FAILED, VariantRow

_FIGURES = ("median_ms", "p5_ms", "p95_ms", "peak_memory_bytes")
_ELSEWHERE = ("energy: ", "FAILED ", "WRONG ")  # no column here, or told with the variants


@dataclasses.dataclass(frozen=True)
class Setup:
    """How files are measured.

    Attributes:
        runtime: "native", "wasm" or "adb".
        threads: of each interpreter.
        runs: timed runs of each file.
        shapes: {name of an input: shape}, for inputs with free axes.
    """

    runtime: str
    threads: int
    runs: int
    shapes: dict[str, tuple[int, ...]]

    def key(self, rows: Sequence[VariantRow]) -> dict[str, Any]:
        """Return what decides whether earlier figures are those of this measurement."""
        return {
            **dataclasses.asdict(self),
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "cpu": str(this_cpu()),
            "files": {row.name: row.sha256 for row in rows if row.done},
        }


def check_setup(runtime: str, tell: Callable[[str], None]) -> None:
    """Raise if the tools that a runtime needs are not there, before any work is done.

    Raises:
        RuntimeError: a tool is missing; the message says how to get it.
        ValueError: there is no such runtime.
    """
    if runtime == "wasm":
        from tfprune.benchmarking.wasm import find_browser

        find_browser(None, None, tell)
    elif runtime == "adb":
        from tfprune.benchmarking.adb import find_phone

        find_phone(None, None)
    elif runtime != "native":
        raise ValueError(
            f"`runtime` must be 'native', 'wasm' or 'adb'. Received: runtime={runtime!r}"
        )


def shapes_of(interface: Interface, sample: Arrays) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a sample for those inputs that have free axes."""
    return {
        one.name: tuple(array.shape)
        for one, array in zip(interface.inputs, sample, strict=True)
        if None in one.shape[1:]
    }


def measure(
    rows: Sequence[VariantRow], folder: pathlib.Path, setup: Setup, tell: Callable[[str], None]
) -> tuple[tuple[VariantRow, ...], tuple[str, ...]]:
    """Return the rows with their latency and memory, and the lines that tell how they came about.

    A file that does not run there, or runs wrong, is a variant that failed. If none can be
    measured, the rows come back without figures, and a line says why.
    """
    # Those of an earlier run were measured beside other files, maybe under another load.
    rows = [dataclasses.replace(row, **dict.fromkeys(_FIGURES)) for row in rows]
    done = [row for row in rows if row.done and row.file]
    if not done:
        return tuple(rows), ()
    try:
        result = benchmark(
            [folder / str(row.file) for row in done],
            setup.runtime,  # pyright: ignore[reportArgumentType] -- checked in `check_setup`
            threads=setup.threads,
            runs=setup.runs,
            shapes=setup.shapes,
            tell=tell,
        )
    except (BenchmarkFailure, ValueError) as error:
        return tuple(rows), (f"note: latency and memory could not be measured: {error}",)
    found = {row.name: file for row, file in zip(done, result.files, strict=True)}
    lengths = ", ".join(f"{k}={'x'.join(map(str, v))}" for k, v in setup.shapes.items())
    lines = [line for line in result.lines() if not line.startswith(_ELSEWHERE)]
    if lengths:
        lines.append(f"note: inputs with free axes were measured with {lengths}")
    return tuple(_with_figures(row, found.get(row.name)) for row in rows), tuple(lines)


def _with_figures(row: VariantRow, file: Any) -> VariantRow:
    if file is None:
        return row
    figures = {name: getattr(file, name) for name in _FIGURES}
    if file.failure:
        return dataclasses.replace(row, state=FAILED, reason=f"measuring it: {file.failure}")
    if file.wrong:
        reason = (
            "where it was measured, its outputs differ from those with XNNPACK off by "
            f"{file.max_rel_error:.2g} of the largest, and rounding explains {file.tolerance:g}"
        )
        return dataclasses.replace(row, state=FAILED, reason=reason)
    return dataclasses.replace(row, **figures)
