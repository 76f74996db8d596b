"""One activation between two parts of a trunk."""

import functools

import keras

from zoo.blocks import around
from zoo.registry import register

L, ops = keras.layers, keras.ops

ACTIVATIONS = {
    "relu": ("fast", lambda x: L.ReLU()(x)),
    "relu6": ("fast", lambda x: L.ReLU(6.0)(x)),
    "relu_negative_slope": ("fast", lambda x: L.ReLU(negative_slope=0.1)(x)),
    "hard_swish": ("fast", ops.hard_swish),
    "silu": ("fast", ops.silu),
    "gelu": ("fast", ops.gelu),
    "gelu_exact": ("fast", lambda x: ops.gelu(x, approximate=False)),
    "sigmoid": ("fast", ops.sigmoid),
    "hard_sigmoid": ("broken", ops.hard_sigmoid),
    "tanh": ("fast", ops.tanh),
    "leaky_relu": ("fast", lambda x: L.LeakyReLU()(x)),
    "prelu_per_channel": ("dense", lambda x: L.PReLU(shared_axes=[1, 2])(x)),
    "prelu_per_value": ("dense", lambda x: L.PReLU()(x)),
    "elu": ("fast", lambda x: L.ELU()(x)),
    "selu": ("dense", ops.selu),
    "softplus": ("broken", ops.softplus),
    "mish": ("dense", lambda x: L.Activation("mish")(x)),
    "exponential": ("fast", lambda x: ops.exp(-x)),
    "abs": ("fast", ops.abs),
    "negative": ("fast", ops.negative),
    "square": ("fast", ops.square),
    "sqrt": ("fast", ops.sqrt),
    "clip": ("fast", lambda x: ops.clip(x, 0.1, 0.9)),
}
for name, (expect, activation) in ACTIVATIONS.items():
    register(f"activation_{name}", expect, functools.partial(around, activation))
