"""Zeros are looked up in the file, kernel by kernel."""

import keras
import numpy as np
import pytest

from tfprune.export import export_tflite
from tfprune.export.zeros import check_zeros
from tfprune.weightfiles.constants import Constant


def constant(values, name="model_1/layer_1/MatMul", is_weight=True):
    values = np.asarray(values)
    zero = (values == 0).reshape(-1)
    return Constant(name, values.shape, "int8", zero, is_weight, False, True, (0, 0))


def sparse(shape, seed=0, fraction=0.6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * (rng.random(shape) > fraction)


@pytest.mark.parametrize("shape", [(6, 5), (3, 3, 4, 5), (2, 3, 3, 2, 4), (5, 2, 3)])
def test_found_whatever_the_order_of_axes(shape):
    kernel = sparse(shape)
    order = np.random.default_rng(1).permutation(len(shape))
    stored = constant(kernel.transpose(order) * 7)
    assert check_zeros({"layer/kernel": kernel}, [stored]) == ({0: "layer/kernel"}, [])


def test_one_zero_lost_is_an_error():
    kernel = sparse((6, 5))
    stored = kernel.T.copy()
    stored[tuple(np.argwhere(stored == 0)[3])] = 1e-9
    with pytest.raises(ValueError, match=r"layer/kernel \((\d+) zeros"):
        check_zeros({"layer/kernel": kernel}, [constant(stored)])


def test_as_many_zeros_at_other_places_are_an_error():
    kernel = np.arange(30.0).reshape(5, 6) % 3
    with pytest.raises(ValueError, match="not zero in the exported file"):
        check_zeros({"layer/kernel": kernel}, [constant((kernel + 1) % 3)])


def test_more_zeros_than_the_kernel_has_are_fine():
    kernel = sparse((6, 5))
    assert check_zeros({"layer/kernel": kernel}, [constant(kernel * (kernel > 0.5))])[1] == []


def test_names_tell_equal_shapes_apart_and_name_dense_kernels():
    weights = {"m/dense/kernel": np.ones((4, 4)), "m/dense_1/kernel": np.ones((4, 4))}
    numbered = [constant(np.ones((4, 4)), f"m_1/{n}/MatMul") for n in ("dense_1_1", "dense_1")]
    assert check_zeros(weights, numbered)[0] == {1: "m/dense/kernel", 0: "m/dense_1/kernel"}
    plain = [constant(np.ones((4, 4)), f"m/{n}/MatMul") for n in ("dense_1", "dense")]
    assert check_zeros(weights, plain)[0] == {1: "m/dense/kernel", 0: "m/dense_1/kernel"}


def test_pieces_are_counted():
    kernel = sparse((2, 2, 3, 8))
    pieces = [
        constant(part, f"model_1/layer_1/convolution_{i}")
        for i, part in enumerate(np.split(kernel, 4, axis=-1))
    ]
    assert check_zeros({"layer/kernel": kernel}, pieces) == ({}, [])
    pieces[2].is_zero[:] = False
    with pytest.raises(ValueError, match="layer"):
        check_zeros({"layer/kernel": kernel}, pieces)


def test_a_table_that_was_computed_away_is_named():
    assert check_zeros({"positions/embeddings": sparse((50, 4))}, []) == (
        {},
        ["positions/embeddings"],
    )


def test_two_weights_may_be_in_one_constant():
    diagonal = np.diag([1.0, 2.0, 3.0])
    weights = {"m/a/kernel": diagonal, "m/b/kernel": 5 * diagonal}
    stored = constant(np.eye(3), "m_1/a_1/MatMul")
    bias = constant(np.ones(9), "m_1/c_1/add", is_weight=False)
    assert check_zeros(weights, [stored, bias]) == ({0: "m/a/kernel"}, [])
    with pytest.raises(ValueError, match=r"m/b/kernel \(6 zeros, 5 in the file"):  # its own
        check_zeros(weights, [stored, constant(np.eye(3) + np.eye(3, k=2), "m_1/b_1/MatMul")])


def test_equal_kernels_in_int8_are_one_constant(tmp_path):
    """With a scale for each output channel, every diagonal kernel is the same integers."""
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4, 4, 4)), *(layers.Conv2D(4, 1, activation="relu") for _ in range(2))]
    )
    for number, layer in enumerate(model.layers, 1):
        layer.kernel.assign(np.diag(np.arange(1.0, 5) * number)[None, None])
    images = np.random.default_rng(0).random((8, 4, 4, 4)).astype("float32")
    result = export_tflite(model, tmp_path / "a.tflite", "int8", representative_data=images)
    assert [(w.shape, w.zeros) for w in result.weights] == [((4, 1, 1, 4), 12)]
