"""What moves data: pooling, reductions, reshapes, transposes, repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from tfprune.channels import track as tracks_
from tfprune.channels.rules import table
from tfprune.channels.track import Track
from tfprune.channels.visit import Visit

# -- Along space, channel by channel -------------------------------------------------------------


def _channel_axis(visit: Visit) -> int:
    first = getattr(visit.layer, "data_format", None) == "channels_first"
    return 1 if first else len(visit.track.shape) - 1


@table.layers(
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D, layers.Resizing, layers.CenterCrop),
)
@table.operations("MaxPool", "AveragePool", "Resize")
def spatial(visit: Visit) -> Track:
    """State that space changes and channels do not."""
    axis = _channel_axis(visit)
    if visit.track.axes in ((), (axis,)):
        return Track(visit.shapes[0], visit.track.ids)
    return _across(visit)


def _across(visit: Visit) -> Track:
    return visit.give_up(f"'{visit.path}' works along its channels")[0]


for _name in (
    *("AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D"),
    *("AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D"),
):
    if hasattr(layers, _name):
        table.layers(getattr(layers, _name))(spatial)


@table.layers(
    *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
)
def global_pool(visit: Visit) -> Track:
    """State that space becomes one position and channels stay."""
    axis = _channel_axis(visit)
    if visit.track.axes not in ((), (axis,)):
        return _across(visit)
    ids = visit.channels(visit.track, axis)
    return visit.along(ids, axis if visit.layer.keepdims else -1)


def _axes(given: Any, rank: int) -> tuple[int, ...]:
    if given is None:
        return tuple(range(rank))
    return tuple(int(a) % rank for a in np.atleast_1d(given))


@table.operations(
    *("Mean", "Max", "Min", "Sum", "Amax", "Amin", "Prod", "Var", "Std", "Any", "All"),
    *("Argmax", "Argmin", "Median", "Logsumexp"),
)
def reduce(visit: Visit) -> Track:
    """State that an axis without channels is reduced; a reduction over channels needs all."""
    rank = len(visit.track.shape)
    axes = _axes(visit.layer.axis, rank)
    if set(axes) & set(visit.track.axes):
        return visit.give_up(f"'{visit.path}' is taken over channels")[0]
    ids = visit.track.ids
    if not visit.layer.keepdims:
        ids = np.squeeze(ids, axes)
    return Track(visit.shapes[0], ids)


@table.operations("Flip", "Roll")
def reorder(visit: Visit) -> Track:
    """State that positions along an axis without channels change places."""
    if set(_axes(visit.layer.axis, len(visit.track.shape))) & set(visit.track.axes):
        return visit.give_up(f"'{visit.path}' reorders channels")[0]
    return Track(visit.shapes[0], visit.track.ids)


# -- Reshapes ------------------------------------------------------------------------------------


def _reshaped(visit: Visit, track: Track, shape: Sequence[int | None]) -> Track:
    """Follow a reshape. Where channels end up along several axes, rows of the last one are tied.

    So a split of channels into groups loses the same positions of every group, and stays a grid.
    """
    found = tracks_.reshape(track, shape)
    if found is None:
        return visit.give_up(f"'{visit.path}' reshapes axes of unknown length")[0]
    axes = found.axes
    if len(axes) > 1:
        index = tuple(slice(None) if a == axes[-1] else slice(0, 1) for a in range(len(shape)))
        first = found.ids[index]
        visit.equate(found.ids, first)
        return Track(found.shape, first)
    return found


def _layer_target(layer: Any, count: table.Count, inputs: Any, outputs: Any) -> dict[str, Any]:
    free = -1 in layer.target_shape
    target = [
        (-1 if n == -1 else m) for n, m in zip(layer.target_shape, outputs[0][1:], strict=True)
    ]
    return {"target_shape": tuple(target)} if free or None not in outputs[0][1:] else {}


@table.layers(layers.Reshape, config=_layer_target)
def reshape_layer(visit: Visit) -> Track:
    """Move the channel numbers as the layer moves the data."""
    visit.same_at_every_call()
    return _reshaped(visit, visit.track, visit.shapes[0])


def _operation_target(op: Any, count: table.Count, inputs: Any, outputs: Any) -> dict[str, Any]:
    new = [-1 if n is None else n for n in outputs[0]]
    if new.count(-1) <= 1:
        return {"newshape": tuple(new)}
    # Several lengths are unknown: only one may be -1, the others were given as tensors or numbers.
    old = op.newshape
    return {"newshape": tuple(o if m is None else m for o, m in zip(old, outputs[0], strict=True))}


@table.operations("Reshape", config=_operation_target)
def reshape(visit: Visit) -> Track:
    """Move the channel numbers as the operation moves the data."""
    return _reshaped(visit, visit.track, visit.shapes[0])


@table.layers(layers.Flatten)
@table.operations("Ravel")
def flatten(visit: Visit) -> Track:
    """Like a reshape; Keras moves channels of `channels_first` data to the end before it."""
    track = visit.track
    if getattr(visit.layer, "data_format", None) == "channels_first" and len(track.shape) > 2:
        track = tracks_.transpose(track, (0, *range(2, len(track.shape)), 1))
    return _reshaped(visit, track, visit.shapes[0])


@table.layers(layers.Permute)
def permute(visit: Visit) -> Track:
    """Reorder the axes; the batch axis is not counted."""
    return tracks_.transpose(visit.track, (0, *visit.layer.dims))


@table.operations("Transpose")
def transpose(visit: Visit) -> Track:
    """Reorder the axes."""
    rank = len(visit.track.shape)
    axes = visit.layer.axes or tuple(reversed(range(rank)))
    return tracks_.transpose(visit.track, [a % rank for a in axes])


@table.operations("Swapaxes")
def swap_axes(visit: Visit) -> Track:
    """Exchange two axes."""
    axes = list(range(len(visit.track.shape)))
    a, b = visit.layer.axis1, visit.layer.axis2
    axes[a], axes[b] = axes[b], axes[a]
    return tracks_.transpose(visit.track, axes)


@table.operations("Moveaxis")
def move_axis(visit: Visit) -> Track:
    """Move axes to other places."""
    ids = np.moveaxis(visit.track.ids, visit.layer.source, visit.layer.destination)
    return Track(visit.shapes[0], ids)


@table.operations("ExpandDims")
def expand_dims(visit: Visit) -> Track:
    """Put an axis of length 1 in."""
    axis = visit.layer.axis
    axis = tuple(axis) if isinstance(axis, (list, tuple)) else axis
    return Track(visit.shapes[0], np.expand_dims(visit.track.ids, axis))


@table.operations("Squeeze")
def squeeze(visit: Visit) -> Track:
    """Take axes of length 1 out."""
    axis = visit.layer.axis
    if axis is None:
        axis = tuple(a for a, n in enumerate(visit.track.shape) if n == 1)
    return Track(visit.shapes[0], np.squeeze(visit.track.ids, axis))


@table.operations("DepthToSpace")
def depth_to_space(visit: Visit) -> Track:
    """Channels are blocks of positions, position by position: each block loses the same ones."""
    block = visit.layer.block_size
    axis = _channel_axis(visit)
    ids = visit.channels(visit.track, axis).reshape(block * block, -1)
    visit.equate(ids, ids[:1])
    return visit.along(ids[0], axis)


@table.operations("SpaceToDepth")
def space_to_depth(visit: Visit) -> Track:
    """Each position of a block has all channels, one position after the other."""
    axis = _channel_axis(visit)
    ids = visit.channels(visit.track, axis)
    return visit.along(np.tile(ids, visit.layer.block_size**2), axis)


@table.layers(layers.RepeatVector)
def repeat_vector(visit: Visit) -> Track:
    """A vector becomes a sequence of itself."""
    return Track(visit.shapes[0], visit.track.ids[:, None])


@table.operations("Repeat")
def repeat(visit: Visit) -> Track:
    """Repeat elements along an axis; a number for each element only where there are no channels."""
    axis, times = visit.layer.axis, visit.layer.repeats
    rank = len(visit.track.shape)
    if axis is None or (np.size(times) > 1 and axis % rank in visit.track.axes):
        return visit.give_up(f"'{visit.path}' repeats channels one by one")[0]
    if axis % rank not in visit.track.axes:
        return Track(visit.shapes[0], visit.track.ids)
    return Track(visit.shapes[0], np.repeat(visit.track.ids, int(np.ravel(times)[0]), axis))
