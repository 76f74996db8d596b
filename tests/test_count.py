"""`count` beside numbers worked out by hand, and beside figures of papers."""

import json

import keras
import numpy as np
import pytest

import tfprune

layers, ops = keras.layers, keras.ops

# (layer, shape of one sample, MACs). The products: positions of the output x size of the kernel for
# one of them, but for transposed convolutions, where the positions are the input's.
BY_HAND = {
    "dense": (layers.Dense(5), (7,), 7 * 5),
    "dense at 6 positions": (layers.Dense(5), (2, 3, 7), 2 * 3 * 7 * 5),
    "conv1d": (layers.Conv1D(4, 3), (10, 2), 8 * 3 * 2 * 4),
    "conv2d": (layers.Conv2D(4, 3, strides=2, padding="same"), (9, 9, 3), 5 * 5 * 9 * 3 * 4),
    "conv2d, dilated": (layers.Conv2D(4, 3, dilation_rate=2), (9, 9, 3), 5 * 5 * 9 * 3 * 4),
    "conv2d, first": (
        layers.Conv2D(4, 3, data_format="channels_first"),
        (3, 9, 8),
        7 * 6 * 9 * 3 * 4,
    ),
    "conv2d, 3 groups": (layers.Conv2D(12, 3, groups=3), (5, 5, 6), 3 * 3 * 9 * 2 * 12),
    "conv3d": (layers.Conv3D(2, 2), (3, 4, 5, 3), 2 * 3 * 4 * 8 * 3 * 2),
    "conv1d transposed": (layers.Conv1DTranspose(4, 3, strides=2), (5, 2), 5 * 3 * 2 * 4),
    "conv2d transposed": (layers.Conv2DTranspose(4, 2, strides=2), (5, 6, 3), 30 * 4 * 3 * 4),
    "conv3d transposed": (layers.Conv3DTranspose(2, 2), (2, 2, 2, 3), 8 * 8 * 3 * 2),
    "depthwise 1d": (layers.DepthwiseConv1D(3), (6, 4), 4 * 3 * 4),
    "depthwise": (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 4), 9 * 9 * 4 * 2),
    "separable 1d": (layers.SeparableConv1D(6, 3), (6, 4), 4 * (3 * 4 + 4 * 6)),
    "separable": (
        layers.SeparableConv2D(6, 3, depth_multiplier=2),
        (5, 5, 4),
        9 * (9 * 4 * 2 + 8 * 6),
    ),
    "einsum": (layers.EinsumDense("abc,cd->abd", (None, 5)), (4, 3), 4 * 3 * 5),
    "einsum to heads": (layers.EinsumDense("abc,cde->abde", (None, 2, 5)), (4, 3), 4 * 3 * 10),
    "simple rnn": (layers.SimpleRNN(5), (4, 3), 4 * (3 * 5 + 5 * 5)),
    "lstm": (layers.LSTM(5), (4, 3), 4 * 4 * (3 * 5 + 5 * 5)),
    "gru": (layers.GRU(5), (4, 3), 4 * 3 * (3 * 5 + 5 * 5)),
    "bidirectional": (layers.Bidirectional(layers.LSTM(5)), (4, 3), 2 * 4 * 4 * (3 * 5 + 5 * 5)),
    "conv lstm": (
        layers.ConvLSTM2D(2, 3, padding="same"),
        (3, 4, 5, 1),
        3 * 20 * 4 * (9 * 1 * 2 + 9 * 2 * 2),
    ),
    "every step": (layers.TimeDistributed(layers.Conv2D(4, 3)), (2, 5, 5, 3), 2 * 9 * 27 * 4),
    "embedding": (layers.Embedding(10, 4), (6,), 0),
    "norm": (layers.BatchNormalization(), (4, 4, 3), 0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_macs_by_hand(name):
    layer, shape, macs = BY_HAND[name]
    layer = type(layer).from_config(layer.get_config())
    size = tfprune.count(keras.Sequential([keras.Input(shape), layer]))
    assert (size.macs, size.nonzero_macs, size.not_counted) == (macs, macs, ())
    assert size.parameters == layer.count_params()


def test_attention_by_hand():
    query, value = keras.Input((10, 6)), keras.Input((7, 8))
    heads = layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=5)
    size = tfprune.count(keras.Model([query, value], heads(query, value)))
    projections = 10 * 6 * 6 + 7 * 8 * 6 + 7 * 8 * 10 + 10 * 10 * 6
    scores = 10 * 7 * 2 * 3
    mixtures = 10 * 7 * 2 * 5
    assert size.macs == projections + scores + mixtures


def test_grouped_attention_by_hand():
    x = keras.Input((10, 8))
    heads = layers.GroupQueryAttention(head_dim=3, num_query_heads=4, num_key_value_heads=2)
    size = tfprune.count(keras.Model(x, heads(x, x)))
    projections = 10 * 8 * (12 + 6 + 6) + 10 * 12 * 8
    assert size.macs == projections + 2 * 10 * 10 * 4 * 3


def two_layers():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(3, 3, padding="same", name="conv"),
            layers.Flatten(),
            layers.Dense(5, name="dense"),
        ],
        name="two",
    )
    kernel, bias = model.layers[0].get_weights()
    kernel[:] = 1
    kernel[:, :, 0] = 0  # half of it
    model.layers[0].set_weights([kernel, np.ones_like(bias)])
    model.layers[2].set_weights([np.eye(48, 5), np.zeros(5)])
    return model


def test_zeros_make_no_macs():
    size = tfprune.count(two_layers())
    assert size.macs == 16 * 54 + 240
    assert size.nonzero_macs == 16 * 27 + 5
    assert (size.parameters, size.nonzero) == (54 + 3 + 240 + 5, 27 + 3 + 5)
    conv, dense = size.layers
    assert (conv.layer, conv.macs, conv.nonzero_macs) == ("conv", 864, 432)
    assert (dense.parameters, dense.nonzero, dense.nonzero_macs) == (245, 5, 5)


def test_wrapped_layers_count_as_stripped_ones():
    model = two_layers()
    wrapped = tfprune.prune(model, [tfprune.Rule("dense", schedule=0.5)])
    (wrapper,) = [w for w in wrapped.layers if isinstance(w, tfprune.PruneLowMagnitude)]
    ((weight, mask, _),) = wrapper.pruning_vars
    weight.assign(np.ones((48, 5)))
    mask.assign(np.arange(240).reshape(48, 5) < 100)
    size = tfprune.count(wrapped)
    assert size.wrapped == 1
    assert [row.layer for row in size.layers] == ["conv", "dense"]
    assert (size.parameters, size.macs) == (302, 16 * 54 + 240)
    assert size.layers[1].nonzero_macs == 100
    assert "Wrapped for pruning: 1 of the layers" in str(size)


def test_a_shared_layer_multiplies_twice_and_is_stored_once():
    a, b = keras.Input((4,)), keras.Input((4,))
    dense = layers.Dense(3, name="dense")
    size = tfprune.count(keras.Model([a, b], [dense(a), dense(b)]))
    assert (size.parameters, size.macs) == (15, 24)
    assert len(size.layers) == 1


def test_nested_models_have_paths():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")], name="inner")
    a, b = keras.Input((4,)), keras.Input((4,))
    size = tfprune.count(keras.Model([a, b], [inner(a), inner(b)]))
    assert [row.layer for row in size.layers] == ["inner/dense"]
    assert (size.parameters, size.macs) == (15, 24)


def test_frozen_layers_and_statistics_are_not_trainable():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.BatchNormalization()])
    assert (tfprune.count(model).parameters, tfprune.count(model).trainable) == (27, 21)
    model.layers[0].trainable = False
    assert tfprune.count(model).trainable == 6


@keras.saving.register_keras_serializable("test_count")
class Twice(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return x * self.scale


# What is multiplied for one sample, by (inputs, what is made of them, MACs).
def windows(x):
    return ops.reshape(x, (-1, 4, 4, 8))


FOLDED = {
    "windows": ([(16, 16, 8)], lambda x: layers.Dense(32)(windows(x)), 256 * 8 * 32),
    "and back": (
        [(16, 16, 8)],
        lambda x: layers.Conv2D(2, 1)(ops.reshape(layers.Dense(8)(windows(x)), (-1, 16, 16, 8))),
        256 * 8 * 8 + 256 * 8 * 2,
    ),
    "windows into a nested model": (
        [(16, 16, 8)],
        lambda x: keras.Sequential([keras.Input((4, 4, 8)), layers.Dense(32)])(windows(x)),
        256 * 8 * 32,
    ),
    "windows into attention": (
        [(8, 8, 8)],
        lambda x: layers.MultiHeadAttention(2, 4)(*[ops.reshape(x, (-1, 16, 8))] * 2),
        4 * (4 * 16 * 8 * 8 + 2 * 16 * 16 * 8),
    ),
    "all in one axis": ([(4, 8)], lambda x: layers.Dense(3)(ops.ravel(x)[:, None]), 32 * 3),
    "time first": ([(16, 8)], lambda x: layers.Dense(32)(ops.transpose(x, (1, 0, 2))), 16 * 8 * 32),
    "time first, by letters": (
        [(16, 8)],
        lambda x: layers.EinsumDense("abc,cd->abd", (None, 32))(ops.swapaxes(x, 0, 1)),
        16 * 8 * 32,
    ),
    "one batch after the other": (
        [(5, 8), (5, 8)],
        lambda x, y: layers.Dense(3)(ops.concatenate([x, y], axis=0)),
        2 * 5 * 8 * 3,
    ),
    "and apart": (
        [(5, 8), (5, 8)],
        lambda x, y: layers.Dense(3)(ops.split(ops.concatenate([x, y], axis=0), 2, axis=0)[0]),
        5 * 8 * 3,
    ),
    "repeated": ([(5, 8)], lambda x: layers.Dense(3)(ops.repeat(x, 4, axis=0)), 4 * 5 * 8 * 3),
    "every step": (
        [(16, 5, 8)],
        lambda x: layers.TimeDistributed(layers.Dense(3))(ops.reshape(x, (-1, 4, 5, 8))),
        16 * 5 * 8 * 3,
    ),
}


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("name", FOLDED)
def test_what_is_folded_into_the_batch(name, batch):
    shapes, make, macs = FOLDED[name]
    given = [keras.Input(batch_shape=(batch, *shape)) for shape in shapes]
    size = tfprune.count(keras.Model(given, make(*given)))
    assert (size.macs, size.not_counted, size.assumed) == (macs, (), ())


@pytest.mark.parametrize(("axes", "pairs"), [(None, 60 * 60), ((2,), 10 * 6 * 6), (1, 10 * 10 * 6)])
def test_attention_along_some_axes(axes, pairs):
    x = keras.Input((10, 6, 8))
    heads = layers.MultiHeadAttention(num_heads=2, key_dim=4, attention_axes=axes)
    size = tfprune.count(keras.Model(x, heads(x, x)))
    assert size.macs == 4 * 60 * 8 * 8 + 2 * pairs * 2 * 4


class TestNotCounted:
    def test_a_layer_without_a_rule_is_named(self):
        model = keras.Sequential([keras.Input((4,)), Twice(name="twice"), layers.Dense(3)])
        size = tfprune.count(model)
        assert size.not_counted == ("twice",)
        assert (size.layers[0].macs, size.layers[0].parameters) == (None, 4)
        assert size.macs == 12
        assert "not counted" in str(size)
        assert "twice" in str(size)
        assert json.loads(size.to_json())["layers"][0]["macs"] is None

    def test_products_of_activations_that_no_rule_states_are_named(self):
        x = keras.Input((4, 6))
        model = keras.Model(x, layers.Dot(1)([layers.Attention(name="attend")([x, x]), x]))
        assert set(tfprune.count(model).not_counted) == {"attend", model.layers[-1].name}

    def test_a_rule_that_gives_up_is_named(self):
        x = keras.Input((4, 6))
        both = layers.Bidirectional(layers.LSTM(3, return_state=True), name="both")
        assert tfprune.count(keras.Model(x, both(x))).not_counted == ("both",)


class TestUnknownLengths:
    def model(self):
        return keras.Sequential(
            [keras.Input((None, None, 3), name="image"), layers.Conv2D(8, 3), layers.Conv2D(2, 1)]
        )

    def test_they_count_as_1_and_are_noted(self):
        size = tfprune.count(self.model())
        assert size.macs == 27 * 8 + 8 * 2
        assert size.assumed == ("input 'image' (None, None, None, 3)",)
        assert "count as 1" in str(size)

    def test_a_shape_of_the_input_fills_them(self):
        model = self.model()
        model.layers[0].set_weights([np.zeros((3, 3, 3, 8)), np.zeros(8)])
        size = tfprune.count(model, input_shape=(6, 8, 3))
        assert size.macs == 24 * (27 * 8 + 8 * 2)
        assert size.nonzero_macs == 24 * 8 * 2
        assert size.assumed == ()

    def test_the_inputs_of_a_nested_model(self):
        x = keras.Input((6, 8, 3))
        inner = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 1)], name="inner")
        size = tfprune.count(keras.Model(x, inner(x)))
        assert size.macs == 3 * 4
        assert size.assumed == ("input of 'inner' (None, None, None, 3)",)

    def test_a_batch_of_which_the_samples_are_lost(self):
        x = keras.Input((4, 8))
        size = tfprune.count(keras.Model(x, layers.Dense(3)(ops.mean(x, axis=0, keepdims=True))))
        assert size.assumed == ("output of 'mean' (1, 4, 8)",)

    def test_shapes_of_several_inputs(self):
        a, b = keras.Input((None, 4)), keras.Input((None, 6))
        model = keras.Model([a, b], [layers.Dense(2)(a), layers.Dense(3)(b)])
        assert tfprune.count(model, [(5, 4), (7, 6)]).macs == 5 * 8 + 7 * 18

    @pytest.mark.parametrize("shape", [(6, 8, 4), (6, 8), [(6, 8, 3), (6, 8, 3)]])
    def test_another_shape_is_refused(self, shape):
        with pytest.raises(ValueError, match=r"\(None, None, 3\). Received: input_shape="):
            tfprune.count(self.model(), input_shape=shape)


# Figures of papers. ResNet-50: 3.8e9 (He et al. 2016, table 1) for a network that strides in the
# first 1x1 convolution, as Keras's does; 25.6 M with the statistics of its norms. MobileNet: 569 M,
# 4.2 M (Howard et al. 2017). MobileNetV2: 300 M, 3.5 M with statistics (Sandler et al. 2018).
# EfficientNetB0: 0.39e9, 5.3 M (Tan and Le 2019). VGG16: 138 M (Simonyan and Zisserman 2015),
# 15.5e9 as usually given.
PUBLISHED = {
    "MobileNet": (569e6, 4.2e6),
    "MobileNetV2": (300e6, 3.5e6),
    "EfficientNetB0": (390e6, 5.3e6),
    "ResNet50": (3.86e9, 25.6e6),
    "VGG16": (15.5e9, 138e6),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_figures(name):
    macs, params = PUBLISHED[name]
    size = tfprune.count(getattr(keras.applications, name)(weights=None))
    assert size.macs == pytest.approx(macs, rel=0.012)
    assert size.parameters == pytest.approx(params, rel=0.013)
    assert not size.not_counted


@pytest.mark.slow
def test_a_published_figure_at_a_given_size():
    """MobileNetV3-Small: 56 M multiplications at 224x224 (Howard et al. 2019, table 3)."""
    model = keras.applications.MobileNetV3Small(weights=None)
    assert tfprune.count(model).assumed
    size = tfprune.count(model, input_shape=(224, 224, 3))
    assert size.macs == pytest.approx(56e6, rel=0.012)
    assert not size.assumed


class TestErrors:
    def test_not_a_model(self):
        with pytest.raises(TypeError, match="Received: 3"):
            tfprune.count(3)

    def test_a_subclassed_model(self):
        class Own(keras.Model):
            def call(self, x):
                return x

        with pytest.raises(ValueError, match="Functional API"):
            tfprune.count(Own())

    def test_an_unbuilt_model(self):
        with pytest.raises(ValueError, match="not built"):
            tfprune.count(keras.Sequential([layers.Dense(3)]))


def test_tf_keras():
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(2,), name="dense")])
    size = tfprune.count(model)
    assert (size.parameters, size.macs) == (9, 6)
    wrapped = tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0))
    size = tfprune.count(wrapped)
    assert (size.parameters, size.macs, size.wrapped) == (9, 6, 1)
