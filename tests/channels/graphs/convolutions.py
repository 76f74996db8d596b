"""Convolutional graphs: what the families of image models have in them."""

import keras
from keras import layers, ops

from channels.graphs.cases import LAST, OUTPUT, case, conv, finish, image, norm


@case(
    "4: a.kernel3 a.bias b.kernel0x9",
    "5: b.kernel1 b.bias y.kernel0",
    ties=[("a.kernel3", 1, "b.kernel0", [1, 5, 9, 13, 17, 21, 25, 29, 33])],
)
def flatten_into_dense():
    x = image(3)
    h = layers.Flatten()(conv(x, 4, "a", activation="relu"))
    return finish(x, layers.Dense(5, activation="relu", name="b")(h))


@case(
    "4: a.kernel3 a.bias b.kernel0x9",
    "5: b.kernel1 b.bias y.kernel0",
    # Keras moves the channels to the end before it flattens.
    ties=[("a.kernel3", 1, "b.kernel0", [1, 5, 9, 13, 17, 21, 25, 29, 33])],
)
def flatten_channels_first():
    x = keras.Input((2, 3, 3))
    h = conv(x, 4, "a", data_format="channels_first")
    h = layers.Flatten(data_format="channels_first")(h)
    return finish(x, layers.Dense(5, activation="relu", name="b")(h))


@case(
    "4: stem.kernel3 stem.bias a.kernel2 a.kernel3 a.bias b.kernel2 b.kernel3 b.bias "
    "c.kernel2 d.kernel2",
    "6: c.kernel3 c.bias d.kernel3 d.bias e.kernel2 e.kernel3 e.bias y.kernel0",
)
def residual_chains_over_two_stages():
    x = image()
    h = conv(x, 4, "stem")
    h = layers.Add()([h, conv(h, 4, "a")])
    h = layers.Add()([h, conv(h, 4, "b")])
    h = layers.Add()([conv(h, 6, "c", strides=2), conv(h, 6, "d", 1, strides=2)])
    return finish(x, layers.Add()([h, conv(h, 6, "e")]))


@case(
    "4: a.kernel3 a.bias an.* b.kernel2 short.kernel2",
    "6: b.kernel3 b.bias bn.* short.kernel3 short.bias sn.* y.kernel0",
)
def projection_shortcut():
    x = image()
    h = layers.ReLU()(norm(conv(x, 4, "a"), "an"))
    main, short = norm(conv(h, 6, "b"), "bn"), norm(conv(h, 6, "short", 1), "sn")
    return finish(x, layers.ReLU()(main + short))


@case(
    "4: stem.kernel3 stem.bias n1.* a.kernel2 b.kernel3 b.bias n2.* y.kernel0",
    "5: a.kernel3 a.bias b.kernel2",
)
def preactivation_with_a_pooled_shortcut():
    x = image()
    h = conv(x, 4, "stem")
    main = layers.ReLU()(norm(h, "n1"))
    main = conv(conv(main, 5, "a", strides=2), 4, "b")
    h = layers.Add()([layers.MaxPooling2D(1, strides=2)(h), main])
    return finish(x, layers.ReLU()(norm(h, "n2")))


@case(
    "4: stem.kernel3 stem.bias n1.* a.kernel2 n2.* b.kernel2 n3.* y.kernel0",
    "3: a.kernel3 a.bias n2.* b.kernel2 n3.* y.kernel0",
    "2: b.kernel3 b.bias n3.* y.kernel0",
    ties=[("a.kernel3", 1, "b.kernel2", [5]), ("b.kernel3", 1, "y.kernel0", [8])],
)
def cumulative_concatenation():
    x = image()
    h = conv(x, 4, "stem")
    for n, (filters, name) in enumerate([(3, "a"), (2, "b")], 1):
        h = layers.Concatenate()([h, conv(layers.ReLU()(norm(h, f"n{n}")), filters, name)])
    return finish(x, layers.ReLU()(norm(h, "n3")))


@case(
    "4: a.kernel3 an.beta an.moving_mean an.moving_variance b.kernel2 c.kernel2 p.kernel2",
    "3: b.kernel3 b.bias y.kernel0",
    "2: c.kernel3 c.bias y.kernel0",
    "5: p.kernel3 p.bias y.kernel0",
    ties=[("c.kernel3", 0, "y.kernel0", [3]), ("p.kernel3", 4, "y.kernel0", [9])],
)
def branches_with_norms_without_scale():
    x = image()
    h = layers.ReLU()(norm(conv(x, 4, "a", use_bias=False), "an", scale=False))
    pooled = layers.AveragePooling2D(3, strides=1, padding="same")(h)
    h = [conv(h, 3, "b", 1), conv(h, 2, "c"), conv(pooled, 5, "p", 1)]
    return finish(x, layers.Concatenate()(h))


@case(
    "4: stem.kernel3 stem.bias a.kernel2 up.kernel3 up.bias y.kernel0",
    "3: a.kernel3 a.bias up.kernel2",
)
def scaled_residual_of_inception_resnet():
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    x = image()
    h = conv(x, 4, "stem")
    up = conv(conv(h, 3, "a"), 4, "up", 1)
    return finish(x, layers.ReLU()(CustomScaleLayer(0.17)([h, up])))


@case(
    "4: a.kernel3 a.bias d.kernel2 d.bias dn.* b.kernel2",
    "5: b.kernel3 b.bias e.kernel2 e.biasx2 en.*x2 c.kernel2x2",
    "6: c.kernel3 c.bias y.kernel0",
    ties=[("b.kernel3", 1, "e.bias", [2, 3]), ("b.kernel3", 1, "c.kernel2", [2, 3])],
)
def depthwise_with_multipliers():
    x = image()
    h = norm(layers.DepthwiseConv2D(3, name="d")(conv(x, 4, "a")), "dn")
    h = layers.DepthwiseConv2D(2, depth_multiplier=2, name="e")(conv(h, 5, "b"))
    return finish(x, conv(norm(h, "en"), 6, "c", 1))


@case(
    "4: a.kernel3 a.bias s.depthwise_kernel2 s.pointwise_kernel2x2",
    "5: s.pointwise_kernel3 s.bias sn.* y.kernel0",
    ties=[("a.kernel3", 3, "s.pointwise_kernel2", [6, 7])],
)
def separable_with_multiplier():
    x = image()
    h = layers.SeparableConv2D(5, 3, depth_multiplier=2, name="s")(conv(x, 4, "a"))
    return finish(x, norm(h, "sn"))


@case(
    "4: a.kernel3 a.bias p1.kernel2 p2.kernel2 d.kernel2",
    # Both halves of the adjusted shortcut meet channels of `d` by position.
    "3: p1.kernel3 p1.bias n.* d.kernel3 d.bias y.kernel0",
    "2: p2.kernel3 p2.bias n.* d.kernel3 d.bias y.kernel0",
    ties=[("p2.kernel3", 1, "d.kernel3", [4]), ("p2.kernel3", 1, "n.gamma", [4])],
)
def crop_and_pad_of_nasnet():
    x = image()
    h = layers.ReLU()(conv(x, 4, "a"))
    p1 = conv(layers.AveragePooling2D(1, strides=2)(h), 3, "p1", 1)
    p2 = layers.Cropping2D(((1, 0), (1, 0)))(layers.ZeroPadding2D(((0, 1), (0, 1)))(h))
    p2 = conv(layers.AveragePooling2D(1, strides=2)(p2), 2, "p2", 1)
    short = norm(layers.Concatenate()([p1, p2]), "n")
    return finish(x, layers.Add()([short, conv(h, 5, "d", strides=2)]))


@case(
    "6: a.kernel3 a.bias s.kernel2 e.kernel3 e.bias y.kernel0",
    "2: s.kernel3 s.bias e.kernel2",
)
def squeeze_and_excite_through_a_reshape():
    x = image()
    h = conv(x, 6, "a", activation="swish")
    s = layers.Reshape((1, 1, 6))(layers.GlobalAveragePooling2D()(h))
    s = conv(conv(s, 2, "s", 1, activation="swish"), 6, "e", 1, activation="sigmoid")
    return finish(x, layers.multiply([h, s]))


@case(
    "6: a.kernel3 a.bias s.kernel2 e.kernel3 e.bias y.kernel0",
    "2: s.kernel3 s.bias e.kernel2",
)
def squeeze_and_excite_by_broadcast_and_scalars():
    x = image()
    h = conv(x, 6, "a")
    s = layers.GlobalAveragePooling2D(keepdims=True)(h)
    s = conv(layers.ReLU()(conv(s, 2, "s", 1)), 6, "e", 1)
    s = layers.ReLU(6.0)(s + 3.0) * (1.0 / 6.0)
    return finish(x, layers.Multiply()([h, s]))


@case(
    "4: stem.kernel3 stem.bias d.kernel3 d.bias n.gamma n.beta p.kernel0 q.kernel1 q.bias "
    "scale.variable y.kernel0",
    "8: p.kernel1 p.bias q.kernel0",
)
def block_of_convnext():
    from keras.src.applications.convnext import LayerScale, StochasticDepth

    x = image()
    h = conv(x, 4, "stem")
    r = conv(h, 4, "d", groups=4)  # depthwise in all but name
    r = layers.LayerNormalization(epsilon=1e-6, name="n")(r)
    r = layers.Dense(8, activation="gelu", name="p")(r)
    r = LayerScale(0.5, 4, name="scale")(layers.Dense(4, name="q")(r))
    return finish(x, h + StochasticDepth(0.1)(r))


@case("4: a.kernel3 a.bias y.kernel2", frozen={"y.kernel3": (3, OUTPUT)})
def classifier_of_mobilenet():
    x = image()
    h = layers.GlobalAveragePooling2D(keepdims=True)(conv(x, 4, "a"))
    h = layers.Reshape((3,))(conv(h, 3, "y", 1))
    return keras.Model(x, layers.Softmax()(h))


@case(
    # The input of every group has two channels: the same position of each goes.
    "2: a.kernel3x4 a.biasx4 g.kernel2",
    "3: g.kernel3x4 g.biasx4 y.kernel0x4",
    ties=[
        ("a.kernel3", 1, "a.kernel3", [1, 3, 5, 7]),
        ("g.kernel3", 2, "y.kernel0", [2, 5, 8, 11]),
    ],
)
def grouped_convolution():
    x = image()
    return finish(x, conv(conv(x, 8, "a"), 12, "g", groups=4))


@case("4: a.kernel3 a.bias g.kernel3x3 g.biasx3 y.kernel0x3")
def grouped_convolution_with_one_input_each():
    x = image()
    return finish(x, conv(conv(x, 4, "a"), 12, "g", groups=4))


@case(
    "4: a.kernel3 a.bias b.kernel2",
    frozen={
        "one.kernel3": (1, "only channel"),
        "b.kernel3": (1, "only channel"),
        "y.kernel1": (3, OUTPUT),
    },
)
def convolutions_of_one_channel():
    x = keras.Input((6, 6, 1))
    h = conv(conv(x, 1, "one"), 4, "a", groups=1)
    return finish(x, conv(h, 1, "b"))


@case(
    "6: a.kernel3 a.bias b.kernel2 n.* c.kernel2",
    "6: u.kernel2 u.bias n.* c.kernel2",
    "4: b.kernel3 b.bias u.kernel3",
    "5: c.kernel3 c.bias y.kernel0",
    ties=[("u.kernel2", 0, "c.kernel2", [6])],
    frozen=LAST,
)
def unet():
    x = image(8)
    h = conv(x, 6, "a")
    low = conv(layers.MaxPooling2D()(h), 4, "b")
    up = layers.Conv2DTranspose(6, 2, strides=2, name="u")(low)
    up = norm(layers.Concatenate()([h, up]), "n")
    return finish(x, conv(up, 5, "c"))


@case(
    "4: a.kernel3 a.bias p.alpha2 q.alpha2 b.kernel2",
    "5: b.kernel3 b.bias y.kernel0",
)
def slopes_with_and_without_shared_axes():
    x = image()
    h = layers.PReLU(shared_axes=[1, 2], name="p")(conv(x, 4, "a"))
    h = layers.PReLU(name="q")(h)
    return finish(x, layers.PReLU(shared_axes=[1, 2, 3], name="r")(conv(h, 5, "b")))


@case(
    frozen={"a.kernel3": (4, "holds statistics"), "b.kernel3": (4, "constants for each"), **LAST},
)
def normalization_and_constants_of_each_channel():
    x = image()
    h = layers.Normalization(mean=[0.1] * 4, variance=[2.0] * 4)(conv(x, 4, "a"))
    h = layers.Rescaling([1.0, 2.0, 3.0, 4.0])(conv(h, 4, "b"))
    return finish(x, h)


@case(
    # Two channels in each of two groups.
    "2: a.kernel3x2 a.biasx2 g.gammax2 g.betax2 b.kernel2x2",
    "6: b.kernel3 b.bias i.gamma i.beta c.kernel2",
    "5: c.kernel3 c.bias j.beta y.kernel0",
    ties=[("a.kernel3", 1, "b.kernel2", [1, 3])],
)
def group_norms():
    x = image()
    h = layers.GroupNormalization(2, name="g")(conv(x, 4, "a"))
    h = layers.GroupNormalization(-1, name="i")(conv(h, 6, "b"))  # one group for each channel
    h = layers.GroupNormalization(-1, scale=False, name="j")(conv(h, 5, "c"))
    return finish(x, ops.relu(h))


@case(
    "4: a.kernel3 a.bias r.scale b.kernel2",
    "5: b.kernel3 b.bias c.kernel2",
    "6: c.kernel3 c.bias y.kernel0",
)
def norms_without_offset():
    x = image()
    h = layers.RMSNormalization(name="r")(conv(x, 4, "a"))
    h = layers.UnitNormalization()(conv(h, 5, "b"))
    h = layers.LayerNormalization(center=False, scale=False)(conv(h, 6, "c"))
    return finish(x, h)
