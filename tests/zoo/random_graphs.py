"""Random graphs of what layers and operations of Keras there are, from a seed.

Wrong files were found in graphs that nobody had thought of: branches beside the trunk, values that
are given out, means that come back into it, in all their combinations.
"""

import random

import keras

from zoo.blocks import depthwise, entry, head, image, pointwise
from zoo.branches import BESIDE

L, ops = keras.layers, keras.ops


def _mean(x):
    return ops.mean(x, axis=(1, 2), keepdims=True)


def _merged(layer, gate):
    return lambda x: layer()([x, gate(x)])


STEPS = (
    ops.relu, ops.relu6, ops.silu, ops.gelu, ops.hard_swish, ops.tanh, ops.sigmoid, ops.elu,
    ops.square, ops.abs, ops.negative, ops.floor, ops.sign, ops.softmax,
    lambda x: x * 0.5, lambda x: x + 1.0, lambda x: x / 2.0,
    lambda x: ops.minimum(x, 1.0), lambda x: ops.maximum(x, 0.1),
    lambda x: ops.sqrt(ops.abs(x) + 1.0), lambda x: ops.flip(x, 1), lambda x: x[..., ::-1],
    lambda x: ops.transpose(ops.transpose(x, (0, 2, 1, 3)), (0, 2, 1, 3)),
    lambda x: ops.concatenate(ops.split(x, 2, axis=-1)[::-1], axis=-1),
    lambda x: L.PReLU(shared_axes=[1, 2])(x), lambda x: L.LeakyReLU()(x),
    lambda x: L.MaxPooling2D(1)(x), lambda x: L.AveragePooling2D(2, 1, "same")(x),
    lambda x: L.Reshape(x.shape[1:])(x), lambda x: L.UpSampling2D(2)(x),
    lambda x: L.Resizing(12, 12)(x), lambda x: L.Resizing(12, 12, interpolation="nearest")(x),
    lambda x: L.LayerNormalization()(x),
)  # fmt: skip
GATES = (
    _merged(L.Multiply, lambda x: L.Conv2D(x.shape[-1], 1, activation="sigmoid")(_mean(x))),
    _merged(L.Multiply, lambda x: L.Conv2D(x.shape[-1], 1)(L.GlobalMaxPool2D(keepdims=True)(x))),
    _merged(L.Multiply, lambda x: ops.sigmoid(_mean(x))),
    _merged(L.Multiply, lambda x: L.Dense(x.shape[-1])(_mean(x))),
    _merged(L.Multiply, lambda x: L.Reshape((1, 1, x.shape[-1]))(head(x, x.shape[-1]))),
    _merged(L.Multiply, lambda x: L.Conv2D(1, 1, activation="sigmoid")(x)),
    _merged(L.Multiply, lambda x: L.Conv2D(x.shape[-1], 1)(ops.mean(x, axis=1, keepdims=True))),
    _merged(L.Subtract, lambda x: ops.mean(x, axis=-1, keepdims=True)),
    _merged(L.Add, lambda x: L.Conv2D(x.shape[-1], 1)(ops.sum(x, axis=(1, 2), keepdims=True))),
)
MERGES = (L.Add, L.Multiply, L.Maximum, L.Subtract)


def random_graph(seed: int) -> keras.Model:
    """Return the model of a seed: a trunk of two to six steps, with what goes off it on the way."""
    choose = random.Random(seed)
    keras.utils.set_random_seed(seed)
    inputs = image(choose.choice([16, 20, 32]))
    x = entry(inputs, choose.choice([8, 12, 24]))
    outputs = []
    for _ in range(choose.randint(2, 6)):
        kind = choose.choices(
            ("pointwise", "depthwise", "residual", "step", "gate", "beside"), (6, 3, 3, 3, 2, 3)
        )[0]
        if kind == "pointwise":
            x = pointwise(x, choose.choice([8, 12, 24]))
        elif kind == "depthwise":
            x = depthwise(x, choose.choice([3, 5]), choose.choice([1, 1, 2]))
        elif kind == "residual":
            y = depthwise(x) if choose.random() < 0.5 else x
            y = pointwise(y, x.shape[-1])
            x = choose.choice(MERGES)()(
                [x, choose.choice(GATES)(y) if choose.random() < 0.3 else y]
            )
        elif kind == "step":
            x = choose.choice(STEPS)(x)
        elif kind == "gate":
            x = choose.choice(GATES)(x)
        else:
            outputs += _beside(choose, x)
    x = pointwise(x, choose.choice([12, 24]))
    end = choose.choices(("head", "convolution", "flat", "map"), (7, 1, 1, 1))[0]
    outputs.insert(0, {
        "head": head,
        "convolution": lambda x: L.Conv2D(10, 1)(_mean(x)),
        "flat": lambda x: L.Dense(10)(L.Flatten()(x)),
        "map": lambda x: x,
    }[end](x))  # fmt: skip
    return keras.Model(inputs, outputs)


def _beside(choose: random.Random, x) -> list:
    """Return outputs of a branch that leaves the trunk here, or the value itself."""
    if choose.random() < 0.15:
        return [x]
    steps = [step for _, step in BESIDE.values()]
    try:
        made = choose.choice(steps if choose.random() < 0.6 else STEPS)(x)
    except ValueError:  # it is for another number of channels, or a larger map
        return []
    made = made if isinstance(made, (list, tuple)) else [made]
    if choose.random() < 0.5 and len(made[0].shape) == 4 and min(made[0].shape[1:3]) > 1:
        return [head(L.Conv2D(4, 1)(made[0]), 3)]
    return [*made]
