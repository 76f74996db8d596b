"""Squeeze-and-excite blocks, whose pooled branch leaves the trunk and comes back."""

import functools

import keras

from zoo.blocks import around, depthwise, pointwise
from zoo.registry import register

L, ops = keras.layers, keras.ops


def with_dense(gate, keepdims=False, swapped=False):
    """Return a block of Dense layers; without `keepdims`, a Reshape restores the axes."""

    def step(x):
        s = L.GlobalAveragePooling2D(keepdims=keepdims)(x)
        s = L.Dense(16)(L.Dense(8, activation="relu")(s))
        s = gate(s if keepdims else L.Reshape((1, 1, 16))(s))
        return L.Multiply()([s, x] if swapped else [x, s])

    return step


def with_convs(gate, merge=L.Multiply, squeezed=None):
    """Return a block of 1x1 convolutions."""

    def step(x):
        s = L.GlobalAveragePooling2D(keepdims=True)(squeezed(x) if squeezed else x)
        s = gate(L.Conv2D(16, 1)(L.Conv2D(8, 1, activation="relu")(s)))
        return merge()([x, s])

    return step


def _spatial(x):
    return L.Multiply()([x, L.Conv2D(1, 1, activation="sigmoid")(x)])


def _max_pooled(x):
    s = L.GlobalMaxPooling2D(keepdims=True)(x)
    return L.Multiply()([x, L.Conv2D(16, 1, activation="sigmoid")(s)])


def _twice(x):
    return with_convs(ops.sigmoid)(depthwise(with_convs(ops.sigmoid)(x)))


BLOCKS = {
    "dense_sigmoid": ("dense", with_dense(ops.sigmoid)),
    "dense_hard_sigmoid": ("dense", with_dense(ops.hard_sigmoid)),
    "dense_keepdims_sigmoid": ("fast", with_dense(ops.sigmoid, keepdims=True)),
    "dense_swapped": ("dense", with_dense(ops.sigmoid, swapped=True)),
    "conv_sigmoid": ("fast", with_convs(ops.sigmoid)),
    "conv_hard_sigmoid": ("dense", with_convs(ops.hard_sigmoid)),
    "conv_tanh": ("fast", with_convs(ops.tanh)),
    "conv_softmax": ("dense", with_convs(ops.softmax)),
    "conv_added": ("dense", with_convs(ops.sigmoid, L.Add)),
    "conv_from_a_branch": ("fast", with_convs(ops.sigmoid, squeezed=pointwise)),
    "conv_twice": ("fast", _twice),
    "spatial": ("fast", _spatial),
    "max_pooled": ("dense", _max_pooled),
}
for name, (expect, block) in BLOCKS.items():
    register(f"squeeze_{name}", expect, functools.partial(around, block))
