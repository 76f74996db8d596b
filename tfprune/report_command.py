"""The command `tfprune report`: one page about a run."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer
from rich.console import Console

from tfprune.console import reported, without_native_chatter

EXAMPLES = (
    "Examples:\n\n$ tfprune report tfprune-quickstart\n\n"
    "$ tfprune report runs/7 --dense before.keras --out page.html --overwrite"
)


def report(
    run_dir: Annotated[
        pathlib.Path,
        typer.Argument(
            help="Folder of a run: results as JSON, TensorBoard events, models, .tflite files.",
            show_default=False,
        ),
    ],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="HTML", help="The page; report.html in RUN_DIR without it."),
    ] = None,
    dense: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="The model before pruning: .keras or .h5."),
    ] = None,
    pruned: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="The model after, if it is not RUN_DIR/model.keras."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier page and its Markdown.")
    ] = False,
) -> None:
    """Write one page about a run, HTML without network, and the same as Markdown.

    It shows what it finds: before and after, layers, training, sensitivity, channels, files.

    Then latency, searches, what was skipped and why, versions and seeds.

    At its end it says what else could be shown, and by which command.
    """
    with reported(), without_native_chatter():
        with Console(stderr=True).status("Reading the run"):
            from tfprune.reporting import report as write

            done = write(
                run_dir, dense=dense, pruned=pruned, out=out, title=title, overwrite=overwrite
            )
        Console().print(done)
