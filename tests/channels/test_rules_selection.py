"""The order in which channels go: caps, ties, multiples, layers with several families."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from channels.checks import ranked
from channels.graphs.cases import conv, finish, image
from tfprune.channels.structure import NOTHING, read


def lengths(structure, removed):
    """Return how many channels each kernel makes after removal, by layer."""
    after = structure.atoms.lengths(removed)
    places = enumerate(structure.atoms.places)
    return {p.layer: int(after[n]) for n, p in places if p.role == "out"}


def two_families():
    """`d` makes 7 + 5 channels that meet those of `p` and `q`."""
    x = image()
    h = layers.Concatenate()([conv(x, 7, "p"), conv(x, 5, "q")])
    return read(finish(x, h + conv(x, 12, "d")))


def test_a_layer_of_several_families_keeps_multiples():
    structure = two_families()
    assert structure.atoms.sizes().tolist() == [7, 5]
    # 7 = 4 + 3 and 5 = 4 + 1: these 3 and 1 go at once, whatever their scores.
    scores = np.arange(12.0)
    order = ranked(structure, scores, round_to=4)
    assert order.stops.tolist() == [0, 4]
    assert sorted(order.atoms.tolist()) == [0, 1, 2, 7]
    expected = {"p": 4, "q": 4, "d": 8, "y": 3}
    assert lengths(structure, order.atoms) == expected


@pytest.mark.parametrize("scope", ["global", "local"])
def test_a_family_that_cannot_be_rounded_keeps_its_layer_whole(scope):
    structure = two_families()
    # 5 channels cannot become a multiple of 6, so `d` could not either.
    order = ranked(structure, np.arange(12.0), scope, round_to=6)
    assert order.atoms.size == 0
    assert lengths(structure, NOTHING)["d"] == 12


def test_ties_go_by_number_and_every_beginning_keeps_the_cap():
    x = image()
    structure = read(finish(x, conv(conv(x, 10, "a"), 4, "b")))
    order = ranked(structure, np.zeros(14), max_ratio=0.5)
    assert order.atoms.tolist() == [0, 1, 2, 3, 4, 10, 11]
    assert order.first(lambda r: r.size >= 6).tolist() == [0, 1, 2, 3, 4, 10]
    assert order.first(lambda r: r.size >= 8) is None


def test_local_scope_takes_the_same_fraction_of_each():
    x = image()
    structure = read(finish(x, conv(conv(x, 10, "a"), 4, "b")))
    scores = np.arange(14.0)[::-1]
    assert sorted(ranked(structure, scores, "local").up_to(0.5).tolist()) == [
        *(5, 6, 7, 8, 9),
        *(12, 13),
    ]


def test_least_that_stays_and_what_has_no_score():
    x = image()
    structure = read(finish(x, conv(conv(x, 10, "a"), 4, "b")))
    scores = np.arange(14.0)
    scores[[0, 11]] = np.inf
    order = ranked(structure, scores, max_ratio=1.0, min_channels=3)
    assert order.atoms.tolist() == [1, 2, 3, 4, 5, 6, 7, 10]


def test_multiples_of_groups_and_of_recurrent_units():
    x = image()
    grouped = read(finish(x, conv(conv(x, 8, "a"), 24, "g", groups=4)))
    # An atom of `a` or `g` is 4 channels: multiples of 8 are pairs of them.
    order = ranked(grouped, np.arange(8.0), round_to=8)
    assert [lengths(grouped, order.atoms[:stop])["g"] for stop in order.stops] == [24, 16, 8]
    x = keras.Input((5, 3))
    recurrent = read(finish(x, layers.LSTM(16, name="a")(x)))
    order = ranked(recurrent, np.arange(16.0), round_to=8)
    assert order.stops.tolist() == [0, 8]  # units, not columns of the four gates


def test_no_slice_becomes_empty():
    x = image()
    parts = ops.split(conv(x, 6, "a"), 3, axis=-1)
    structure = read(finish(x, layers.Concatenate()([ops.relu(p) for p in parts])))
    order = ranked(structure, np.arange(6.0), max_ratio=1.0)
    assert sorted(order.atoms.tolist()) == [0, 2, 4]
    small, _ = structure.without(order.atoms)
    assert small(np.ones((1, 6, 6, 3))).shape == (1, 3)


def frozen_in_part(filters, held, wide):
    """`a` makes channels of which the first few must stay; beside `b`, they add up to `d`'s."""
    x = image()
    a, b = conv(x, filters, "a"), conv(x, wide, "b")
    custom = layers.Lambda(lambda t: t, output_shape=(6, 6, held), name="custom")(a[..., :held])
    h = layers.Concatenate()([a, b]) + conv(x, filters + wide, "d")
    return read(finish(x, layers.Concatenate()([custom, h])))


def test_what_must_stay_counts_for_the_multiple():
    structure = frozen_in_part(21, 3, 9)
    # `a` has 3 + 18 channels, `b` 9: 5 = 4 + 1 of `a` and 9 = 8 + 1 of `b` bring both to
    # multiples of 4, and `d` with them; 18 - 1 = 4 * 4 + 1 with the 3 that stay are 20.
    order = ranked(structure, np.arange(27.0), round_to=4)
    after = [lengths(structure, order.atoms[:stop]) for stop in order.stops]
    found = [(one["a"], one["b"], one["d"]) for one in after]
    assert found[0] == (21, 9, 30)
    assert found[1] == (20, 8, 28)
    assert all(n % 4 == 0 for one in found[1:] for n in one)
    assert found[-1] == (8, 4, 12)


def test_a_family_of_which_layers_want_different_rests_stays_whole():
    x = image()
    a, c = conv(x, 19, "a"), conv(x, 16, "c")
    custom = layers.Lambda(lambda t: t, output_shape=(6, 6, 3), name="custom")(a[..., :3])
    # The 16 channels of `a` that may go are tied to those of `c`, of which none must stay.
    structure = read(finish(x, layers.Concatenate()([custom, a[..., 3:] + c])))
    assert structure.atoms.sizes().tolist() == [16]
    assert ranked(structure, np.arange(16.0), round_to=4).atoms.size == 0
    assert ranked(structure, np.arange(16.0), round_to=1).atoms.size == 14
