"""The sparse encoding of one weight: literals worked by hand, and round trips."""

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest

from tfprune.weightfiles.sparse_tensor import Level, SparseTensor, decode, encode, encoded_bytes


def test_rows_of_a_matrix_by_hand():
    done = encode(np.array([[0, 0, 7, 0], [0, 0, 0, 0], [5, 0, 0, 3]], "float32"))
    assert done.order == (0, 1)
    assert done.levels[0].size == 3
    assert done.levels[1].segments.tolist() == [0, 1, 1, 3]
    assert done.levels[1].indices.tolist() == [2, 0, 3]
    assert done.values.tolist() == [7, 5, 3]
    assert done.nbytes == 4 + 3 + 3 * 4  # one byte each for four segments and three indices


def test_the_axis_with_one_byte_indices_is_compressed():
    dense = np.zeros((4, 1, 1, 300), "float32")
    dense[1, 0, 0, [0, 299]] = 1
    dense[2, 0, 0, 10:90] = 2
    done = encode(dense)
    # Along the inputs an index takes two bytes: 82 * (4 + 2) + 5 * 1 = 497.
    # Along the outputs one: 82 * (4 + 1) + 301 * 1 = 711.
    assert (done.order, done.nbytes) == ((0, 1, 2, 3), 497)
    wide = np.zeros((4, 1, 1, 300), "float32")
    wide[:, 0, 0, ::3] = 1  # 400 values: 400 * 6 + 5 * 2 = 2410, or 400 * 5 + 301 * 2 = 2602
    wide[:, 0, 0, 1::3] = 1  # 800 values: 4810 against 4602
    assert (encode(wide).order, encode(wide).nbytes) == ((1, 2, 3, 0), 4602)


@pytest.mark.parametrize(
    ("count", "width"), [(255, "uint8"), (256, "uint16"), (65535, "uint16"), (65536, "int32")]
)
def test_segments_are_as_wide_as_the_number_of_values(count, width):
    done = encode(np.ones(count, "int8"))
    assert done.levels[0].segments.dtype == width


@pytest.mark.parametrize(("last", "width"), [(255, "uint8"), (256, "uint16"), (65536, "int32")])
def test_indices_are_as_wide_as_the_largest_used(last, width):
    dense = np.zeros(70_000, "int8")
    dense[last] = 1
    assert encode(dense).levels[0].indices.dtype == width


def test_a_weight_of_zeros_keeps_one_value():
    done = encode(np.zeros((3, 5), "float16"))
    assert done.values.tolist() == [0]
    assert not decode(done).any()
    assert decode(done).shape == (3, 5)


shapes = arrays.array_shapes(min_dims=1, max_dims=4, max_side=7)
values = st.sampled_from([0.0, 0.0, 0.0, 1.5, -2.0, -0.0, np.nan])


@hypothesis.given(arrays.arrays("float32", shapes, elements=values))
def test_decoding_gives_back_what_was_encoded(dense):
    done = encode(dense)
    np.testing.assert_array_equal(decode(done), dense)
    assert done.nbytes == encoded_bytes(dense)


def test_blocks_of_the_converter_by_hand():
    # Two rows of eight inputs in blocks of four; row 0 holds its second block, row 1 its first.
    blocks = Level(segments=np.array([0, 1, 2], "uint8"), indices=np.array([1, 0], "uint8"))
    sparse = SparseTensor(
        (2, 8), (0, 1, 2), (1,), (Level(size=2), blocks, Level(size=4)), np.arange(1, 9)
    )
    assert decode(sparse).tolist() == [[0, 0, 0, 0, 1, 2, 3, 4], [5, 6, 7, 8, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("segments", "indices", "values"),
    [
        ([0, 1], [0], [1]),  # too few rows
        ([0, 2, 1], [0, 1], [1, 2]),  # backwards
        ([0, 1, 2], [0, 9], [1, 2]),  # beyond the row
        ([0, 1, 2], [0, 1], [1]),  # too few values
        ([0, 1, 3], [0, 1], [1, 2]),  # more segments than indices
        ([1, 1, 2], [0, 1], [1, 2]),
    ],
)
def test_contradictions_are_errors(segments, indices, values):
    level = Level(segments=np.array(segments), indices=np.array(indices))
    sparse = SparseTensor((2, 3), (0, 1), (), (Level(size=2), level), np.array(values))
    with pytest.raises(ValueError, match="do not fit"):
        decode(sparse)
