"""A pattern, a score and regrowth as one: which mask comes of weights and gradients, by hand."""

import numpy as np
import pytest

from tfprune.criteria import Criterion
from tfprune.layouts import of_kernel
from tfprune.regrowth import RigL, SoftPruning
from tfprune.schedules import ConstantSparsity, OneShot, PolynomialDecay
from tfprune.scores import Recorded

HALF = OneShot(0.5, 10)
ALL = np.ones((4, 1), bool)


def column(*values):
    return np.array(values, np.float32).reshape(-1, 1)


def choose(criterion, weights, mask=ALL, total=None, schedule=HALF, step=10, steps=1):
    recorded = None if total is None else Recorded(total, steps)
    new, limit = criterion.mask(weights, mask, recorded, of_kernel(2), schedule, step)
    return new.ravel().astype(int).tolist(), limit


def test_magnitude_never_brings_a_weight_back_and_soft_pruning_does():
    weights, mask = column(9, 1, 2, 3), np.array([[0], [1], [1], [1]], bool)
    assert choose(Criterion("unstructured"), weights, mask) == ([0, 0, 1, 1], 2.0)
    assert choose(Criterion("unstructured", regrowth="soft"), weights, mask) == ([1, 0, 0, 1], 3.0)


def test_movement_keeps_what_grows_with_its_threshold_in_its_own_units():
    moves = column(4, -1, -3, 2)  # the sum of w * gradient: minus the score
    assert choose(Criterion("unstructured", "movement"), column(1, 1, 1, 1), total=moves) == (
        [0, 1, 1, 0], 1.0
    )  # fmt: skip
    mask = np.array([[1], [1], [0], [1]], bool)  # the best has been cut: it is gone for good
    assert choose(Criterion("unstructured", "movement"), column(1, 1, 0, 1), mask, moves) == (
        [0, 1, 0, 1], -2.0
    )  # fmt: skip
    soft = Criterion("unstructured", "movement", "soft")
    assert choose(soft, column(1, 1, 0, 1), mask, moves)[0] == [0, 1, 1, 0]


def test_scores_go_with_patterns():
    moves = column(4, -1, -3, 2)
    kept, price = choose(Criterion("2:4", "movement"), column(1, 1, 1, 1), total=moves)
    assert kept == [0, 1, 1, 0]
    assert price == pytest.approx(-6.0)  # what the group has lost: -4 - 2
    # Blocks of two rows: means of the scores are -1.5 and 0.5.
    assert choose(Criterion("2x1", "movement"), column(1, 1, 1, 1), total=moves)[0] == [0, 0, 1, 1]


def test_rigl_cuts_by_magnitude_and_then_exchanges():
    schedule = ConstantSparsity(0.5, 0, 100, frequency=50)
    rigl = Criterion("unstructured", regrowth=RigL(1.0))
    weights = column(4, 3, 2, 1)
    assert not rigl.needs_gradients(ALL)
    assert choose(rigl, weights, schedule=schedule, step=0) == ([1, 1, 0, 0], 3.0)
    mask = np.array([[1], [1], [0], [0]], bool)
    assert rigl.needs_gradients(mask)
    after = column(4, 3, 0, 0)
    # Half way half of the two are exchanged.
    chosen = choose(rigl, after, mask, column(0, 0, 1, -2), schedule, 50)
    assert chosen == ([1, 0, 0, 1], 4.0)
    assert choose(rigl, after, mask, column(0, 0, 1, -2), schedule, 100)[0] == [1, 1, 0, 0]


def test_rigl_follows_a_schedule_that_grows():
    schedule = PolynomialDecay(0.25, 0.75, 0, 100, power=1, frequency=50)
    rigl = Criterion("unstructured", regrowth=RigL(1.0))
    mask = np.array([[1], [1], [1], [0]], bool)
    # Two of four are to stay, one of them by its gradient.
    chosen = choose(rigl, column(4, 3, 2, 0), mask, column(0, 0, 0, 5), schedule, 50)[0]
    assert chosen == [1, 0, 0, 1]
    assert choose(rigl, column(4, 3, 2, 0), mask, column(0, 0, 0, 5), schedule, 100)[0] == [
        1, 0, 0, 0
    ]  # fmt: skip


def test_what_is_recorded_for_whom():
    asked = [
        (c.record, c.since, c.soft, c.grows, c.plain)
        for c in (
            Criterion("2:4"),
            Criterion("2:4", "taylor", "soft"),
            Criterion("unstructured", regrowth="rigl"),
            Criterion("unstructured", regrowth="soft"),
        )
    ]
    assert asked == [
        (None, "start", False, False, True),
        ("square", "update", True, False, False),
        ("gradient", "update", False, True, False),
        (None, "start", True, False, False),
    ]
    assert Criterion("2:4", regrowth=SoftPruning(0.5)).decay == 0.5
    assert Criterion("2:4").decay == 0.0


def test_it_reads_well():
    assert str(Criterion("2:4")) == "2:4"
    assert str(Criterion("1x4", "snip", SoftPruning(0.1))) == "1x4 by snip, soft, decay 0.1"


def test_parts_that_do_not_go_together_are_told_at_once():
    with pytest.raises(ValueError, match=r"^The score 'snip' needs .*Received: OneShot.*by snip"):
        Criterion("2:4", "snip").require(OneShot(0.5))
    with pytest.raises(ValueError, match=r"^RigL exchanges single.*Received: .*2:4, RigL\(0.3\)"):
        Criterion("2:4", regrowth="rigl").require(ConstantSparsity(0.5, 0, 10))
    Criterion("2:4", "snip", "soft").require(ConstantSparsity(0.5, 1))
