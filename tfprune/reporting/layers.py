"""Layers on the page: their zeros, and their channels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfprune.reporting.drawing import bars
from tfprune.reporting.items import CHANNELS, LAYERS, Item, Skipped, Table
from tfprune.reporting.texts import count, is_number, percent, plain

DRAWN = 60  # layers in a picture; of more, the table tells all and the picture the first


def rows(found: Sequence[Mapping[str, Any]], source: str) -> Iterator[Item]:
    """Yield the sparsity of each weight: a table, bars, and what was left dense.

    Args:
        found: mappings with `layer`, `weight`, `size`, `reached`, `reason`; and `shape`, `pattern`,
            `target` where they are known.
        source: where they come from.
    """
    weights = [row for row in found if row["weight"] and is_number(row["reached"])]
    names = [f"{row['layer']}/{row['weight']}" for row in weights]
    cells = [
        (
            *(name, percent(row["reached"]), percent(row.get("target")), count(row["size"])),
            *(plain(row.get("shape")), plain(row.get("pattern") or "dense")),
        )
        for name, row in zip(names, weights, strict=True)
    ]
    if weights:
        columns = ("weight", "zeros", "target", "values", "shape", "pattern")
        yield Table(LAYERS, f"Zeros in each weight ({source})", columns, tuple(cells), 3)
        told = ", ".join(f"{name} {percent(row['reached'])}" for name, row in _few(names, weights))
        yield bars(
            LAYERS,
            f"Bars: zeros in each weight, in per cent. {told}.",
            names[:DRAWN],
            {"zeros": [100 * row["reached"] for row in weights[:DRAWN]]},
            "zeros, %",
        )
    for row in found:
        if row["reason"]:
            name = "/".join(filter(None, (str(row["layer"]), str(row["weight"]))))
            yield Skipped(f"{name}: left dense", str(row["reason"]), source)


def _few(names: Sequence[str], found: Sequence[Any], most: int = 12) -> Iterator[tuple[str, Any]]:
    yield from zip(names[:most], found[:most], strict=True)


def channels(figures: Mapping[str, Any], source: str) -> Iterator[Item]:
    """Yield the channels of each layer before and after `shrink`."""
    found = figures["layers"]
    cells = tuple(
        (
            *(str(row["layer"]), count(row["before"]), count(row["after"])),
            *(count(row["macs_before"]), count(row["macs_after"])),
        )
        for row in found
    )
    columns = ("layer", "before", "after", "MACs before", "MACs after")
    caption = f"Channels of each layer of {figures['model']}, {figures['target']} ({source})"
    yield Table(CHANNELS, caption, columns, cells, 4)
    names = [str(row["layer"]) for row in found]
    told = ", ".join(
        f"{name} {row['before']} to {row['after']}" for name, row in _few(names, found)
    )
    yield bars(
        CHANNELS,
        f"Bars: channels of each layer before and after. {told}.",
        names[:DRAWN],
        {key: [float(row[key]) for row in found[:DRAWN]] for key in ("before", "after")},
        "channels",
    )
