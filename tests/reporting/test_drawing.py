"""Plots of a page: nothing sticks out of them."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfprune.reporting import drawing, items


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, laid out as they are saved."""
    saved, save = [], Figure.savefig

    def keep(figure, *arguments, **options):
        save(figure, *arguments, **options)
        figure.set_dpi(72)  # that of SVG
        saved.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return saved


def labels_of(figure):
    """Return the boxes of the labels of the ticks that are seen, along the axis."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        low, high = sorted(axes.get_xlim())
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        seen = [label for place, label in ticks if low <= place <= high and label.get_text()]
        yield [label.get_window_extent(renderer) for label in seen]


@pytest.mark.parametrize("name", ["float16-sparse", "a_layer_with_a_very_long_name/kernel"])
def test_labels_of_ticks_are_whole_and_apart(drawn, name):
    # At 153.8 the label 160 was cut in half: there was room for it before there were ticks.
    values = [*np.linspace(100, 400, 40)[6:9], 0.0132, 9.99, 100.0, 12_345_678.0]
    for value in values:
        series = {"file": [value, value / 2], "gzip": [value / 3, value / 4]}
        drawing.bars(items.VARIANTS, "bars", [name, "dense"], series, "KiB")
    assert len(drawn) == 2 * len(values)
    for figure in drawn:
        (labels,) = labels_of(figure)
        assert len(labels) >= 3
        assert min(box.x0 for box in labels) >= 0
        assert max(box.x1 for box in labels) <= figure.bbox.x1
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(labels))
