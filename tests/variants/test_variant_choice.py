"""Names of variants, and the choice of the best one, by figures worked out by hand."""

import pytest

from tfprune.variants.objective import choose
from tfprune.variants.row import DONE, LEFT_OUT, VariantRow
from tfprune.variants.variant import VARIANTS, chosen


def row(name, size, ms, accuracy=None, baseline=0.98):
    drop = None if accuracy is None else baseline - accuracy
    return VariantRow(
        name, DONE, file_bytes=size, median_ms=ms, accuracy=accuracy, drop=drop, gzip_bytes=size
    )


# size x latency: 4000, 2000, 1050, 2500
ROWS = [
    row("float32", 1000, 4.0, 0.98),
    row("float16", 500, 4.0, 0.98),
    row("dynamic", 350, 3.0, 0.97),
    row("int8", 250, 10.0, 0.9699),
]


@pytest.mark.parametrize(
    ("objective", "drop", "best"),
    [
        ("size", 0.02, "int8"),
        ("size", 0.01, "dynamic"),  # 0.98 - 0.97 is 0.010000000000000009 in binary
        ("size", 0.0, "float16"),
        ("latency", 0.02, "dynamic"),
        ("latency", 0.0, "float16"),  # as fast as float32, and smaller
        ("balanced", 0.02, "dynamic"),
        ("balanced", 0.005, "float16"),
    ],
)
def test_the_best(objective, drop, best):
    assert choose(ROWS, objective, 0.98, drop).best == best


def test_balanced_weighs_speed_against_size():
    rows = [row("float32", 1000, 1.0), row("int8", 300, 4.0), row("float16", 500, 1.9)]
    assert choose(rows, "balanced", None, 0.01).best == "float16"  # 950 < 1000 < 1200
    assert "0.95 of float32's" in choose(rows, "balanced", None, 0.01).reason


def test_balanced_ties_go_to_the_smaller():
    rows = [row("float32", 1000, 1.0), row("float16", 500, 2.0), row("int8", 250, 4.0)]
    assert choose(rows, "balanced", None, 0.01).best == "int8"
    assert choose(rows[:2], "balanced", None, 0.01).best == "float16"


def test_without_accuracy_the_drop_is_not_applied_and_that_is_said():
    rows = [row("float32", 1000, 4.0), row("int8", 250, 4.0)]
    choice = choose(rows, "size", None, 0.01)
    assert choice.best == "int8"
    assert "not measured" in choice.reason
    assert "--eval" in choice.reason


def test_none_within_the_drop_names_the_closest():
    rows = [row("dynamic", 350, 3.0, 0.95), row("int8", 250, 1.0, 0.9), row("x", 9, 1.0, 0.95)]
    choice = choose(rows, "size", 0.98, 0.01)
    assert choice.best is None
    assert "x came closest: accuracy 0.9500, a drop of 0.0300" in choice.reason
    assert "0.9800" in choice.reason


def test_a_gain_of_accuracy_is_within_any_drop():
    assert choose([row("int8", 250, 1.0, 0.99)], "size", 0.98, 0.0).best == "int8"


def test_what_is_left_out_or_not_timed_is_not_chosen():
    rows = [row("float32", 1000, None), VariantRow("int8", LEFT_OUT, "no data")]
    assert choose(rows, "size", None, 0.01).best == "float32"
    late = choose(rows, "latency", None, 0.01)
    assert late.best is None
    assert "latency" in late.reason
    assert choose(rows[1:], "size", None, 0.01).best is None


def test_names():
    assert chosen("all") == VARIANTS
    assert [one.name for one in chosen(" int8, float32,")] == ["float32", "int8"]
    assert [one.name for one in chosen(["float16-sparse"])] == ["float16-sparse"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("", "float32"),
        ("int4", "int4"),
        ("all,int8", "'all,int8'"),
        ("dynamic-sparse", "no sparse form"),
        ([], r"\[\]"),
    ],
)
def test_bad_names(names, message):
    with pytest.raises(ValueError, match=message):
        chosen(names)


@pytest.mark.parametrize("names", [None, 3, [1]])
def test_names_of_a_wrong_type(names):
    with pytest.raises(TypeError, match="Received"):
        chosen(names)
