"""How a network starts: only one kind of first convolution leads to sparse inference."""

import functools

import keras

from zoo.blocks import after, depthwise, entry, head, image, pointwise
from zoo.registry import graph, register

L = keras.layers


def conv(filters, kernel, *, padding="same", pad=None, **options):
    """Return a step: an optional ZeroPadding2D, a convolution, ReLU."""

    def step(x):
        x = x if pad is None else L.ZeroPadding2D(pad)(x)
        return L.ReLU()(L.Conv2D(filters, kernel, padding=padding, **options)(x))

    return step


def _bare(x):
    return L.Conv2D(8, 3, strides=2)(L.ZeroPadding2D(1)(x))


STARTS = {
    "entry_padded": ("fast", conv(8, 3, strides=2, padding="valid", pad=1)),
    "entry_without_bias": ("fast", conv(8, 3, strides=2, padding="valid", pad=1, use_bias=False)),
    "entry_same": ("dense", conv(8, 3, strides=2)),
    "entry_valid": ("dense", conv(8, 3, strides=2, padding="valid")),
    "entry_padded_behind": ("dense", conv(8, 3, strides=2, padding="valid", pad=((0, 1), (0, 1)))),
    "entry_padded_by_2": ("dense", conv(8, 3, strides=2, padding="valid", pad=2)),
    "entry_padded_then_same": ("dense", conv(8, 3, strides=2, pad=1)),
    "entry_stride_1": ("dense", conv(8, 3)),
    "entry_stride_1_padded": ("dense", conv(8, 3, padding="valid", pad=1)),
    "entry_stride_2_1": ("dense", conv(8, 3, strides=(2, 1), padding="valid", pad=1)),
    "entry_stride_3": ("dense", conv(8, 3, strides=3, padding="valid", pad=1)),
    "entry_5x5": ("dense", conv(8, 5, strides=2, padding="valid", pad=2)),
    "entry_7x7": ("dense", conv(8, 7, strides=2, padding="valid", pad=3)),
    "entry_1x1": ("dense", conv(8, 1)),
    "entry_1x1_stride_2": ("dense", conv(8, 1, strides=2)),
    "entry_dilated": ("dense", conv(8, 3, dilation_rate=2)),
    "entry_grouped": ("dense", conv(9, 3, strides=2, padding="valid", pad=1, groups=3)),
    "entry_depthwise": ("dense", lambda x: depthwise(x, 3, 2)),
    "entry_of_12_filters": ("fast", lambda x: entry(x, 12)),
    "entry_of_5_filters": ("fast", lambda x: entry(x, 5)),
    "entry_relu6": ("fast", lambda x: L.ReLU(6.0)(_bare(x))),
    "entry_hard_swish": ("fast", lambda x: keras.ops.hard_swish(_bare(x))),
    "entry_linear": ("fast", lambda x: _bare(x)),
    "entry_after_rescaling": ("fast", lambda x: entry(L.Rescaling(0.5)(x))),
    "entry_after_rescaling_and_offset": ("fast", lambda x: entry(L.Rescaling(0.5, -1.0)(x))),
    "entry_after_normalization": (
        "fast",
        lambda x: entry(L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])(x)),
    ),
    "entry_after_batch_norm": ("fast", lambda x: entry(L.BatchNormalization()(x))),
    "entry_after_flips": ("fast", lambda x: entry(L.RandomFlip()(x))),
    "entry_after_resizing": ("fast", lambda x: entry(L.Resizing(12, 12)(x))),
    "entry_after_cropping": ("fast", lambda x: entry(L.Cropping2D(2)(x))),
    "entry_after_max_pool": ("fast", lambda x: entry(L.MaxPooling2D()(x))),
    "entry_after_1x1": ("fast", lambda x: entry(pointwise(x, 3))),
    "entry_then_max_pool": ("dense", lambda x: L.MaxPooling2D()(entry(x))),
    "entry_twice": ("broken", lambda x: entry(pointwise(entry(x), 3))),
    "entry_then_3x3": ("dense", lambda x: L.Conv2D(8, 3, padding="same")(entry(x))),
}
for name, (expect, start) in STARTS.items():
    register(name, expect, functools.partial(after, start))


@graph("dense")
def entry_grayscale():
    return after(entry, channels=1)


@graph("dense")
def entry_of_four_channels():
    return after(entry, channels=4)


@graph("dense")
def entry_same_of_an_odd_size():
    return after(conv(8, 3, strides=2), size=17)  # SAME then pads 1 on each side


@graph("dense")
def entry_padded_of_an_odd_size():
    return after(entry, size=17)


@graph("fast")
def grayscale_repeated():
    return after(lambda x: entry(keras.ops.concatenate([x, x, x], axis=-1)), channels=1)


@graph("dense")
def two_entries_added():
    return after(lambda x: L.Add()([entry(x), entry(x)]))


@graph("dense")
def two_entries_concatenated():
    return after(lambda x: L.Concatenate()([entry(x), entry(x)]))


@graph("dense")
def entry_added_to_another_kind():
    return after(lambda x: L.Add()([entry(x), conv(16, 3, strides=2)(x)]))


@graph("fast")
def two_entries_of_two_scales_added():
    return after(lambda x: L.Add()([entry(x), entry(L.Rescaling(0.5, 0.1)(x))]))


@graph("dense")
def two_entries_of_two_scales_concatenated():
    return after(lambda x: L.Concatenate()([entry(x), entry(L.Rescaling(0.5, 0.1)(x))]))


@graph("fast")
def two_trunks_added():
    return after(
        lambda x: L.Add()([pointwise(entry(x)), pointwise(entry(L.Rescaling(0.5, 0.1)(x)))])
    )


@graph("broken")
def two_trunks_concatenated():
    return after(
        lambda x: L.Concatenate()([pointwise(entry(x)), pointwise(entry(L.Rescaling(0.5, 0.1)(x)))])
    )


def _two_inputs(merge):
    first, second = image(), image()
    x = pointwise(merge([pointwise(entry(first)), pointwise(entry(second))]), 24)
    return keras.Model([first, second], head(x))


@graph("fast")
def two_inputs_added():
    return _two_inputs(L.Add())


@graph("fast")
def two_inputs_multiplied():
    return _two_inputs(L.Multiply())


@graph("broken")
def two_inputs_concatenated():
    return _two_inputs(L.Concatenate())


@graph("dense")
def a_feature_map_as_second_input():
    first, second = image(), keras.Input((8, 8, 16))
    x = pointwise(L.Add()([pointwise(entry(first)), second]))
    return keras.Model([first, second], head(x))


@graph("fast")
def numbers_as_second_input():
    first, second = image(), keras.Input((5,))
    x = L.GlobalAveragePooling2D()(pointwise(entry(first), 24))
    return keras.Model([first, second], L.Dense(10)(L.Concatenate()([x, L.Dense(8)(second)])))
