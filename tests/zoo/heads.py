"""How a classifier ends."""

import functools

import keras

from zoo.blocks import before, pointwise
from zoo.pruning import UNPRUNED
from zoo.registry import register

L, ops = keras.layers, keras.ops


def _chain(x, *layers):
    for layer in layers:
        x = layer(x)
    return x


def gap(keepdims=False):
    return L.GlobalAveragePooling2D(keepdims=keepdims)


def _average_and_maximum(x):
    return L.Dense(10)(L.Concatenate()([gap()(x), L.GlobalMaxPooling2D()(x)]))


def _two_averages(x):
    return L.Dense(10)(L.Concatenate()([gap()(x), gap()(pointwise(x))]))


def _gated(x):
    return L.Dense(10)(L.Multiply()([gap()(x), L.Dense(32, activation="sigmoid")(gap()(x))]))


HEADS = {
    "dense": ("fast", lambda x: _chain(x, gap(), L.Dense(10))),
    "dense_softmax": ("fast", lambda x: _chain(x, gap(), L.Dense(10, activation="softmax"))),
    "dense_twice": (
        "fast",
        lambda x: _chain(x, gap(), L.Dense(16, activation="relu"), L.Dense(10)),
    ),
    "dense_unpruned": ("fast", lambda x: _chain(x, gap(), L.Dense(300, name=f"{UNPRUNED}_dense"))),
    "average_alone": ("fast", lambda x: gap()(x)),
    "average_keepdims_alone": ("broken", lambda x: gap(True)(x)),
    "average_then_layer_norm": (
        "fast",
        lambda x: _chain(x, gap(), L.LayerNormalization(), L.Dense(10)),
    ),
    "average_then_batch_norm": (
        "fast",
        lambda x: _chain(x, gap(), L.BatchNormalization(), L.Dense(10)),
    ),
    "keepdims_flatten_dense": ("fast", lambda x: _chain(x, gap(True), L.Flatten(), L.Dense(10))),
    "keepdims_reshape_dense": (
        "fast",
        lambda x: _chain(x, gap(True), L.Reshape((32,)), L.Dense(10)),
    ),
    "keepdims_conv": ("broken", lambda x: _chain(x, gap(True), L.Conv2D(10, 1))),
    "keepdims_conv_flatten": (
        "broken",
        lambda x: _chain(x, gap(True), L.Conv2D(10, 1), L.Flatten()),
    ),
    "keepdims_two_convs": (
        "fast",
        lambda x: _chain(
            x, gap(True), L.Conv2D(16, 1, activation="relu"), L.Conv2D(10, 1), L.Flatten()
        ),
    ),
    "keepdims_conv_softmax": (
        "broken",
        lambda x: _chain(x, gap(True), L.Conv2D(10, 1), L.Flatten(), L.Softmax()),
    ),
    "keepdims_dense": ("broken", lambda x: _chain(x, gap(True), L.Dense(10))),
    "keepdims_relu_flatten_dense": (
        "broken",
        lambda x: _chain(x, gap(True), L.ReLU(), L.Flatten(), L.Dense(10)),
    ),
    "keepdims_unpruned_conv": (
        "dense",
        lambda x: _chain(x, gap(True), L.Conv2D(300, 1, name=f"{UNPRUNED}_head"), L.Flatten()),
    ),
    "flatten": ("dense", lambda x: _chain(x, L.Flatten(), L.Dense(10))),
    "global_max": ("dense", lambda x: _chain(x, L.GlobalMaxPooling2D(), L.Dense(10))),
    "average_and_maximum": ("dense", _average_and_maximum),
    "two_averages": ("fast", _two_averages),
    "gated": ("fast", _gated),
    "dense_of_4d_then_average": ("fast", lambda x: _chain(x, L.Dense(16), gap(), L.Dense(10))),
    "unpruned_conv_then_average": (
        "dense",
        lambda x: _chain(x, L.Conv2D(128, 1, name=f"{UNPRUNED}_head"), gap()),
    ),
    "average_pool_of_everything": (
        "dense",
        lambda x: _chain(x, L.AveragePooling2D(8), L.Flatten(), L.Dense(10)),
    ),
    "mean_over_channels": ("fast", lambda x: L.Dense(10)(L.Flatten()(ops.mean(x, axis=-1)))),
    "mean_over_height": ("broken", lambda x: L.Dense(10)(L.Flatten()(ops.mean(x, axis=1)))),
    "mean_over_width": ("broken", lambda x: L.Dense(10)(L.Flatten()(ops.mean(x, axis=2)))),
    "mean_over_everything": ("fast", lambda x: ops.mean(x, axis=(1, 2, 3))),
    "mean_in_two_steps": ("broken", lambda x: L.Dense(10)(ops.mean(ops.mean(x, axis=1), axis=1))),
    "sum": ("fast", lambda x: L.Dense(10)(ops.sum(x, axis=(1, 2)) / 64)),
    "sum_keepdims": (
        "fast",
        lambda x: L.Dense(10)(L.Flatten()(ops.sum(x, axis=(1, 2), keepdims=True))),
    ),
    "maximum": ("dense", lambda x: L.Dense(10)(ops.max(x, axis=(1, 2)))),
    "mean_of_squares": ("fast", lambda x: L.Dense(10)(ops.mean(ops.square(x), axis=(1, 2)))),
    "mean_and_variance": (
        "dense",
        lambda x: L.Dense(10)(ops.concatenate([gap()(x), ops.var(x, axis=(1, 2))], axis=-1)),
    ),
}
for name, (expect, end) in HEADS.items():
    register(f"head_{name}", expect, functools.partial(before, end))
