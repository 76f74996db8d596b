"""The arithmetic of the refit, by hand, against plain inverses and against least squares."""

import numpy as np
import pytest

from tfprune.layouts import Layout, of_kernel
from tfprune.patterns import NM, Block, Unstructured
from tfprune.reconstruction import choices, refit
from tfprune.reconstruction.choices import Groups, Ranking
from tfprune.reconstruction.products import Product
from tfprune.reconstruction.sums import Sums


class Given:
    """A mask that is known beforehand, in blocks of so many inputs."""

    def __init__(self, mask, block, lazy=1):
        self.fixed, self.block, self.lazy = mask, block, lazy

    def blocks(self):
        depth = self.fixed.shape[1]
        parts = [(a, min(a + self.block, depth)) for a in range(0, depth, self.block)]
        for first in range(0, len(parts), self.lazy):
            yield parts[first : first + self.lazy]

    def mask(self, weights, scale, start, end):
        return self.fixed[:, start:end]


def matrix_product(depth, width):
    return Product((depth, width), (0, 1), depth, 1, lambda x: iter([x[None]]))


def problem(groups=1, depth=7, width=5, rows=40):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(groups, rows, depth)) @ rng.normal(size=(groups, depth, depth))
    return x, x.transpose(0, 2, 1) @ x, rng.normal(size=(groups, depth, width))


def test_two_weights_by_hand():
    # H = [[2, 1], [1, 2]]: without the first of (1, 1), the second is best at 1 + 1 * 1 / 2.
    hessian = np.array([[[2.0, 1.0], [1.0, 2.0]]])
    mask = np.array([[[False], [True]]])
    found = refit.refit(np.ones((1, 2, 1)), refit.factor(hessian), Given(mask, 1))
    np.testing.assert_allclose(found, [[[0.0], [1.5]]])


def test_the_factor_is_that_of_the_inverse():
    _, hessian, _ = problem(groups=3)
    upper = refit.factor(hessian)
    assert (np.tril(upper, -1) == 0).all()
    np.testing.assert_allclose(
        upper.transpose(0, 2, 1) @ upper, np.linalg.inv(hessian), rtol=1e-6, atol=1e-9
    )


def test_large_factors_are_put_together_from_halves():
    _, hessian, _ = problem(depth=150, rows=400)
    upper = refit.factor(hessian)
    np.testing.assert_allclose(upper[0].T @ upper[0] @ hessian[0], np.eye(150), atol=1e-6)


def by_inverses(weights, hessian, mask):
    """Optimal Brain Surgeon with an inverse of its own for each input that is decided."""
    found = weights.copy()
    for j in range(len(hessian)):
        inverse = np.linalg.inv(hessian[j:, j:])
        for column in np.flatnonzero(~mask[j]):
            found[j:, column] -= inverse[:, 0] * found[j, column] / inverse[0, 0]
    return found * mask


@pytest.mark.parametrize(("block", "lazy"), [(1, 1), (2, 2), (3, 1), (7, 1)])
def test_the_same_as_inverting_at_every_step(block, lazy):
    _, hessian, weights = problem(groups=2)
    mask = np.random.default_rng(2).random(weights.shape) < 0.5
    found = refit.refit(weights, refit.factor(hessian), Given(mask, block, lazy))
    for group in range(2):
        expected = by_inverses(weights[group], hessian[group], mask[group])
        np.testing.assert_allclose(found[group], expected, rtol=1e-7, atol=1e-9)
    assert (found[~mask] == 0).all()


def test_least_squares_where_what_goes_comes_first():
    x, hessian, weights = problem(depth=6, width=2)
    mask = np.ones(weights.shape, bool)
    mask[:, :3] = False
    found = refit.refit(weights, refit.factor(hessian), Given(mask, 2))
    best, *_ = np.linalg.lstsq(x[0][:, 3:], x[0] @ weights[0], rcond=None)
    np.testing.assert_allclose(found[0, 3:], best, rtol=1e-7)


def test_what_stays_is_moved_to_the_least_squares_of_its_zeros():
    x, hessian, weights = problem(groups=2, depth=30, width=4, rows=90)
    mask = np.random.default_rng(2).random(weights.shape) < 0.4
    begun = refit.refit(weights, refit.factor(hessian), Given(mask, 8))
    found = refit.settled(begun, hessian, weights)
    assert (found[~mask] == 0).all()

    def error(group, column, values):
        return np.sum((x[group] @ (values - weights[group, :, column])) ** 2)

    first = last = least = 0.0
    for group, column in np.ndindex(2, 4):
        alive = mask[group, :, column]
        goal = x[group] @ weights[group, :, column]
        best = np.zeros(30)
        best[alive] = np.linalg.lstsq(x[group][:, alive], goal, rcond=None)[0]
        first += error(group, column, begun[group, :, column])
        last += error(group, column, found[group, :, column])
        least += error(group, column, best)
    assert first > 1.2 * least  # else there was nothing to do
    assert least <= last < 1.03 * least


def test_whole_weights_and_no_error_settle_at_once():
    _, hessian, weights = problem()
    np.testing.assert_array_equal(refit.settled(weights, hessian, weights), weights)
    assert not refit.settled(np.zeros_like(weights), hessian, weights).any()


def test_nearest_weights_are_those_of_ridge_regression_towards_the_dense_ones():
    x, gram, dense = problem()
    wanted = x @ dense + 0.5 * np.random.default_rng(3).normal(size=(1, 40, 5))
    found = refit.nearest(
        refit.factor(refit.damped(gram, 0.1)), gram, x.transpose(0, 2, 1) @ wanted, dense
    )
    extra = np.sqrt(0.1 * np.trace(gram[0]) / 7) * np.eye(7)
    rows, goals = np.vstack([x[0], extra]), np.vstack([wanted[0], extra @ dense[0]])
    np.testing.assert_allclose(found[0], np.linalg.lstsq(rows, goals, rcond=None)[0], rtol=1e-7)


def test_inputs_that_are_all_zero_leave_magnitude():
    hessian = refit.damped(np.zeros((1, 4, 4)))
    weights = np.array([[[3.0], [1.0], [4.0], [2.0]]])
    choice = Ranking(matrix_product(4, 1), Unstructured(), of_kernel(2), 0.5, weights != 0)
    found = refit.refit(weights, refit.factor(hessian), choice)
    np.testing.assert_allclose(found[0, :, 0], [3.0, 0.0, 4.0, 0.0])


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.77])
def test_an_unstructured_mask_has_the_exact_count_over_many_blocks(sparsity):
    _, hessian, weights = problem(depth=200, width=3, rows=300)
    choice = Ranking(matrix_product(200, 3), Unstructured(), of_kernel(2), sparsity, weights != 0)
    found = refit.refit(weights, refit.factor(refit.damped(hessian)), choice)
    assert np.count_nonzero(found) == round(600 * (1 - sparsity))


def test_blocks_stay_whole_where_the_choice_is_made_in_several_turns(monkeypatch):
    monkeypatch.setattr(choices, "_BLOCK", 4)
    _, hessian, weights = problem(depth=150, width=4, rows=300)
    choice = Ranking(matrix_product(150, 4), Block((3, 2)), of_kernel(2), 0.6, weights != 0)
    assert list(choice.blocks())[:2] == [[(0, 6)], [(6, 12)]]  # a turn ends where a block does
    found = refit.refit(weights, refit.factor(refit.damped(hessian)), choice)[0]
    blocks = (found != 0).reshape(50, 3, 2, 2).sum(axis=(1, 3))
    assert set(np.unique(blocks)) == {0, 6}
    assert np.count_nonzero(blocks) == 40


def test_blocks_stay_whole_where_inputs_lie_along_their_width(monkeypatch):
    monkeypatch.setattr(choices, "_BLOCK", 4)
    # A kernel (outputs, inputs), on which blocks are laid as it is stored.
    _, hessian, weights = problem(depth=150, width=4, rows=300)
    product = Product((4, 150), (1, 0), 150, 1, lambda x: iter([x]))
    choice = Ranking(product, Block((2, 3)), Layout((1,), (0,)), 0.6, weights != 0)
    assert list(choice.blocks())[:2] == [[(0, 6)], [(6, 12)]]
    found = refit.refit(weights, refit.factor(refit.damped(hessian)), choice)
    blocks = (product.kernel(found) != 0).reshape(2, 2, 50, 3).sum(axis=(1, 3))
    assert set(np.unique(blocks)) == {0, 6}
    assert np.count_nonzero(blocks) == 40


def test_groups_do_not_reach_from_one_place_of_a_kernel_into_the_next():
    # Two places with 6 channels each: a whole group and a short one, which keeps its two.
    _, hessian, weights = problem(depth=12, width=3)
    choice = Groups(NM(2, 4), 6, weights != 0)
    found = refit.refit(weights, refit.factor(refit.damped(hessian)), choice)[0]
    kept = (found != 0).reshape(2, 6, 3).sum(axis=1)
    assert (kept == 4).all()
    assert ((found != 0).reshape(2, 6, 3)[:, 4:]).all()


@pytest.mark.parametrize("kind", ["unstructured", "2:4"])
def test_what_was_zero_stays_zero(kind, monkeypatch):
    monkeypatch.setattr(choices, "_BLOCK", 2)  # later choices see weights that have moved
    _, hessian, weights = problem(depth=8, width=40, rows=60)
    weights[np.random.default_rng(4).random(weights.shape) < 0.7] = 0.0
    alive = weights != 0
    choice = (
        Groups(NM(2, 4), 8, alive)
        if kind == "2:4"
        else Ranking(matrix_product(8, 40), Unstructured(), of_kernel(2), 0.8, alive)
    )
    found = refit.refit(weights, refit.factor(refit.damped(hessian)), choice)
    assert (found[~alive] == 0).all()
    assert np.count_nonzero(found) > 0


def test_the_dearest_weights_stay_when_inputs_are_independent():
    # Without correlation a weight costs w ** 2 * H[j, j], whatever the order: 4, 9, 32, 1.
    hessian = np.diag([1.0, 9.0, 2.0, 1.0])[None]
    weights = np.array([[[2.0], [1.0], [4.0], [1.0]]])
    for choice in (
        Ranking(matrix_product(4, 1), Unstructured(), of_kernel(2), 0.5, weights != 0),
        Groups(NM(2, 4), 4, weights != 0),
    ):
        found = refit.refit(weights, refit.factor(hessian), choice)
        np.testing.assert_allclose(found[0, :, 0], [0.0, 1.0, 4.0, 0.0])


def test_kernels_of_other_orders_come_back_as_they_were():
    kernel = np.arange(24).reshape(2, 3, 4)
    product = Product((2, 3, 4), (1, 0, 2), 3, 1, lambda x: iter([x]))
    matrices = product.matrices(kernel)
    assert matrices[0, 2].tolist() == [8, 9, 10, 11, 20, 21, 22, 23]
    np.testing.assert_array_equal(product.kernel(matrices), kernel)
    assert Layout((1,), (0, 2)).input_size(kernel.shape) == product.depth


def test_sums_in_batches_are_the_squares_that_weights_miss():
    x, _, dense = problem(groups=2)
    wanted = x @ dense + 3.0
    sums = Sums(2, 7, 5)
    for part in (slice(0, 11), slice(11, 40)):
        sums.add(x[:, part], wanted[:, part])
    moments = sums.moments()
    other = dense * 0.8
    variance = np.sum((wanted - wanted.mean(axis=1, keepdims=True)) ** 2)
    missed = wanted - x @ other
    assert moments.error(other, bias=False) == pytest.approx(np.sum(missed**2) / variance)
    np.testing.assert_allclose(moments.missed(other), missed.mean(axis=1))
    rest = missed - missed.mean(axis=1, keepdims=True)
    assert moments.error(other, bias=True) == pytest.approx(np.sum(rest**2) / variance)
    gram, cross = moments.normal(bias=False)
    np.testing.assert_allclose(gram, x.transpose(0, 2, 1) @ x)
    np.testing.assert_allclose(cross, x.transpose(0, 2, 1) @ wanted)


def test_sums_of_single_precision_far_from_zero():
    rng = np.random.default_rng(0)
    x = (1000.0 + rng.normal(size=(1, 320, 8))).astype("float32")
    sums = Sums(1, 8, 1)
    sums.add(x, x[:, :, :1])
    exact = (x - x.mean(axis=1, dtype=float, keepdims=True))[0]
    moments = sums.moments()
    np.testing.assert_allclose(moments.gram[0], exact.T @ exact, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(moments.cross[0], exact.T @ exact[:, :1], rtol=1e-6, atol=1e-4)
    assert moments.raw() == pytest.approx([np.sum(np.square(x, dtype=float)) / 8])


def test_what_rounding_leaves_of_constant_inputs_is_damped_by_their_squares():
    rounding = np.array([[[1e-12, 2e-12], [2e-12, -1e-12]]])
    found = refit.damped(rounding, 0.01, raw=np.array([1000.0]))
    np.testing.assert_allclose(found[0], np.eye(2) * 0.01 * 1e-8 * 1000.0, rtol=1e-4, atol=1e-11)
    np.testing.assert_allclose(
        refit.damped(np.eye(2)[None], 0.5, raw=np.ones(1))[0], 1.5 * np.eye(2)
    )


def test_constant_outputs_far_from_zero_have_no_infinite_error():
    x = np.full((1, 7, 2), 1000 / 3)
    sums = Sums(1, 2, 1)
    sums.add(x, x.sum(axis=2, keepdims=True) * 1.1)
    assert sums.moments().energy > 0.0  # by rounding
    assert sums.moments().error(np.full((1, 2, 1), 1.1), bias=False) == 0.0
    assert sums.moments().error(np.zeros((1, 2, 1)), bias=False) == 1.0


def test_outputs_that_do_not_vary_have_no_infinite_error():
    sums = Sums(1, 2, 1)
    sums.add(np.zeros((1, 3, 2)), np.zeros((1, 3, 1)))
    assert sums.moments().error(np.ones((1, 2, 1)), bias=False) == 0.0
