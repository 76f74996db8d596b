"""What `shrink` did: a row for each layer, before and after, and what could not be cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.channels.history import History, history
from tfprune.channels.lengths import assumed
from tfprune.channels.structure import NOTHING, Structure
from tfprune.channels.targets import Target, layer_places
from tfprune.results import Result


@dataclasses.dataclass(frozen=True)
class ShrunkLayer:
    """A layer that makes channels.

    Attributes:
        layer: its path.
        weight: name of the kernel.
        axis: of the kernel along which they lie.
        before: channels before.
        after: channels left.
        frozen: of those before, the ones that had to stay.
        reason: why, the first that was found; empty if none had to.
        macs_before: multiply-accumulates of the layer.
        macs_after: those left.
    """

    layer: str
    weight: str
    axis: int
    before: int
    after: int
    frozen: int
    reason: str
    macs_before: int
    macs_after: int


@dataclasses.dataclass(frozen=True)
class ShrinkReport(Result):
    """What was removed from a model: print it, take its figures, or do it again from its history.

    Attributes:
        model: name of the model.
        target: what was asked for, such as "macs=0.5".
        importance: how channels were ranked.
        params_before: parameters before, statistics of norms included.
        params_after: parameters left.
        macs_before: multiply-accumulates for one sample.
        macs_after: those left.
        channels_before: channels that could be told apart; coupled ones count once.
        channels_removed: how many of them went.
        layers: a row for each layer that makes channels.
        unknown: (layer, type) of what no rule is known for, so that channels there stay.
        history: what was removed, in the numbers of the model before; see `tfprune.replay`.
        touched: paths of the layers with weights that were cut: outputs, inputs or norms.
        latency_before_ms: milliseconds of the exported `.tflite`, measured for `latency_ms=` only.
        latency_after_ms: those of the smaller model.
        notes: where less was removed than one might expect, and why; what MACs do not tell.

    Example: `small, report = tfprune.shrink(model, macs=0.5); print(report)`

    Source: made by `tfprune.shrink`.
    """

    model: str
    target: str
    importance: str
    params_before: int
    params_after: int
    macs_before: int
    macs_after: int
    channels_before: int
    channels_removed: int
    layers: tuple[ShrunkLayer, ...]
    unknown: tuple[tuple[str, str], ...]
    history: History
    touched: tuple[str, ...] = ()
    latency_before_ms: float | None = None
    latency_after_ms: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def coverage(self) -> float:
        """Fraction of all channels made by kernels that could have been removed."""
        total = sum(row.before for row in self.layers)
        return 1.0 - sum(row.frozen for row in self.layers) / total if total else 0.0

    def table(self) -> Table:
        """Return the table of layers that `print` shows."""
        table = Table(
            title=f"'{self.model}' shrunk to {self.target}, by {self.importance}",
            box=box.SIMPLE_HEAD,
        )
        table.add_column("layer", overflow="fold")
        for name in ("before", "after", "removed", "MACs left"):
            table.add_column(name, justify="right")
        table.add_column("must stay", overflow="fold")
        for row in self.layers:
            gone = row.before - row.after
            left = row.macs_after / row.macs_before if row.macs_before else 1.0
            table.add_row(
                row.layer,
                str(row.before),
                str(row.after),
                f"{gone / row.before:.0%}" if gone else "-",
                f"{left:.0%}",
                f"{row.frozen}: {row.reason}" if row.frozen else "",
            )
        return table

    def lines(self) -> list[str]:
        """Return the totals in words."""
        found = [
            f"parameters  {self.params_before:>15,} -> {self.params_after:>15,}  "
            f"({self.params_after / max(self.params_before, 1):.1%})",
            f"MACs        {self.macs_before:>15,} -> {self.macs_after:>15,}  "
            f"({self.macs_after / max(self.macs_before, 1):.1%})",
            f"channels    {self.channels_removed:,} of {self.channels_before:,} removed "
            "(coupled ones count once)",
        ]
        if self.latency_before_ms is not None and self.latency_after_ms is not None:
            found.append(
                f"latency     {self.latency_before_ms:>12.3f} ms -> {self.latency_after_ms:>12.3f} "
                f"ms  ({self.latency_after_ms / self.latency_before_ms:.1%}), as float32 .tflite"
            )
        kinds = sorted({kind for _, kind in self.unknown})
        if kinds:
            found.append(
                f"no rule is known for {', '.join(kinds)}: channels there stay "
                "(`tfprune.channel_rule` teaches one)"
            )
        return [*found, *self.notes]

    def __rich__(self) -> Group:
        """Return what rich prints: the table and the totals under it."""
        return Group(self.table(), *(Text(line) for line in self.lines()))


def report(
    structure: Structure,
    removed: np.ndarray,
    target: Target,
    importance: str,
    latency: tuple[float | None, float | None] = (None, None),
) -> ShrinkReport:
    """Describe a removal; `latency` is in milliseconds, before and after."""
    cost, atoms = structure.cost, structure.atoms
    before, after = cost.macs_by_layer(NOTHING), cost.macs_by_layer(removed)
    lengths = atoms.lengths(removed)
    numbers = {(id(p.variable), p.axis): n for n, p in enumerate(atoms.places)}
    rows = []
    for place in structure.outputs():
        free = structure.free(place)
        rows.append(
            ShrunkLayer(
                layer=place.layer,
                weight=place.name,
                axis=place.axis,
                before=int(place.ids.size),
                after=int(lengths[numbers[id(place.variable), place.axis]]),
                frozen=int((~free).sum()),
                reason="" if free.all() else atoms.reason(place.ids) or "it is the only channel",
                macs_before=before.get(place.layer, 0),
                macs_after=after.get(place.layer, 0),
            )
        )
    return ShrinkReport(
        model=structure.model.name,
        target=str(target),
        importance=importance,
        params_before=cost.params(NOTHING),
        params_after=cost.params(removed),
        macs_before=cost.macs(NOTHING),
        macs_after=cost.macs(removed),
        channels_before=atoms.count,
        channels_removed=int(removed.size),
        layers=tuple(rows),
        unknown=tuple(dict.fromkeys(structure.trace.unknown)),
        history=history(structure, removed),
        touched=_touched(structure, lengths),
        latency_before_ms=latency[0],
        latency_after_ms=latency[1],
        notes=tuple(_notes(structure, target, removed, lengths, latency[0])),
    )


def _notes(
    structure: Structure,
    target: Target,
    removed: np.ndarray,
    lengths: np.ndarray,
    latency: float | None,
) -> Iterator[str]:
    """Yield a sentence for each layer, or the model, of which nothing was removed after all.

    And one where MACs stand on lengths that are not known. `latency` is that of the whole model.
    """
    places = structure.atoms.places
    for name, numbers in layer_places(structure, target.by_layer or ()).items():
        ratio = (target.by_layer or {})[name]
        if all(lengths[n] == places[n].ids.size for n in numbers):
            count = places[numbers[0]].ids.size
            yield (
                f"nothing was removed of '{name}': {ratio:g} of its {count} channels is less than "
                "what can be removed at a time (one channel, one group, or up to a multiple of "
                "`round_to`)"
            )
    unknown = list(assumed(structure.model, structure.trace))
    if unknown:
        yield (
            f"in MACs, lengths that are not known count as 1: {', '.join(unknown)}; at another "
            "size other layers weigh more. To shrink for a certain size, build the model with a "
            "fixed `keras.Input`, shrink that, and cut this one by "
            "`tfprune.replay(model, report.history)`"
        )
    if removed.size or target.by_layer is not None:
        return
    if latency is not None:
        yield f"nothing was removed: the model takes {latency:.3f} ms, and {target} was asked for"
    elif not structure.atoms.count:
        against = "; ".join(f"{count}: {reason}" for reason, count in reasons(structure).items())
        yield f"nothing was removed: every channel must stay ({against or 'no kernel makes any'})"
    else:
        yield f"nothing was removed: {target} is less than what can be removed at a time"


def _touched(structure: Structure, lengths: np.ndarray) -> tuple[str, ...]:
    """Return the paths of layers with a weight that is shorter now, in the order of the model."""
    places = zip(structure.atoms.places, lengths, strict=True)
    return tuple(dict.fromkeys(p.layer for p, left in places if left < p.ids.size))


def reasons(structure: Structure) -> dict[str, Any]:
    """Return how many channels made by kernels must stay for each reason."""
    found: dict[str, int] = {}
    for place in structure.outputs():
        for position in np.flatnonzero(~structure.free(place)):
            reason = structure.atoms.reason(place.ids[position : position + 1])
            reason = reason or "it is the only channel"
            found[reason] = found.get(reason, 0) + 1
    return found
