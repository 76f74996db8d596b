"""Where zeros may stand: masks of kernels of every layout, and what they promise beforehand."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tfprune import layouts, masks, patterns
from tfprune.layouts import Layout
from tfprune.patterns import NM, Block, Unstructured

quick = settings(max_examples=50, deadline=None, derandomize=True)

DENSE = layouts.of_kernel(2)


def distinct(shape, seed=0):
    """Magnitudes without ties or zeros."""
    size = math.prod(shape)
    return (np.random.default_rng(seed).permutation(size) + 1.0).astype("float32").reshape(shape)


# -- Names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("unstructured", Unstructured()),
        (" Unstructured ", Unstructured()),
        ("2:4", NM(2, 4)),
        ("1:2", NM(1, 2)),
        ("15:16", NM(15, 16)),
        ("1x16", Block((1, 16))),
        ("4X4", Block((4, 4), "AVG")),
        ("4x4 MAX", Block((4, 4), "MAX")),
        ("4x4 avg", Block((4, 4))),
    ],
)
def test_patterns_by_name(name, pattern):
    assert patterns.get(name) == pattern


@pytest.mark.parametrize(
    "pattern", [Unstructured(), NM(2, 4), NM(7, 20), Block((1, 16)), Block((3, 2), "MAX")]
)
def test_a_pattern_is_its_name(pattern):
    assert patterns.get(str(pattern)) == pattern
    assert patterns.get(pattern) is pattern
    assert hash(patterns.get(str(pattern))) == hash(pattern)


def test_tfmots_three_arguments():
    assert patterns.from_tfmot((1, 1), "AVG", None) == Unstructured()
    assert patterns.from_tfmot([1, 1], "MAX", None) == Unstructured()
    assert patterns.from_tfmot([4, 2], "MAX", None) == Block((4, 2), "MAX")
    assert patterns.from_tfmot((1, 1), "AVG", [2, 4]) == NM(2, 4)
    assert patterns.from_tfmot((1, 1), "AVG", np.array([2, 4])) == NM(2, 4)


def test_numbers_of_numpy_become_plain():
    pattern = NM(np.int64(2), np.int32(4))
    assert repr(pattern) == "NM(zeros=2, group=4)"
    assert repr(Block(np.array([1, 16]))) == "Block(size=(1, 16), pooling='AVG')"


# -- Bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("zeros", "group"), [(4, 4), (5, 4)])
def test_n_at_or_above_m_is_refused(zeros, group):
    message = rf"fewer zeros than.*Received: sparsity_m_by_n=\({zeros}, {group}\)"
    for make in (
        lambda: NM(zeros, group),
        lambda: patterns.get(f"{zeros}:{group}"),
        lambda: patterns.from_tfmot((1, 1), "AVG", (zeros, group)),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(
    "value", [(0, 4), (-1, 4), (2.0, 4), (2, 4, 8), (2,), "24", 2, (True, 4), ("2", "4"), np.eye(2)]
)
def test_a_pair_that_is_not_two_positive_integers_is_refused(value):
    message = r"two whole numbers, each at least 1\. Received: {}="
    with pytest.raises(ValueError, match=message.format("sparsity_m_by_n")):
        patterns.from_tfmot((1, 1), "AVG", value)
    with pytest.raises(ValueError, match=message.format("block_size")):
        Block(value)


def test_another_pooling_is_refused():
    message = r"'AVG' or 'MAX'\. Received: block_pooling_type='avg'"
    with pytest.raises(ValueError, match=message):
        Block((2, 2), "avg")
    with pytest.raises(ValueError, match=message):
        patterns.from_tfmot((1, 1), "avg", None)


def test_a_block_and_n_of_m_at_once_are_refused():
    message = r"one pattern.*Received: block_size=\(2, 2\), sparsity_m_by_n=\(2, 4\)"
    with pytest.raises(ValueError, match=message):
        patterns.from_tfmot((2, 2), "AVG", (2, 4))


@pytest.mark.parametrize(
    "value", ["", "2/4", "2:", "1x", "4x4 MIN", "block", 0.5, None, (2, 4), 124]
)
def test_an_unknown_pattern_lists_the_forms(value):
    with pytest.raises(ValueError, match=r"Unknown pattern.*'2:4'.*'1x16'.*Received: "):
        patterns.get(value)


@pytest.mark.parametrize("name", ["0:4", "4:2", "0x4"])
def test_a_name_with_bad_numbers_is_refused(name):
    with pytest.raises(ValueError, match="Received: "):
        patterns.get(name)


# -- What does not fit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "shape", "layout", "reason"),
    [
        (Unstructured(), (3,), None, None),
        (Unstructured(), (3, 3), DENSE, None),
        (NM(2, 4), (4, 1), DENSE, None),
        (NM(2, 4), (3, 8), DENSE, "too few input channels for 2:4: 3"),
        (NM(2, 4), (3, 3, 1, 8), layouts.of_kernel(4), "too few input channels for 2:4: 1"),
        (NM(2, 4), (3, 3, 8, 1), layouts.of_transposed_kernel(4), "too few input channels .*: 1"),
        (NM(2, 4), (2, 3, 8), layouts.of_einsum("abnh,nhd->abd", 3), None),
        (NM(2, 4), (100, 3), layouts.of_embedding(), "too few input channels for 2:4: 3"),
        (NM(2, 4), (8,), None, "groups input channels, and a weight of shape .* has none"),
        (Unstructured(), (1, 1), DENSE, "it has a single weight, and at least one always stays"),
        (Block((4, 4)), (8, 4), DENSE, None),
        (Block((4, 4)), (4, 4), DENSE, "it has a single block of 4x4, and at least one always"),
        (Block((5, 1)), (4, 4), DENSE, "5x1 is larger than the weight, 4x4"),
        (Block((1, 5)), (4, 4), DENSE, "1x5 is larger than the weight, 4x4"),
        (Block((9, 4)), (3, 3, 1, 8), layouts.of_kernel(4), None),
        (Block((10, 4)), (3, 3, 1, 4), layouts.of_kernel(4), "10x4 is larger than the weight, 9x4"),
        (Block((1, 4)), (8,), None, "blocks need a matrix"),
    ],
)
def test_reasons_against(pattern, shape, layout, reason):
    found = pattern.reason_against(shape, layout)
    if reason is None:
        assert found is None
    else:
        assert re.search(reason, found)


# -- Unstructured ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.77, 0.98, 0.999])
def test_exactly_k_weights_are_kept_even_if_all_are_equal(sparsity):
    for scores in (distinct((7, 11)), np.ones((7, 11), "float32")):
        mask, _ = Unstructured().mask(scores, None, sparsity, 0.999)
        assert np.count_nonzero(mask) == masks.kept_count(77, sparsity)
    assert Unstructured().expected_sparsity((7, 11), None, sparsity, None) == 1 - mask.mean()


def test_sixty_percent_zeros_stay_sixty_percent():
    scores = distinct((10, 10))
    scores[scores <= 60] = 0
    for pattern in (Unstructured(), Block((1, 1))):
        mask, _ = pattern.mask(scores, DENSE, 0.5, 0.5)
        np.testing.assert_array_equal(mask, scores > 0)


# -- Blocks ----------------------------------------------------------------------------------------


def test_blocks_by_hand():
    scores = np.array(
        [
            [1, 1, 8, 1, 5],
            [1, 1, 1, 1, 5],
            [4, 4, 3, 3, 6],
        ],
        "float32",
    )
    # Means of the 2x2 blocks: 1, 2.75, 5 / 4, 3, 6. Largest: 1, 8, 5 / 4, 3, 6.
    average, threshold = Block((2, 2)).mask(scores, DENSE, 0.5, 0.5)
    assert average.astype(int).tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [1, 1, 0, 0, 1]]
    assert threshold == 4.0
    largest, threshold = Block((2, 2), "MAX").mask(scores, DENSE, 0.5, 0.5)
    assert largest.astype(int).tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]]
    assert threshold == 5.0


def test_blocks_of_a_convolution_lie_on_inputs_by_outputs():
    layout = layouts.of_kernel(4)
    scores = distinct((3, 3, 4, 8))
    mask, _ = Block((4, 8)).mask(scores, layout, 0.5, 0.5)
    # Each block is one place of the 3x3 window: whole places are kept or go.
    places = mask.reshape(9, 32)
    assert set(places.sum(axis=1).tolist()) == {0, 32}
    best = np.argsort(-scores.reshape(9, 32).mean(axis=1))[:4]  # 4.5, half to even
    assert sorted(np.flatnonzero(places[:, 0])) == sorted(best)


def test_blocks_of_a_transposed_convolution_lie_on_inputs_by_outputs():
    scores = distinct((1, 1, 4, 6))  # h, w, out, in
    mask, _ = Block((2, 4)).mask(scores, layouts.of_transposed_kernel(4), 0.5, 0.5)
    blocks = mask[0, 0].T.reshape(3, 2, 4)  # in by out, in blocks of two rows
    assert sorted(blocks.sum(axis=(1, 2)).tolist()) == [0, 8, 8]  # 1.5 of 3 kept: two


# -- N:M in every layout ---------------------------------------------------------------------------

LAYERS = {
    "dense": ((8, 5), DENSE),
    "dense, ragged": ((10, 5), DENSE),
    "conv1d": ((3, 8, 5), layouts.of_kernel(3)),
    "conv2d": ((3, 3, 8, 5), layouts.of_kernel(4)),
    "conv2d, ragged": ((3, 3, 7, 5), layouts.of_kernel(4)),
    "conv3d": ((2, 2, 2, 8, 3), layouts.of_kernel(5)),
    "conv1d transposed": ((3, 5, 8), layouts.of_transposed_kernel(3)),
    "conv2d transposed": ((3, 3, 5, 8), layouts.of_transposed_kernel(4)),
    "conv3d transposed": ((2, 2, 2, 3, 8), layouts.of_transposed_kernel(5)),
    "embedding": ((7, 8), layouts.of_embedding()),
    "attention query": ((8, 2, 3), layouts.of_einsum("abc,cde->abde", 3)),
    "attention output": ((2, 4, 5), layouts.of_einsum("abnh,nhd->abd", 3)),
    "einsum turned": ((5, 8), layouts.of_einsum("abc,dc->abd", 2)),
    "einsum places": ((3, 8, 5), layouts.of_einsum("bcd,cde->bce", 3)),
}


def input_vectors(array, layout: Layout):
    """Walk over the kernel by plain indexing: one vector of inputs for each output and place."""
    others = [a for a in range(array.ndim) if a not in layout.inputs]
    for place in np.ndindex(*(array.shape[a] for a in others)):
        index = [slice(None)] * array.ndim
        for axis, at in zip(others, place, strict=True):
            index[axis] = at
        yield array[tuple(index)].reshape(-1)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("zeros", "group"), [(2, 4), (1, 4), (3, 4), (1, 2), (4, 7)])
def test_n_of_m_along_the_inputs(name, zeros, group):
    shape, layout = LAYERS[name]
    scores = distinct(shape)
    mask, _ = NM(zeros, group).mask(scores, layout, 0.5, 0.5)
    assert mask.shape == shape
    for kept, values in zip(
        input_vectors(mask, layout), input_vectors(scores, layout), strict=True
    ):
        for start in range(0, kept.size, group):
            part, sizes = kept[start : start + group], values[start : start + group]
            assert part.sum() == min(part.size, group - zeros)
            if not part.all():
                assert sizes[part].min() > sizes[~part].max()
    expected = NM(zeros, group).expected_sparsity(shape, layout, 0.5, 0.5)
    assert 1 - mask.mean() == pytest.approx(expected)


def test_an_attention_output_group_may_span_heads():
    layout = layouts.of_einsum("abnh,nhd->abd", 3)
    scores = np.arange(1.0, 7.0, dtype="float32").reshape(2, 3, 1)  # 2 heads of 3, 1 output
    mask, _ = NM(2, 4).mask(scores, layout, 0.5, 0.5)
    assert mask.reshape(6).astype(int).tolist() == [0, 0, 1, 1, 1, 1]


def test_a_constant_schedule_prunes_all_groups_whatever_its_number():
    shape, layout = LAYERS["conv2d"]
    scores = distinct(shape)
    full, _ = NM(2, 4).mask(scores, layout, 0.5, 0.5)
    for sparsity in (0.3, 0.5, 0.8):
        mask, _ = NM(2, 4).mask(scores, layout, sparsity, sparsity)
        np.testing.assert_array_equal(mask, full)
    unsaid, _ = NM(2, 4).mask(scores, layout, 0.5, None)
    np.testing.assert_array_equal(unsaid, full)


def test_n_of_m_grows_under_a_schedule():
    shape, layout = LAYERS["conv2d"]  # 90 groups
    scores = distinct(shape)
    for sparsity, groups in ((0.0, 0), (0.1, 18), (0.25, 45), (0.4, 72), (0.4999999999, 90)):
        mask, _ = NM(2, 4).mask(scores, layout, sparsity, 0.5)
        assert (~mask).sum() == 2 * groups
    # A schedule that goes beyond the pattern has filled it at the pattern's own sparsity.
    assert (~NM(2, 4).mask(scores, layout, 0.25, 0.8)[0]).sum() == 90
    assert (~NM(2, 4).mask(scores, layout, 0.6, 0.8)[0]).sum() == 180


def test_zero_point_one_plus_zero_point_four_is_the_whole_pattern():
    assert NM(3, 5)._fraction(0.1 + 0.2 + 0.3, 0.6) == 1.0
    assert NM(2, 4)._fraction(0.1 * 3 + 0.2 - 1e-12, 0.5) == 1.0


def test_no_target_prunes_no_group():
    scores = distinct((8, 3))
    mask, price = NM(2, 4).mask(scores, DENSE, 0.0, 0.0)
    assert mask.all()
    assert price == 0.0
    assert NM(2, 4).expected_sparsity((8, 3), DENSE, 0.0, 0.0) == 0.0


def test_n_of_m_does_not_bring_zeros_back():
    """A group with three zeros keeps one weight, not two."""
    scores = np.array([[0.0], [0.0], [0.0], [3.0]], "float32")
    mask, _ = NM(2, 4).mask(scores, DENSE, 0.5, 0.5)
    assert mask.reshape(-1).tolist() == [False, False, False, True]
    growing, _ = NM(2, 4).mask(scores, DENSE, 0.0, 0.5)
    assert growing.reshape(-1).tolist() == [False, False, False, True]


@pytest.mark.parametrize("pattern", [Unstructured(), Block((2, 2)), Block((2, 2), "MAX"), NM(2, 4)])
def test_an_all_zero_weight_keeps_its_share(pattern):
    """A kernel that starts at zero must be able to train, so its mask is not empty."""
    mask, threshold = pattern.mask(np.zeros((8, 4), "float32"), DENSE, 0.5, 0.5)
    assert mask.mean() == 0.5
    assert threshold == 0.0


def test_the_gradual_tail_of_a_ragged_row_is_not_counted_as_pruned():
    """Ten inputs in fours: two groups that lose two each, and a rest of two that loses none."""
    scores = distinct((10, 6))
    mask, _ = NM(2, 4).mask(scores, DENSE, 0.25, 0.5)
    assert (~mask).sum() == 12  # half of 12 groups, two each
    assert NM(2, 4).expected_sparsity((10, 6), DENSE, 0.25, 0.5) == pytest.approx(12 / 60)


# -- Promises, for any shape -----------------------------------------------------------------------


@st.composite
def cases(draw):
    """A pattern, a layout it fits, a shape, and the sparsity a schedule ends at."""
    rank = draw(st.integers(2, 4))
    kind = draw(st.sampled_from([layouts.of_kernel, layouts.of_transposed_kernel]))
    layout = draw(st.sampled_from([kind(rank), Layout((0,), tuple(range(1, rank)))]))
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=rank, max_size=rank)))
    height, width = layout.matrix_shape(shape)
    choices = [st.just(Unstructured())]
    choices.append(
        st.builds(
            Block,
            st.tuples(st.integers(1, height), st.integers(1, width)),
            st.sampled_from(["AVG", "MAX"]),
        )
    )
    channels = layout.input_size(shape)
    if channels >= 2:
        group = draw(st.integers(2, channels))
        choices.append(st.builds(NM, st.integers(1, group - 1), st.just(group)))
    pattern = draw(st.one_of(choices))
    assume(pattern.reason_against(shape, layout) is None)  # a single weight, or block
    return pattern, layout, shape, draw(st.sampled_from([0.1, 0.5, 0.8, 0.95]))


@quick
@given(cases(), st.floats(0, 1), st.integers(0, 99))
def test_expected_sparsity_is_what_the_mask_gives(case, part, seed):
    pattern, layout, shape, final = case
    sparsity = final * part
    mask, _ = pattern.mask(distinct(shape, seed), layout, sparsity, final)
    expected = pattern.expected_sparsity(shape, layout, sparsity, final)
    reached = 1 - np.count_nonzero(mask) / mask.size
    ragged = False
    if isinstance(pattern, Block):
        height, width = layout.matrix_shape(shape)
        ragged = height % pattern.size[0] != 0 or width % pattern.size[1] != 0
        # What is promised is the fraction of blocks; at the edges they hold fewer weights.
        kept = layout.matrix(mask)[:: pattern.size[0], :: pattern.size[1]]
        assert 1 - kept.mean() == pytest.approx(expected)
    elif isinstance(pattern, NM):
        left = layout.input_size(shape) % pattern.group
        fewer = max(0, left - (pattern.group - pattern.zeros))  # what the last group loses
        ragged = 0 < fewer < pattern.zeros and 0 < pattern._fraction(sparsity, final) < 1
        if ragged:
            rows = mask.size / layout.input_size(shape)
            assert abs(reached - expected) * mask.size <= rows * (pattern.zeros - fewer) + 1e-6
    if not ragged:
        assert reached == pytest.approx(expected)


@quick
@given(cases(), st.integers(0, 99), st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_masks_of_rising_sparsity_are_nested(case, seed, parts):
    pattern, layout, shape, final = case
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, shape).astype("float32")  # ties and zeros
    last = np.ones(shape, bool)
    for part in [*sorted(parts), 1.0]:
        mask, _ = pattern.mask(scores, layout, part * final, final)
        assert mask.shape == shape
        assert not (mask & ~last).any()
        last = mask


@quick
@given(cases(), st.integers(0, 99))
def test_a_mask_chosen_again_on_the_masked_weight_is_the_same(case, seed):
    """An update without new weights changes nothing, whatever zeros were there before."""
    pattern, layout, shape, final = case
    scores = np.random.default_rng(seed).integers(1, 99, shape).astype("float32")
    mask, _ = pattern.mask(scores, layout, final, final)
    again, _ = pattern.mask(scores * mask, layout, final, final)
    np.testing.assert_array_equal(again, mask)


@quick
@given(cases(), st.integers(0, 99))
def test_sparsity_is_never_lost(case, seed):
    pattern, layout, shape, final = case
    scores = np.random.default_rng(seed).integers(0, 3, shape).astype("float32")
    before = np.count_nonzero(scores)
    mask, _ = pattern.mask(scores, layout, final, final)
    after = np.count_nonzero(scores * mask)
    assert after <= before
    if before:
        assert after >= 1
    if not isinstance(pattern, Block) and before:
        assert np.count_nonzero(mask) == after


@pytest.mark.parametrize("pattern", ["unstructured", "2x2", "2:4"])
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_16_and_64_bit_weights(pattern, dtype):
    weights = distinct((8, 8)).astype(dtype) * np.where(distinct((8, 8), 1) > 32, 1, -1)
    chosen = patterns.get(pattern)
    mask, _ = chosen.mask(masks.magnitudes(weights.astype(dtype)), DENSE, 0.5, 0.5)
    plain, _ = chosen.mask(masks.magnitudes(weights.astype("float32")), DENSE, 0.5, 0.5)
    np.testing.assert_array_equal(mask, plain)
    assert mask.mean() == 0.5
