"""The tables of before and after: one for each pair of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfprune.reporting import texts
from tfprune.reporting.items import Pair

Shown = Callable[[Any], str]
Change = Callable[[float, float], str]

ROWS: dict[str, tuple[str, Shown, Change]] = {
    "accuracy": ("accuracy", texts.percent, texts.points),
    "parameters": ("parameters", texts.count, texts.ratio),
    "nonzero": ("nonzero parameters", texts.count, texts.ratio),
    "macs": ("MACs, all", texts.count, texts.ratio),
    "nonzero_macs": ("MACs with nonzero weights", texts.count, texts.ratio),
    "file_bytes": ("file size", texts.size, texts.ratio),
    "gzip_bytes": ("file size, gzip", texts.size, texts.ratio),
    "memory": ("peak memory", texts.size, texts.ratio),
    "latency": ("latency, median", texts.milliseconds, texts.ratio),
    "energy": ("energy of a run", texts.millijoules, texts.ratio),
}


def compared(pairs: Sequence[Pair]) -> list[tuple[str, tuple[tuple[str, ...], ...]]]:
    """Return a caption and rows (name, before, after, change) for each pair of models.

    Figures of different models never share a table: a reader takes all that stands in one column
    for figures of one model. Where nothing is known of the first model, nothing is compared.

    Args:
        pairs: in the order in which the tables stand; of two pairs of one figure the first is kept.

    Example: `compared([Pair("parameters", 100, 50, ("a", "b"), "shrink.json")])` is
    `[("Before: a; after: b (shrink.json)", (("parameters", "100", "50", "2 times less"),))]`.
    """
    groups: dict[tuple[tuple[str, str], str], dict[str, Pair]] = {}
    for pair in pairs:
        groups.setdefault((pair.models, pair.source), {}).setdefault(pair.figure, pair)
    return [
        (f"Before: {before}; after: {after} ({source})", _rows(group))
        for ((before, after), source), group in groups.items()
        if any(pair.before is not None for pair in group.values())
    ]


def _rows(group: Mapping[str, Pair]) -> tuple[tuple[str, ...], ...]:
    found = []
    for key, (name, shown, change) in ROWS.items():
        pair = group.get(key)
        if pair is None or (pair.before is None and pair.after is None):
            continue
        changed = texts.UNKNOWN
        if texts.is_number(pair.before) and texts.is_number(pair.after):
            changed = change(pair.before, pair.after)
        found.append((name, shown(pair.before), shown(pair.after), changed))
    return tuple(found)


def not_compared(pairs: Sequence[Pair], no_meter: bool = False) -> str:
    """Return a sentence of the figures that no pair of models has; an empty text if all are there.

    Args:
        pairs: all that were found.
        no_meter: whether energy was asked for, so that only a meter can be missing.
    """
    full = {pair.figure for pair in pairs if pair.before is not None and pair.after is not None}
    names = [
        name + (" (no meter)" if key == "energy" and no_meter else "")
        for key, (name, *_) in ROWS.items()
        if key not in full
    ]
    return f"Not measured before and after: {'; '.join(names)}." if names else ""
