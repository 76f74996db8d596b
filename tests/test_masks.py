"""The arithmetic of pruning, against plain Python and literals worked out by hand."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfprune import masks

quick = settings(max_examples=50, deadline=None, derandomize=True)

# Small whole numbers: many ties, many zeros.
scores_with_ties = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(
    lambda values: np.array(values, "float32")
)


# -- magnitudes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float16", "float32"),
        (ml_dtypes.bfloat16, "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int8", "float32"),
    ],
)
def test_magnitudes_of_every_dtype(dtype, expected):
    weights = np.array([[-2, 0], [1, -3]]).astype(dtype)
    scores = masks.magnitudes(weights)
    assert scores.dtype == expected
    assert scores.tolist() == [[2, 0], [1, 3]]
    assert weights.astype("float32").tolist() == [[-2, 0], [1, -3]]  # not changed in place


def test_double_precision_is_kept():
    weights = np.array([1.0, 1.0 + 1e-12])
    mask, _ = masks.top_k(masks.magnitudes(weights), 1)
    assert mask.tolist() == [False, True]


def test_the_smallest_float16_counts_as_something():
    tiny = np.array([0.0, 6e-8, -6e-8], "float16")
    assert masks.top_k(masks.magnitudes(tiny), 3)[0].tolist() == [False, True, True]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64"])
def test_nan_and_infinity_are_refused(bad, dtype):
    weights = np.array([[1.0, bad], [bad, 2.0]]).astype(dtype)
    with pytest.raises(ValueError, match=r"diverged.*Received: 2 of 4 weights not finite"):
        masks.magnitudes(weights)


def test_an_empty_weight_has_no_magnitudes():
    assert masks.magnitudes(np.zeros((0, 3), "float32")).shape == (0, 3)


# -- kept_count ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "sparsity", "kept"),
    [
        (10, 0.0, 10),
        (10, 0.5, 5),
        (10, 0.75, 2),  # 2.5, half to even
        (10, 0.65, 4),  # 3.5, half to even
        (10, 0.85, 2),  # 1.5, half to even
        (15, 0.7, 4),  # 4.5, although 15 * (1 - 0.7) is 4.500000000000001
        (3, 0.99, 1),  # never none
        (1, 0.9, 1),
        (16_777_217, 0.0, 16_777_217),
        (100_000_003, 0.9, 10_000_000),
    ],
)
def test_kept_count_by_hand(size, sparsity, kept):
    assert masks.kept_count(size, sparsity) == kept


SPARSITIES = [i / 100 for i in range(100)] + [0.125, 0.333, 0.875, 0.995, 0.999, 0.9995]
SIZES = [*range(1, 400), 4608, 16_384, 54_000, 100_352, 1_000_003, 4_600_000]
LARGE = [16_777_217, 25_000_001, 100_000_003]


def right_count(size, sparsity):
    """Worked out in fractions: `sparsity` means the decimal number that was written."""
    return max(1, round(size * (1 - Fraction(str(sparsity)))))


def single_precision_count(size, sparsity):
    """As tfmot's `pruning_impl` computes it; `test_masks_against_tfmot.py` checks this copy."""
    size, sparsity = np.float32(size), np.float32(sparsity)
    return int(max(np.float32(1), np.round(size * (np.float32(1) - sparsity))))


def test_kept_count_is_right_everywhere():
    wrong = [
        (size, sparsity)
        for size in SIZES + LARGE
        for sparsity in SPARSITIES
        if masks.kept_count(size, sparsity) != right_count(size, sparsity)
    ]
    assert wrong == []


def test_single_precision_differs_only_at_halves_in_weights_of_usual_size():
    """Where the exact count ends in .5, single precision lands above, on or below it by chance."""
    different = [
        (size, sparsity)
        for size in SIZES
        for sparsity in SPARSITIES
        if masks.kept_count(size, sparsity) != single_precision_count(size, sparsity)
    ]
    assert (10, 0.85) in different
    assert (25, 0.9) in different
    for size, sparsity in different:
        exact = size * (1 - Fraction(str(sparsity)))
        distance = abs(exact - round(exact))
        if size < 100_000:
            assert distance == Fraction(1, 2)
        ours, theirs = masks.kept_count(size, sparsity), single_precision_count(size, sparsity)
        assert abs(ours - theirs) == 1


def test_single_precision_is_several_off_in_large_weights():
    """16,777,217 has no float32; 100,000,003 weights at 92 % are off by two."""
    assert single_precision_count(16_777_217, 0.0) == 16_777_216
    assert single_precision_count(100_000_003, 0.92) == 7_999_998
    assert masks.kept_count(100_000_003, 0.92) == right_count(100_000_003, 0.92) == 8_000_000


@quick
@given(st.integers(1, 10**6), st.floats(0, 0.999), st.floats(0, 0.999))
def test_kept_count_falls_as_sparsity_grows(size, one, other):
    low, high = sorted((one, other))
    assert 1 <= masks.kept_count(size, high) <= masks.kept_count(size, low) <= size


# -- top_k -----------------------------------------------------------------------------------------


def test_top_k_by_hand():
    mask, threshold = masks.top_k(np.array([3.0, 1.0, 2.0]), 2)
    assert mask.tolist() == [True, False, True]
    assert mask.dtype == bool
    assert threshold == 2.0


def test_ties_go_to_the_lower_index():
    mask, threshold = masks.top_k(np.array([1.0, 2.0, 1.0, 2.0, 1.0, 1.0]), 4)
    assert mask.tolist() == [True, True, True, True, False, False]
    assert threshold == 1.0


def test_all_equal_keeps_exactly_the_first_k_in_row_order():
    mask, _ = masks.top_k(np.ones((3, 4), "float32"), 5)
    assert np.flatnonzero(mask).tolist() == [0, 1, 2, 3, 4]


def test_sparsity_is_never_lost():
    scores = np.array([0, 5, 0, 4, 0, 3, 0, 2, 0, 0], "float32")  # 60 % zeros
    mask, threshold = masks.top_k(scores, masks.kept_count(10, 0.5))
    assert mask.tolist() == (scores > 0).tolist()
    assert threshold == 2.0


def test_zeros_among_the_scores_do_not_shift_the_count():
    scores = np.array([0, 5, 0, 4, 3, 0], "float32")
    mask, threshold = masks.top_k(scores, 2)
    assert np.flatnonzero(mask).tolist() == [1, 3]
    assert threshold == 4.0


def test_an_all_zero_weight_keeps_the_first_k():
    mask, threshold = masks.top_k(np.zeros((2, 3), "float32"), 2)
    assert mask.tolist() == [[True, True, False], [False, False, False]]
    assert threshold == 0.0


def test_top_k_leaves_its_input_alone():
    for scores in (np.array([3.0, 1.0, 2.0]), np.array([3.0, 0.0, 2.0])):
        before = scores.copy()
        masks.top_k(scores, 1)
        np.testing.assert_array_equal(scores, before)


def test_top_k_of_a_view_in_another_order():
    scores = np.arange(1.0, 7.0).reshape(2, 3).T
    mask, threshold = masks.top_k(scores, 3)
    assert mask.tolist() == [[False, True], [False, True], [False, True]]
    assert threshold == 4.0


@quick
@given(scores_with_ties, st.data())
def test_top_k_against_a_plain_sort(scores, data):
    keep = data.draw(st.integers(1, scores.size))
    order = sorted(range(scores.size), key=lambda i: (-scores[i], i))
    if scores.any():
        expected = sorted(i for i in order[:keep] if scores[i] > 0)
        smallest = min(scores[i] for i in expected)
    else:
        expected, smallest = list(range(keep)), 0.0
    mask, threshold = masks.top_k(scores, keep)
    assert np.flatnonzero(mask).tolist() == expected
    assert threshold == smallest


@quick
@given(scores_with_ties, st.integers(1, 40), st.integers(1, 40))
def test_smaller_masks_lie_within_larger_ones(scores, one, other):
    low, high = sorted((min(one, scores.size), min(other, scores.size)))
    small, large = masks.top_k(scores, low)[0], masks.top_k(scores, high)[0]
    assert not (small & ~large).any()


@quick
@given(scores_with_ties, st.integers(1, 5), st.integers(1, 9), st.data())
def test_looking_near_the_threshold_finds_the_same_mask(scores, sample, chunk, data):
    """As in large weights, but with samples so small that they often miss."""
    keep = data.draw(st.integers(1, scores.size))
    expected, threshold = masks.top_k(scores, keep)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_LONG", 1)
        patch.setattr(masks, "_SAMPLE", sample)
        patch.setattr(masks, "_CHUNK", chunk)
        mask, limit = masks.top_k(scores, keep)
    np.testing.assert_array_equal(mask, expected)
    assert limit == threshold


def large(kind):
    rng = np.random.default_rng(0)
    size = masks._LONG + 12_345
    if kind == "normal":
        return np.abs(rng.normal(size=size).astype("float32"))
    if kind == "double":
        return np.abs(rng.normal(size=size))
    if kind == "ties":
        return rng.integers(0, 5, size).astype("float32")
    if kind == "all equal":
        return np.ones(size, "float32")
    if kind == "all zero":
        return np.zeros(size, "float32")
    if kind == "sorted":
        return np.arange(size, dtype="float32")
    assert kind == "few left"
    scores = np.zeros(size, "float32")
    scores[:: size // 50] = rng.random(scores[:: size // 50].size) + 1
    return scores


@pytest.mark.parametrize(
    "kind", ["normal", "double", "ties", "all equal", "all zero", "sorted", "few left"]
)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99999])
def test_top_k_of_large_weights_against_a_plain_sort(kind, sparsity):
    scores = large(kind)
    keep = masks.kept_count(scores.size, sparsity)
    mask, threshold = masks.top_k(scores, keep)
    expected = np.zeros(scores.shape, bool)
    expected[np.argsort(-scores, kind="stable")[:keep]] = True
    if scores.any():
        expected &= scores > 0
    np.testing.assert_array_equal(mask, expected)
    assert threshold == scores[mask].min()


# -- Blocks ----------------------------------------------------------------------------------------

MATRIX = np.array(
    [
        [1, 2, 3, 4, 5],
        [6, 7, 8, 9, 10],
        [11, 12, 13, 14, 15],
    ],
    "float32",
)


def test_ragged_blocks_pooled_by_hand():
    # 2x2 blocks: columns 0-1, 2-3, 4; rows 0-1, 2.
    average = masks.pool_blocks(MATRIX, (2, 2), "AVG")
    assert average.tolist() == [[4.0, 6.0, 7.5], [11.5, 13.5, 15.0]]
    largest = masks.pool_blocks(MATRIX, (2, 2), "MAX")
    assert largest.tolist() == [[7.0, 9.0, 10.0], [12.0, 14.0, 15.0]]
    assert average.dtype == largest.dtype == np.float32


def test_ragged_blocks_expanded_by_hand():
    kept = np.array([[True, False, True], [False, True, False]])
    assert masks.expand_blocks(kept, (2, 2), (3, 5)).astype(int).tolist() == [
        [1, 1, 0, 0, 1],
        [1, 1, 0, 0, 1],
        [0, 0, 1, 1, 0],
    ]


@pytest.mark.parametrize("pooling", ["AVG", "MAX"])
@quick
@given(data=st.data())
def test_pooling_against_plain_loops(pooling, data):
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    block = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    matrix = np.random.default_rng(height * 10 + width).random((height, width), "float32")
    pooled = masks.pool_blocks(matrix, block, pooling)
    assert pooled.shape == (-(-height // block[0]), -(-width // block[1]))
    for i, j in np.ndindex(pooled.shape):
        rows, columns = (
            slice(i * block[0], (i + 1) * block[0]),
            slice(j * block[1], (j + 1) * block[1]),
        )
        part = matrix[rows, columns]
        assert pooled[i, j] == pytest.approx(part.mean() if pooling == "AVG" else part.max())
        kept = np.zeros(pooled.shape, bool)
        kept[i, j] = True
        wide = masks.expand_blocks(kept, block, (height, width))
        assert wide.sum() == part.size
        assert wide[rows, columns].all()


# -- N:M -------------------------------------------------------------------------------------------


def n_of_m_slowly(rows, zeros, group):
    mask = np.ones(rows.shape, bool)
    for r, start in np.ndindex(rows.shape[0], -(-rows.shape[1] // group)):
        columns = range(start * group, min((start + 1) * group, rows.shape[1]))
        order = sorted(columns, key=lambda c: (-rows[r, c], c))
        mask[r, order[group - zeros :]] = False
    return mask


def test_two_of_four_by_hand():
    rows = np.array([[1, 4, 2, 3, 9, 8, 7, 6]], "float32")
    mask, price = masks.n_of_m(rows, 2, 4, 1.0)
    assert mask.astype(int).tolist() == [[0, 1, 0, 1, 1, 1, 0, 0]]
    assert price == 13.0  # 7 + 6, against 1 + 2


def test_ties_within_a_group_go_to_the_lower_index():
    mask, _ = masks.n_of_m(np.ones((1, 8), "float32"), 2, 4, 1.0)
    assert mask.astype(int).tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (5, [0, 0, 1, 1, 1]),  # one left: kept
        (6, [0, 0, 1, 1, 1, 1]),  # two left: kept
        (7, [0, 0, 1, 1, 0, 1, 1]),  # three left: the smallest goes
    ],
)
def test_a_short_last_group_keeps_as_many_as_a_whole_one(width, expected):
    mask, _ = masks.n_of_m(np.arange(1.0, width + 1)[None], 2, 4, 1.0)
    assert mask.astype(int).tolist() == [expected]


@pytest.mark.parametrize(
    ("width", "zeros", "group", "losing"),
    [
        (8, 2, 4, 2),
        (9, 2, 4, 2),
        (10, 2, 4, 2),
        (11, 2, 4, 3),
        (9, 3, 4, 2),
        (10, 3, 4, 3),
        (3, 1, 4, 0),
    ],
)
def test_groups_that_lose_weights(width, zeros, group, losing):
    assert masks.losing_groups(width, zeros, group) == losing


@pytest.mark.parametrize("group", [2, 3, 4, 5, 8, 16, 17, 20])
@quick
@given(data=st.data())
def test_n_of_m_against_plain_loops(group, data):
    zeros = data.draw(st.integers(1, group - 1))
    count, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3 * group))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rows = np.random.default_rng(seed).integers(0, 6, (count, width)).astype("float32")
    mask, _ = masks.n_of_m(rows, zeros, group, 1.0)
    np.testing.assert_array_equal(mask, n_of_m_slowly(rows, zeros, group))


@quick
@given(st.integers(2, 24), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_sorting_ranks_as_comparing_pairs_does(group, columns, seed):
    lanes = list(np.random.default_rng(seed).integers(0, 5, (group, columns)).astype("float32"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_PAIRWISE_GROUP_LIMIT", 24)
        pairwise = np.stack(masks._ranks(lanes))
        patch.setattr(masks, "_PAIRWISE_GROUP_LIMIT", 1)
        by_sorting = np.stack(masks._ranks(lanes))
    np.testing.assert_array_equal(pairwise, by_sorting)
    assert (np.sort(pairwise, axis=0) == np.arange(group)[:, None]).all()


@quick
@given(data=st.data())
def test_the_order_in_memory_changes_nothing(data):
    """A Dense kernel comes transposed, a slice with gaps: same numbers, same mask."""
    group = data.draw(st.integers(2, 18))
    zeros = data.draw(st.integers(1, group - 1))
    count, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    fraction = data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rows = np.random.default_rng(seed).integers(0, 5, (count, width)).astype("float32")
    gaps = np.zeros((count, 2 * width), "float32")
    gaps[:, ::2] = rows
    expected, price = masks.n_of_m(rows, zeros, group, fraction)
    for same in (np.asfortranarray(rows), gaps[:, ::2]):
        mask, limit = masks.n_of_m(same, zeros, group, fraction)
        np.testing.assert_array_equal(mask, expected)
        assert limit == price


# -- N:M that grows --------------------------------------------------------------------------------

# Four groups of four; 2:4 removes 3, 30, 1.5 and 12 from them.
GROWING = np.array([[9, 1, 2, 9, 19, 15, 15, 19], [1, 0.5, 5, 5, 6, 6, 9, 9]], "float32")


@pytest.mark.parametrize(
    ("fraction", "pruned", "price"),
    [
        (0.0, [], 0.0),
        (0.12, [], 0.0),  # 0.48 of a group
        (0.25, [2], 1.5),
        (0.5, [0, 2], 3.0),
        (0.75, [0, 2, 3], 12.0),
        (1.0, [0, 1, 2, 3], 30.0),
    ],
)
def test_the_cheapest_groups_go_first(fraction, pruned, price):
    mask, limit = masks.n_of_m(GROWING, 2, 4, fraction)
    lost = (~mask).reshape(4, 4).sum(axis=1)
    assert np.flatnonzero(lost).tolist() == pruned
    assert set(lost.tolist()) <= {0, 2}
    assert limit == price


def test_equally_cheap_groups_go_in_order():
    mask, _ = masks.n_of_m(np.ones((3, 8), "float32"), 1, 4, 0.5)
    assert (~mask).reshape(6, 4).sum(axis=1).tolist() == [1, 1, 1, 0, 0, 0]


def test_groups_that_lose_nothing_do_not_take_the_place_of_those_that_do():
    """Width 6 in fours: the short group of two keeps both, so it must not count as pruned."""
    rows = np.array([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]], "float32")
    mask, price = masks.n_of_m(rows, 2, 4, 0.5)
    assert mask.astype(int).tolist() == [[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]
    assert price == 3.0


def test_a_row_that_loses_nothing_is_kept():
    for fraction in (0.5, 1.0):
        mask, price = masks.n_of_m(np.ones((2, 2), "float32"), 2, 4, fraction)
        assert mask.all()
        assert price == 0.0


@quick
@given(data=st.data())
def test_growing_masks_are_nested_and_end_complete(data):
    group = data.draw(st.integers(2, 18))
    zeros = data.draw(st.integers(1, group - 1))
    count, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 40))
    seed = data.draw(st.integers(0, 2**32 - 1))
    rows = np.random.default_rng(seed).integers(0, 9, (count, width)).astype("float32")
    fractions = sorted(data.draw(st.lists(st.floats(0, 1), min_size=2, max_size=5)))
    last = np.ones(rows.shape, bool)
    for fraction in [0.0, *fractions, 1.0]:
        mask, _ = masks.n_of_m(rows, zeros, group, fraction)
        assert not (mask & ~last).any()
        last = mask
    np.testing.assert_array_equal(last, n_of_m_slowly(rows, zeros, group))


@pytest.mark.parametrize("shape", [(1,), (3,), (8,), (3, 3), (2, 4, 5)])
def test_packed_masks_come_back(shape):
    mask = np.random.default_rng(0).random(shape) < 0.5
    bits = masks.packed(mask)
    assert bits.size == -(-mask.size // 8)
    np.testing.assert_array_equal(masks.unpacked(bits, shape), mask)


def test_eight_weights_in_a_byte():
    mask = np.array([[True, False, True], [False, False, True], [True, True, True]])
    np.testing.assert_array_equal(masks.packed(mask), [0b10100111, 0b10000000])


def test_long_vectors_are_shared_by_as_many_cores_as_there_may_be(monkeypatch):
    size = masks._LONG + 3
    for cores in (1, 3):
        monkeypatch.setattr(masks, "_cores", None)
        masks.limit_cores(cores)
        parts = masks.over_cores(lambda part: (part.start, part.stop), size)
        assert len(parts) == cores
        assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
        assert parts[-1][1] == size
    assert len(masks.over_cores(lambda part: part, 10)) == 1
    assert masks.over_cores(lambda part: part, 0) == []
