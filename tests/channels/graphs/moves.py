"""Graphs that move channels about: slices, splits, reshapes, shuffles, constants."""

import keras
import numpy as np
from keras import layers, ops

from channels.graphs.cases import LAST, case, conv, finish, image


@case("4: a.kernel2 a.bias b.kernel1", "5: b.kernel2 b.bias y.kernel0", frozen=LAST)
def splits_and_sums_along_time():
    x = keras.Input((6, 3))
    h = layers.Conv1D(4, 3, padding="same", name="a")(x)
    early, late = ops.split(h, 2, axis=1)
    h = layers.Concatenate(axis=1)([late, early, ops.flip(early, 1) * 0.0 + late])
    return finish(x, layers.Conv1D(5, 1, name="b")(h))


@case(
    # One half gates the other: channel k and channel k + 4 go together.
    "4: a.kernel3x2 a.biasx2 b.kernel2",
    "3: b.kernel3x2 b.biasx2 y.kernel0",
    ties=[("a.kernel3", 1, "a.kernel3", [1, 5]), ("b.kernel3", 2, "b.kernel3", [2, 5])],
)
def gating_by_split_and_by_slice():
    x = image()
    left, right = ops.split(conv(x, 8, "a"), 2, axis=-1)
    h = conv(left * ops.sigmoid(right), 6, "b")
    return finish(x, h[..., :3] * ops.tanh(h[:, :, :, 3:]))


@case(
    # Pieces of 2, 3 and 3 channels; those that are read in different ways do not compete.
    "2: a.kernel3 a.bias b.kernel2",
    "3: a.kernel3 a.bias c.kernel2",
    "3: a.kernel3 a.bias y.kernel0",
    "4: b.kernel3 b.bias y.kernel0",
    "5: c.kernel3 c.bias y.kernel0",
    ties=[("a.kernel3", 2, "c.kernel2", [0]), ("a.kernel3", 7, "y.kernel0", [11])],
)
def uneven_split():
    x = image()
    first, second, third = ops.split(conv(x, 8, "a"), [2, 5], axis=3)
    return finish(x, layers.Concatenate()([conv(first, 4, "b"), conv(second, 5, "c"), third]))


@case(
    # Both halves end in the same kernel, but each has to keep something.
    "3: a.kernel3 a.bias y.kernel0",
    "3: a.kernel3 a.bias y.kernel0",
    ties=[("a.kernel3", 0, "y.kernel0", [3])],
)
def halves_that_change_places():
    x = image()
    left, right = ops.split(conv(x, 6, "a"), 2, axis=-1)
    return finish(x, layers.Concatenate()([ops.relu(right), ops.tanh(left)]))


@case(
    "2: a.kernel3 a.bias b.kernel2",
    "3: b.kernel3 b.bias",  # read by nothing
    "3: b.kernel3 b.bias c.kernel0",
    "4: c.kernel1 c.bias y.kernel0",
    ties=[("a.kernel3", 1, "b.kernel2", [0]), ("b.kernel3", 4, "c.kernel0", [2])],
    # Channels 0 and 3 of `a`, which are multiplied with each other and added to all.
    frozen={"a.kernel3": (2, "takes this very channel"), **LAST},
)
def slices_of_every_kind():
    x = image()
    h = conv(x, 4, "a")
    one, last, rest = h[:, :, ::2, 0:1], h[:, :, ::2, -1], h[:, :, ::2, 1:3]
    h = conv(rest + one * last[..., None], 6, "b")
    h = h[:, None, 2, ..., -4:-1]
    return finish(x, layers.Dense(4, name="c")(ops.mean(h[:, 0], 1)))


@case(
    frozen={"a.kernel3": (4, "takes every 2th channel"), **LAST},
)
def slice_with_a_step_over_channels():
    x = image()
    return finish(x, conv(x, 4, "a")[..., ::2])


@case(
    # Two groups of three: the same position of both.
    "3: a.kernel3x2 a.biasx2 g.kernel2",
    "2: g.kernel3x2 g.biasx2 y.kernel0x2",
    ties=[
        ("a.kernel3", 1, "a.kernel3", [1, 4]),
        ("a.kernel3", 1, "g.kernel2", [1]),
        ("g.kernel3", 1, "y.kernel0", [2, 3]),
    ],
)
def channel_shuffle_around_a_grouped_convolution():
    x = image()

    def shuffle(h, groups):
        _, rows, columns, n = h.shape
        h = ops.reshape(h, (-1, rows, columns, groups, n // groups))
        return ops.reshape(ops.transpose(h, (0, 1, 2, 4, 3)), (-1, rows, columns, n))

    h = conv(x, 6, "a")
    h = conv(h, 4, "g", groups=2)
    return finish(x, shuffle(h, 2))


@case(
    # Channel c of the result comes from channels c, c + 3, c + 6 and c + 9.
    "3: a.kernel3x4 a.biasx4 b.kernel2",
    "4: b.kernel3 b.bias y.kernel0x4",
    ties=[
        ("a.kernel3", 1, "a.kernel3", [1, 4, 7, 10]),
        ("b.kernel3", 1, "y.kernel0", [1, 5, 9, 13]),
    ],
)
def depth_to_space_and_back():
    x = image(4)
    h = conv(ops.depth_to_space(conv(x, 12, "a"), 2), 4, "b")
    return finish(x, ops.space_to_depth(h, 2))


@case(
    "3: a.kernel3x4 a.biasx4 b.kernel2",
    "5: b.kernel3 b.bias y.kernel0",
    ties=[("a.kernel3", 1, "a.kernel3", [1, 4, 7, 10])],
)
def depth_to_space_by_reshapes():
    x = image(4)
    h = ops.reshape(conv(x, 12, "a"), (-1, 4, 4, 2, 2, 3))
    h = ops.reshape(ops.transpose(h, (0, 1, 3, 2, 4, 5)), (-1, 8, 8, 3))
    return finish(x, conv(h, 5, "b"))


@case(
    "4: a.kernel2 a.bias b.kernel1 b.kernel2 b.bias c.kernel0x6",
    "5: c.kernel1 c.bias y.kernel0",
    ties=[("a.kernel2", 1, "c.kernel0", [6, 7, 8, 9, 10, 11])],
)
def transposes_and_open_reshapes():
    x = keras.Input((6, 3))
    h = layers.Conv1D(4, 3, padding="same", name="a")(x)
    h = layers.Permute((2, 1))(layers.Permute((2, 1))(h))
    h = h + layers.Conv1D(4, 1, name="b")(ops.swapaxes(ops.moveaxis(h, 2, 1), 1, 2))
    h = layers.Reshape((-1, 2))(layers.Permute((2, 1))(h))  # (4 channels x 6 steps) / 2
    return finish(x, layers.Dense(5, name="c")(layers.Flatten()(h)))


@case(
    # A reshape that is no transpose: with an open number of steps nothing can be said.
    "5: b.kernel1 b.bias y.kernel0",
    frozen={"a.kernel2": (4, "reshapes axes of unknown length"), **LAST},
)
def reshape_over_an_unknown_length():
    x = keras.Input((None, 3))
    h = layers.Reshape((4, -1))(layers.Conv1D(4, 1, name="a")(x))
    return finish(x, layers.Dense(5, name="b")(ops.mean(h, 2)))


@case(
    "4: a.kernel3 a.bias b.kernel2",
    "5: b.kernel3 b.bias y.kernel0",
)
def reshape_of_a_map_of_unknown_size():
    x = keras.Input((None, None, 3))
    h = layers.Reshape((-1, 1, 4))(conv(x, 4, "a"))
    return finish(x, conv(h, 5, "b", 1))


@case(
    # The outer channels meet zeros, which cannot be fewer; the inner ones meet those of `a`.
    "4: a.kernel3 a.bias b.kernel3 b.bias b2.kernel2 y.kernel0",
    frozen={"b.kernel3": (4, "what has no channels"), "b2.kernel3": (8, "output"), **LAST},
)
def padded_channels_of_shortcut_option_a():
    x = image()
    h = conv(x, 4, "a")
    b = conv(x, 8, "b")
    h = ops.pad(h[:, ::1, ::1], ((0, 0), (0, 0), (0, 0), (2, 2))) + b
    y = layers.Dense(3, name="y")(layers.GlobalAveragePooling2D()(h))
    return keras.Model(x, [y, conv(h, 8, "b2")])


@case(
    "3: a.kernel3 a.bias b.kernel2x2",
    "4: b.kernel3 b.bias y.kernel0",
    ties=[("a.kernel3", 1, "b.kernel2", [2, 3])],
)
def repeated_channels():
    x = image()
    h = ops.repeat(ops.repeat(conv(x, 3, "a"), 2, axis=-1), 2, axis=1)
    return finish(x, conv(h, 4, "b"))


@case(
    "4: a.kernel3 a.bias b.kernel3 b.bias y.kernel0",
    frozen={"c.kernel3": (4, "what has no channels"), "d.kernel3": (4, "constant"), **LAST},
)
def constants_and_conditions():
    x = image()
    a, b, c, d = (conv(x, 4, name) for name in "abcd")
    h = ops.where(ops.greater(a, 0.1), ops.clip(b, -1.0, 1.0), ops.square(a) + 0.5)
    c = ops.multiply(c, np.ones((1, 1, 4), "float32"))
    d = ops.concatenate([d, np.ones((1, 6, 6, 4), "float32")], 0)
    c = c + ops.amax(d, 0, keepdims=True)
    ends = [ops.mean(h, (1, 2)), ops.amax(c, (1, 2))]
    return finish(x, ops.concatenate(ends, 1))


@case(
    # One map for all channels of `a`, cut out of `b`.
    "4: a.kernel3 a.bias y.kernel0",
    "3: b.kernel3 b.bias y.kernel0",
    frozen={"b.kernel3": (1, "every channel of another"), **LAST},
)
def one_channel_for_all():
    x = image()
    a, b = conv(x, 4, "a"), conv(x, 4, "b")
    return finish(x, layers.Concatenate()([a * ops.sigmoid(b[..., :1]), b[..., 1:]]))


@case(
    frozen={"a.kernel3": (4, "softmax"), "b.kernel3": (4, "over channels"), **LAST},
)
def mixing_over_channels():
    x = image()
    a = layers.Softmax()(conv(x, 4, "a"))
    b = ops.mean(conv(x, 4, "b"), axis=-1, keepdims=True)
    return finish(x, a * b)
