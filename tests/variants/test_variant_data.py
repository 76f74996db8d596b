"""Data files that fit, and those that do not."""

import pickle

import keras
import numpy as np
import pytest

from tfprune.export.interface import Input, Interface
from tfprune.variants import data

ONE = Interface((Input("features", (1, 16), "float32"),), 0)
TWO = Interface((Input("ids", (1, 3), "int32"), Input("extra", (1, 2), "float32")), [0, 1])


def saved(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def evaluated(path, interface=ONE):
    return data.evaluation(data.read_evaluation(path), interface, any_labels=False)


def calibrated(path, interface=ONE):
    return data.calibration_samples(data.read_calibration(path), interface)


@pytest.mark.parametrize("key", ["x", "features"])
def test_one_input(tmp_path, x, y, key):
    path = saved(tmp_path, **{key: x, "y": y})
    found = evaluated(path)
    assert np.array_equal(np.concatenate([one[0] for one in found.samples]), x)
    assert np.array_equal(found.labels, y)
    assert found.count == 40
    assert len(calibrated(path)) == 40


def test_inputs_alone(tmp_path, x):
    np.save(tmp_path / "x.npy", x.astype("float64"))
    found = calibrated(tmp_path / "x.npy")
    assert (len(found), found[0][0].shape, found[0][0].dtype) == (40, (1, 16), "float32")


def test_several_inputs_by_name(tmp_path):
    extra = np.random.default_rng(0).random((5, 2))
    path = saved(tmp_path, extra=extra, ids=np.arange(15).reshape(5, 3), y=np.arange(5))
    found = evaluated(path, TWO)
    assert found.samples[1][0].tolist() == [[3, 4, 5]]


def test_a_batch_size_of_its_own_leaves_the_rest(tmp_path, x, y):
    four = Interface((Input("features", (12, 16), "float32"),), 0)
    found = evaluated(saved(tmp_path, x=x, y=y), four)
    assert (len(found.samples), found.count, len(found.labels)) == (3, 36, 36)


X, Y = np.ones((4, 16), "float32"), np.zeros(4, int)
NAN = np.where(np.eye(4, 16) == 1, np.nan, 1.0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "inputs and labels"),
        ({"y": Y}, "inputs and labels"),
        ({"x_test": X, "y_test": Y}, "'x_test', 'y_test'"),
        ({"images": X, "y": Y}, "'images'"),
        ({"x": X, "y": Y[:3]}, "4 inputs and 3 labels"),
        ({"x": X[:3], "y": Y}, "3 inputs and 4 labels"),
        ({"x": X[:, :5], "y": Y}, r"\(4, 5\)"),
        ({"x": X[:0], "y": Y[:0]}, "no samples"),
        ({"x": NAN, "y": Y}, "NaN"),
        ({"x": X.astype(str), "y": Y}, "numbers"),
        ({"x": X, "y": Y.astype(str)}, "must be numbers"),
        ({"x": X, "y": np.full(4, np.nan)}, "4 such values"),
        ({"x": X, "y": np.array(3)}, "4 inputs and 0 labels"),
        ({"x": np.array([X, None], dtype=object), "y": Y}, "objects"),
    ],
)
def test_evaluation_data_that_do_not_fit(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message) as caught:
        evaluated(saved(tmp_path, **arrays))
    assert "data.npz" in str(caught.value)
    assert "Received: " in str(caught.value)


def test_inputs_that_are_missing(tmp_path):
    with pytest.raises(ValueError, match="'ids', 'extra'"):
        calibrated(saved(tmp_path, x=X), TWO)
    with pytest.raises(ValueError, match="'ids', 'extra'"):
        calibrated(saved(tmp_path, ids=np.ones((4, 3))), TWO)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 not really", b"hello", None])
def test_damaged_files(tmp_path, content):
    path = saved(tmp_path, x=X, y=Y)
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(ValueError, match=r"damaged.*Received: ") as caught:
        evaluated(path)
    assert "data.npz" in str(caught.value)
    assert "pickle" not in str(caught.value)


def test_a_pickle_under_another_name(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(pickle.dumps({"x": X}))
    with pytest.raises(ValueError, match="Python objects"):
        evaluated(path)


@pytest.mark.parametrize(
    ("place", "offset", "damage"),
    [
        (b"'shape': (", 9, b'"'),  # a string without an end
        (b"PK\1\2", 10, b"c\0"),  # in the list of contents, an unknown compression
    ],
)
def test_bytes_that_numpy_stumbles_over(tmp_path, place, offset, damage):
    path = saved(tmp_path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    at = content.index(place) + offset
    content[at : at + len(damage)] = damage
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged.*Received: "):
        evaluated(path)


def test_files_of_another_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        calibrated(tmp_path / "no.npz")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        calibrated(tmp_path)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"\.npz"):
        calibrated(tmp_path / "x.csv")


@pytest.mark.parametrize("given", [3, X, (X,), (X, Y, Y), {"x": X}])
def test_evaluation_data_in_memory_are_a_pair(given):
    with pytest.raises(TypeError, match="pair"):
        data.read_evaluation(given)


def test_labels_for_a_metric_may_be_anything():
    found = data.evaluation(data.read_evaluation((X, {"a": Y})), ONE, any_labels=True)
    assert list(found.labels) == ["a"]


def test_samples_are_packed_as_the_model_takes_them():
    nested = Interface(TWO.inputs, {"a": 1, "b": 0})
    samples = [[np.full((1, 3), i), np.full((1, 2), i)] for i in range(3)]
    both = data.packed(samples, nested)
    assert (both["a"].shape, both["b"].shape) == ((3, 2), (3, 3))
    samples[0][0] = np.zeros((1, 9))  # another length, where the model lets it
    assert [one["b"].shape for one in data.packed(samples, nested)()] == [(1, 9), (1, 3), (1, 3)]


def test_the_interface_of_these_tests_is_that_of_a_model(net):
    from tfprune.export.interfaces import interface_of

    assert isinstance(net, keras.Model)
    assert interface_of(net, None, None).inputs[0].shape == ONE.inputs[0].shape
