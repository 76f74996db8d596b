"""Branches that meet again, and operands that are constants."""

import functools

import keras
import numpy as np

from zoo.blocks import around, depthwise, pointwise
from zoo.registry import register

L, ops = keras.layers, keras.ops


def _joined(layer):
    return lambda x: layer()([x, pointwise(depthwise(x))])


def _inverted(x):
    wide = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(32, 1, use_bias=False)(x)))
    wide = L.DepthwiseConv2D(3, padding="same", use_bias=False)(wide)
    wide = L.ReLU(6.0)(L.BatchNormalization()(wide))
    return L.Add()([x, L.BatchNormalization()(L.Conv2D(16, 1, use_bias=False)(wide))])


def _channels():
    return np.linspace(0.5, 1.5, 16, dtype="float32").reshape(1, 1, 1, 16)


def _map():
    return np.linspace(0.5, 1.5, 8 * 8 * 16, dtype="float32").reshape(1, 8, 8, 16)


def _global(x):
    return L.GlobalAveragePooling2D(keepdims=True)(x)


MIDDLES = {
    "residual_add": ("fast", _joined(L.Add)),
    "residual_multiply": ("fast", _joined(L.Multiply)),
    "residual_subtract": ("dense", _joined(L.Subtract)),
    "residual_maximum": ("dense", _joined(L.Maximum)),
    "residual_minimum": ("dense", _joined(L.Minimum)),
    "residual_average": ("fast", _joined(L.Average)),
    "residual_divide": ("dense", lambda x: x / (1 + ops.sigmoid(pointwise(x)))),
    "residual_inverted": ("fast", _inverted),
    "residual_then_relu": ("fast", lambda x: L.ReLU()(_joined(L.Add)(x))),
    "residual_then_batch_norm": ("broken", lambda x: L.BatchNormalization()(_joined(L.Add)(x))),
    "residual_of_three": ("fast", lambda x: L.Add()([x, pointwise(x), pointwise(depthwise(x))])),
    "residual_over_a_pool": (
        "dense",
        lambda x: L.Add()([L.MaxPooling2D()(x), depthwise(x, 3, 2)]),
    ),
    "residual_over_a_projection": (
        "dense",
        lambda x: L.Add()([L.Conv2D(16, 1, strides=2)(x), depthwise(x, 3, 2)]),
    ),
    "branches_added": ("fast", lambda x: L.Add()([pointwise(x), depthwise(x, 5)])),
    "branches_subtracted": ("broken", lambda x: L.Subtract()([pointwise(x), depthwise(x, 5)])),
    "branches_at_most": ("broken", lambda x: L.Maximum()([pointwise(x), depthwise(x, 5)])),
    "branches_multiplied": ("fast", lambda x: L.Multiply()([pointwise(x), depthwise(x, 5)])),
    # The converter multiplies constants into a convolution that follows; a tanh stops it.
    "tanh_of_silu_times_a_scalar": ("broken", lambda x: ops.tanh(ops.silu(x) * 0.5)),
    "tanh_of_silu_plus_a_scalar": ("broken", lambda x: ops.tanh(ops.silu(x) + 0.5)),
    "tanh_of_silu_times_channels": ("broken", lambda x: ops.tanh(ops.silu(x) * _channels())),
    "tanh_of_silu_times_channels_in_front": (
        "broken",
        lambda x: ops.tanh(ops.multiply(_channels(), ops.silu(x))),
    ),
    "tanh_of_silu_times_1x1x1x1": (
        "broken",
        lambda x: ops.tanh(ops.silu(x) * _channels()[..., :1]),
    ),
    "added_to_itself": ("dense", lambda x: L.Add()([x, x])),
    "multiplied_by_itself": ("fast", lambda x: L.Multiply()([x, x])),
    "add_a_scalar": ("broken", lambda x: x + 0.5),
    "multiply_by_a_scalar": ("fast", lambda x: x * 0.5),
    "multiply_by_a_scalar_in_front": ("fast", lambda x: ops.multiply(np.float32(0.5), x)),
    "divide_by_a_scalar": ("fast", lambda x: x / 3.0),
    "subtract_a_scalar": ("broken", lambda x: x - 0.5),
    "add_a_constant_of_channels": ("broken", lambda x: x + _channels()),
    "multiply_by_a_constant_of_channels": ("broken", lambda x: x * _channels()),
    "multiply_by_a_constant_in_front": ("broken", lambda x: ops.multiply(_channels(), x)),
    "multiply_by_a_vector": ("broken", lambda x: x * _channels().reshape(16)),
    "multiply_by_1x1x1x1": ("fast", lambda x: x * _channels()[..., :1]),
    "add_a_constant_map": ("broken", lambda x: x + _map()),
    "add_a_constant_map_in_front": ("broken", lambda x: ops.add(_map(), x)),
    "add_the_global_average": ("dense", lambda x: x + _global(x)),
    "subtract_the_global_average": ("dense", lambda x: x - _global(x)),
    "add_the_channel_average": ("broken", lambda x: x + ops.mean(x, axis=-1, keepdims=True)),
}
for name, (expect, middle) in MIDDLES.items():
    register(name, expect, functools.partial(around, middle))
