"""The command `tfprune board`: TensorBoard on the runs of a folder."""

from __future__ import annotations

import contextlib
import io
import pathlib
import time
import webbrowser
from typing import Annotated

import typer

from tfprune.console import note, reported, without_native_chatter

EXAMPLES = (
    "Examples:\n\n$ tfprune board\n\n$ tfprune board search/logs --port 6010 --open\n\n"
    "$ tfprune board --host 0.0.0.0"
)


def board(
    logdir: Annotated[
        pathlib.Path, typer.Argument(help="Folder of the runs, at any depth.")
    ] = pathlib.Path("logs"),
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The port; without it the first free one from 6006 on, with 0 any.",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(help="The address to answer at; 0.0.0.0 lets the whole network in."),
    ] = "localhost",
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
) -> None:
    """Show runs in TensorBoard: sparsity, masks, layer by layer; searches under HParams.

    Prints the address and serves until Ctrl-C.
    """
    with reported(), without_native_chatter():  # TensorFlow is loaded when a page needs it
        require_runs(logdir)
        address = launch(logdir, host, port)
        typer.echo(f"TensorBoard shows {str(logdir)!r} at {address} (Ctrl-C ends it)")
        if open_browser and not webbrowser.open(address):
            note("No browser could be opened here: open the address yourself.")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(0.5)  # a signal that another thread gets does not end a sleep


def require_runs(logdir: pathlib.Path) -> None:
    """Raise unless a folder holds event files of TensorBoard.

    Raises:
        FileNotFoundError: there is no such folder, or no run in it.
        NotADirectoryError: it is a file.
    """
    from tfprune.reporting.training import event_folders

    if not logdir.exists():
        raise FileNotFoundError(
            f"There is no folder {str(logdir)!r}. Give the one that a run was written to, as by "
            f"`tfprune.PruningSummaries('logs/run1')`. Received: {str(logdir)!r}"
        )
    if not logdir.is_dir():
        raise NotADirectoryError(
            f"A folder of runs is expected, and this is a file. Received: {str(logdir)!r}"
        )
    if not event_folders(logdir):
        raise FileNotFoundError(
            f"The folder {str(logdir)!r} holds no run (no file events.out.tfevents.*). Train with "
            f"`tfprune.PruningSummaries('{logdir / 'run1'}')`, or give another folder. "
            f"Received: {str(logdir)!r}"
        )


def launch(logdir: pathlib.Path, host: str, port: int | None) -> str:
    """Start TensorBoard in a thread of this process, and return its address.

    Args:
        logdir: folder of the runs.
        host: name or number of this machine to answer at.
        port: None for the first free one from 6006 on.

    Raises:
        OSError: it cannot answer there: the port is taken or refused, or the host is not ours.
    """
    from tensorboard import program

    server = program.TensorBoard()
    server.configure(logdir=str(logdir), host=host, port=port)
    said = io.StringIO()  # it praises its data loader at length
    try:
        with contextlib.redirect_stderr(said):
            return server.launch()
    except (program.TensorBoardServerException, OSError, SystemExit) as error:
        lines = said.getvalue().strip().splitlines()  # its web server tells, and exits
        reason = getattr(error, "msg", lines[-1] if lines else error)
        raise OSError(
            f"TensorBoard cannot be started ({reason}). Choose another `--port`, or leave it out "
            "for the first free one; `--host` is a name or address of this machine. "
            f"Received: host={host!r}, port={port}"
        ) from error
