"""What stands in the middle of a trunk: convolutions, pools, changes of shape."""

import functools

import keras

from zoo.blocks import around, depthwise, entry, head, image, pointwise
from zoo.registry import graph, register

L = keras.layers


def _split_and_join(x):
    left, right = keras.ops.split(x, 2, axis=-1)
    return L.Concatenate()([pointwise(left, 8), right])


def _shuffle_channels(x):
    _, height, width, channels = x.shape
    x = L.Reshape((height, width, 2, channels // 2))(x)
    return L.Reshape((height, width, channels))(L.Permute((1, 2, 4, 3))(x))


def _shared(x):
    layer = L.Conv2D(16, 1, activation="relu")
    return layer(layer(x))


def _nested(x):
    inputs = keras.Input(x.shape[1:])
    return keras.Model(inputs, pointwise(depthwise(inputs)), name="nested")(x)


def _dense_connections(x):
    x = L.Concatenate()([x, pointwise(x, 8)])
    return L.Concatenate()([x, pointwise(x, 8)])


MIDDLES = {
    "plain": ("fast", lambda x: x),
    "pointwise_without_bias": ("fast", lambda x: L.Conv2D(16, 1, use_bias=False)(x)),
    "pointwise_linear": ("fast", lambda x: L.Conv2D(16, 1)(x)),
    "pointwise_to_1_channel": ("fast", lambda x: pointwise(x, 1)),
    "pointwise_to_64_channels": ("fast", lambda x: pointwise(x, 64)),
    "pointwise_to_17_channels": ("fast", lambda x: pointwise(x, 17)),
    "pointwise_stride_2": ("broken", lambda x: L.Conv2D(16, 1, strides=2)(x)),
    "pointwise_stride_2_without_bias": (
        "broken",
        lambda x: L.Conv2D(16, 1, strides=2, use_bias=False)(x),
    ),
    "pointwise_grouped": ("broken", lambda x: L.Conv2D(16, 1, groups=4)(x)),
    "pointwise_padded": ("broken", lambda x: L.Conv2D(16, 1)(L.ZeroPadding2D(1)(x))),
    "conv_3x3": ("broken", lambda x: L.Conv2D(16, 3, padding="same")(x)),
    "conv_3x3_stride_2_padded": (
        "broken",
        lambda x: L.Conv2D(16, 3, strides=2)(L.ZeroPadding2D(1)(x)),
    ),
    "conv_5x5": ("broken", lambda x: L.Conv2D(16, 5, padding="same")(x)),
    "conv_1x3": ("broken", lambda x: L.Conv2D(16, (1, 3), padding="same")(x)),
    "conv_transpose": ("broken", lambda x: L.Conv2DTranspose(16, 3, strides=2, padding="same")(x)),
    "depthwise_3x3_same": ("fast", lambda x: L.DepthwiseConv2D(3, padding="same")(x)),
    "depthwise_3x3_stride_2_padded": ("fast", lambda x: depthwise(x, 3, 2)),
    "depthwise_3x3_stride_2_same": (
        "broken",
        lambda x: L.DepthwiseConv2D(3, strides=2, padding="same")(x),
    ),
    "depthwise_3x3_stride_2_behind": (
        "broken",
        lambda x: L.DepthwiseConv2D(3, strides=2)(L.ZeroPadding2D(((0, 1), (0, 1)))(x)),
    ),
    "depthwise_3x3_valid": ("broken", lambda x: L.DepthwiseConv2D(3)(x)),
    "depthwise_5x5_same": ("fast", lambda x: L.DepthwiseConv2D(5, padding="same")(x)),
    "depthwise_5x5_stride_2_padded": ("fast", lambda x: depthwise(x, 5, 2)),
    "depthwise_5x5_stride_2_same": (
        "broken",
        lambda x: L.DepthwiseConv2D(5, strides=2, padding="same")(x),
    ),
    "depthwise_7x7": ("broken", lambda x: L.DepthwiseConv2D(7, padding="same")(x)),
    "depthwise_1x1": ("broken", lambda x: L.DepthwiseConv2D(1)(x)),
    "depthwise_stride_3": ("broken", lambda x: depthwise(x, 3, 3)),
    "depthwise_multiplier_2": (
        "broken",
        lambda x: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x),
    ),
    "depthwise_dilated": (
        "broken",
        lambda x: L.DepthwiseConv2D(3, dilation_rate=2, padding="same")(x),
    ),
    "depthwise_without_bias": (
        "fast",
        lambda x: L.DepthwiseConv2D(3, padding="same", use_bias=False)(x),
    ),
    "separable": ("fast", lambda x: L.SeparableConv2D(16, 3, padding="same")(x)),
    "separable_5x5": ("fast", lambda x: L.SeparableConv2D(16, 5, padding="same")(x)),
    "separable_stride_2": (
        "broken",
        lambda x: L.SeparableConv2D(16, 3, strides=2, padding="same")(x),
    ),
    "max_pool": ("broken", lambda x: L.MaxPooling2D()(x)),
    "max_pool_same_size": ("broken", lambda x: L.MaxPooling2D(3, strides=1, padding="same")(x)),
    "average_pool": ("broken", lambda x: L.AveragePooling2D(2)(x)),
    "average_pool_same_size": (
        "broken",
        lambda x: L.AveragePooling2D(3, strides=1, padding="same")(x),
    ),
    "concat_of_branches": ("dense", lambda x: L.Concatenate()([pointwise(x), x])),
    "concat_of_two_convs": ("broken", lambda x: L.Concatenate()([pointwise(x), pointwise(x)])),
    "concat_of_two_kinds": ("broken", lambda x: L.Concatenate()([pointwise(x), depthwise(x)])),
    "concat_with_itself": ("broken", lambda x: L.Concatenate()([x, x])),
    "pool_and_pointwise": (
        "dense",
        lambda x: L.Concatenate()([L.MaxPooling2D(3, 1, padding="same")(x), pointwise(x)]),
    ),
    "concat_twice": ("dense", _dense_connections),
    "split_and_join": ("broken", _split_and_join),
    "channel_shuffle": ("broken", _shuffle_channels),
    "upsampling_nearest": ("dense", lambda x: L.UpSampling2D()(x)),
    "upsampling_bilinear": ("fast", lambda x: L.UpSampling2D(interpolation="bilinear")(x)),
    "resizing_bilinear": ("fast", lambda x: L.Resizing(5, 5)(x)),
    "resizing_nearest": ("dense", lambda x: L.Resizing(5, 5, interpolation="nearest")(x)),
    "padding": ("broken", lambda x: L.ZeroPadding2D(1)(x)),
    "cropping": ("broken", lambda x: L.Cropping2D(1)(x)),
    "strided_slice": ("dense", lambda x: x[:, ::2, ::2, :]),
    "channel_slice": ("broken", lambda x: x[..., :8]),
    "reshape": ("broken", lambda x: L.Reshape((4, 16, 16))(x)),
    "transpose": ("broken", lambda x: L.Permute((2, 1, 3))(x)),
    "flip": ("dense", lambda x: keras.ops.flip(x, axis=2)),
    "layer_normalization": ("dense", lambda x: L.LayerNormalization()(x)),
    "group_normalization": ("broken", lambda x: L.GroupNormalization(4)(x)),
    "batch_norm_unfolded": ("broken", lambda x: L.BatchNormalization()(L.ReLU()(x))),
    "rescaling": ("broken", lambda x: L.Rescaling(0.5, 0.1)(x)),
    "rescaling_without_offset": ("fast", lambda x: L.Rescaling(0.5)(x)),
    "dropout": ("fast", lambda x: L.Dropout(0.5)(x)),
    "dense_of_4d": ("fast", lambda x: L.Dense(16, activation="relu")(x)),
    "shared_layer": ("fast", _shared),
    "nested_model": ("fast", _nested),
    "channel_softmax": ("broken", lambda x: L.Softmax()(x)),
}
for name, (expect, middle) in MIDDLES.items():
    register(name, expect, functools.partial(around, middle))


@graph("dense")
def without_pointwise():
    inputs = image()
    return keras.Model(inputs, head(depthwise(entry(inputs))))


@graph("fast")
def wider_images():
    inputs = keras.Input((20, 12, 3))
    return keras.Model(inputs, head(pointwise(depthwise(pointwise(entry(inputs))))))


@graph("fast")
def batch_of_two():
    inputs = keras.Input(batch_shape=(2, 16, 16, 3))
    return keras.Model(inputs, head(pointwise(depthwise(pointwise(entry(inputs))))))


@graph("fast")
def sequential():
    layers = [keras.Input((16, 16, 3)), L.ZeroPadding2D(1), L.Conv2D(8, 3, strides=2)]
    layers += [L.ReLU(), L.Conv2D(16, 1), L.ReLU(), L.GlobalAveragePooling2D(), L.Dense(10)]
    return keras.Sequential(layers)


@graph("dense")
def dense_only():
    x = inputs = keras.Input((40,))
    for units in (32, 32, 10):
        x = L.Dense(units, activation="relu")(x)
    return keras.Model(inputs, x)


@graph("dense")
def conv_1d():
    x = inputs = keras.Input((24, 6))
    for filters in (16, 24):
        x = L.Conv1D(filters, 3, strides=2, activation="relu")(L.ZeroPadding1D(1)(x))
        x = L.Conv1D(filters, 1, activation="relu")(x)
    return keras.Model(inputs, L.Dense(10)(L.GlobalAveragePooling1D()(x)))


@graph("dense", refused=("int8",))
def conv_3d():
    inputs = keras.Input((6, 6, 6, 3))
    x = L.Conv3D(8, 1)(L.Conv3D(8, 3, strides=2)(inputs))
    return keras.Model(inputs, L.Dense(10)(L.GlobalAveragePooling3D()(x)))


@graph("dense")
def plain_convolutions():
    x = inputs = image()
    for filters in (8, 16, 24):
        x = L.MaxPooling2D()(L.Conv2D(filters, 3, padding="same", activation="relu")(x))
    return keras.Model(inputs, L.Dense(10)(L.Flatten()(x)))
