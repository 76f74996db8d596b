"""Convolutions of every kind, and dense layers, which are the same with one position."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import layers

from tfprune.channels.rules import table
from tfprune.channels.rules.elementwise import activate
from tfprune.channels.track import Track, known, untracked
from tfprune.channels.visit import Visit


def _channel_axis(layer: Any) -> int:
    return 1 if getattr(layer, "data_format", None) == "channels_first" else -1


def _finish(visit: Visit, ids: np.ndarray, axis: int) -> Track:
    """State that the biases are those of the output's channels; return its track."""
    if getattr(visit.layer, "bias", None) is not None:
        visit.equate(visit.ids(visit.layer.bias, 0), ids)
    return visit.along(activate(visit, visit.layer.activation, ids), axis)


def _conv_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    config = {"filters": count(layer.kernel, -1)}
    if layer.groups > 1 and int(layer.kernel.shape[-2]) == 1:  # depthwise in all but name
        config["groups"] = config["filters"] // (layer.filters // layer.groups)
    return config


@table.layers(layers.Conv1D, layers.Conv2D, layers.Conv3D, config=_conv_config)
def conv(visit: Visit) -> Track:
    """Rows of the kernel are the input's channels, columns the output's.

    With groups, the same position of every group goes or stays, so that groups remain of one size;
    with groups of one input each, whole groups go.
    """
    layer, axis = visit.layer, _channel_axis(visit.layer)
    visit.multiplies(layer.kernel, visit.positions(0, axis))
    ids, groups = visit.channels(visit.track, axis), layer.groups
    if groups > 1 and int(layer.kernel.shape[-2]) == 1:
        out = visit.ids(layer.kernel, -1)
        visit.equate(out, np.repeat(ids, out.size // groups))
        return _finish(visit, out, axis)
    out = visit.makes(layer.kernel, -1)
    if groups > 1:
        for channels in (ids, out):
            by_group = channels.reshape(groups, -1)
            visit.equate(by_group, by_group[:1])
    visit.reads(layer.kernel, -2, ids.reshape(groups, -1)[0])
    return _finish(visit, out, axis)


def _transposed_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    return {"filters": count(layer.kernel, -2)}


@table.layers(
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    config=_transposed_config,
)
def transposed_conv(visit: Visit) -> Track:
    """The kernel has its axes the other way round: outputs, then inputs."""
    layer, axis = visit.layer, _channel_axis(visit.layer)
    # Every input position is multiplied with the whole kernel.
    shape = known(visit.track.shape)
    visit.multiplies(layer.kernel, math.prod(shape) // (shape[0] * shape[axis]))
    visit.reads(layer.kernel, -1, visit.channels(visit.track, axis))
    return _finish(visit, visit.makes(layer.kernel, -2), axis)


@table.layers(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise_conv(visit: Visit) -> Track:
    """Every input channel makes `depth_multiplier` output channels, one after the other."""
    layer, axis = visit.layer, _channel_axis(visit.layer)
    visit.multiplies(layer.kernel, visit.positions(0, axis))
    ids = visit.channels(visit.track, axis)
    visit.equate(visit.ids(layer.kernel, -2), ids)
    return _finish(visit, np.repeat(ids, layer.depth_multiplier), axis)


def _separable_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    return {"filters": count(layer.pointwise_kernel, -1)}


@table.layers(layers.SeparableConv1D, layers.SeparableConv2D, config=_separable_config)
def separable_conv(visit: Visit) -> Track:
    """A depthwise convolution, then one over channels."""
    layer, axis = visit.layer, _channel_axis(visit.layer)
    for kernel in (layer.depthwise_kernel, layer.pointwise_kernel):
        visit.multiplies(kernel, visit.positions(0, axis))
    ids = visit.channels(visit.track, axis)
    visit.equate(visit.ids(layer.depthwise_kernel, -2), ids)
    visit.reads(layer.pointwise_kernel, -2, np.repeat(ids, layer.depth_multiplier))
    return _finish(visit, visit.makes(layer.pointwise_kernel, -1), axis)


def _dense_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    return {"units": count(layer.kernel, -1)}


@table.layers(layers.Dense, config=_dense_config)
def dense(visit: Visit) -> Track:
    """Rows of the kernel are the last axis of the input, columns that of the output."""
    layer = visit.layer
    visit.multiplies(layer.kernel, visit.positions(0, -1))
    visit.reads(layer.kernel, 0, visit.channels(visit.track, -1))
    return _finish(visit, visit.makes(layer.kernel, 1), -1)


def _embedding_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    return {"output_dim": count(layer.embeddings, 1)}


@table.layers(layers.Embedding, config=_embedding_config)
def embedding(visit: Visit) -> Track:
    """Columns of the table are the output's channels."""
    visit.freeze(visit.track, f"'{visit.path}' looks it up in a table")
    return visit.along(visit.makes(visit.layer.embeddings, 1))


def _einsum_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    sizes = list(np.atleast_1d(layer.partial_output_shape).tolist())
    letters = _Letters(layer.equation)
    for axis, letter in enumerate(letters.kernel):
        if letter in letters.output and letter not in letters.input:
            # `output_shape` leaves out the batch axis, and holds the last axes of the output.
            position = len(sizes) - len(letters.output) + letters.output.index(letter)
            if sizes[position] is not None:
                sizes[position] = count(layer.kernel, axis)
    return {"output_shape": tuple(sizes)}


class _Letters:
    """The letters of an equation such as "...x,xy->...y", the ellipsis dropped.

    They name the last axes of the input and the output, or the first if the ellipsis comes after.
    """

    def __init__(self, equation: str) -> None:
        left, _, right = equation.replace(" ", "").replace("...", "").partition("->")
        first, _, second = left.partition(",")
        self.input, self.kernel, self.output = first, second, right
        self._from_the_front = equation.rstrip().endswith("...")

    def axis(self, letter: str, letters: str, rank: int) -> int:
        """Return the axis that a letter names, of a tensor of this rank."""
        return letters.index(letter) + (0 if self._from_the_front else rank - len(letters))


@table.layers(layers.EinsumDense, config=_einsum_config)
def einsum_dense(visit: Visit) -> Track | list[Track]:
    """One letter of the kernel is read from the input, one becomes the output's last channel."""
    layer, letters = visit.layer, _Letters(visit.layer.equation)
    kernel = layer.kernel
    made = [c for c in letters.kernel if c in letters.output and c not in letters.input]
    read = [c for c in letters.kernel if c in letters.input and c not in letters.output]
    shared = [c for c in letters.kernel if c in letters.input and c in letters.output]
    out = {c: visit.makes(kernel, letters.kernel.index(c)) for c in made}
    visit.multiplies(kernel, _einsum_positions(visit, letters))
    if len(made) != 1 or len(read) != 1 or shared:
        for axis in range(len(kernel.shape)):
            visit.freeze(
                visit.ids(kernel, axis), f"'{visit.path}' has an equation with several channel axes"
            )
        return visit.give_up(f"'{visit.path}' has an equation with several channel axes")
    axis = letters.axis(read[0], letters.input, len(visit.track.shape))
    visit.reads(kernel, letters.kernel.index(read[0]), visit.channels(visit.track, axis))
    ids = out[made[0]]
    end = letters.axis(made[0], letters.output, len(visit.shapes[0]))
    if layer.bias is not None:  # it lies along the last axes of the output
        offset = end - len(visit.shapes[0]) + len(layer.bias.shape)
        if offset >= 0 and (int(layer.bias.shape[offset]) > 1 or ids.size == 1):
            visit.equate(visit.ids(layer.bias, offset), ids)
    return visit.along(activate(visit, layer.activation, ids), end)


def _einsum_positions(visit: Visit, letters: _Letters) -> int:
    """Return how often each value of the kernel is used: the axes of the input it does not have."""
    shape = (1, *known(visit.track.shape)[1:])  # of one sample
    used = [c for c in letters.input if c in letters.kernel]
    return math.prod(shape) // math.prod(
        shape[letters.axis(c, letters.input, len(shape))] for c in used
    )


if hasattr(layers, "ReversibleEmbedding"):

    def _reversible_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
        return {"output_dim": count(layer.embeddings, 1)}

    @table.layers(layers.ReversibleEmbedding, config=_reversible_config)
    def reversible_embedding(visit: Visit) -> Track:
        """The same table looks tokens up and, called with `reverse=True`, scores them."""
        layer = visit.layer
        ids = visit.makes(layer.embeddings, 1)
        if not visit.argument("reverse"):
            return embedding(visit)
        read, axis = layer.embeddings, 1
        if not layer.tie_weights:
            read, axis = layer.reverse_embeddings, 0
            visit.equate(visit.ids(read, axis, "in"), ids)  # there is one setting for both
        visit.reads(read, axis, visit.channels(visit.track, -1))
        visit.multiplies(read, visit.positions(0, -1))
        return untracked(visit.shapes[0])
