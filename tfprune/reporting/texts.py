"""Figures as texts; None, and what is no number, stay readable."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

UNKNOWN = "–"
_SAME = 0.005  # a change of less is none: figures are shown with about three digits
_TIMES = 1.5  # from here on "times" says it better than "per cent"


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value out of a file is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def plain(value: Any) -> str:
    """Return a text for anything: "–" for None or nothing.

    Example: `plain((3, 3, 1, 32))` is "3x3x1x32".
    """
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value)) or UNKNOWN
    return UNKNOWN if value is None or value == "" else str(value)


def count(value: Any) -> str:
    """Return a whole number with commas: `count(45050)` is "45,050"."""
    return f"{value:,.0f}" if is_number(value) else plain(value)


def percent(value: Any) -> str:
    """Return a fraction as per cent: `percent(0.516)` is "51.6 %"."""
    return f"{value:.1%}".replace("%", " %") if is_number(value) else plain(value)


def size(value: Any) -> str:
    """Return bytes in the unit that fits: `size(352384)` is "344.1 KiB"."""
    if not is_number(value):
        return plain(value)
    if value < 1024:
        return f"{value:.0f} B"
    return f"{value / 1024:,.1f} KiB" if value < 1024**2 else f"{value / 1024**2:,.1f} MiB"


def digits(value: Any) -> str:
    """Return a figure with about three digits: `digits(0.01234)` is "0.0123"."""
    if not is_number(value):
        return plain(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def milliseconds(value: Any) -> str:
    """Return a time: `milliseconds(1.234)` is "1.23 ms"."""
    return f"{digits(value)} ms" if is_number(value) else plain(value)


def millijoules(value: Any) -> str:
    """Return an energy: `millijoules(1.234)` is "1.23 mJ"."""
    return f"{digits(value)} mJ" if is_number(value) else plain(value)


def ratio(before: float, after: float) -> str:
    """Return a change in words: `ratio(10, 4)` is "2.5 times less", `ratio(10, 9)` "10 % less".

    Below half a per cent it is "the same"; from 1.5 times on it is told in times.
    """
    if before == after:
        return "the same"
    if not before or not after:
        return UNKNOWN
    change = abs(after - before) / before
    if change < _SAME:
        return "the same"
    word = "less" if after < before else "more"
    times = max(before, after) / min(before, after)
    if times < _TIMES:
        return f"{100 * change:.{0 if change >= 0.01 else 1}f} % {word}"
    return f"{times:.2g} times {word}" if times < 10 else f"{times:,.0f} times {word}"


def points(before: float, after: float) -> str:
    """Return a difference of fractions: `points(0.99, 0.98)` is "-1.0 points"."""
    return f"{100 * (after - before):+.1f} points" if before != after else "the same"
