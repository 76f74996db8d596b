"""The command `tfprune demo`: a page on which two files run side by side.

A command of its own, not an option of `benchmark`: that one starts a browser, prints figures to
keep and ends; this one starts none, and goes on until somebody has seen enough.
"""

from __future__ import annotations

import contextlib
import pathlib
import time
import webbrowser
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tfprune.console import reported

EXAMPLES = (
    "Examples:\n\n$ tfprune demo dense.tflite sparse.tflite\n\n"
    "$ tfprune demo dense.tflite sparse.tflite --open --runs 300\n\n"
    "$ tfprune demo dense.tflite sparse.tflite --port 8765"
)


def demo(
    before: Annotated[
        pathlib.Path,
        typer.Argument(help="The .tflite file to compare with.", show_default=False),
    ],
    after: Annotated[
        pathlib.Path,
        typer.Argument(help="The other one, which takes the same inputs.", show_default=False),
    ],
    threads: Annotated[int, typer.Option(min=1, help="Threads of each interpreter.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each file.")] = 100,
    signature: Annotated[
        str | None, typer.Option(help="The one to run, in files with several.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="To listen at; 0 for one that is free.")
    ] = 0,
    litertjs: Annotated[
        pathlib.Path | None,
        typer.Option(help="A folder with @litertjs/core, where npm cannot fetch it."),
    ] = None,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
) -> None:
    """Serve a page that runs two .tflite files side by side in your own browser.

    It shows how fast each is there, and whether the answers are the same and right.

    Browsers have the sparse kernels on any PC. Ctrl-C ends it.

    For a phone on adb: --port 8765, then `adb reverse tcp:8765 tcp:8765`.

    Then open the address on the phone.
    """
    with reported():
        from tfprune.benchmarking import demo_page

        with Console(stderr=True).status("Starting") as status:
            page = demo_page(
                before,
                after,
                threads=threads,
                runs=runs,
                signature=signature,
                port=port,
                litertjs=litertjs,
                tell=lambda text: status.update(escape(text)),
            )
        with page, contextlib.suppress(KeyboardInterrupt):
            typer.echo(f"{page.url}\nCtrl-C ends it.")
            if open_browser:
                webbrowser.open(page.url)
            while True:
                time.sleep(0.5)  # a signal that another thread gets does not end a sleep
