"""Recurrent layers: one channel a unit, which has a column in the block of each gate."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tfprune.channels.graph import Call
from tfprune.channels.rules import table
from tfprune.channels.rules.elementwise import activate
from tfprune.channels.track import Track, known
from tfprune.channels.visit import Visit, returned

_GATES = {
    layers.SimpleRNN: 1,
    layers.LSTM: 4,
    layers.GRU: 3,
    layers.ConvLSTM1D: 4,
    layers.ConvLSTM2D: 4,
    layers.ConvLSTM3D: 4,
}
_CONVOLUTIONAL = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)


def _units(layer: Any) -> int:
    return int(layer.cell.recurrent_kernel.shape[-2])


def _cell(visit: Visit, layer: Any, ids: np.ndarray, positions: int) -> np.ndarray:
    """State what a recurrent layer's weights are; return the channels of its units.

    Args:
        visit: of the layer, or of what wraps it.
        layer: the recurrent layer.
        ids: channels of the input.
        positions: how often the kernels are used: steps, and places in a map.
    """
    cell, gates = layer.cell, _GATES[type(layer)]
    units = visit.ids(cell.recurrent_kernel, -2, "in")
    blocks = np.tile(units, gates)
    visit.reads(cell.kernel, -2, ids)
    for variable in (cell.kernel, cell.recurrent_kernel):
        visit.equate(visit.makes(variable, -1, gates), blocks)
        visit.multiplies(variable, positions)
    bias = getattr(cell, "bias", None)
    if bias is not None:  # two rows for a GRU that resets after the matrix product
        visit.equate(visit.ids(bias, -1), blocks)
    for state in keras.tree.flatten(layer.states) if layer.stateful else []:
        visit.equate(visit.ids(state, _state_axis(layer, len(state.shape))), units)
    for name in ("activation", "recurrent_activation"):
        activate(visit, getattr(cell, name, None), units)
    return units


def _channel_axis(layer: Any, rank: int) -> int:
    first = isinstance(layer, _CONVOLUTIONAL) and layer.cell.data_format == "channels_first"
    return 2 if first else rank - 1


def _state_axis(layer: Any, rank: int) -> int:
    return _channel_axis(layer, rank + 1) - 1  # a state has no axis of steps


def _positions(visit: Visit, layer: Any, steps: int) -> int:
    if not isinstance(layer, _CONVOLUTIONAL):
        return steps
    shape = known(visit.shapes[0])
    axis = _channel_axis(layer, len(shape) if layer.return_sequences else len(shape) + 1)
    places = shape[2:] if layer.return_sequences else shape[1:]
    places = [n for a, n in enumerate(places, 2) if a != axis]
    return steps * int(np.prod(places))


def _config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    name = "filters" if isinstance(layer, _CONVOLUTIONAL) else "units"
    return {name: count(layer.cell.recurrent_kernel, -2)}


def _outputs(visit: Visit, layer: Any, units: np.ndarray) -> list[Track]:
    """Return the tracks of a layer's output and of the states that it may return."""
    found = []
    for index, shape in enumerate(visit.shapes):
        sequences = layer.return_sequences and index == 0
        axis = _channel_axis if sequences else _state_axis
        found.append(visit.along(units, axis(layer, len(shape)), index))
    return found


@table.layers(*_GATES, config=_config)
def recurrent(visit: Visit) -> list[Track]:
    """Units are read by every gate, in the recurrent kernel, and by what comes after."""
    layer, track = visit.layer, visit.track
    axis = _channel_axis(layer, len(track.shape))
    ids = visit.channels(track, axis)
    steps = known(track.shape)[1]
    units = _cell(visit, layer, ids, _positions(visit, layer, steps))
    for state in keras.tree.flatten(visit.argument("initial_state")):
        if isinstance(state, Track):
            found = visit.channels(state, _state_axis(layer, len(state.shape)))
            visit.equate(found, units, f"'{visit.path}' starts from it")
    return _outputs(visit, layer, units)


def _wrapped(name: str, changes: dict[str, Any], config: dict) -> dict[str, Any]:
    """Change the configuration of a wrapped layer, which Keras would build in its old shape."""
    inner = {key: value for key, value in config[name].items() if key != "build_config"}
    inner["config"] = {**inner["config"], **changes}
    return {name: inner}


def _bidirectional_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    config = layer.get_config()
    if any(type(one) not in _GATES for one in (layer.forward_layer, layer.backward_layer)):
        return {}
    forward = _wrapped("layer", _config(layer.forward_layer, count), config)
    return forward | _wrapped("backward_layer", _config(layer.backward_layer, count), config)


@table.layers(layers.Bidirectional, config=_bidirectional_config)
def bidirectional(visit: Visit) -> list[Track]:
    """Two layers, one of them from the end, which lose the same units.

    Where they are put one after the other each could lose its own, but as many as the other:
    Keras works out the shape of both from the first.
    """
    layer, track = visit.layer, visit.track
    both = (layer.forward_layer, layer.backward_layer)
    if not all(type(one) in _GATES for one in both) or len(visit.tracks) > 1:
        return visit.give_up(f"'{visit.path}' wraps a layer, or is called in a way, not known")
    if any(one.return_state or isinstance(one, _CONVOLUTIONAL) for one in both):
        return visit.give_up(f"'{visit.path}' returns states, or is convolutional")
    if _units(both[0]) != _units(both[1]):
        return visit.give_up(f"'{visit.path}' has another number of units each way")
    ids = visit.channels(track, -1)
    steps = known(track.shape)[1]
    forward, backward = (_cell(visit, one, ids, steps) for one in both)
    visit.equate(forward, backward)
    if layer.merge_mode == "concat":
        return [visit.along(np.concatenate([forward, backward]))]
    if layer.merge_mode is None:
        return [visit.along(forward, -1, 0), visit.along(backward, -1, 1)]
    return [visit.along(forward)]


@table.layers(layers.TimeDistributed)
def time_distributed(visit: Visit) -> list[Track]:
    """The rule of the layer inside, at every step."""
    rule = table.find(visit.layer.layer)
    track = visit.track
    if rule is None or 1 in track.axes or len(visit.tracks) > 1:
        return visit.give_up(f"'{visit.path}' wraps a layer, or is called in a way, not known")
    call = Call(visit.layer.layer, visit.call.args[:1], {}, visit.call.outputs)
    cut = Track((track.shape[0], *track.shape[2:]), track.ids[:, 0])
    inner = Visit(visit.trace, visit.graph, visit.path, call, [cut])
    inner.owner = visit.layer
    inner.shapes = [(s[0], *s[2:]) for s in visit.shapes]
    inner.repeats = visit.repeats * (known(track.shape)[1])
    found = returned(rule.trace(inner), inner)
    return [Track(shape, one.ids[:, None]) for shape, one in zip(visit.shapes, found, strict=True)]
