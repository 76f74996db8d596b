"""The command `tfprune sensitivity`: what each weight of a model can lose."""

from __future__ import annotations

import enum
import pathlib
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tfprune.channel_commands import load_model
from tfprune.console import reported, without_native_chatter

EXAMPLES = (
    "Examples:\n\n$ tfprune sensitivity model.keras --data test.npz\n\n"
    "$ tfprune sensitivity model.keras --data test.npz --level 0.5 --level 0.9 --metric loss "
    "--json found.json --plot found.png\n\n"
    "$ tfprune sensitivity model.keras --data test.npz --record part.json"
)


class MetricName(str, enum.Enum):
    """What `tfprune.sensitivity` measures, as choices of the command line."""

    accuracy = "accuracy"
    loss = "loss"


def sensitivity(
    model: Annotated[
        pathlib.Path,
        typer.Argument(
            help="A .keras or .h5 file of a Sequential or Functional model.", show_default=False
        ),
    ],
    data: Annotated[
        pathlib.Path,
        typer.Option(
            metavar="NPZ",
            help="Held-out samples: .npz with inputs x (or the names of the inputs) and labels y.",
            show_default=False,
        ),
    ],
    level: Annotated[
        list[float] | None,
        typer.Option(metavar="SPARSITY", help="A sparsity to try; repeat it, rising."),
    ] = None,
    metric: Annotated[
        MetricName, typer.Option(help="accuracy, or the loss that the model was compiled with.")
    ] = MetricName.accuracy,
    pattern: Annotated[
        str, typer.Option(help="Where zeros may stand: unstructured, 2:4, 1x16.")
    ] = "unstructured",
    layers: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="A layer to try, no other; may be repeated."),
    ] = None,
    record: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="JSON", help="Keep what is finished here, to go on after a stop."),
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes that share the work, each with its own copy.")
    ] = 1,
    json_out: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--json",
            metavar="OUT",
            help="Save the table as JSON, for `tfprune.allocate(..., sensitivity=OUT)`.",
        ),
    ] = None,
    plot: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="PNG", help="Save the heat map and the curves as a picture."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of --json and --plot.")
    ] = False,
) -> None:
    """Prune each weight alone at several levels; show how much worse the model gets.

    Nothing is trained and the model's file is not changed.

    The least sensitive weights can be pruned hardest, as `tfprune.allocate` does.
    """
    with reported(), without_native_chatter():
        from tfprune.files import check_target, write_whole

        for path in filter(None, (json_out, plot)):
            check_target(path, overwrite)
        with Console(stderr=True).status("Loading TensorFlow") as status:
            from tfprune.sensitivity.measuring import LEVELS
            from tfprune.sensitivity.measuring import sensitivity as measure
            from tfprune.variants.data import read_samples

            found = measure(
                load_model(model),
                read_samples(data),
                tuple(level or LEVELS),
                metric.value,
                pattern,
                layers=layers or None,
                record=record,
                processes=processes,
                tell=lambda text: status.update(escape(text)),
            )
        if json_out is not None:
            found.to_json(json_out, overwrite)
        if plot is not None:
            import matplotlib

            matplotlib.use("Agg")  # no screen is needed for a file
            heat, _ = found.plot()
            write_whole(plot, lambda path: heat.figure.savefig(path, dpi=150), overwrite)
        Console().print(found)
