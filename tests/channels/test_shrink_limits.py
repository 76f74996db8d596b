"""What layers keep when ratios are asked of named layers, or the same of each."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from channels.graphs.cases import conv, finish, image


def sequence(units=16):
    """Return a model with a recurrent layer: four columns a unit."""
    x = keras.Input((5, 4))
    return finish(x, layers.LSTM(units, name="a")(x))


def wide(units):
    """Return a model with a dense layer."""
    x = keras.Input((4,))
    return finish(x, layers.Dense(units, name="a")(x))


@pytest.mark.parametrize(
    ("ratio", "limits", "left"),
    [
        (0.4, {"round_to": 8}, 16),  # 10 would stay, 16 is the next multiple
        (0.5, {"round_to": 8}, 8),
        (0.9, {"min_channels": 8}, 8),
        (0.9, {"min_channels": 7, "round_to": 2}, 8),
        (0.5, {"max_ratio": 0.5}, 8),
        (0.9, {}, 2),
    ],
)
@pytest.mark.parametrize("model", [sequence, wide])
def test_limits_count_units(model, ratio, limits, left):
    small, _ = tfprune.shrink(model(16), channels={"a": ratio}, **limits)
    assert small.get_layer("a").units == left


@pytest.mark.parametrize("model", [sequence, wide])
def test_more_than_the_largest_fraction_is_an_error(model):
    with pytest.raises(
        tfprune.ImpossibleTarget,
        match=r"16 channels of 'a' only 8 can be removed, and 14 were asked.*max_ratio=0\.5",
    ):
        tfprune.shrink(model(16), channels={"a": 0.9}, max_ratio=0.5)


def sum_of_two(p, q):
    """`c` makes as many channels as `p` and `q` together, which are those of `p` and `q`."""
    x = image()
    ends = layers.Concatenate()([conv(x, p, "p"), conv(x, q, "q")])
    return finish(x, ends + conv(x, p + q, "c"))


def by_channel(least):
    """Return an importance by which some channels are worth less than all others."""

    def score(rows):
        found = np.full(len(rows), 2.0)
        found[: least if len(rows) > least else 0] = 1.0
        return found

    return score


def test_other_layers_keep_something():
    # All four of `p` come first, and each layer keeps one of ten at least.
    small, _ = tfprune.shrink(sum_of_two(4, 4), channels={"c": 0.5}, importance=by_channel(4))
    assert [small.get_layer(name).filters for name in "pqc"] == [1, 3, 4]
    with pytest.raises(tfprune.ImpossibleTarget, match="8 channels of 'c' only 6 can be removed"):
        tfprune.shrink(sum_of_two(4, 4), channels={"c": 0.9})


def test_other_layers_keep_multiples_and_minimums():
    model = sum_of_two(8, 8)
    small, _ = tfprune.shrink(model, channels={"c": 0.6}, round_to=4, importance=by_channel(8))
    assert [small.get_layer(name).filters for name in "pqc"] == [4, 4, 8]
    small, _ = tfprune.shrink(model, channels={"c": 0.5}, min_channels=3, importance=by_channel(8))
    assert [small.get_layer(name).filters for name in "pqc"] == [3, 5, 8]


def test_what_another_named_layer_loses_counts():
    def score(rows):  # the channels of `q` are worth less than those of `p`
        return np.where(np.arange(len(rows)) < 4, 2.0, 1.0)

    # Two of `p` go for its own ratio; so that `c` loses four, not three more of `q`.
    ratios = {"p": 0.5, "c": 0.5}
    small, _ = tfprune.shrink(sum_of_two(4, 4), channels=ratios, importance=score)
    assert [small.get_layer(name).filters for name in "pqc"] == [2, 2, 4]


def test_layers_that_are_named_together_are_rounded_together():
    # 7 = 4 + 3 and 5 = 4 + 1: `c` keeps a multiple of 4 only if both lose what is odd.
    small, _ = tfprune.shrink(sum_of_two(7, 5), channels={"p": 0.5, "q": 0.3}, round_to=4)
    assert [small.get_layer(name).filters for name in "pqc"] == [4, 4, 8]
    with pytest.raises(tfprune.ImpossibleTarget, match="of 'p' only 0 can be removed"):
        tfprune.shrink(sum_of_two(7, 5), channels={"p": 0.5}, round_to=4)


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_no_slice_becomes_empty(ratio):
    x = keras.Input((6,))
    first, second = ops.split(layers.Dense(8, name="d")(x), [2], axis=-1)
    ends = [layers.Dense(4, name="a")(first), layers.Dense(4, name="b")(second)]
    model = finish(x, layers.Concatenate()(ends))
    small, _ = tfprune.shrink(model, channels={"d": ratio}, importance=by_channel(2))
    assert small.get_layer("a").kernel.shape == (1, 4)
    assert small.get_layer("b").kernel.shape == (8 - int(8 * ratio) - 1, 4)
    assert small(np.ones((1, 6), "float32")).shape == (1, 3)


def test_rounds_end_where_one_would():
    model = sum_of_two(8, 8)
    at_once, _ = tfprune.shrink(model, channels={"c": 0.75, "p": 0.5}, round_to=2)
    slowly, _ = tfprune.shrink(model, channels={"c": 0.75, "p": 0.5}, round_to=2, steps=3)
    sizes = [[one.get_layer(name).filters for name in "pqc"] for one in (at_once, slowly)]
    assert all(n % 2 == 0 for size in sizes for n in size)
    assert sizes[0][2] == sizes[1][2] == 4


# -- The same of each ------------------------------------------------------------------------------


def two_layers():
    """Return a model of 10 and 40 units."""
    x = keras.Input((4,))
    return finish(x, layers.Dense(40, name="b")(layers.Dense(10, name="a")(x)))


@pytest.mark.parametrize(
    ("ratio", "limits", "message"),
    [
        (0.95, {"max_ratio": 0.3}, r"max_ratio=0\.3.* at the most 30\.0%"),
        (0.95, {}, r"at the most 90\.0%"),
        (0.9, {"min_channels": 8}, "min_channels=8"),  # 36 of 40 would go, 32 can
    ],
)
def test_a_fraction_that_each_cannot_lose(ratio, limits, message):
    with pytest.raises(tfprune.ImpossibleTarget, match=message):
        tfprune.shrink(two_layers(), channels=ratio, scope="local", **limits)


@pytest.mark.parametrize(
    ("ratio", "limits", "left"),
    [
        (0.3, {"max_ratio": 0.3}, (7, 28)),
        (0.9, {}, (1, 4)),
        (0.5, {"min_channels": 8}, (8, 20)),  # small layers stay, the larger one can lose more
        (0.9, {"round_to": 8}, (8, 8)),  # as far as multiples allow
    ],
)
def test_a_fraction_that_each_can_lose(ratio, limits, left):
    small, _ = tfprune.shrink(two_layers(), channels=ratio, scope="local", **limits)
    assert (small.get_layer("a").units, small.get_layer("b").units) == left


@pytest.mark.parametrize(
    ("options", "held"),
    [  # of 10 + 40; 9 + 36 may go by the limits as they come
        ({"ignore": ["b"]}, r"`layers` and `ignore` 40\. Loosen `layers` and"),
        ({"layers": ["b"]}, r"`layers` and `ignore` 10, `max_ratio` 3\. Loosen `layers` and"),
        ({"min_channels": 9}, r"`min_channels` 13\. Loosen `min_channels`, or"),
        ({"round_to": 9}, r"`round_to` 13\. Loosen `round_to`, or"),
        ({"max_ratio": 0.5}, r"`max_ratio` 23\. Loosen `max_ratio`, or"),
    ],
)
def test_the_argument_that_keeps_channels_is_named(options, held):
    with pytest.raises(tfprune.ImpossibleTarget, match="kept by arguments: " + held):
        tfprune.shrink(two_layers(), macs=0.001, **options)
