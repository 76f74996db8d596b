"""The table of before and after, out of all pairs that were found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
MISSING = "not measured"


def rows(pairs: Sequence[Pair], meter: str = "") -> tuple[tuple[str, ...], ...]:
    """Return a row for each figure: name, before, after, change, where it comes from.

    Args:
        pairs: in the order in which they are believed; the first with both figures wins.
        meter: what a benchmark says of energy, such as "no meter".

    Example: `rows([Pair("parameters", 100, 50, "count.json")])[1]` is
    `("parameters", "100", "50", "2 times less", "count.json")`.
    """
    found = []
    for key, (name, shown, change) in ROWS.items():
        known = [
            pair
            for pair in pairs
            if pair.figure == key and (pair.before is not None or pair.after is not None)
        ]
        full = [pair for pair in known if pair.before is not None and pair.after is not None]
        best = next(iter(full or known), None)
        if best is None:
            missing = (meter or MISSING) if key == "energy" else MISSING
            found.append((name, texts.UNKNOWN, texts.UNKNOWN, missing, texts.UNKNOWN))
            continue
        changed = texts.UNKNOWN
        if texts.is_number(best.before) and texts.is_number(best.after):
            changed = change(best.before, best.after)
        found.append((name, shown(best.before), shown(best.after), changed, best.source))
    return tuple(found)
