"""Data comes in many forms and ends as single samples."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfprune.export.calibration import check_variety, samples
from tfprune.export.interface import Input, Interface

ONE = Interface((Input("x", (1, 3), "float32"),), 0)
FREE = Interface((Input("x", (1, None, 2), "float32"),), 0)
TWO = Interface((Input("a", (1, 3), "float32"), Input("b", (1,), "int32")), [0, 1])
NAMED = Interface(TWO.inputs, {"a": 0, "b": 1})
X = np.arange(12, dtype="float32").reshape(4, 3)
B = np.array([5, 6, 7, 8])


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return X[2 * index : 2 * index + 2], B[:2]


def datasets():
    return {
        "array": X,
        "float64": X.astype("float64"),
        "integers": X.astype("uint8"),
        "tensor": tf.constant(X),
        "list of one batch": [X],
        "list of batches": [X[:2], X[2:]],
        "list of samples": list(X),
        "list of batches of one": [x[None] for x in X],
        "(x, y)": (X, B),
        "(x, y, weight)": (X, B, B),
        "dict": {"x": X},
        "generator": (x for x in X),
        "function": lambda: ([x[None]] for x in X),  # as TensorFlow's converter wants it
        "function, dicts": lambda: ({"x": x[None]} for x in X),
        "dataset": tf.data.Dataset.from_tensor_slices(X),
        "batched (x, y)": tf.data.Dataset.from_tensor_slices((X, B)).batch(3),
        "autoencoder": tf.data.Dataset.from_tensor_slices((X, X + 100)).batch(2),
        "sequence": Sequence(),
    }


@pytest.mark.parametrize("name", datasets())
def test_every_form_gives_the_same_samples(name):
    found = samples(datasets()[name], ONE, "data", 10)
    np.testing.assert_array_equal(np.concatenate([s[0] for s in found]), X)
    assert all(s[0].shape == (1, 3) and s[0].dtype == np.float32 for s in found)


@pytest.mark.parametrize(
    ("data", "interface"),
    [
        ([X, B], TWO),
        ((X, B), TWO),
        (((X, B), B), TWO),
        ([(x, b) for x, b in zip(X, B, strict=True)], TWO),
        ({"a": X, "b": B}, NAMED),
        ({"a": X, "b": B}, TWO),
        ([{"a": x, "b": b} for x, b in zip(X, B, strict=True)], NAMED),
        (tf.data.Dataset.from_tensor_slices(({"a": X, "b": B}, B)).batch(2), NAMED),
    ],
)
def test_several_inputs(data, interface):
    found = samples(data, interface, "data", 10)
    np.testing.assert_array_equal(np.concatenate([s[0] for s in found]), X)
    np.testing.assert_array_equal(np.concatenate([s[1] for s in found]), B)
    assert found[0][1].dtype == np.int32


def test_a_large_batch_is_sampled_at_even_distances():
    found = samples(np.repeat(np.arange(100.0)[:, None], 3, axis=1), ONE, "data", 5)
    assert [int(s[0][0, 0]) for s in found] == [0, 24, 49, 74, 99]


def test_nothing_is_read_past_the_limit():
    endless = tf.data.Dataset.from_tensor_slices(X).repeat()
    assert len(samples(endless, ONE, "data", 7)) == 7


def test_a_free_axis_may_differ_between_samples():
    found = samples([np.zeros((1, 4, 2)), np.zeros((5, 2))], FREE, "data", 9)
    assert [s[0].shape for s in found] == [(1, 4, 2), (1, 5, 2)]


def test_a_fixed_batch_groups_samples():
    pair = Interface((Input("x", (2, 3), "float32"),), 0)
    assert [s[0].shape for s in samples(X, pair, "data", 9)] == [(2, 3), (2, 3)]
    with pytest.raises(ValueError, match="takes batches of 2"):
        samples(X[:1], pair, "data", 9)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ([], ValueError, "holds no samples"),
        (X[:0], ValueError, "holds no samples"),
        (lambda: iter(()), ValueError, "holds no samples"),
        (X[:, :2], ValueError, r"'x' of shape \(batch, 3\).*array of shape \(4, 2\)"),
        ([X[:, :2]], ValueError, "does not fit"),
        ({"y": X, "x": X}, ValueError, "does not fit"),
        (lambda: iter([X, X[:, :1]]), ValueError, "does not fit"),
        (np.array([["a", "b", "c"]]), ValueError, "must hold numbers"),
        (X + np.inf, ValueError, "NaN or infinite"),
        ("data.npy", TypeError, "must be an array"),
        (3, TypeError, "must be an array"),
        (lambda: None, TypeError, "must be an array"),
        (object(), TypeError, "must be an array"),
    ],
)
def test_bad_data(data, error, words):
    with pytest.raises(error, match=words):
        samples(data, ONE, "data", 10)


def test_integers_that_do_not_fit():
    ids = Interface((Input("ids", (1, 2), "int32"),), 0)
    assert samples(np.array([[1.0, 2.0]]), ids, "data", 1)[0][0].dtype == np.int32
    with pytest.raises(ValueError, match=r"do not fit the input 'ids'.*0\.5"):
        samples(np.array([[0.5, 2.0]]), ids, "data", 1)
    small = Interface((Input("x", (1, 2), "uint8"),), 0)
    with pytest.raises(ValueError, match="from -1 to 300"):
        samples(np.array([[-1, 300]]), small, "data", 1)


def variety(data, interface):
    check_variety(samples(data, interface, "data", 10), interface, "data")


@pytest.mark.filterwarnings("error")
def test_samples_that_differ_are_good_enough():
    variety(X, ONE)
    variety(X[:1], ONE)  # one sample is few, but it has a range
    variety([X, B], TWO)
    variety([np.zeros((1, 4, 2)), np.ones((5, 2))], FREE)


@pytest.mark.parametrize(
    ("data", "interface", "received"),
    [
        (np.zeros((4, 3)), ONE, "0 throughout 'x', in 4 samples"),
        (np.full((4, 3), -1.5), ONE, "-1.5 throughout 'x', in 4 samples"),
        (np.zeros((1, 3)), ONE, "0 throughout 'x', in 1 samples"),
        ([np.zeros((2, 3)), np.full(2, 7)], TWO, "0 throughout 'a', 7 throughout 'b'"),
    ],
)
def test_a_single_value_is_refused(data, interface, received):
    with pytest.raises(ValueError, match=f"`data` holds a single value.*Received: {received}"):
        variety(data, interface)


def test_one_constant_input_among_several_warns():
    with pytest.warns(UserWarning, match=r"`data` holds 0 throughout 'a', so.*unless"):
        variety([np.zeros((4, 3)), B], TWO)


def test_equal_samples_warn():
    with pytest.warns(UserWarning, match="The 4 samples of `data` are all equal"):
        variety(np.repeat(X[1:2], 4, axis=0), ONE)
