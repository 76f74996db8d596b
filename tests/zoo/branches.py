"""Branches off the trunk that XNNPACK does not take, and means that come back into it."""

import functools

import keras

from zoo.blocks import depthwise, entry, head, image, pointwise
from zoo.registry import register

L, ops = keras.layers, keras.ops
CHANNELS = 24  # not as many as a map is high or wide, so that axes cannot be taken for each other


def beside(step):
    """A network whose middle is read by a step that nothing of the trunk reads."""
    inputs = image()
    middle = pointwise(entry(inputs), CHANNELS)
    return keras.Model(inputs, [head(pointwise(depthwise(middle))), step(middle)])


def gated(step):
    """A network whose middle is multiplied by what a step makes of it."""
    inputs = image()
    middle = pointwise(entry(inputs), CHANNELS)
    return keras.Model(inputs, head(pointwise(step(middle))))


def mean(x):
    return L.GlobalAveragePooling2D(keepdims=True)(x)


def rejoined():
    """A branch in mirrored padding that meets the trunk behind the pooling."""
    inputs = image()
    middle = pointwise(entry(inputs), CHANNELS)
    side = ops.pad(middle, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
    side = L.GlobalMaxPooling2D()(L.Conv2D(8, 3)(side))
    main = L.GlobalAveragePooling2D()(pointwise(depthwise(middle)))
    return keras.Model(inputs, L.Dense(10)(L.Concatenate()([main, side])))


BESIDE = {
    "flip": ("broken", lambda x: ops.flip(x, 1)),
    "cumulative_sum": ("broken", lambda x: ops.cumsum(x, axis=1)),
    "mirror_pad": (
        "broken",
        lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect"),
    ),
    "nearest_resize": ("broken", lambda x: L.Resizing(16, 16, interpolation="nearest")(x)),
    "nearest_repeat": ("dense", lambda x: L.UpSampling2D(2)(x)),
    "every_second_pixel": ("broken", lambda x: x[:, ::2, ::2]),
    "first_row": ("broken", lambda x: x[:, 0]),
    "first_rows": ("dense", lambda x: x[:, :3]),
    "new_axis": ("dense", lambda x: ops.expand_dims(x, 1)),
    "sign": ("broken", ops.sign),
    "stacked": ("broken", lambda x: ops.stack([x, x], axis=1)),
    "above": ("broken", lambda x: ops.cast(x > 0.2, "float32")),
    "split_in_6": ("broken", lambda x: ops.split(x, 6, axis=-1)),
    "split_in_2": ("dense", lambda x: ops.split(x, 2, axis=-1)),
    "max_pool": ("dense", lambda x: L.MaxPooling2D(2)(x)),
    "softmax": ("dense", lambda x: ops.softmax(x)),
    "transposed": ("dense", lambda x: ops.transpose(x, (0, 3, 1, 2))),
    "pad_with_ones": (
        "broken",
        lambda x: ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=1.0),
    ),
    "six_axes": ("dense", lambda x: L.Reshape((4, 2, 4, 2, CHANNELS))(x)),
    "largest": ("dense", lambda x: ops.max(x, axis=(1, 2))),
    "concatenated_5": ("dense", lambda x: ops.concatenate([x] * 5, axis=-1)),
    "concatenated_6": ("broken", lambda x: ops.concatenate([x] * 6, axis=-1)),
    "prelu": ("dense", lambda x: L.PReLU(shared_axes=[1, 2])(x)),
    "convolution_3x3": ("dense", lambda x: L.Conv2D(8, 3)(x)),
}
GATED = {
    "sigmoid": ("broken", lambda x: L.Multiply()([x, ops.sigmoid(mean(x))])),
    "direct": ("broken", lambda x: L.Multiply()([x, mean(x)])),
    "added": ("dense", lambda x: L.Add()([x, mean(x)])),
    "centred": ("dense", lambda x: L.Add()([x, -mean(x)])),
    "silu_conv": (
        "broken",
        lambda x: L.Multiply()([x, L.Conv2D(CHANNELS, 1, activation="sigmoid")(ops.silu(mean(x)))]),
    ),
    "tanh_conv": (
        "broken",
        lambda x: L.Multiply()([x, L.Conv2D(CHANNELS, 1, activation="sigmoid")(ops.tanh(mean(x)))]),
    ),
    "squares": ("broken", lambda x: L.Multiply()([x, mean(ops.square(x))])),
    "swapped": ("broken", lambda x: L.Multiply()([ops.sigmoid(mean(x)), x])),
    "residual": ("broken", lambda x: L.Add()([x, L.Multiply()([x, ops.sigmoid(mean(x))])])),
    "twice_mean": ("broken", lambda x: L.Multiply()([x, mean(mean(x))])),
    "conv": (
        "fast",
        lambda x: L.Multiply()([x, L.Conv2D(CHANNELS, 1, activation="sigmoid")(mean(x))]),
    ),
    "dense": (
        "fast",
        lambda x: L.Multiply()([x, L.Dense(CHANNELS, activation="sigmoid")(mean(x))]),
    ),
}
for name, (expect, step) in BESIDE.items():
    register(f"beside_{name}", expect, functools.partial(beside, step))
for name, (expect, step) in GATED.items():
    register(f"gated_{name}", expect, functools.partial(gated, step))
register("beside_rejoined", "broken", rejoined)
