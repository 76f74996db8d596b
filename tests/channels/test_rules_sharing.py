"""Weights that several layers hold: still one weight in the smaller model, or refused."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from channels.checks import inputs_for, randomise
from channels.gate import cut_is_mask, pass_gate
from tfprune.channels.structure import NOTHING, read


@keras.saving.register_keras_serializable("channels")
class Around(layers.Layer):
    """What another layer makes, by itself or times its transposed table."""

    def __init__(self, inner, tied=False, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.tied = inner, tied

    def call(self, inputs):
        if self.tied:
            return ops.matmul(inputs, ops.transpose(self.inner.embeddings))
        return ops.relu(self.inner(inputs))

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner, "tied": self.tied}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)


def spectral():
    x = keras.Input((6, 6, 3))
    c = layers.Conv2D(4, 3, name="c")
    h = layers.Concatenate()([c(x), layers.SpectralNormalization(c, name="o")(x)])
    return x, layers.GlobalAveragePooling2D()(h), ("c", "o", "layer")


def block():
    x = keras.Input((6,))
    c = layers.Dense(6, name="c")
    return x, Around(c, name="o")(c(x)), ("c", "o", "inner")


def table():
    x = keras.Input((5,), dtype="int32")
    c = layers.Embedding(20, 4, name="c")
    h = layers.Dense(4, name="h")(layers.Dense(9, name="g")(c(x)))
    return x, layers.Flatten()(Around(c, tied=True, name="o")(h)), ("c", "o", "inner")


def cells():
    x = keras.Input((4, 5))
    cell = layers.LSTMCell(5)
    h = layers.RNN(cell, return_sequences=True, name="c")(x)
    return x, layers.RNN(cell, name="o")(h), ("c", "o", "cell")


@pytest.mark.parametrize("build", [spectral, block, table, cells])
def test_layers_that_hold_a_layer_keep_it(build, tmp_path):
    x, h, (name, other, attribute) = build()
    model = keras.Model(x, layers.Dense(3, name="y")(layers.Dense(8, name="k")(h)))
    if build is cells:  # Keras does not load the model itself: it saves the cell once
        structure = read(randomise(model))
        small, _, _ = cut_is_mask(model, structure, np.arange(4), inputs_for(model))
    else:
        small = pass_gate(model, tmp_path)
    assert small.get_layer("k").units == 4
    one, held = small.get_layer(name), getattr(small.get_layer(other), attribute)
    assert held is (one.cell if attribute == "cell" else one)
    assert len(small.weights) == len(model.weights)


class Borrowing(layers.Layer):
    """A layer with the kernel of another, which its configuration does not tell."""

    def __init__(self, other=None, **kwargs):
        super().__init__(**kwargs)
        self.other = other or layers.Dense(6)

    def build(self, shape):
        if not self.other.built:
            self.other.build(shape)

    def call(self, inputs):
        return ops.matmul(inputs, self.other.kernel)


def of_a_gru():
    x = keras.Input((4, 6))
    one = layers.GRU(6, return_sequences=True, name="one")
    h = one(x)
    return x, layers.RNN(one.cell, name="two")(h)


def not_told():
    x = keras.Input((6,))
    one = layers.Dense(6, name="one")
    h = one(x)
    return x, Borrowing(one, name="two")(h)


def one_variable():
    x = keras.Input((6,))
    one, two = layers.Dense(6, name="one"), layers.Dense(6, name="two")
    one.build((None, 6))
    two.build((None, 6))
    two._tracker.unlock()
    two._kernel = one._kernel
    two._tracker.lock()
    return x, one(two(x))


@pytest.mark.filterwarnings("ignore:The layer 'two' cannot be rebuilt")
@pytest.mark.parametrize("build", [of_a_gru, not_told, one_variable])
def test_weights_that_would_be_torn_apart_are_refused(build):
    x, h = build()
    model = keras.Model(x, layers.Dense(3, name="y")(layers.Dense(8, name="k")(h)))
    message = r"layers '(one|two)' \(.*\) and '(one|two)' \(.*\) share the weight.*own.*Received"
    with pytest.raises(ValueError, match=message):
        tfprune.shrink(model, channels=0.3)


def test_what_is_copied_is_the_weight_of_the_layer_that_holds_it():
    x, h, _ = block()
    model = randomise(keras.Model(x, layers.Dense(3, name="y")(h)))
    same, _ = read(model).without(NOTHING)
    for old, new in zip(model.weights, same.weights, strict=True):
        np.testing.assert_array_equal(old, new)
        assert old.path == new.path
