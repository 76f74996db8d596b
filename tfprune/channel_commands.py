"""The commands about channels: `tfprune shrink` and `tfprune count`."""

from __future__ import annotations

import enum
import pathlib
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from tfprune.console import note, on_tensorflow, reported, without_native_chatter

SHRINK_EXAMPLES = (
    "Examples:\n\n$ tfprune shrink model.keras --macs 0.5 --out small.keras\n\n"
    "$ tfprune shrink model.keras --channels layer2_0_conv1=0.2 --importance activation "
    "--data train.npz --out small.keras\n\n"
    "$ tfprune shrink model.keras --params 0.3 --importance gamma --round-to 8 --steps 4 "
    "--out small.keras --report cut.json --tflite small.tflite"
)
COUNT_EXAMPLES = (
    "Examples:\n\n$ tfprune count model.keras\n\n"
    "$ tfprune count model.keras --shape 224x224x3 --json"
)


class ImportanceName(str, enum.Enum):
    """How `tfprune.shrink` ranks channels, as choices of the command line."""

    l1 = "l1"
    l2 = "l2"
    fpgm = "fpgm"
    gamma = "gamma"
    activation = "activation"
    apoz = "apoz"
    taylor = "taylor"
    random = "random"


class ScopeName(str, enum.Enum):
    """Which channels are ranked together, as choices of the command line."""

    all_layers = "global"
    each_layer = "local"


def _fraction(value: float | None) -> float | None:
    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"a number between 0 and 1, both left out. Received: {value}")
    return value


def _channels(given: list[str] | None) -> float | dict[str, float] | None:
    """Return the fraction, or the fractions by layer, that --channels stands for."""
    if not given:
        return None
    by_layer = {}
    for text in given:
        name, separator, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value < 1 or bool(separator) != bool(name) or (len(given) > 1 and not name):
            raise typer.BadParameter(
                "--channels wants one fraction between 0 and 1, such as 0.5, or LAYER=FRACTION "
                f"for each of some layers. Received: {' '.join(given)}"
            )
        by_layer[name] = value
    return by_layer.get("", by_layer)


def _one_target(**given: Any) -> dict[str, Any]:
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) != 1:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise typer.BadParameter(
            f"say by one of {options} how far to shrink. Received: "
            f"{', '.join(chosen) or 'none of them'}"
        )
    return chosen


def _require_distinct(paths: dict[str, pathlib.Path | None]) -> None:
    """Raise if two options name one file: the one would replace the other."""
    met: dict[pathlib.Path, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        other = met.setdefault(path.resolve(), name)
        if other != name:
            raise typer.BadParameter(
                f"{other} and {name} name the same file; give each its own. Received: {str(path)!r}"
            )


def shrink(
    model: Annotated[
        pathlib.Path,
        typer.Argument(
            help="A .keras or .h5 file of a Sequential or Functional model.", show_default=False
        ),
    ],
    out: Annotated[
        pathlib.Path, typer.Option(help="The .keras file to write.", show_default=False)
    ],
    macs: Annotated[
        float | None,
        typer.Option(callback=_fraction, help="Fraction of the multiplications to keep."),
    ] = None,
    params: Annotated[
        float | None, typer.Option(callback=_fraction, help="Fraction of the parameters to keep.")
    ] = None,
    channels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FRACTION",
            help="Fraction of all channels to remove, or LAYER=FRACTION, once for each layer.",
        ),
    ] = None,
    latency_ms: Annotated[
        float | None,
        typer.Option(help="Milliseconds that the exported .tflite may take on this machine."),
    ] = None,
    importance: Annotated[
        ImportanceName,
        typer.Option(
            metavar="NAME",
            help="How channels are ranked: l1, l2, fpgm, gamma, activation, apoz, taylor or "
            "random; activation, apoz and taylor need --data.",
        ),
    ] = ImportanceName.l2,
    scope: Annotated[
        ScopeName, typer.Option(help="Rank the channels of all layers together, or of each alone.")
    ] = ScopeName.all_layers,
    round_to: Annotated[
        int, typer.Option(min=1, help="What a layer keeps is a multiple of this.")
    ] = 1,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="LAYER", help="A layer whose channels all stay; may be repeated."),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER", help="A layer whose channels may go, no other's; may be repeated."
        ),
    ] = None,
    max_ratio: Annotated[
        float, typer.Option(help="Largest fraction of a layer's channels to remove.")
    ] = 0.9,
    min_channels: Annotated[int, typer.Option(min=1, help="Channels that every layer keeps.")] = 1,
    steps: Annotated[
        int, typer.Option(min=1, help="Rounds, each with scores of what is left.")
    ] = 1,
    data: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="NPZ",
            help="Training samples: .npz with inputs x (or the names of the inputs) and, for "
            "taylor, labels y.",
        ),
    ] = None,
    report: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="JSON", help="Save what was removed, too; tfprune.replay reads it."),
    ] = None,
    tflite: Annotated[
        pathlib.Path | None,
        typer.Option(metavar="FILE", help="Export the smaller model as float32 .tflite, too."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files if they exist.")
    ] = False,
) -> None:
    """Remove the least important channels of a model; what is left runs faster everywhere.

    The new file holds an ordinary Keras model. It has lost accuracy until it is trained on.
    """
    target = _one_target(
        macs=macs, params=params, channels=_channels(channels), latency_ms=latency_ms
    )
    if out.suffix.lower() != ".keras":
        raise typer.BadParameter(f"--out names a .keras file. Received: {str(out)!r}")
    _require_distinct({"--out": out, "--report": report, "--tflite": tflite})
    _require_distinct({"MODEL": model, "--report": report, "--tflite": tflite})
    notes: list[str] = []
    with reported(), without_native_chatter():
        from tfprune.files import check_target, write_whole

        for path in filter(None, (out, report, tflite)):
            check_target(path, overwrite)
        if tflite is not None or latency_ms is not None:
            on_tensorflow()
        with Console(stderr=True).status("Loading TensorFlow") as status:
            from tfprune.shrink import shrink as shrink_model
            from tfprune.variants.data import read_samples

            samples = None if data is None else read_samples(data)
            status.update("Loading the model")
            whole = load_model(model, say=notes.append)
            before = model.stat().st_size  # it may be the file that is written
            small, told = shrink_model(
                whole,
                **target,
                importance=importance.value,
                scope=scope.value,
                round_to=round_to,
                ignore=ignore or (),
                layers=layers or None,
                max_ratio=max_ratio,
                min_channels=min_channels,
                steps=steps,
                data=samples,
                tell=lambda text: status.update(escape(text)),
            )
            status.update("Writing")
            write_whole(out, small.save, overwrite)
            if report is not None:
                told.to_json(report, overwrite)
            if tflite is not None:
                from tfprune.export import export_tflite

                status.update("Exporting and verifying the .tflite file")
                export_tflite(small, tflite, overwrite=overwrite)
        console = Console()
        console.print(told)
        after = out.stat().st_size
        console.print(f"file        {before:>15,} -> {after:>15,}  ({after / before:.1%})")
        if tflite is not None:
            console.print(f".tflite     {'':>15}    {tflite.stat().st_size:>15,} bytes, verified")
    for text in notes:  # after what could hold it back or write over it
        note(text)


def count(
    model: Annotated[
        pathlib.Path,
        typer.Argument(
            help="A .keras or .h5 file; pruning wrappers may still be on.", show_default=False
        ),
    ],
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHAPE",
            help="Shape of one sample where the model leaves lengths open, such as 224x224x3; "
            "once for each input.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Count a model's parameters and multiplications (MACs) by layer, zeros apart."""
    shapes = [_shape(text) for text in shape or []]
    with reported(), without_native_chatter():
        with Console(stderr=True).status("Loading TensorFlow"):
            from tfprune.count import count as count_model

            result = count_model(load_model(model, compiled=False), shapes or None)
        if as_json:
            typer.echo(result.to_json())
        else:
            Console().print(result)


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split("x")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(f"--shape wants sizes such as 224x224x3. Received: {text!r}")
    return tuple(int(part) for part in parts)


def load_model(path: pathlib.Path, compiled: bool = True, say: Callable = note) -> Any:
    """Return the model in a file, compiled as it was if that can be made again.

    Args:
        path: of the file.
        compiled: False if it is not needed.
        say: told if it cannot be made again: a loss of the user's own, perhaps.
    """
    from tfprune.variants import model_file

    source = model_file.check_file(path)
    with warnings.catch_warnings():
        # Of a model that was compiled and never trained.
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        try:
            return model_file.load(source, compiled=compiled)
        except ValueError as error:
            model = model_file.load(source)  # or the error comes again
            first = str(error.__cause__ or error).strip().splitlines()[0]
            say(
                "Note: the model is loaded without its loss, metrics and optimizer, which cannot "
                f"be made again here ({first}). Call `compile` on what is written before you train "
                "it on, or work in Python, where they are defined."
            )
            return model
