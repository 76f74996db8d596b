"""The search for an order of channels: by hand, and against every order there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfprune.permutation.climbing import Grouped, climb


def kept(rows, zeros, group):
    """Return what N:M keeps, group by group, without anything of tfprune."""
    total = 0.0
    for start in range(0, rows.shape[1], group):
        largest = np.sort(rows[:, start : start + group], axis=1)[:, ::-1]
        total += largest[:, : group - zeros].sum()
    return total


def every_order(count):
    return (list(order) for order in itertools.permutations(range(count)))


def singles(count):
    return np.arange(count)[:, None]


def test_large_channels_part_by_hand():
    # 4 and 3 share a group, so that 3 is lost: 4 + 2 + ... One of each with one of the small ones.
    rows = np.array([[4.0, 3.0, 2.0, 1.0]])
    weight = Grouped(rows, 1, 2)
    assert weight.kept == 6.0
    order = climb([weight], [singles(4)])
    assert weight.kept == 7.0
    assert kept(rows[:, order], 1, 2) == 7.0


def test_two_rows_that_ask_for_different_neighbours():
    # Row 1 wants 0 and 1 apart, row 2 wants 0 and 2 apart: 0 and 3 together pleases both.
    rows = np.array([[5.0, 5.0, 0.0, 0.0], [3.0, 0.0, 3.0, 0.0]])
    assert kept(rows, 1, 2) == 5 + 3 + 3
    order = climb([weight := Grouped(rows, 1, 2)], [singles(4)])
    assert weight.kept == kept(rows[:, order], 1, 2) == 16.0


def test_two_of_four_by_hand():
    rows = np.array([[9.0, 8.0, 7.0, 6.0, 1.0, 1.0, 0.0, 0.0]])
    weight = Grouped(rows, 2, 4)
    assert weight.kept == 19.0  # 9 + 8 and 1 + 1
    climb([weight], [singles(8)])
    assert weight.kept == 30.0  # 9 + 8 + 7 + 6


def test_a_short_last_group_keeps_as_many_as_a_whole_one():
    rows = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])  # (1 2 3 4), (5): 2:4 keeps 3, 4 and 5
    weight = Grouped(rows, 2, 4)
    assert weight.kept == 12.0
    order = climb([weight], [singles(5)])
    assert weight.kept == kept(rows[:, order], 2, 4) == 12.0  # three are kept in any order


@pytest.mark.parametrize(("count", "zeros", "group"), [(6, 1, 2), (6, 1, 3), (6, 2, 3), (7, 2, 4)])
def test_close_to_the_best_of_all_orders(count, zeros, group):
    rng = np.random.default_rng(0)
    gained = possible = 0.0
    for _ in range(4):
        rows = rng.random((4, count)) ** 2
        start = kept(rows, zeros, group)
        best = max(kept(rows[:, order], zeros, group) for order in every_order(count))
        weight = Grouped(rows, zeros, group)
        order = climb([weight], [singles(count)])
        assert weight.kept == pytest.approx(kept(rows[:, order], zeros, group))
        assert start <= weight.kept <= best + 1e-9
        gained, possible = gained + weight.kept - start, possible + best - start
    assert gained > 0.75 * possible


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_a_swap_gains_is_counted_right(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    group = data.draw(st.integers(2, 5))
    zeros = data.draw(st.integers(1, group - 1))
    count, times = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 3))
    rows = rng.random((3, count * times + data.draw(st.integers(0, 3))))
    columns = rng.permutation(rows.shape[1])[: count * times].reshape(count, times)
    weight = Grouped(rows, zeros, group)
    one, two = rng.choice(count, 2, replace=False)
    swapped = np.array(rows)
    swapped[:, np.r_[columns[one], columns[two]]] = rows[:, np.r_[columns[two], columns[one]]]
    expected = kept(swapped, zeros, group) - kept(rows, zeros, group)
    assert weight.gain(columns[one], columns[two]) == pytest.approx(expected, abs=1e-9)
    if times == 1:  # else swaps in one group may meet, which only counting tells
        changes = weight.changes(np.arange(count), columns) * weight.total
        assert changes[one, two] + changes[two, one] == pytest.approx(expected, abs=1e-6)
    weight.swap(columns[one], columns[two])
    assert weight.kept == pytest.approx(kept(swapped, zeros, group))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_channels_of_several_weights_and_columns(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.random((3, 8)), rng.random((2, 19))
    columns = rng.permutation(19)[:16].reshape(8, 2)  # three columns belong to no channel
    weights = [Grouped(first, 2, 4), Grouped(second, 2, 4)]
    order = climb(weights, [singles(8), columns])
    assert sorted(order) == list(range(8))
    moved = np.array(second)
    moved[:, columns] = second[:, columns[order]]
    assert weights[0].kept == pytest.approx(kept(first[:, order], 2, 4))
    assert weights[1].kept == pytest.approx(kept(moved, 2, 4))
    assert weights[0].kept >= kept(first, 2, 4) - 1e-9
    assert weights[1].kept >= kept(second, 2, 4) - 1e-9


def test_the_same_order_each_time():
    rows = np.random.default_rng(3).random((5, 12))
    orders = [climb([Grouped(rows, 2, 4)], [singles(12)]) for _ in range(2)]
    np.testing.assert_array_equal(*orders)


@pytest.mark.parametrize(
    ("seed", "shape", "power"), [(0, (3, 40), 3), (0, (4, 24), 6), (1, (6, 32), 1)]
)
def test_no_swap_is_left_that_gains(seed, shape, power):
    rows = np.random.default_rng(seed).random(shape) ** power
    order = climb([Grouped(rows, 2, 4)], [singles(shape[1])])
    start, end = kept(rows, 2, 4), kept(rows[:, order], 2, 4)
    assert end > start
    for a, b in itertools.combinations(range(shape[1]), 2):
        other = np.array(order)
        other[[a, b]] = order[[b, a]]
        assert kept(rows[:, other], 2, 4) <= end + 1e-6


def test_rows_beyond_the_sample_count(monkeypatch):
    monkeypatch.setattr("tfprune.permutation.climbing._SAMPLE", 2)
    rows = np.random.default_rng(5).random((9, 8))
    weight = Grouped(rows, 2, 4)
    order = climb([weight], [singles(8)])
    assert weight.kept == pytest.approx(kept(rows[:, order], 2, 4))
    assert weight.kept >= kept(rows, 2, 4)
