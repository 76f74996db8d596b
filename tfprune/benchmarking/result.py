"""What a benchmark gives back: the figures of each file, the machine, and how to show them."""

from __future__ import annotations

import dataclasses
import math
import os

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.benchmarking.cpu import Cpu
from tfprune.results import Result


@dataclasses.dataclass(frozen=True)
class FileBenchmark:
    """The figures of one file; None where there is none.

    Attributes:
        path: of the file.
        file_bytes: size of the file.
        gzip_bytes: size after gzip, about what a store makes of it for the download.
        median_ms: milliseconds of a run, half of the runs were faster.
        p5_ms: 5 % of the runs were faster.
        p95_ms: 95 % of the runs were faster.
        speedup: median of the first file divided by this one's: 2 is twice as fast.
        load_ms: milliseconds to create the interpreter and allocate the tensors.
        first_ms: milliseconds of the first run, which may prepare more.
        peak_memory_bytes: largest memory in use, above what the runtime needs without a file.
        max_rel_error: largest difference of the outputs from those with XNNPACK off, relative to
            the largest value of that output.
        tolerance: the largest such error that rounding explains.
        energy_mj: millijoules of the whole processor for each run.
        runs: timed runs.
        milliseconds: of each run, in order; empty where the runtime's tool keeps them to itself.
        failure: why there are no figures.
    """

    path: str
    file_bytes: int
    gzip_bytes: int
    median_ms: float | None = None
    p5_ms: float | None = None
    p95_ms: float | None = None
    speedup: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None
    peak_memory_bytes: int | None = None
    max_rel_error: float | None = None
    tolerance: float | None = None
    energy_mj: float | None = None
    runs: int = 0
    milliseconds: tuple[float, ...] = ()
    failure: str | None = None

    @property
    def wrong(self) -> bool:
        """Whether the outputs differ by more than rounding explains: its speed means nothing."""
        if self.max_rel_error is None or self.tolerance is None:
            return False
        return not self.max_rel_error <= self.tolerance


@dataclasses.dataclass(frozen=True)
class BenchmarkResult(Result):
    """Files that were measured together: print it, or take its figures.

    Example:

    ```python
    result = tfprune.benchmark(["dense.tflite", "pruned.tflite"], runtime="wasm")
    print(result)
    result.files[1].speedup
    result.to_json("benchmark.json")
    ```

    Attributes:
        runtime: "native", "wasm" or "adb".
        device: what the files ran in and on, in words.
        cpu: its processor.
        threads: of each file.
        warmup: runs of each file before the timed ones.
        files: one `FileBenchmark` for each file, in the order given.
        energy: which meter the energy comes from, or "no meter".
        notes: what to know about these figures.
        versions: of what took part.

    Source: made by `tfprune.benchmark`.
    """

    runtime: str
    device: str
    cpu: Cpu
    threads: int
    warmup: int
    files: tuple[FileBenchmark, ...]
    energy: str
    notes: tuple[str, ...]
    versions: dict[str, str]

    @property
    def failed(self) -> tuple[FileBenchmark, ...]:
        """The files that could not be measured, or whose outputs are wrong."""
        return tuple(file for file in self.files if file.failure or file.wrong)

    def to_dict(self) -> dict:
        """Return the figures as plain values; an infinite error is the text "infinite"."""
        done = dataclasses.asdict(self)
        done["cpu"]["sparse_kernels"] = self.cpu.sparse_kernels
        for row, file in zip(done["files"], self.files, strict=True):
            row["wrong"] = file.wrong
            row["milliseconds"] = list(file.milliseconds)
            if file.max_rel_error is not None and not math.isfinite(file.max_rel_error):
                row["max_rel_error"] = "infinite"
        done["files"], done["notes"] = list(done["files"]), list(done["notes"])
        done["cpu"]["features"] = list(self.cpu.features)
        return done

    def table(self) -> Table:
        """Return the table of files that `print` shows."""
        runs = max((file.runs for file in self.files), default=0)
        threads = f"{self.threads} thread" + "s" * (self.threads > 1)
        table = Table(
            title=f"{self.device}: {runs} runs, {threads}",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
        )
        table.add_column("file", overflow="fold", min_width=8)
        for title in _TITLES:
            table.add_column(title, justify="right", no_wrap=True)
        metered = any(file.energy_mj is not None for file in self.files)
        if metered:
            table.add_column("energy\nmJ", justify="right", no_wrap=True)
        for file, name in zip(self.files, _short([f.path for f in self.files]), strict=True):
            cells = _cells(file)
            table.add_row(
                Text(name),
                *cells,
                *([_number(file.energy_mj)] if metered else []),
                style="red" if file.failure or file.wrong else None,
            )
        return table

    def lines(self) -> list[str]:
        """Return what stands under the table."""
        found = [f"CPU: {self.cpu}"]
        found.append(self.cpu.statement() if self.runtime != "wasm" else _WASM)
        found.append(f"energy: {self.energy}")
        for file in self.files:
            if file.failure:
                found.append(f"FAILED {file.path}: {file.failure}")
            elif file.wrong:
                found.append(
                    f"WRONG {file.path}: its outputs differ from those with XNNPACK off by "
                    f"{file.max_rel_error:.2g} of the largest, and rounding explains "
                    f"{file.tolerance:g} at most. Its speed means nothing."
                )
        return [*found, *(f"note: {note}" for note in self.notes)]

    def __rich__(self) -> Group:
        """Return what rich prints: the table and the lines under it."""
        return Group(self.table(), *(Text(line) for line in self.lines()))


_WASM = (
    "LiteRT.js has sparse kernels on every CPU; XNNPACK uses them for float graphs that qualify."
)


_TITLES = (
    *("median\nms", "p5-p95\nms", "faster", "load\nms"),
    *("memory\nMB", "size\nMB", "gzip\nMB", "error"),
)


def _short(paths: list[str]) -> list[str]:
    """Return the names of the files without their folders, where that tells them apart."""
    names = [os.path.basename(path) for path in paths]
    return names if len(set(names)) == len(set(paths)) else paths


def _cells(file: FileBenchmark) -> list[str]:
    spread = "-"
    if file.p5_ms is not None and file.p95_ms is not None:
        spread = f"{_number(file.p5_ms)}-{_number(file.p95_ms)}"
    return [
        "failed" if file.failure else _number(file.median_ms),
        spread,
        f"{file.speedup:.2f}x" if file.speedup else "-",
        _number(file.load_ms),
        *map(_megabytes, (file.peak_memory_bytes, file.file_bytes, file.gzip_bytes)),
        "-" if file.max_rel_error is None else f"{file.max_rel_error:.1g}",
    ]


def _megabytes(count: int | None) -> str:
    return _number(None if count is None else count / 1e6)


def _number(value: float | None) -> str:
    """Return a figure with about three digits.

    Example: `_number(0.0123)` is "0.012", `_number(12.34)` is "12.3", `_number(None)` is "-".
    """
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"
