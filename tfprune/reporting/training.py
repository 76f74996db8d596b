"""The curves of a training run, out of the event files that `PruningSummaries` writes."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from tfprune.reporting.drawing import picture
from tfprune.reporting.items import TRAINING, Item, Table
from tfprune.reporting.texts import digits, percent

SPARSITY = "sparsity/model"
_POINTS = 1000  # of each curve at most; TensorBoard samples the others away
_ROWS = 12  # of a table

Curve = list[tuple[int, float]]


def event_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders under `folder` that hold event files of TensorBoard."""
    found = {path.parent for path in folder.rglob("events.out.tfevents.*") if path.is_file()}
    return sorted(found)


def curves(folder: pathlib.Path, root: pathlib.Path) -> dict[str, Curve]:
    """Return the curves in a folder of event files: (step, value) under "run: tag".

    The sparsity of the whole model, and the accuracy, or where there is none the loss, of each
    epoch.

    Args:
        folder: that holds the event files.
        root: the folder of the run, from which runs have their names.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(folder), size_guidance={"tensors": _POINTS, "scalars": _POINTS})
    events.Reload()
    run = folder.relative_to(root).as_posix()
    tensors, scalars = events.Tags()["tensors"], events.Tags()["scalars"]
    found: dict[str, Curve] = {}
    for tag in _wanted([*tensors, *scalars]):
        if tag in scalars:
            points = [(event.step, float(event.value)) for event in events.Scalars(tag)]
        else:
            points = [
                (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
                for event in events.Tensors(tag)
            ]
        found[f"{run}: {tag}"] = sorted(points)
    return found


def _wanted(tags: Sequence[str]) -> list[str]:
    epochs = [tag for tag in tags if tag.startswith("epoch_")]
    quality = [tag for tag in epochs if "acc" in tag] or [tag for tag in epochs if "loss" in tag]
    return [tag for tag in (SPARSITY, *quality) if tag in tags]


def items(found: dict[str, Curve]) -> Iterator[Item]:
    """Yield a picture of all curves and a table of each kind."""
    zeros = {name: curve for name, curve in found.items() if name.endswith(SPARSITY) and curve}
    quality = {name: curve for name, curve in found.items() if name not in zeros and curve}
    panels = [
        (group, label)
        for group, label in ((zeros, ("step", "zeros, %")), (quality, ("epoch", _axis(quality))))
        if group
    ]
    if not panels:
        return

    def draw(figure: Any) -> None:
        all_axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, (group, labels) in zip(all_axes, panels, strict=True):
            for name, curve in group.items():
                factor = 100 if group is zeros else 1
                values = [factor * value for _, value in curve]
                steps = [step + (group is quality) for step, _ in curve]  # epochs count from 1
                axes.plot(steps, values, marker=".", label=name)
            axes.set(xlabel=labels[0], ylabel=labels[1])
            axes.legend(fontsize=8)

    told = "; ".join(
        f"{name} from {_value(name, curve[0][1])} to {_value(name, curve[-1][1])}"
        for group, _ in panels
        for name, curve in group.items()
    )
    yield picture(TRAINING, f"Curves over training. {told}.", 2.6 * len(panels), draw)
    for group, labels in panels:
        yield _table(group, labels[0])


def _axis(quality: dict[str, Curve]) -> str:
    return "accuracy" if all("acc" in name for name in quality) else "loss"


def _value(name: str, value: float) -> str:
    return percent(value) if name.endswith(SPARSITY) or "acc" in name else digits(value)


def _table(group: dict[str, Curve], unit: str) -> Table:
    steps = sorted({step for curve in group.values() for step, _ in curve})
    if len(steps) > _ROWS:  # evenly, the first and the last included
        steps = [steps[round(n * (len(steps) - 1) / (_ROWS - 1))] for n in range(_ROWS)]
    by_name = {name: dict(curve) for name, curve in group.items()}
    rows = tuple(
        (
            str(step + 1 if unit == "epoch" else step),
            *(
                _value(name, values[step]) if step in values else "–"
                for name, values in by_name.items()
            ),
        )
        for step in steps
    )
    return Table(TRAINING, f"By {unit}", (unit, *by_name), rows, len(by_name))
