"""Networks whose output is an image: decoders, U-Nets, segmentation."""

import functools

import keras

from zoo.blocks import depthwise, entry, head, image, pointwise
from zoo.registry import graph, register

L = keras.layers


@keras.saving.register_keras_serializable("zoo")
class DepthToSpace(L.Layer):
    """Channels become pixels, which Keras has no layer for."""

    def call(self, x):
        import tensorflow as tf

        return tf.nn.depth_to_space(x, 2)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return batch, 2 * height, 2 * width, channels // 4


def _decoder(step):
    inputs = image()
    x = pointwise(depthwise(pointwise(entry(inputs))), 24)
    return keras.Model(inputs, step(x))


def _bilinear(x):
    return L.UpSampling2D(interpolation="bilinear")(x)


def _space(x, channels=3):
    return DepthToSpace()(L.Conv2D(4 * channels, 1)(x))


STEPS = {
    "depth_to_space": ("fast", _space),
    "bilinear_depth_to_space": ("fast", lambda x: _space(pointwise(_bilinear(x)))),
    "nearest_depth_to_space": ("dense", lambda x: _space(pointwise(L.UpSampling2D()(x)))),
    "depth_to_space_sigmoid": ("fast", lambda x: keras.ops.sigmoid(_space(x))),
    "depth_to_space_conv": ("fast", lambda x: L.Conv2D(3, 3, padding="same")(_space(x))),
    "depth_to_space_pointwise": ("fast", lambda x: L.Conv2D(3, 1)(_space(x, 4))),
    "depth_to_space_twice": ("fast", lambda x: _space(pointwise(_space(x, 4)))),
    "depth_to_space_clipped": ("fast", lambda x: L.ReLU(1.0)(_space(x))),
    "depth_to_space_and_head": ("fast", lambda x: [_space(x), head(x)]),
    "depth_to_space_added": ("broken", lambda x: L.Add()([_space(x, 6), _bilinear(x)[..., :6]])),
    "transposed": ("dense", lambda x: L.Conv2DTranspose(3, 3, strides=2, padding="same")(x)),
    "transposed_then_depth_to_space": (
        "broken",
        lambda x: _space(L.Conv2DTranspose(8, 2, strides=2)(x)),
    ),
    "nearest": ("dense", lambda x: L.Conv2D(3, 1)(L.UpSampling2D()(x))),
    "bilinear": ("dense", lambda x: L.Conv2D(3, 1)(_bilinear(x))),
    "bilinear_at_the_end": ("dense", lambda x: _bilinear(L.Conv2D(3, 1)(x))),
    "segmentation": ("dense", lambda x: L.Softmax()(_bilinear(L.Conv2D(4, 1)(x)))),
}
for name, (expect, step) in STEPS.items():
    register(f"decoder_{name}", expect, functools.partial(_decoder, step))


def _u_net(join, up, last):
    inputs = image(24)
    first = pointwise(entry(inputs))
    second = pointwise(depthwise(first, 3, 2), 24)
    third = pointwise(depthwise(second, 3, 2), 32)
    x = pointwise(join([pointwise(up(third), 24), second]), 16)
    x = pointwise(join([up(x), first]), 16)
    return keras.Model(inputs, last(x))


@graph("dense")
def u_net_concat_nearest():
    return _u_net(L.Concatenate(), L.UpSampling2D(), lambda x: L.Conv2D(2, 1)(x))


@graph("dense")
def u_net_concat_bilinear():
    return _u_net(L.Concatenate(), _bilinear, lambda x: L.Conv2D(2, 1)(x))


@graph("dense")
def u_net_concat_depth_to_space():
    return _u_net(L.Concatenate(), _bilinear, _space)


@graph("fast")
def u_net_add_depth_to_space():
    return _u_net(L.Add(), _bilinear, _space)


@graph("dense")
def u_net_add_nearest_depth_to_space():
    return _u_net(L.Add(), L.UpSampling2D(), _space)


@graph("dense")
def u_net_with_a_head():
    return _u_net(L.Concatenate(), L.UpSampling2D(), lambda x: [L.Conv2D(2, 1)(x), head(x)])


@graph("broken")
def u_net_without_first_skip():
    inputs = image(24)
    first = pointwise(depthwise(pointwise(entry(inputs)), 3, 2), 24)
    x = pointwise(L.Concatenate()([_bilinear(pointwise(first)), pointwise(_bilinear(first))]))
    return keras.Model(inputs, _space(x))


@graph("dense")
def u_net_of_plain_convolutions():
    inputs = image()
    first = L.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    x = L.Conv2D(16, 3, padding="same", activation="relu")(L.MaxPooling2D()(first))
    x = L.Conv2DTranspose(8, 2, strides=2)(x)
    x = L.Conv2D(8, 3, padding="same", activation="relu")(L.Concatenate()([x, first]))
    return keras.Model(inputs, L.Conv2D(2, 1)(x))


@graph("dense")
def autoencoder():
    inputs = image()
    x = L.Dense(16)(L.Flatten()(pointwise(entry(inputs))))
    x = L.Reshape((8, 8, 4))(L.Dense(8 * 8 * 4, activation="relu")(x))
    return keras.Model(inputs, L.Conv2DTranspose(3, 3, strides=2, padding="same")(x))


@graph("dense")
def super_resolution():
    inputs = image()
    x = L.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    return keras.Model(inputs, _space(pointwise(x)))
