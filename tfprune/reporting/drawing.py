"""Plots as pictures inside the page, once for a light and once for a dark screen."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfprune.reporting.items import Picture

_STEPS = 4  # between ticks: long names leave no room for more
WIDTH = 5.0  # inches: what stays readable on a phone, where the page scales it down
_SHARED = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.framealpha": 0.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a layer may be called "$x"
    "svg.hashsalt": "tfprune",  # the same run gives the same page
    "font.size": 10,
}
_INK = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_LIGHT = (("#1b1f24",), ("#0b6e99", "#c2510c", "#4a7c31", "#8250b0", "#9a6700", "#5b6570"))
_DARK = (("#e6e9ec",), ("#6cc0e5", "#f2a065", "#9fd07f", "#c9a6ee", "#e3b341", "#a7b0b9"))


def picture(section: str, alt: str, height: float, draw: Callable[[Any], object]) -> Picture:
    """Return a plot as two `data:` addresses of SVG, for light and for dark screens.

    It is drawn at once, so that figures that cannot be drawn are noticed where they are read.

    Args:
        section: of the page.
        alt: the same in a sentence.
        height: in inches.
        draw: draws on a matplotlib figure.
    """
    light, dark = (_address(height, draw, *theme) for theme in (_LIGHT, _DARK))
    return Picture(section, alt, light, dark)


def _address(
    height: float, draw: Callable[[Any], object], ink: Sequence[str], colors: Sequence[str]
) -> str:
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    settings: Any = {**_SHARED, **dict.fromkeys(_INK, ink[0])}
    settings["axes.prop_cycle"] = cycler(color=list(colors))
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # Names of layers in scripts that matplotlib's font lacks; the tables have them.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        _fix_ticks(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _fix_ticks(figure: Any) -> None:
    """Let ticks depend on the values alone.

    Those that matplotlib chooses by the length of an axis change while the layout makes room for
    their labels, and the last label may then stick out of the picture.
    """
    from matplotlib.ticker import AutoLocator, MaxNLocator

    for axes in figure.axes:
        if isinstance(axes.xaxis.get_major_locator(), AutoLocator):
            axes.xaxis.set_major_locator(MaxNLocator(_STEPS, steps=[1, 2, 2.5, 5, 10]))


def bars(
    section: str,
    alt: str,
    names: Sequence[str],
    series: Mapping[str, Sequence[float]],
    unit: str,
) -> Picture:
    """Return horizontal bars: for each name one of each series.

    Args:
        section: of the page.
        alt: the same in a sentence.
        names: of the groups, the first on top.
        series: a value for each name.
        unit: label of the axis.
    """
    groups, thickness = len(names), 0.8 / max(1, len(series))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        places = np.arange(groups)
        for number, (label, values) in enumerate(series.items()):
            axes.barh(places + (number + 0.5) * thickness - 0.4, values, thickness, label=label)
        axes.set_yticks(places, [short(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.margins(y=0.02)
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=len(series))

    return picture(section, alt, 1.0 + groups * (0.2 + 0.12 * len(series)), draw)


def short(name: str, length: int = 24) -> str:
    """Return a name that leaves room for the plot: `short("a" * 30)` ends a long one's begin."""
    return name if len(name) <= length else "…" + name[1 - length :]
