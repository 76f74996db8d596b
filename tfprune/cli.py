"""The `tfprune` command: parse, call, print.

Nothing heavy is imported before a command needs it: `--help` and `--version` answer at once.
Exit codes: 0 done, 1 failed (one clear line on stderr), 2 bad usage, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import enum
import pathlib
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from tfprune import (
    benchmark_command,
    board_command,
    channel_commands,
    demo_command,
    report_command,
    sensitivity_command,
)
from tfprune.benchmark_command import RuntimeName
from tfprune.console import complain, on_tensorflow, reported, without_native_chatter
from tfprune.version import __version__


class _Commands(TyperGroup):
    """The commands; what an option refuses is shown in the words of all other errors."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and add to an error about an option what was received for it."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            found = getattr(error.__context__, "errors", list)()  # those of pydantic
            if found and "Received" not in error.message:
                option = getattr(error.param, "opts", [""])[-1]
                said = error.message.removeprefix("Value error, ").rstrip(".")
                error.message = f"{said}. See --help. Received: {option} {found[0]['input']}"
            raise


app = typer.Typer(
    name="tfprune",
    cls=_Commands,
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


class ObjectiveName(str, enum.Enum):
    """What `tfprune.export_variants` chooses by, as choices of the command line."""

    size = "size"
    latency = "latency"
    balanced = "balanced"


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
    if dataset is DatasetName.digits and data_dir is not None:
        raise typer.BadParameter(
            "The digits ship inside tfprune: leave --data-dir out, or name another --dataset. "
            f"Received: --data-dir {data_dir}"
        )
    with reported(), without_native_chatter():
        on_tensorflow()
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
    with reported():
        from tfprune.weightfiles import inspect_file

        result = inspect_file(file)
        if as_json:
            typer.echo(result.to_json())
        else:
            Console().print(result)


@app.command(
    epilog="Examples:\n\n$ tfprune explain pruned.tflite\n\n$ tfprune explain pruned.tflite --json"
)
def explain(
    file: Annotated[pathlib.Path, typer.Argument(help="A .tflite file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say whether the zeros of a .tflite file make it faster on a phone, and if not, why not.

    Exit code 1 if the file would give wrong results there, or not load.
    """
    with reported():
        from tfprune.export.explanation import explain as explain_file

        result = explain_file(file)
        if as_json:
            typer.echo(result.to_json())
        else:
            Console().print(result)
    if result.verdict.kind == "wrong":
        raise typer.Exit(1)


def _variant_names(text: str) -> str:
    from tfprune.variants.variant import chosen

    try:
        chosen(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return text


@app.command(
    epilog="Examples:\n\n$ tfprune export model.keras --out out\n\n"
    "$ tfprune export model.keras --out out --data calibration.npz --eval test.npz\n\n"
    "$ tfprune export model.keras --out out --variants float16,float32-sparse --objective size"
)
def export(
    model: Annotated[
        pathlib.Path,
        typer.Argument(
            help="A .keras or .h5 file; pruning wrappers may still be on.", show_default=False
        ),
    ],
    out: Annotated[
        pathlib.Path,
        typer.Option(
            help="Folder for the files and variants.json; made if it does not exist.",
            show_default=False,
        ),
    ],
    variants: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            callback=_variant_names,
            help="all, or some of float32, float16, dynamic, int8, float32-sparse, "
            "float16-sparse, int8-sparse, with commas between.",
        ),
    ] = "all",
    data: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE",
            help="Calibration data, which int8 needs: .npz with the key x or the names of the "
            "inputs, or .npy.",
        ),
    ] = None,
    evaluation: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--eval",
            metavar="FILE",
            help="Evaluation data: .npz with inputs x and labels y (class ids or one-hot).",
        ),
    ] = None,
    objective: Annotated[
        ObjectiveName,
        typer.Option(
            help="What the best is chosen by: file size, median latency, or their product."
        ),
    ] = ObjectiveName.balanced,
    max_accuracy_drop: Annotated[
        float,
        typer.Option(min=0.0, help="How much less accurate than Keras the chosen file may be."),
    ] = 0.01,
    runtime: Annotated[
        RuntimeName,
        typer.Option(help="Where latency and memory are measured; see tfprune benchmark."),
    ] = RuntimeName.native,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each interpreter.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each file.")] = 50,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier run.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an earlier run, keeping what it finished.")
    ] = False,
) -> None:
    """Write a model in every form, verify and measure each file, mark the best.

    Each file appears whole, once it is verified; variants.json tells what is finished.

    Exit code 1 if no variant meets the objective, or a file came out wrong.
    """
    if overwrite and resume:
        raise typer.BadParameter("--overwrite starts anew, --resume goes on: choose one of them.")
    result = None
    with reported(), without_native_chatter():
        on_tensorflow()
        with Console(stderr=True).status("Loading TensorFlow"):
            from tfprune.variants import export_variants
        with contextlib.suppress(KeyboardInterrupt):
            result = export_variants(
                model,
                out,
                variants,
                data,
                evaluation,
                objective.value,
                max_accuracy_drop,
                runtime=runtime.value,
                threads=threads,
                runs=runs,
                overwrite=overwrite,
                resume=resume,
                progress=True,
            )
            Console().print(result)
    if result is None:
        complain(_interrupted(out))
        raise typer.Exit(130)
    if result.best is None:
        complain(f"Error: {result.choice}")
    if result.best is None or result.failed:
        raise typer.Exit(1)


def _interrupted(out: pathlib.Path) -> str:
    from tfprune.variants.record import finished

    files = finished(out)
    if not files:
        return f"Interrupted. No variant was finished in {str(out)!r}."
    return (
        f"Interrupted. Finished and whole in {str(out)!r}: {', '.join(files)}. The same command "
        "with --resume (and without --overwrite) goes on from there."
    )


@app.command(epilog="Examples:\n\n$ tfprune doctor\n\n$ tfprune doctor --json")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show versions, what this machine can measure, and known problems; 1 if there is one."""
    from tfprune.doctor import doctor as examine

    health = examine()
    if as_json:
        typer.echo(health.to_json())
    else:
        Console().print(health)
    if health.problems:
        raise typer.Exit(1)


app.command(epilog=benchmark_command.EXAMPLES)(benchmark_command.benchmark)
app.command(epilog=demo_command.EXAMPLES)(demo_command.demo)
app.command(epilog=channel_commands.SHRINK_EXAMPLES)(channel_commands.shrink)
app.command(epilog=channel_commands.COUNT_EXAMPLES)(channel_commands.count)
app.command(epilog=sensitivity_command.EXAMPLES)(sensitivity_command.sensitivity)
app.command(epilog=report_command.EXAMPLES)(report_command.report)
app.command(epilog=board_command.EXAMPLES)(board_command.board)
