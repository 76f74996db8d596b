"""The `tfprune` command: parse, call, print.

Nothing heavy is imported before a command needs it: `--help` and `--version` answer at once.
Exit codes: 0 done, 1 failed (one clear line on stderr), 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import enum
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from tfprune.version import __version__

app = typer.Typer(
    name="tfprune",
    help="Prune Keras models, see their sparsity, export verified .tflite files.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class DatasetName(str, enum.Enum):
    """The sets that `tfprune.datasets.load` knows, as choices of the command line."""

    digits = "digits"
    fashion_mnist = "fashion_mnist"
    mnist = "mnist"
    cifar10 = "cifar10"


def main() -> None:
    """Run the command line; the entry point of the console script."""
    app(prog_name="tfprune")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tfprune {__version__}")
        raise typer.Exit


@app.callback(
    epilog="Examples:\n\n$ tfprune quickstart\n\n"
    "$ tfprune inspect tfprune-quickstart/pruned-int8.tflite"
)
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Prune Keras models, see their sparsity, export verified .tflite files."""


@app.command(
    epilog="Examples:\n\n$ tfprune quickstart\n\n$ tfprune quickstart --out demo --overwrite\n\n"
    "$ tfprune quickstart --dataset fashion_mnist --data-dir ~/fashion-mnist"
)
def quickstart(
    out: Annotated[
        pathlib.Path, typer.Option(help="Folder for the results; made if it does not exist.")
    ] = pathlib.Path("tfprune-quickstart"),
    dataset: Annotated[
        DatasetName,
        typer.Option(
            metavar="NAME",
            help="digits (shipped with tfprune), fashion_mnist, mnist or cifar10.",
        ),
    ] = DatasetName.digits,
    data_dir: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder with the dataset's files; without it they are downloaded."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier quickstart.")
    ] = False,
) -> None:
    """Train a small CNN, prune it, export it, and compare before and after.

    Writes model.keras, one .tflite file per number format, TensorBoard logs and report.json.
    The digits take about a minute on two cores, the larger sets several minutes.
    """
    with _reported(), _without_native_chatter():
        with Console(stderr=True).status("Loading TensorFlow"):
            from tfprune.quickstart import quickstart as prune_and_compare
        result = prune_and_compare(out, dataset.value, data_dir, overwrite=overwrite)
        Console().print(result)


@app.command(
    epilog="Examples:\n\n$ tfprune inspect model.keras\n\n$ tfprune inspect model.tflite --json"
)
def inspect(
    file: Annotated[
        pathlib.Path,
        typer.Argument(help="A .keras, .h5, .weights.h5 or .tflite file.", show_default=False),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show the sparsity of each weight in a model file."""
    with _reported():
        from tfprune.weightfiles import inspect_file

        result = inspect_file(file)
        if as_json:
            typer.echo(result.to_json())
        else:
            Console().print(result)


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Turn failures into one line on stderr and the command's exit code."""
    try:
        yield
    except KeyboardInterrupt:
        _complain("Interrupted. Files that were finished are whole; nothing else was left.")
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader of our output left, as in `tfprune inspect ... | head`
        raise
    except (ValueError, OSError, RuntimeError) as error:
        _complain(f"Error: {error}")
        raise typer.Exit(1) from None


def _complain(message: str) -> None:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _without_native_chatter() -> Iterator[None]:
    """Hold back what TensorFlow's C++ parts print while they load and run.

    Their log level has no say over all of it, so file descriptor 2 is pointed at a temporary file;
    what Python prints to `sys.stderr` still reaches the terminal. If the command fails in a way
    that `_reported` does not explain, what was held back is printed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    python_stderr, descriptor = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as held, os.fdopen(os.dup(descriptor), "w", 1) as terminal:
        os.dup2(held.fileno(), 2)
        sys.stderr = terminal
        try:
            yield
        except (ValueError, OSError, RuntimeError, KeyboardInterrupt):
            raise
        except BaseException:
            held.seek(0)
            shutil.copyfileobj(held, terminal.buffer)
            raise
        finally:
            terminal.flush()
            os.dup2(descriptor, 2)
            os.close(descriptor)
            sys.stderr = python_stderr
