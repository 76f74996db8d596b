"""Whether cut weights may return: RigL's exchange by hand and against a slow one of its own."""

import numpy as np
import pytest

from tfprune import regrowth
from tfprune.patterns import NM, Block, Unstructured
from tfprune.regrowth import RigL, SoftPruning, exchange
from tfprune.schedules import (
    ConstantSparsity,
    FunctionSchedule,
    Iterative,
    OneShot,
    PolynomialDecay,
    PruningSchedule,
)
from tfprune.scores import MAGNITUDE, SCORES

TRUE, FALSE = True, False


def test_an_exchange_worked_by_hand():
    weights = np.array([4.0, 1.0, 3.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    gradients = np.array([9.0, 0.0, 9.0, 0.0, -0.5, 0.1, 0.7, -0.6])
    mask = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    # 1 and 2 are the smallest; 0.7 and -0.6 the largest in size among those not there.
    new = exchange(np.abs(weights), gradients, mask, keep=4, count=2)
    assert new.tolist() == [TRUE, FALSE, TRUE, FALSE, FALSE, FALSE, TRUE, TRUE]


def test_what_is_dropped_may_be_chosen_again():
    new = exchange(np.array([5.0, 1.0, 0.0]), np.array([0.0, 8.0, 1.0]),
                   np.array([TRUE, TRUE, FALSE]), keep=2, count=1)  # fmt: skip
    assert new.tolist() == [TRUE, TRUE, FALSE]


def test_equal_gradients_go_to_the_lower_index_and_dead_ones_still_make_the_number():
    mask = np.array([TRUE, TRUE, FALSE, FALSE, FALSE])
    new = exchange(np.array([2.0, 1.0, 0, 0, 0]), np.zeros(5), mask, keep=3, count=1)
    assert new.tolist() == [TRUE, TRUE, TRUE, FALSE, FALSE]


def test_weights_that_came_in_at_zero_and_stayed_there_are_counted():
    """`masks.top_k` drops zeros; a weight that has just grown is one."""
    mask = np.array([TRUE, TRUE, TRUE, FALSE])
    new = exchange(np.array([3.0, 0.0, 0.0, 0.0]), np.array([0, 0, 0, 1.0]), mask, 3, 1)
    assert new.tolist() == [TRUE, TRUE, FALSE, TRUE]


def test_where_none_is_there_all_come_by_their_gradients():
    new = exchange(np.zeros(3), np.array([0.0, 1.0, -2.0]), np.zeros(3, bool), keep=2, count=1)
    assert new.tolist() == [FALSE, TRUE, TRUE]


def slow_exchange(weights, gradients, mask, keep, count):
    """Sort lists of (value, index), as the paper says it."""
    there = sorted(np.flatnonzero(mask), key=lambda i: (-abs(weights[i]), i))
    stay = there[: keep - count]
    others = [i for i in range(len(mask)) if i not in stay]
    grown = sorted(others, key=lambda i: (-abs(gradients[i]), i))[: keep - len(stay)]
    return [i in stay or i in grown for i in range(len(mask))]


def test_it_is_what_sorting_gives():
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = int(rng.integers(2, 40))
        mask = rng.random(size) < 0.5
        weights = np.where(mask, rng.integers(-4, 5, size), 0).astype("float32")
        gradients = rng.integers(-4, 5, size).astype("float32")
        keep = int(rng.integers(1, size + 1))
        count = int(rng.integers(0, keep + 1))
        new = exchange(np.abs(weights), gradients, mask, keep, count)
        assert new.sum() == keep
        assert new.tolist() == slow_exchange(weights, gradients, mask, keep, count)


def test_a_matrix_keeps_its_shape():
    mask = np.array([[TRUE, FALSE], [TRUE, FALSE]])
    new = exchange(np.array([[2.0, 0], [1.0, 0]]), np.array([[0, 1.0], [0, 2.0]]), mask, 2, 1)
    assert new.tolist() == [[TRUE, FALSE], [FALSE, TRUE]]


def test_the_share_falls_along_a_cosine_between_the_ends_of_the_schedule():
    schedule = ConstantSparsity(0.9, 100, 500, frequency=100)
    shares = [RigL(0.3).share(schedule, step) for step in (0, 100, 200, 300, 400, 500, 900)]
    quarter = 0.15 * 2**-0.5  # cos(45 degrees) / 2 of 0.3
    expected = [0.3, 0.3, 0.15 + quarter, 0.15, 0.15 - quarter, 0.0, 0.0]
    np.testing.assert_allclose(shares, expected, atol=1e-12)


# -- What goes with what ---------------------------------------------------------------------------

GROWS = ConstantSparsity(0.9, 0, 100)


class Whenever(PruningSchedule):
    def __call__(self, step):
        return True, 0.5

    def get_config(self):
        return {"class_name": "Whenever", "config": {}}


def test_rigl_goes_with_schedules_that_end_and_with_single_weights():
    rigl = RigL()
    fits = [GROWS, PolynomialDecay(0.0, 0.9, 0, 9), Iterative([0.1, 0.2], 5),
            FunctionSchedule([0.1, 0.2], 100)]  # fmt: skip
    assert [rigl.reason_against(s, Unstructured(), MAGNITUDE) for s in fits] == [None] * 4
    for schedule in (ConstantSparsity(0.9, 0), OneShot(0.9, 5), Whenever(), Iterative([0.5], 9)):
        assert "needs an `end_step`" in rigl.reason_against(schedule, Unstructured(), MAGNITUDE)
    assert "the pattern '2:4'" in rigl.reason_against(GROWS, NM(2, 4), MAGNITUDE)
    assert "the pattern '1x4'" in rigl.reason_against(GROWS, Block((1, 4)), MAGNITUDE)
    assert "not 'taylor'" in rigl.reason_against(GROWS, Unstructured(), SCORES["taylor"])


def test_soft_pruning_goes_with_everything_that_has_a_second_update():
    soft = SoftPruning()
    for pattern in (Unstructured(), NM(2, 4), Block((1, 4))):
        for score in SCORES.values():
            for schedule in (GROWS, ConstantSparsity(0.5, 1), Iterative([0.1, 0.2], 9), Whenever()):
                assert soft.reason_against(schedule, pattern, score) is None
            assert "has one only" in soft.reason_against(OneShot(0.5, 1), pattern, score)


def test_names_and_configurations_become_objects():
    assert regrowth.get(None) is None
    assert regrowth.get("soft") == SoftPruning(0.0)
    assert regrowth.get("RigL") == RigL(0.3)
    for one in (None, SoftPruning(0.5), RigL(1)):
        assert regrowth.get(regrowth.config(one)) == one
    assert (str(SoftPruning()), str(SoftPruning(2e-4))) == ("soft", "soft, decay 0.0002")
    assert str(RigL(0.25)) == "RigL(0.25)"
    assert regrowth.arguments_of("RigL") == "(fraction=0.3)"


@pytest.mark.parametrize("bad", ["set", True, 0.3, {}, {"class_name": "SET"}, {"class_name": []}])
def test_an_unknown_regrowth_is_refused(bad):
    with pytest.raises(ValueError, match=r"Expected None .*'soft', 'rigl'.*Received: "):
        regrowth.get(bad)


@pytest.mark.parametrize("bad", [0, -0.1, 1.5, "0.3", True, float("nan"), None, float("inf")])
def test_a_fraction_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=r"`fraction` must be .*Received: fraction="):
        RigL(bad)


@pytest.mark.parametrize("bad", [-1e-9, "2e-4", True, float("nan"), float("inf"), None])
def test_a_decay_out_of_range_is_refused(bad):
    with pytest.raises(ValueError, match=r"`decay` must be a number of 0 or more.*decay="):
        SoftPruning(bad)
