"""Which weights matter: scores worked by hand, and how they become a mask's."""

import numpy as np
import pytest

from tfprune import masks, scores
from tfprune.schedules import ConstantSparsity, OneShot, PolynomialDecay
from tfprune.scores import Recorded

W = np.array([[2.0, -1.0], [0.5, 4.0]], np.float32)

# Three steps in which the weights stay as they are, and the gradients at each.
STEPS = [
    np.array([[-0.5, 1.0], [2.0, 0.0]]),
    np.array([[-0.5, 0.0], [-2.0, 0.25]]),
    np.array([[-0.5, -1.0], [0.0, 0.25]]),
]


def recorded(function):
    return Recorded(sum(function(W * g) for g in STEPS).astype("float32"), len(STEPS))


BY_HAND = {
    # 2 * -0.5 three times; -1 - 0 + 1; 1 - 1 + 0; 0 + 1 + 1
    "movement": (lambda p: p, [[3.0, 0.0], [0.0, -2.0]]),
    "snip": (lambda p: p, [[1.0, 0.0], [0.0, 2 / 3]]),
    "taylor": (lambda p: p**2, [[1.0, 2 / 3], [2 / 3, 2 / 3]]),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_scores_worked_by_hand(name):
    what, expected = BY_HAND[name]
    np.testing.assert_allclose(scores.get(name).of(W, recorded(what)), expected, rtol=1e-6)


def test_what_each_score_asks_the_training_steps_for():
    asked = {name: (score.record, score.since) for name, score in scores.SCORES.items()}
    assert asked == {
        "magnitude": (None, "start"),
        "movement": ("product", "start"),
        "taylor": ("square", "update"),
        "snip": ("product", "first update"),
    }


def test_magnitudes_are_those_of_masks():
    np.testing.assert_array_equal(scores.get("magnitude").of(W, None), masks.magnitudes(W))
    assert scores.get(" Magnitude ") is scores.MAGNITUDE


def test_functions_get_the_weight_and_if_they_ask_its_mean_gradient():
    alone = scores.get(lambda weight: weight**2)
    assert alone.record is None
    np.testing.assert_array_equal(alone.of(W, None), W**2)
    both = scores.get(lambda weight, gradient: weight - gradient)
    assert (both.record, both.since) == ("gradient", "update")
    total = Recorded(np.sum(STEPS, axis=0), 3)
    np.testing.assert_allclose(both.of(W, total), W - np.mean(STEPS, axis=0), rtol=1e-6)

    later = scores.get(lambda weight, gradient=None: weight - gradient)
    assert (later.record, later.since) == ("gradient", "update")
    np.testing.assert_allclose(later.of(W, total), W - np.mean(STEPS, axis=0), rtol=1e-6)

    class Cubes:
        def __call__(self, weight, power=3):
            return np.abs(weight) ** power

    assert str(scores.get(Cubes())) == "Cubes"
    np.testing.assert_array_equal(scores.get(Cubes()).of(W, None), np.abs(W) ** 3)


@pytest.mark.parametrize(
    ("function", "received"),
    [
        (lambda weight: weight.sum(), r"float32 of shape \(\)"),
        (lambda weight: weight[0], r"float32 of shape \(2,\)"),
        (lambda weight: weight * np.nan, r"float32 of shape \(2, 2\), some not finite"),
        (lambda weight: None, r"object of shape \(\)"),
        (lambda weight: weight * 1j, r"complex64 of shape \(2, 2\)"),
    ],
)
def test_a_function_that_returns_something_else_is_refused(function, received):
    with pytest.raises(ValueError, match=rf"one finite number for each weight.*{received}"):
        scores.get(function).of(W, None)


@pytest.mark.parametrize("name", ["magnitude", "movement"])
def test_weights_that_are_not_finite_are_refused(name):
    broken = np.where(W == 4.0, np.inf, W)
    with pytest.raises(ValueError, match=r"NaN or infinite.*1 of 4"):
        scores.get(name).of(broken, recorded(lambda p: p))


@pytest.mark.parametrize("bad", ["l1", "", None, 3, scores.Score, lambda: 1, lambda a, b, c: a])
def test_an_unknown_score_is_refused(bad):
    with pytest.raises(ValueError, match=r"Expected one of 'magnitude', 'movement'.*Received: "):
        scores.get(bad)


@pytest.mark.parametrize("name", ["movement", "taylor", "snip"])
def test_gradients_must_come_before_the_first_cut(name):
    score = scores.get(name)
    for schedule in (ConstantSparsity(0.5, 0), PolynomialDecay(0.1, 0.5, 0, 9), OneShot(0.5)):
        assert "cuts at step 0" in score.reason_against(schedule)
        assert scores.MAGNITUDE.reason_against(schedule) is None
    for schedule in (ConstantSparsity(0.5, 1), PolynomialDecay(0.0, 0.5, 0, 9), OneShot(0.5, 1)):
        assert score.reason_against(schedule) is None


# -- Scores as masks rank them ---------------------------------------------------------------------


def test_scores_of_either_sign_keep_their_order_above_zero():
    values = np.array([-2.0, 3.0, 5.0, 0.0, -2.0], np.float32)
    alive = np.array([True, True, False, True, True])
    ranked, shift = scores.positive(values, alive)
    assert shift == 2.0
    np.testing.assert_allclose(ranked, [0, 5, 0, 2, 0], atol=1e-300)
    assert (ranked[alive] > 0).all()
    assert masks.top_k(ranked, 3)[0].tolist() == [True, True, False, True, False]


def test_scores_that_are_not_negative_are_not_shifted():
    ranked, shift = scores.positive(np.array([0.0, 1.0]), np.array([True, True]))
    assert shift == 0.0
    assert ranked[1] == 1.0


def test_one_large_negative_score_makes_no_others_equal():
    values = np.array([-1e6, 1e-6, 2e-6, 0.0], np.float32)
    ranked, _ = scores.positive(values, np.ones(4, bool))
    assert np.argsort(ranked).tolist() == [0, 3, 1, 2]
    assert len(set(ranked.tolist())) == 4


def test_as_many_stay_as_are_asked_for_though_all_scores_are_negative_or_zero():
    rng = np.random.default_rng(0)
    for values in (-rng.random(50), np.zeros(50), rng.standard_normal(50)):
        alive = rng.random(50) < 0.6
        kept, _ = masks.top_k(scores.positive(values, alive)[0], 20)
        assert kept.sum() == 20
        assert not (kept & ~alive).any()
        assert values[kept].min() >= values[alive & ~kept].max()
