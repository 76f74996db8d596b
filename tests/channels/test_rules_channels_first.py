"""Channels on the first axis of images: every layer type that can have them there."""

import keras
import pytest
from keras import layers

from channels.gate import pass_gate
from channels.graphs.cases import as_written, families_of
from tfprune.channels.structure import read

FIRST = {"data_format": "channels_first"}
SIDE = 20
"""Of images: never as long as there are channels, since Keras on TensorFlow then adds biases along
the side (`keras.ops.add` takes a last axis of the bias's length for the channels)."""

# Name: (dimensions of the image, the layer, where it holds values of its own).
BETWEEN = {
    "conv1d": (1, lambda: layers.Conv1D(4, 3, **FIRST, name="m"), None),
    "conv3d": (3, lambda: layers.Conv3D(4, 3, **FIRST, name="m"), None),
    "conv2d_transpose": (2, lambda: layers.Conv2DTranspose(4, 3, **FIRST, name="m"), None),
    "depthwise1d": (1, lambda: layers.DepthwiseConv1D(3, **FIRST, name="m"), "m.kernel1 m.bias"),
    "depthwise2d": (2, lambda: layers.DepthwiseConv2D(3, **FIRST, name="m"), "m.kernel2 m.bias"),
    "separable1d": (1, lambda: layers.SeparableConv1D(4, 3, **FIRST, name="m"), None),
    "separable2d": (2, lambda: layers.SeparableConv2D(4, 3, **FIRST, name="m"), None),
    "max_pool1d": (1, lambda: layers.MaxPooling1D(2, **FIRST), ""),
    "max_pool2d": (2, lambda: layers.MaxPooling2D(2, **FIRST), ""),
    "max_pool3d": (3, lambda: layers.MaxPooling3D(2, **FIRST), ""),
    "average_pool2d": (2, lambda: layers.AveragePooling2D(2, **FIRST), ""),
    "upsampling2d": (2, lambda: layers.UpSampling2D(2, **FIRST), ""),
    "zero_padding2d": (2, lambda: layers.ZeroPadding2D(1, **FIRST), ""),
    "cropping2d": (2, lambda: layers.Cropping2D(1, **FIRST), ""),
    "resizing": (2, lambda: layers.Resizing(9, 9, **FIRST), ""),
    "spatial_dropout": (2, lambda: layers.SpatialDropout2D(0.1, **FIRST), ""),
    "batch_norm": (2, lambda: layers.BatchNormalization(axis=1, name="m"), "m.*"),
    "group_norm": (2, lambda: layers.GroupNormalization(4, 1, name="m"), "m.gamma m.beta"),
    "layer_norm": (2, lambda: layers.LayerNormalization(axis=1, name="m"), "m.gamma m.beta"),
    "prelu": (2, lambda: layers.PReLU(shared_axes=[2, 3], name="m"), "m.alpha0"),
}


def model_with(rank, layer):
    """Return a model with a layer between two convolutions of channels first."""
    kind = getattr(layers, f"Conv{rank}D")
    x = keras.Input((2, *(SIDE,) * rank))
    h = kind(4, 3, padding="same", **FIRST, name="a")(x)
    h = kind(5, 1, padding="same", **FIRST, name="b")(layer(h))
    pool = getattr(layers, f"GlobalAveragePooling{rank}D")(**FIRST)
    return keras.Model(x, layers.Dense(3, name="y")(pool(h)))


@pytest.mark.parametrize("name", BETWEEN)
def test_layers_with_channels_first(name, tmp_path):
    rank, layer, own = BETWEEN[name]
    model = model_with(rank, layer())
    made, read_ = f"a.kernel{rank + 1} a.bias", f"b.kernel{rank}"
    last = f"5: b.kernel{rank + 1} b.bias y.kernel0"
    if own is not None:
        expected = [f"4: {made} {own} {read_}", last]
    elif "separable" in name:
        expected = [
            f"4: {made} m.depthwise_kernel{rank} m.pointwise_kernel{rank}",
            f"4: m.pointwise_kernel{rank + 1} m.bias {read_}",
            last,
        ]
    else:
        axes = (rank, rank + 1) if "transpose" not in name else (rank + 1, rank)
        expected = [f"4: {made} m.kernel{axes[0]}", f"4: m.kernel{axes[1]} m.bias {read_}", last]
    assert families_of(read(model)) == sorted(map(as_written, expected))
    pass_gate(model, tmp_path)


def test_grouped_and_kept_dimensions(tmp_path):
    x = keras.Input((2, SIDE, SIDE))
    h = layers.Conv2D(8, 3, **FIRST, name="a")(x)
    h = layers.Conv2D(8, 3, groups=4, **FIRST, name="g")(h)
    s = layers.GlobalMaxPooling2D(keepdims=True, **FIRST)(h)
    s = layers.Conv2D(8, 1, activation="sigmoid", **FIRST, name="e")(s)
    h = layers.GlobalAveragePooling2D(**FIRST)(h * s)
    model = keras.Model(x, layers.Dense(3, name="y")(h))
    assert families_of(read(model)) == [
        "2: a.biasx4 a.kernel3x4 g.kernel2",
        # The excitation reads all channels and is tied to the groups by the product.
        "2: e.biasx4 e.kernel2x4 e.kernel3x4 g.biasx4 g.kernel3x4 y.kernel0x4",
    ]
    pass_gate(model, tmp_path)


def test_convolutional_recurrent_with_states(tmp_path):
    x = keras.Input((3, 2, 5, 5))
    first = layers.ConvLSTM2D(4, 3, padding="same", return_state=True, **FIRST, name="a")
    h, one, two = first(x)
    more = keras.Input((3, 2, 5, 5))
    second = layers.ConvLSTM2D(4, 3, padding="same", **FIRST, name="b")
    h = h + second(more, initial_state=[one, two])
    pool = layers.GlobalAveragePooling2D(**FIRST)
    model = keras.Model([x, more], layers.Dense(3, name="y")(pool(h)))
    at = "{0}.kernel3x4 {0}.bias" + "x4 {0}.recurrent_kernel2 {0}.recurrent_kernel3x4"
    expected = f"4: {at.format('a')} {at.format('b')} y.kernel0"
    assert families_of(read(model)) == [as_written(expected)]
    pass_gate(model, tmp_path)


def test_depth_to_space(tmp_path):
    # Maps of 7 and 14: where as many channels are left as a map is wide, Keras on TensorFlow adds
    # the bias along the wrong axis (`keras.ops.add` takes it for that of `channels_last`).
    x = keras.Input((2, 9, 9))
    h = layers.Conv2D(12, 3, **FIRST, name="a")(x)
    h = keras.ops.depth_to_space(h, 2, data_format="channels_first")
    h = layers.Conv2D(5, 1, **FIRST, name="b")(h)
    model = keras.Model(x, layers.Dense(3, name="y")(layers.GlobalMaxPooling2D(**FIRST)(h)))
    assert families_of(read(model)) == [
        "3: a.biasx4 a.kernel3x4 b.kernel2",
        "5: b.bias b.kernel3 y.kernel0",
    ]
    pass_gate(model, tmp_path)
