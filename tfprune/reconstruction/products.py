"""Layers as matrix products: which rows of numbers meet which matrix of weights.

`outputs = rows @ matrix` for Dense, EinsumDense of one contraction, and convolutions, whose rows
are the patches that a kernel is laid on (im2col). A grouped convolution is a product for each
group.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import layers

from tfprune import layouts

_CHUNK = 1 << 24  # numbers of patches at a time: 64 MB


@dataclasses.dataclass(frozen=True)
class Product:
    """How a layer's kernel and its inputs are seen as matrices.

    Attributes:
        shape: of the kernel.
        order: axes of the kernel, those of the matrix's rows first.
        depth: rows of the matrix, inputs of each output.
        groups: products that the layer is made of.
        rows: inputs of the layer -> arrays (groups, rows, depth), in chunks.
        bias: variable with a number for each output, in the order of the outputs, if there is one.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    depth: int
    groups: int
    rows: Callable[[np.ndarray], Iterator[np.ndarray]]
    bias: Any = None

    @property
    def width(self) -> int:
        """Outputs of each group."""
        return math.prod(self.shape) // self.depth // self.groups

    def matrices(self, kernel: np.ndarray) -> np.ndarray:
        """Return a kernel, or what has its shape, as (groups, depth, width)."""
        flat = kernel.transpose(self.order).reshape(self.depth, self.groups, self.width)
        return flat.transpose(1, 0, 2)

    def kernel(self, matrices: np.ndarray) -> np.ndarray:
        """Undo `matrices`."""
        moved = matrices.transpose(1, 0, 2).reshape([self.shape[a] for a in self.order])
        return np.ascontiguousarray(moved.transpose(np.argsort(self.order)))


_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)


def product(layer: Any) -> Product | str:
    """Return a built layer as a product, or the reason why it is none.

    Example: `product(dense).depth` is the number of its inputs.
    """
    kinds = (*_CONVOLUTIONS, layers.Dense, layers.EinsumDense)
    kind = next((kind for kind in kinds if isinstance(layer, kind)), None)
    if kind is None:
        return f"layers of type {type(layer).__name__} are not refitted"
    own = (getattr(type(layer), name, None) for name in ("call", "convolution_op"))
    usual = (getattr(kind, name, None) for name in ("call", "convolution_op"))
    if tuple(own) != tuple(usual):
        return f"its class {type(layer).__name__} computes in a way of its own"
    kernel: Any = layer.kernel
    shape = tuple(kernel.shape)
    if kind is layers.Dense:
        return Product(shape, (0, 1), shape[0], 1, lambda x: _flat(x, shape[0]), layer.bias)
    if kind is layers.EinsumDense:
        return _einsum(layer, shape)
    depth, order = math.prod(shape[:-1]), tuple(range(len(shape)))
    return Product(shape, order, depth, layer.groups, lambda x: _patches(layer, x), layer.bias)


def _flat(x: np.ndarray, depth: int) -> Iterator[np.ndarray]:
    yield x.reshape(1, -1, depth)


def _einsum(layer: Any, shape: tuple[int, ...]) -> Product | str:
    equation = layer.equation.replace(" ", "").replace("...", ".")
    layout = layouts.of_einsum(equation, len(shape))
    if layout is None or layout.spatial(len(shape)):
        return f"its equation {layer.equation} is not one matrix product"
    operands, output = equation.split("->")
    source, kernel = operands.split(",")
    contracted = [kernel[axis] for axis in layout.inputs]
    made = "".join(kernel[axis] for axis in layout.outputs)
    # The bias of other axes, or of these in another order, is not one number for each output.
    fits = output.endswith(made) and set(layer.bias_axes or "") == set(made)
    depth = layout.input_size(shape)

    def rows(x: np.ndarray) -> Iterator[np.ndarray]:
        named = source.replace(".", "." * (x.ndim - len(source) + 1))
        axes = [named.index(letter) for letter in contracted]
        rest = [axis for axis in range(x.ndim) if axis not in axes]
        yield from _flat(x.transpose(*rest, *axes), depth)

    order = (*layout.inputs, *layout.outputs)
    return Product(shape, order, depth, 1, rows, layer.bias if fits else None)


def _patches(layer: Any, x: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the patches under a convolution's kernel, (groups, rows, kernel and inputs)."""
    if layer.data_format == "channels_first":
        x = np.moveaxis(x, 1, -1)
    size, strides, dilation = layer.kernel_size, layer.strides, layer.dilation_rate
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    lengths = zip(x.shape[1:-1], reach, strides, strict=True)
    around = [_padding(layer.padding, n, r, s) for n, r, s in lengths]
    spatial = tuple(range(1, x.ndim - 1))
    outputs = math.prod(
        (n + sum(pad) - r) // s + 1
        for n, pad, r, s in zip(x.shape[1:-1], around, reach, strides, strict=True)
    )
    step = max(1, _CHUNK // max(1, outputs * math.prod(size) * x.shape[-1]))
    for first in range(0, len(x), step):
        part = np.pad(x[first : first + step], [(0, 0), *around, (0, 0)])
        views = np.lib.stride_tricks.sliding_window_view(part, reach, spatial)
        hops = [slice(None, None, s) for s in strides]
        holes = [slice(None, None, d) for d in dilation]
        views = views[(slice(None), *hops, slice(None), *holes)]
        # (samples, places, channels, kernel) -> (groups, samples and places, kernel, channels)
        rank = len(size)
        views = views.reshape(*views.shape[: rank + 1], layer.groups, -1, *size)
        kernel = range(rank + 3, 2 * rank + 3)
        views = views.transpose(rank + 1, *range(rank + 1), *kernel, rank + 2)
        yield views.reshape(layer.groups, -1, math.prod(layer.kernel.shape[:-1]))


def _padding(kind: str, length: int, reach: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after one axis, as TensorFlow counts them."""
    if kind == "valid":
        return 0, 0
    if kind == "causal":
        return reach - 1, 0
    missing = max((-(-length // stride) - 1) * stride + reach - length, 0)
    return missing // 2, missing - missing // 2
