"""What stands last before the global average pooling, with no convolution behind to bring it back.

The way out of the layout decides what is gathered before it, so that the same step differs here
from what it does in the middle of a trunk (`trunks.py`).
"""

import functools

import keras

from zoo.blocks import depthwise, entry, head, image, pointwise
from zoo.registry import graph, register

L = keras.layers


def _padded(x, filters: int = 24):
    return L.Conv2D(filters, 1, activation="relu")(L.ZeroPadding2D(2)(x))


def _ending(end) -> keras.Model:
    inputs = image()
    return keras.Model(inputs, head(end(pointwise(entry(inputs)))))


ENDS = {
    "end_pointwise": ("fast", pointwise),
    "end_padded_pointwise": ("broken", _padded),
    "end_padded_pointwise_of_two_before": ("broken", lambda x: _padded(pointwise(x))),
    "end_padded_pointwise_behind_depthwise": ("broken", lambda x: _padded(depthwise(x))),
    "end_padded_pointwise_twice": ("broken", lambda x: _padded(_padded(x))),
    "end_padded_pointwise_stride_2": (
        "dense",
        lambda x: L.Conv2D(24, 1, strides=2)(L.ZeroPadding2D(2)(x)),
    ),
    "end_padded_depthwise_by_2": ("dense", lambda x: L.DepthwiseConv2D(3)(L.ZeroPadding2D(2)(x))),
    "end_padding": ("dense", lambda x: L.ZeroPadding2D(2)(x)),
    "end_cropping": ("dense", lambda x: L.Cropping2D(1)(x)),
    "end_max_pool": ("dense", lambda x: L.MaxPooling2D()(x)),
    "end_average_pool": ("dense", lambda x: L.AveragePooling2D(2)(x)),
    "end_concat": ("dense", lambda x: L.Concatenate()([pointwise(x), x])),
    "end_concat_with_itself": ("dense", lambda x: L.Concatenate()([x, x])),
    "end_prelu": ("dense", lambda x: L.PReLU()(x)),
    "end_channel_softmax": ("dense", lambda x: L.Softmax()(x)),
    "end_pointwise_stride_2": ("dense", lambda x: L.Conv2D(24, 1, strides=2)(x)),
    "end_conv_3x3": ("dense", lambda x: L.Conv2D(24, 3, padding="same")(x)),
}
for name, (expect, end) in ENDS.items():
    register(name, expect, functools.partial(_ending, end))


@graph("broken")
def end_padded_pointwise_and_second_output():
    inputs = image()
    x = pointwise(entry(inputs))
    return keras.Model(inputs, [head(_padded(pointwise(x))), x])


@graph("dense")
def end_padded_pointwise_and_second_average():
    inputs = image()
    x = pointwise(entry(inputs))
    return keras.Model(inputs, [head(_padded(x)), L.GlobalAveragePooling2D()(x)])


@graph("dense")
def end_max_pool_and_second_output():
    inputs = image()
    x = pointwise(entry(inputs))
    return keras.Model(inputs, [head(L.MaxPooling2D()(x)), x])
