"""The command `tfprune benchmark`: .tflite files side by side."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tfprune.console import reported

EXAMPLES = (
    "Examples:\n\n$ tfprune benchmark dense.tflite pruned.tflite\n\n"
    "$ tfprune benchmark dense.tflite pruned.tflite --runtime wasm --json benchmark.json\n\n"
    "$ tfprune benchmark text.tflite --shape tokens=1x64 --threads 2 --runs 200"
)


class RuntimeName(str, enum.Enum):
    """Where `tfprune.benchmark` measures, as choices of the command line."""

    native = "native"
    wasm = "wasm"
    adb = "adb"


def benchmark(
    files: Annotated[
        list[pathlib.Path],
        typer.Argument(
            metavar="FILE...",
            help=".tflite files; the others are compared with the first.",
            show_default=False,
        ),
    ],
    runtime: Annotated[
        RuntimeName,
        typer.Option(
            help="native: this machine. wasm: LiteRT.js in headless Chromium, which has the sparse "
            "kernels on any PC. adb: a phone that is connected.",
        ),
    ] = RuntimeName.native,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each interpreter.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each file.")] = 50,
    warmup: Annotated[int, typer.Option(min=5, help="Runs before those.")] = 5,
    json_out: Annotated[
        pathlib.Path | None,
        typer.Option("--json", metavar="OUT", help="Save the figures as JSON, too."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT if it exists.")
    ] = False,
    signature: Annotated[
        str | None, typer.Option(help="The one to run, in files with several.")
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SHAPE", help="Shape of an input with free axes, such as tokens=1x64."
        ),
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds until a file that hangs is given up.")
    ] = 300.0,
    serial: Annotated[
        str | None, typer.Option(help="adb: which phone, if several are connected.")
    ] = None,
    binary: Annotated[
        pathlib.Path | None, typer.Option(help="adb: the benchmark_model to put on the phone.")
    ] = None,
    litertjs: Annotated[
        pathlib.Path | None,
        typer.Option(help="wasm: a folder with @litertjs/core, where npm cannot fetch it."),
    ] = None,
    browser: Annotated[
        pathlib.Path | None, typer.Option(help="wasm: the Chromium or Chrome to run.")
    ] = None,
) -> None:
    """Measure .tflite files side by side: speed, load time, memory, and whether they are right.

    Each file has a process of its own, and they take turns.

    Outputs are compared with those of plain kernels (XNNPACK off).
    """
    shapes = dict(_shape(text) for text in shape or [])
    for name, value, place in (
        ("serial", serial, RuntimeName.adb),
        ("binary", binary, RuntimeName.adb),
        ("litertjs", litertjs, RuntimeName.wasm),
        ("browser", browser, RuntimeName.wasm),
    ):
        if value is not None and runtime is not place:
            raise typer.BadParameter(
                f"--{name} is for --runtime {place.value} only. Received: --runtime {runtime.value}"
            )
    with reported():
        from tfprune.benchmarking import benchmark as measure
        from tfprune.files import check_target

        if json_out is not None:
            check_target(json_out, overwrite)
        with Console(stderr=True).status("Starting") as status:
            result = measure(
                files,
                runtime.value,
                threads=threads,
                runs=runs,
                warmup=warmup,
                signature=signature,
                shapes=shapes,
                time_limit=time_limit,
                serial=serial,
                binary=binary,
                litertjs=litertjs,
                browser=browser,
                tell=lambda text: status.update(escape(text)),
            )
        Console().print(result)
        if json_out is not None:
            result.to_json(json_out, overwrite)
    if result.failed:
        raise typer.Exit(1)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Return the name and the sizes in a text such as "tokens=1x64"."""
    name, _, sizes = text.rpartition("=")
    parts = sizes.split("x")
    if not name or not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(
            f"--shape wants NAME=SHAPE, such as tokens=1x64. Received: {text!r}"
        )
    return name, tuple(int(part) for part in parts)
