"""A layer as a matrix product: rows times matrix is what the layer computes."""

import keras
import numpy as np
import pytest

from tfprune.reconstruction import products

L = keras.layers
CASES = {
    "dense": (lambda: L.Dense(3), (5,)),
    "dense of a sequence": (lambda: L.Dense(3), (4, 5)),
    "conv1d causal": (lambda: L.Conv1D(3, 3, padding="causal", dilation_rate=2), (9, 2)),
    "conv1d strided": (lambda: L.Conv1D(3, 4, strides=3, padding="same"), (10, 2)),
    "conv2d valid": (lambda: L.Conv2D(3, (2, 3)), (6, 7, 2)),
    "conv2d same, strided": (lambda: L.Conv2D(3, 3, strides=2, padding="same"), (6, 7, 2)),
    "conv2d wide stride": (lambda: L.Conv2D(3, 1, strides=3, padding="same"), (7, 8, 2)),
    "conv2d dilated": (lambda: L.Conv2D(3, 3, dilation_rate=2, padding="same"), (6, 7, 2)),
    "conv2d groups": (lambda: L.Conv2D(6, 3, groups=2), (5, 6, 4)),
    "conv3d": (lambda: L.Conv3D(2, 2, strides=2), (4, 5, 4, 2)),
    "einsum": (lambda: L.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"), (4, 5)),
    "einsum, heads": (
        lambda: L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"),
        (4, 5),
    ),
    "einsum, two inputs": (
        lambda: L.EinsumDense("abcd,cde->abe", (None, 6), bias_axes="e"),
        (4, 2, 3),
    ),
    "einsum, any rank": (lambda: L.EinsumDense("...x,xy->...y", 3, bias_axes="y"), (2, 4, 5)),
    "einsum, transposed": (lambda: L.EinsumDense("ab,cb->ac", 3, bias_axes="c"), (5,)),
    "einsum, inputs in the middle": (lambda: L.EinsumDense("abc,bd->acd", (5, 3)), (4, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_times_matrix_is_what_the_layer_computes(name, monkeypatch):
    make, shape = CASES[name]
    layer = make()
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    expected = keras.ops.convert_to_numpy(layer(x))
    if layer.bias is not None:
        layer.bias.assign(np.arange(1.0, 1.0 + layer.bias.shape[-1]) + np.zeros(layer.bias.shape))
        expected = keras.ops.convert_to_numpy(layer(x))
    monkeypatch.setattr(products, "_CHUNK", 100)  # several chunks
    found = products.product(layer)
    kernel = layer.kernel.numpy()
    matrices = found.matrices(kernel)
    assert matrices.shape == (found.groups, found.depth, found.width)
    np.testing.assert_array_equal(found.kernel(matrices), kernel)
    outputs = np.concatenate([rows @ matrices for rows in found.rows(x)], axis=1)
    outputs = outputs.transpose(1, 0, 2).reshape(outputs.shape[1], -1)
    if layer.bias is not None:
        assert found.bias is layer.bias
        outputs = outputs + layer.bias.numpy().reshape(-1)
    np.testing.assert_allclose(outputs.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_channels_first_patches_are_those_of_channels_last():
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("float32")
    last, first = (
        L.Conv2D(4, 3, padding="same", data_format=form)
        for form in ("channels_last", "channels_first")
    )
    last.build(x.shape)
    first.build((2, 3, 6, 5))
    (one,) = products.product(last).rows(x)
    (other,) = products.product(first).rows(np.moveaxis(x, -1, 1))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "make",
    [
        # The bias is shared by the second axis of the outputs, or lies along the samples' axis.
        lambda: L.EinsumDense("abc,cde->abde", (4, 2, 3), bias_axes="e"),
        lambda: L.EinsumDense("abc,cd->abd", (4, 3), bias_axes="bd"),
        # Outputs come in another order than the kernel's.
        lambda: L.EinsumDense("abc,cde->abed", (4, 3, 2), bias_axes="ed"),
    ],
)
def test_a_bias_that_is_not_one_number_for_each_output_is_left_alone(make):
    layer = make()
    layer.build((None, 4, 5))
    assert products.product(layer).bias is None


class Standardized(L.Conv2D):
    def call(self, inputs):
        return super().call(inputs) * 2.0


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: L.LSTM(3), (4, 5), "layers of type LSTM are not refitted"),
        (lambda: L.Conv2DTranspose(3, 3), (4, 4, 2), "Conv2DTranspose are not refitted"),
        (lambda: Standardized(3, 3), (4, 4, 2), "class Standardized computes in a way of its own"),
        (lambda: L.EinsumDense("abc,bcd->abd", (4, 3)), (4, 5), "is not one matrix product"),
    ],
)
def test_what_is_no_product_says_why(make, shape, reason):
    layer = make()
    layer.build((None, *shape))
    assert reason in products.product(layer)
