"""Norms: a value or statistic for each channel, and averages over channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from tfprune.channels.rules import table
from tfprune.channels.rules.elementwise import per_channel
from tfprune.channels.track import Track
from tfprune.channels.visit import Visit


@table.layers(layers.BatchNormalization)
def batch_norm(visit: Visit) -> Track:
    """Scale, offset, mean and variance have one value for each channel."""
    layer = visit.layer
    axis = layer.axis % len(visit.track.shape)
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        if variable is not None:
            per_channel(visit, variable, [axis])
    return Track(visit.shapes[0], visit.track.ids)


def _over(visit: Visit) -> list[int]:
    rank = len(visit.track.shape)
    return [int(axis) % rank for axis in np.atleast_1d(visit.layer.axis)]


@table.layers(layers.LayerNormalization)
def layer_norm(visit: Visit) -> Track:
    """Scale and offset have the axes that are averaged over; what is left is averaged anew."""
    for variable in (visit.layer.gamma, visit.layer.beta):
        if variable is not None:
            per_channel(visit, variable, _over(visit))
    return Track(visit.shapes[0], visit.track.ids)


@table.layers(layers.UnitNormalization)
def unit_norm(visit: Visit) -> Track:
    """No weights; what is left is brought to unit length."""
    return Track(visit.shapes[0], visit.track.ids)


if hasattr(layers, "RMSNormalization"):

    @table.layers(layers.RMSNormalization)
    def rms_norm(visit: Visit) -> Track:
        """Like `layer_norm`, with a scale only."""
        return per_channel(visit, visit.layer.scale, _over(visit))


def _group_config(layer: Any, count: table.Count, inputs: Any, outputs: Any) -> dict[str, Any]:
    own = layer.gamma if layer.gamma is not None else layer.beta
    one_each = own is not None and layer.groups == int(own.shape[0])
    return {"groups": inputs[0][layer.axis]} if one_each else {}


@table.layers(layers.GroupNormalization, config=_group_config)
def group_norm(visit: Visit) -> Track:
    """Groups of neighbouring channels are averaged over: each loses the same positions.

    With one channel a group (`groups=-1`, instance norm) whole groups go. Keras replaces -1 by the
    number of channels when the layer is built, so that the configuration must be set anew.
    """
    layer, track = visit.layer, visit.track
    axis = layer.axis % len(track.shape)
    if axis in track.axes:
        ids = visit.channels(track, axis)
        if layer.groups == ids.size:
            if layer.gamma is None and layer.beta is None:
                visit.freeze(track, f"'{visit.path}' has one group a channel and no weights")
        elif layer.groups > 1:
            by_group = ids.reshape(layer.groups, -1)
            visit.equate(by_group, by_group[:1])
    for variable in (layer.gamma, layer.beta):
        if variable is not None:
            per_channel(visit, variable, [axis])
    return Track(visit.shapes[0], track.ids)


@table.layers(layers.Normalization)
def normalization(visit: Visit) -> Track:
    """Mean and variance are set by `adapt` or are constants: channels before it stay."""
    visit.freeze(visit.track, f"'{visit.path}' holds statistics of each channel")
    return Track(visit.shapes[0], visit.track.ids)


def _scale_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    return {"projection_dim": count(layer.gamma, 0)}


@table.inside_keras("convnext", "LayerScale", config=_scale_config)
def layer_scale(visit: Visit) -> Track:
    """A factor for each channel of the last axis."""
    return per_channel(visit, visit.layer.gamma, [len(visit.track.shape) - 1])
