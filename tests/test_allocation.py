import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfprune import allocation

FREE = {"floors": [0.0, 0.0], "ceilings": [1.0, 1.0]}


def test_uniform_gives_every_layer_the_same():
    found = allocation.spread(allocation.uniform(2), [10, 30], 0.5, **FREE)
    assert found == pytest.approx([0.5, 0.5])


def test_what_a_ceiling_keeps_others_lose():
    found = allocation.spread(allocation.uniform(2), [10, 30], 0.5, [0.0, 0.0], [0.2, 1.0])
    assert found == pytest.approx([0.2, 0.6])


def test_what_a_floor_takes_others_keep():
    found = allocation.spread(allocation.uniform(2), [10, 30], 0.5, [0.8, 0.0], [1.0, 1.0])
    assert found == pytest.approx([0.8, 0.4])


def test_erk_by_hand():
    # (10, 10): 20 / 100 = 0.2; (3, 3, 4, 8): 18 / 288 = 0.0625. Kept: 100 * 0.2 c + 288 * 0.0625 c
    # = 38 c; half of the 388 weights would be c = 5.105, and 0.2 * 5.105 is above 1: the small one
    # stays whole, and the other keeps 94 of its 288.
    curves = allocation.erk([[(10, 10)], [(3, 3, 4, 8)]])
    found = allocation.spread(curves, [100, 288], 0.5, **FREE)
    assert found == pytest.approx([0.0, 1 - 94 / 288])
    # At 90 % both lose: c = 38.8 / 38, densities 0.2042 and 0.0638.
    found = allocation.spread(curves, [100, 288], 0.9, **FREE)
    assert found == pytest.approx([1 - 0.2 * 38.8 / 38, 1 - 0.0625 * 38.8 / 38])


def test_one_threshold_over_all_scores():
    scores = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.5, 5.0, 6.0, 7.0])]
    found = allocation.spread(allocation.ranked(scores), [4, 4], 0.5, **FREE)
    assert found == pytest.approx([0.75, 0.25])  # 1, 2, 2.5 and 3 go


def test_lamp_by_hand():
    found = allocation.lamp(np.array([[-2.0, 1.0], [2.0, 0.0]]))
    assert found == pytest.approx([4 / 8, 1 / 9, 1, 0])  # of equal ones the later counts as larger
    assert not allocation.lamp(np.zeros(3)).any()


def test_lamp_does_not_see_the_scale_of_a_layer():
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    scores = [allocation.lamp(weights), allocation.lamp(100 * weights)]
    found = allocation.spread(allocation.ranked(scores), [4, 4], 0.5, **FREE)
    assert found == pytest.approx([0.5, 0.5])
    # A layer in which one weight has nearly everything loses the others first.
    scores = [allocation.lamp(weights), allocation.lamp(np.array([0.1, 0.2, 0.3, 9.0]))]
    found = allocation.spread(allocation.ranked(scores), [4, 4], 0.5, **FREE)
    assert found == pytest.approx([0.25, 0.75])


def test_equal_scores_do_not_jump_over_the_target():
    scores = [np.ones(10), np.ones(30)]
    found = allocation.spread(allocation.ranked(scores), [10, 30], 0.3, **FREE)
    assert 10 * found[0] + 30 * found[1] == pytest.approx(12)


def test_the_next_zero_costs_every_layer_the_same():
    # The first layer loses nothing until 50 %, the second from the start.
    levels = [0.5, 1.0]
    curves = allocation.cheapest(levels, [[0.0, 1.0], [0.5, 1.0]])
    assert allocation.spread(curves, [10, 10], 0.25, **FREE) == pytest.approx([0.5, 0.0], abs=1e-6)
    # Beyond that the second's first half (0.5 for 0.5) is cheaper than the first's second half.
    found = allocation.spread(curves, [10, 10], 0.5, **FREE)
    assert found[0] == pytest.approx(0.5, abs=1e-6)
    assert found[1] == pytest.approx(0.5, abs=1e-6)


def test_no_room():
    with pytest.raises(ValueError, match=r"between 0.0% and 15.0% zeros.*Received: sparsity=0.5"):
        allocation.spread(allocation.uniform(2), [10, 30], 0.5, [0.0, 0.0], [0.0, 0.2])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_total_is_met_and_no_limit_broken(data):
    count = data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    sizes = rng.integers(1, 400, count).tolist()
    scores = [rng.choice([0.0, 0.5, 1.0, *rng.random(5)], n) for n in sizes]
    shapes = [[(n, 1)] for n in sizes]
    losses = [np.sort(rng.choice([0.0, *rng.random(5)], 3)).tolist() for _ in sizes]
    floors = (rng.random(count) * 0.3).tolist()
    ceilings = (0.6 + rng.random(count) * 0.4).tolist()
    low = np.dot(sizes, floors) / sum(sizes)
    high = np.dot(sizes, ceilings) / sum(sizes)
    wanted = low + (high - low) * data.draw(st.floats(0, 1))
    for curves in (
        allocation.uniform(count),
        allocation.erk(shapes),
        allocation.ranked(scores),
        allocation.cheapest([0.3, 0.6, 0.9], losses),
    ):
        found = allocation.spread(curves, sizes, wanted, floors, ceilings)
        assert np.dot(sizes, found) / sum(sizes) == pytest.approx(wanted, abs=1e-6)
        assert all(f - 1e-9 <= s for f, s in zip(floors, found, strict=True))
        assert all(s <= c + 1e-9 for s, c in zip(found, ceilings, strict=True))
        for curve in curves:
            values = [curve(k) for k in np.linspace(0, 1, 21)]
            assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
            assert values[0] == pytest.approx(0.0, abs=1e-9)
            assert values[-1] == 1.0


def test_the_next_byte_costs_every_layer_the_same():
    # First layer: 0.1 a unit up to 50 %, 0.3 beyond. Second: nothing is saved up to 50 %, so that
    # all of it or nothing goes, for 4 / 30 a unit.
    curves = allocation.cheapest([0.5, 1.0], [[1.0, 4.0], [1.0, 4.0]], [[10, 20], [0, 30]])
    assert allocation.spread(curves, [10, 10], 0.25, **FREE) == pytest.approx([0.5, 0.0], abs=1e-6)
    assert allocation.spread(curves, [10, 10], 0.75, **FREE) == pytest.approx([0.5, 1.0], abs=1e-6)


def test_a_level_that_saves_less_than_a_lower_one_is_passed_over():
    curves = allocation.cheapest([0.3, 0.6, 0.9], [[1.0, 2.0, 3.0]], [[5, 9, 8]])
    assert {curves[0](knob) for knob in np.linspace(0.0, 0.99, 50)} == {0.0, 0.3}
