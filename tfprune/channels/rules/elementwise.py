"""What works on each value by itself, and what puts tensors together value by value."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tfprune.channels.rules import table
from tfprune.channels.track import NONE, Track, untracked
from tfprune.channels.visit import Visit

_FUNCTIONS = frozenset(
    {
        *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish", "mish"),
        *("sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "log_sigmoid", "sparse_sigmoid"),
        *("tanh", "hard_tanh", "tanh_shrink", "softplus", "softsign", "exponential", "linear"),
        *("hard_shrink", "soft_shrink", "squareplus", "sparse_plus", "threshold"),
    }
)


def activate(visit: Visit, activation: Any, ids: np.ndarray) -> np.ndarray:
    """Return the channels behind an activation function; they stay if it may mix them."""
    if activation is None:
        return ids
    if isinstance(activation, keras.layers.Layer):
        name = type(activation).__name__
        plain = type(activation) in _PLAIN_ACTIVATIONS
    else:
        name = getattr(activation, "__name__", type(activation).__name__)
        module = getattr(activation, "__module__", "") or ""
        plain = name in _FUNCTIONS and module.startswith("keras.")
    if not plain:
        visit.freeze(ids, f"the activation '{name}' of '{visit.path}' may mix channels")
    return ids


_PLAIN_ACTIVATIONS = (layers.ReLU, layers.LeakyReLU, layers.ELU)


@table.layers(
    *(layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Identity, layers.ActivityRegularization),
    *(layers.GaussianDropout, layers.GaussianNoise),
    *(layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
)
@table.inside_keras("convnext", "StochasticDepth")
@table.operations(
    *("Relu", "Relu6", "Sigmoid", "SparseSigmoid", "Softplus", "Softsign", "SoftShrink", "Silu"),
    *("SparsePlus", "Squareplus", "LogSigmoid", "LeakyRelu", "HardSigmoid", "HardSilu", "Elu"),
    *("Selu", "Gelu", "Celu", "TanhShrink", "HardTanh", "HardShrink", "Threshold", "Tanh", "Exp"),
    *("Absolute", "Abs", "Negative", "Square", "Sqrt", "Rsqrt", "Reciprocal", "Log", "Log1p"),
    *("Expm1", "Sin", "Cos", "Sign", "Floor", "Ceil", "Round", "Erf", "Cast", "StopGradient"),
    *("Copy", "Cosh", "Sinh", "Arctan", "NanToNum"),
)
def unary(visit: Visit) -> Track:
    """State that a channel that goes in comes out."""
    return Track(visit.shapes[0], visit.track.ids)


def _noise_config(layer: Any, count: table.Count, inputs: Any, outputs: Any) -> dict[str, Any]:
    if layer.noise_shape is None:
        return {}
    new = inputs[0][len(inputs[0]) - len(layer.noise_shape) :]
    pairs = zip(layer.noise_shape, new, strict=True)
    return {"noise_shape": tuple(n if n in (None, 1) or m is None else m for n, m in pairs)}


@table.layers(layers.Dropout, layers.AlphaDropout, config=_noise_config)
def dropout(visit: Visit) -> Track:
    """Like `unary`; a shape of the noise that is given in numbers is one for all calls."""
    if any(n not in (None, 1) for n in visit.layer.noise_shape or ()):
        visit.same_at_every_call()
    return unary(visit)


@table.layers(layers.Activation)
def activation(visit: Visit) -> Track:
    """Like `unary`, if the function is one that works on each value."""
    return Track(visit.shapes[0], activate(visit, visit.layer.activation, visit.track.ids))


@table.layers(layers.PReLU)
def prelu(visit: Visit) -> Track:
    """The slopes have the axes of the input but for the batch; shared ones have length 1."""
    return per_channel(visit, visit.layer.alpha, range(1, len(visit.track.shape)))


def per_channel(visit: Visit, variable: Any, axes: Any) -> Track:
    """State that a variable holds a value for each position along some axes of the input."""
    track = visit.track
    for own, axis in enumerate(axes):
        if int(variable.shape[own]) == 1:
            continue
        ids = visit.ids(variable, own)
        if axis in track.axes:
            visit.equate(ids, visit.channels(track, axis))
        else:  # of a layer that is shared: its other calls must leave the variable as it is, too
            visit.freeze(ids, f"'{visit.path}' works on what has no channels there")
    return Track(visit.shapes[0], track.ids)


@table.layers(layers.Softmax)
def softmax_layer(visit: Visit) -> Track:
    """A softmax over channels makes each of them depend on all."""
    return _softmax(visit, visit.layer.axis)


@table.operations("Softmax", "LogSoftmax", "Sparsemax")
def softmax(visit: Visit) -> Track:
    """A softmax over channels makes each of them depend on all."""
    return _softmax(visit, getattr(visit.layer, "axis", -1))


def _softmax(visit: Visit, axis: Any) -> Track:
    rank = len(visit.track.shape)
    axes = range(rank) if axis is None else np.atleast_1d(axis)
    if {int(a) % rank for a in axes} & set(visit.track.axes):
        visit.freeze(visit.track, f"the softmax '{visit.path}' is taken over channels")
    return Track(visit.shapes[0], visit.track.ids)


@table.layers(layers.Masking)
def masking(visit: Visit) -> Track:
    """A step is masked if all of its channels are the mask value."""
    visit.freeze(visit.track, f"'{visit.path}' looks at all channels of a step")
    return Track(visit.shapes[0], visit.track.ids)


@table.layers(layers.Rescaling)
def rescaling(visit: Visit) -> Track:
    """A scale or offset with a value for each channel is no variable that could be cut."""
    if any(np.size(v) > 1 for v in (visit.layer.scale, visit.layer.offset)):
        visit.freeze(visit.track, f"'{visit.path}' has constants for each channel")
    return Track(visit.shapes[0], visit.track.ids)


@table.operations("Clip")
def clip(visit: Visit) -> Track:
    """Like `unary`, with the same limits for every channel."""
    if any(np.size(v) > 1 for v in (visit.layer.x_min, visit.layer.x_max) if v is not None):
        visit.freeze(visit.track, f"'{visit.path}' has limits for each channel")
    return Track(visit.shapes[0], visit.track.ids)


@table.layers(
    *(layers.Add, layers.Subtract, layers.Multiply, layers.Average),
    *(layers.Maximum, layers.Minimum),
)
@table.inside_keras("inception_resnet_v2", "CustomScaleLayer")
def merge(visit: Visit) -> Track:
    """State that channels which are added, multiplied or compared are one."""
    return combine(visit, [*visit.tracks, *constants(visit)])


@table.operations(
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "DivideNoNan", "Maximum", "Minimum"),
    *("Power", "Where", "FloorDivide", "Mod", "Arctan2", "Greater", "GreaterEqual", "Less"),
    *("LessEqual", "Equal", "NotEqual", "LogicalAnd", "LogicalOr", "LogicalXor"),
)
def binary(visit: Visit) -> Track:
    """Like `merge`, where operands may also be numbers and arrays."""
    return combine(visit, [*visit.tracks, *constants(visit)])


def constants(visit: Visit) -> list[Track]:
    """Return tracks of the arrays and variables among the arguments."""
    values = keras.tree.flatten((visit.call.args, visit.call.kwargs))
    arrays = [v for v in values if hasattr(v, "shape") and not isinstance(v, keras.KerasTensor)]
    return [untracked(tuple(v.shape)) for v in arrays]


def combine(visit: Visit, tracks: list[Track]) -> Track:
    """Return the track of tensors put together value by value, with numpy's broadcasting.

    An operand that has length 1 along the channels is repeated, so that it need not lose anything.
    """
    shape = visit.shapes[0]
    rank = len(shape)
    operands = [(_lifted(t.shape, rank), _lift(t.ids, rank)) for t in tracks]
    axes = {a for _, ids in operands for a in range(rank) if ids.shape[a] > 1}
    if len(axes) > 1 and len({i.shape for _, i in operands if i.size > 1}) > 1:
        # Channels of one operand lie along another axis than those of the other.
        for track in tracks:
            visit.freeze(track, f"'{visit.path}' puts channels along several axes together")
        return untracked(shape)
    result = np.full((1,) * rank, NONE)
    covered = False
    for own, ids in operands:
        if axes and all(own[a] == 1 for a in axes):  # a scalar, or one value for all channels
            visit.freeze(ids, f"'{visit.path}' puts it together with every channel of another")
            continue
        if not covered:
            result, covered = ids, True
            continue
        visit.equate(result, ids, f"'{visit.path}' puts it together with what has no channels")
        wide_a, wide_b = np.broadcast_arrays(result, ids)
        result = np.where((wide_a < 0) | (wide_b < 0), NONE, wide_a)
    return Track(shape, result)


def _lifted(shape: tuple, rank: int) -> tuple[int, ...]:
    wide = (1,) * (rank - len(shape)) + tuple(shape)
    return tuple(0 if n is None else int(n) for n in wide)


def _lift(ids: np.ndarray, rank: int) -> np.ndarray:
    return ids.reshape((1,) * (rank - ids.ndim) + ids.shape)
