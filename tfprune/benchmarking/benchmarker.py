"""`benchmark`: check everything, let the files take turns on one runtime, gather the figures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import numpy as np

from tfprune.benchmarking import agreement, native
from tfprune.benchmarking.cpu import Cpu
from tfprune.benchmarking.energy import NO_METER, Meter, find_meter
from tfprune.benchmarking.failures import BenchmarkFailure, FileFailure
from tfprune.benchmarking.figures import Figures, Plan
from tfprune.benchmarking.inputs import seeded_inputs
from tfprune.benchmarking.model import Model, read_model
from tfprune.benchmarking.result import BenchmarkResult, FileBenchmark
from tfprune.version import __version__

Runtime = Literal["native", "wasm", "adb"]
RUNTIMES: tuple[str, ...] = get_args(Runtime)
_OPTIONS_OF = {"serial": "adb", "binary": "adb", "litertjs": "wasm", "browser": "wasm"}
_LEAST = {"threads": 1, "runs": 1, "warmup": 5}
_FEW = 20  # with fewer runs, 5 % of them are not even one


def benchmark(
    files: str | os.PathLike | Sequence[str | os.PathLike],
    runtime: Runtime = "native",
    *,
    threads: int = 1,
    runs: int = 50,
    warmup: int = 5,
    signature: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    time_limit: float = 300.0,
    serial: str | None = None,
    binary: str | os.PathLike | None = None,
    litertjs: str | os.PathLike | None = None,
    browser: str | os.PathLike | None = None,
    tell: Callable[[str], None] | None = None,
) -> BenchmarkResult:
    """Measure `.tflite` files side by side: speed, load time, memory, and whether they are right.

    Each file has a process of its own (a browser of its own for "wasm"). They take turns of five
    runs, so that what disturbs the machine disturbs all of them. The outputs are compared with
    those of plain kernels (XNNPACK off) on the same seeded inputs.

    Args:
        files: path, or paths; the first is what the others are compared with.
        runtime: "native" (ai-edge-litert on this machine), "wasm" (LiteRT.js in headless Chromium,
            which has the sparse kernels on any PC; needs node, npm and Chromium), or "adb" (the
            official `benchmark_model` on a phone that is connected).
        threads: of each interpreter.
        runs: timed runs of each file.
        warmup: runs of each file before those, at least 5.
        signature: the one to run, in files with several.
        shapes: {name of an input: shape}, for inputs with free axes; the batch is 1 by itself.
        time_limit: seconds that loading, or one turn, may take before the file is given up.
        serial: which phone, if several are connected ("adb").
        binary: path of `benchmark_model` on this machine ("adb"); the environment variable
            TFPRUNE_BENCHMARK_MODEL does the same.
        litertjs: folder with an installed `@litertjs/core` ("wasm"); the environment variable
            TFPRUNE_LITERTJS does the same. Without it, npm installs it once for this user.
        browser: path of Chromium or Chrome ("wasm"); or the variable TFPRUNE_CHROMIUM.
        tell: called with what is being done, in words.

    Returns:
        A `BenchmarkResult`, which prints as a table. A file that fails while it runs has a row
        that says why, and the others keep their figures.

    Example:

    ```python
    result = tfprune.benchmark(["dense.tflite", "pruned.tflite"])
    print(result)
    result.files[1].speedup  # 1.7: takes 1/1.7 of the time of the first
    ```

    Raises:
        FileNotFoundError: a file does not exist. Nothing is run then.
        ValueError: a file is not a whole `.tflite` file, or needs a decision (its signature, the
            length of a free axis); or an argument is out of range.
        TypeError: an argument of the wrong type.
        RuntimeError: a tool is missing (the message says how to get it), or no file could be
            measured.

    Source: the warm-ups, the p5 and p95 are those of TFLite's own `benchmark_model`.
    """
    paths = _paths(files)
    counts = {"threads": threads, "runs": runs, "warmup": warmup}
    _check(runtime, time_limit)
    check_counts(counts, _LEAST)
    given = {"serial": serial, "binary": binary, "litertjs": litertjs, "browser": browser}
    _check_options(runtime, given)
    wanted = _shapes(shapes or {})
    models = [read_model(path, signature, wanted) for path in paths]
    _check_names(models, wanted)
    tell = tell or _silent
    place = _place(runtime, given, tell)
    meter, energy = (None, NO_METER) if runtime == "adb" else find_meter()
    plan = Plan(threads, runs, warmup, float(time_limit))
    inputs = [seeded_inputs(model) for model in models]
    figures = place.measure(models, inputs, plan, meter, tell)
    tell("comparing outputs with XNNPACK off")
    rows, notes = [], [note for model in models for note in model.notes]
    for model, arrays, one in zip(models, inputs, figures, strict=True):
        row, said = _row(model, one, arrays, plan.seconds)
        rows.append(row)
        notes += [f"{model.path}: {note}" for note in (*one.notes, *said)]
    if all(row.failure for row in rows):
        raise BenchmarkFailure(_nothing_measured(rows, place.device))
    if runs < _FEW:
        notes.append(f"with fewer than {_FEW} runs, p5 and p95 are nearly the extremes")
    base = rows[0].median_ms
    return BenchmarkResult(
        runtime=runtime,
        device=place.device,
        cpu=place.cpu,
        threads=threads,
        warmup=warmup,
        files=tuple(
            dataclasses.replace(row, speedup=base / row.median_ms)
            if base and row.median_ms
            else row
            for row in rows
        ),
        energy=energy,
        notes=tuple(dict.fromkeys(notes)),
        versions={"tfprune": __version__, **place.versions},
    )


class Place(Protocol):
    """Where files are measured: this machine, a browser, a phone."""

    device: str
    cpu: Cpu
    versions: dict[str, str]

    def measure(
        self,
        models: Sequence[Model],
        inputs: Sequence[Sequence[np.ndarray]],
        plan: Plan,
        meter: Meter | None,
        tell: Callable[[str], None],
    ) -> list[Figures]:
        """Return the figures of each file; one that fails says so in its own."""
        ...


def _place(runtime: str, given: Mapping[str, Any], tell: Callable[[str], None]) -> Place:
    if runtime == "wasm":
        from tfprune.benchmarking.wasm import find_browser

        return find_browser(given["litertjs"], given["browser"], tell)
    if runtime == "adb":
        from tfprune.benchmarking.adb import find_phone

        return find_phone(given["serial"], given["binary"])
    return native.Machine()


def _row(
    model: Model, one: Figures, inputs: Sequence[np.ndarray], seconds: float
) -> tuple[FileBenchmark, list[str]]:
    failure, error, notes = one.failure, None, []
    if failure is None and one.outputs is not None:
        try:
            plain = native.plain_outputs(model, inputs, seconds)
        except FileFailure as why:
            notes.append(f"not compared with XNNPACK off: there, {why}")
        else:
            try:
                error = agreement.max_rel_error(model, plain, one.outputs)
            except FileFailure as why:
                failure = str(why)
    sizes = (model.file_bytes, model.gzip_bytes)
    if failure is not None:
        return FileBenchmark(model.path, *sizes, failure=failure), notes
    return FileBenchmark(
        model.path,
        *sizes,
        *(one.median_ms, one.p5_ms, one.p95_ms),
        load_ms=one.load_ms,
        first_ms=one.first_ms,
        peak_memory_bytes=one.memory,
        max_rel_error=error,
        tolerance=agreement.tolerance(model),
        energy_mj=one.energy_mj,
        runs=one.runs,
        milliseconds=one.times,
    ), notes


def _nothing_measured(rows: Sequence[FileBenchmark], device: str) -> str:
    reasons = "; ".join(f"{row.path!r}: {row.failure}" for row in rows)
    files = "The file" if len(rows) == 1 else "None of the files"
    return (
        f"{files} could{'' if len(rows) > 1 else ' not'} be measured in {device}. {reasons}. "
        "A file that another runtime does not load either is damaged, or made by a newer "
        "converter: write it again with `export_tflite`, which runs what it writes. "
        f"Received: {', '.join(repr(row.path) for row in rows)}"
    )


def _silent(text: str) -> None:
    del text


def _paths(files: Any) -> list[str | os.PathLike]:
    found = [files] if isinstance(files, (str, os.PathLike)) else files
    if not isinstance(found, Sequence) or not all(isinstance(p, (str, os.PathLike)) for p in found):
        raise TypeError(
            f"`files` must be the path of a .tflite file, or a list of them. Received: {files!r}"
        )
    if not found:
        raise ValueError("`files` must name one .tflite file or more. Received: an empty list")
    return list(found)


def check_counts(counts: Mapping[str, Any], least: Mapping[str, int]) -> None:
    """Raise unless each count is a whole number, and not below its least value.

    Raises:
        TypeError: one is no whole number.
        ValueError: one is too small.
    """
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"`{name}` must be a whole number. Received: {name}={value!r}")
        if value < least[name]:
            raise ValueError(f"`{name}` must be {least[name]} or more. Received: {name}={value}")


def _check(runtime: Any, time_limit: Any) -> None:
    if runtime not in RUNTIMES:
        choices = ", ".join(repr(name) for name in RUNTIMES)
        raise ValueError(f"`runtime` must be one of {choices}. Received: runtime={runtime!r}")
    if not isinstance(time_limit, (int, float)) or not 0 < time_limit < float("inf"):
        raise ValueError(
            f"`time_limit` must be a number of seconds above 0. Received: time_limit={time_limit!r}"
        )


def _check_options(runtime: str, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if value is not None and _OPTIONS_OF[name] != runtime:
            raise ValueError(
                f"`{name}` is for `runtime='{_OPTIONS_OF[name]}'` only: leave it out, or choose "
                f"that runtime. Received: {name}={value!r} with runtime={runtime!r}"
            )


def _shapes(shapes: Any) -> dict[str, tuple[int, ...]]:
    if not isinstance(shapes, Mapping):
        raise TypeError(
            "`shapes` must be a dictionary, such as {'tokens': (1, 64)}. "
            f"Received: shapes={shapes!r}"
        )
    for name, shape in shapes.items():
        if not isinstance(shape, Sequence) or not all(type(size) is int for size in shape):
            raise TypeError(
                f"The shape of '{name}' must be whole numbers, such as (1, 64). "
                f"Received: shapes[{name!r}]={shape!r}"
            )
    return {name: tuple(shape) for name, shape in shapes.items()}


def _check_names(models: Sequence[Model], shapes: Mapping[str, Any]) -> None:
    known = {tensor.name for model in models for tensor in model.inputs}
    for name in shapes:
        if name not in known:
            raise ValueError(
                f"No file has an input '{name}': `shapes` must name inputs of the files, which are "
                f"{', '.join(sorted(repr(one) for one in known))}. Received: shapes[{name!r}]"
            )
