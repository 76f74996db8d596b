"""Layers of one's own: kept as they are until a rule teaches them; what is no rule's business."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from channels.gate import pass_gate
from channels.graphs.cases import conv, families_of, finish, frozen_in, image
from tfprune.channels.rules import table
from tfprune.channels.structure import read
from tfprune.channels.track import untracked


@keras.saving.register_keras_serializable("channels")
class Scale(layers.Layer):
    """y = x * factors, one for each channel."""

    def build(self, shape):
        self.factors = self.add_weight(shape=(shape[-1],), initializer="ones", name="factors")

    def call(self, inputs):
        return inputs * self.factors


@pytest.fixture
def scaled():
    """A model with a layer of the user's between two convolutions."""
    x = image()
    return finish(x, conv(Scale(name="s")(conv(x, 4, "a")), 5, "b"))


@pytest.fixture
def taught():
    """A rule for that layer, which is forgotten afterwards."""

    @tfprune.channel_rule(Scale)
    def scale(visit):
        channels = visit.channels(visit.track, -1)
        visit.equate(visit.ids(visit.layer.factors, 0), channels)
        return visit.track

    yield scale
    del table._LAYERS[Scale]


def test_unknown_layer_keeps_its_channels(scaled, tmp_path):
    structure = read(scaled)
    assert families_of(structure) == ["5: b.bias b.kernel3 y.kernel0"]
    reason = "it goes through 's', a Scale, for which no rule is known"
    assert frozen_in(structure)["a.kernel3"] == (4, reason)
    assert structure.trace.unknown == [("s", "Scale")]
    pass_gate(scaled, tmp_path)


@pytest.mark.usefixtures("taught")
def test_rule_teaches_a_layer(scaled, tmp_path):
    structure = read(scaled)
    assert families_of(structure) == [
        "4: a.bias a.kernel3 b.kernel2 s.factors",
        "5: b.bias b.kernel3 y.kernel0",
    ]
    pass_gate(scaled, tmp_path)


@pytest.mark.parametrize("given", [Scale(), "Scale", keras.Model.fit, int])
def test_rule_for_what_is_no_layer_class(given):
    with pytest.raises(TypeError, match=r"takes the class of a Keras 3 layer.*Received"):
        tfprune.channel_rule(given)


def test_activation_that_may_mix_channels(tmp_path):
    x = image()
    h = conv(conv(x, 4, "a", activation=lambda v: v[..., ::-1]), 5, "b", activation="gelu")
    model = finish(x, conv(h, 6, "c", activation="softmax"))
    found = frozen_in(read(model))
    assert "activation '<lambda>' of 'a' may mix channels" in found["a.kernel3"][1]
    assert "activation 'softmax' of 'c' may mix channels" in found["c.kernel3"][1]
    assert "b.kernel3" not in found


@pytest.mark.parametrize("form", ["lora", "int8"])
def test_weights_in_another_form_stay(form):
    x = keras.Input((8,))
    h = layers.Dense(16, name="b")(layers.Dense(4, name="a")(x))
    model = keras.Model(x, layers.Dense(3, name="y")(h))
    if form == "lora":
        model.get_layer("b").enable_lora(2)
    else:
        model.get_layer("b").quantize("int8")
    structure = read(model)
    assert structure.atoms.count == 0
    assert "in another form" in frozen_in(structure)["a.kernel1"][1]


def test_mask_made_of_channels_stays():
    x = keras.Input((5, 3))
    mask = keras.ops.greater(layers.Dense(5, name="a")(x[:, 0]), 0)
    h = layers.GRU(4, name="b")(x, mask=mask)
    structure = read(finish(x, h))
    assert "it is a mask of 'b'" in frozen_in(structure)["a.kernel1"][1]


@keras.saving.register_keras_serializable("channels")
class Trainer(keras.Model):
    """A Functional model with a step of its own."""

    def train_step(self, data):
        return {"seven": keras.ops.convert_to_tensor(7.0)}


def test_functional_subclass_keeps_its_class_and_its_step():
    x = image()
    base = finish(x, conv(conv(x, 4, "a"), 5, "b"))
    model = Trainer(base.inputs, base.outputs)
    small, _ = tfprune.shrink(model, channels=0.4)
    assert isinstance(small, Trainer)
    small.compile("sgd", "mse")
    done = small.fit(np.zeros((2, 6, 6, 3)), np.zeros((2, 3)), verbose=0).history
    assert done["seven"] == [7.0]


class Chain(keras.Sequential):
    """A Sequential model with a step of its own, which cannot be made from inputs and outputs."""


def test_sequential_subclass_is_told():
    parts = [keras.Input((5,)), layers.Dense(4), layers.Dense(3)]
    with pytest.warns(UserWarning, match="plain `keras.Model`: Chain"):
        tfprune.shrink(Chain(parts), channels=0.5)


def test_trainable_flags_of_nested_models_and_layers():
    inner = keras.Sequential(
        [keras.Input((5,)), layers.Dense(4, name="p"), layers.Dense(4, name="q")], name="inner"
    )
    outer = keras.Sequential([keras.Input((5,)), inner, layers.Dense(4, name="r")], name="outer")
    model = keras.Sequential([keras.Input((5,)), outer, layers.Dense(3, name="y")])
    outer.trainable = False
    inner.trainable = True
    inner.get_layer("q").trainable = False
    small, _ = tfprune.shrink(model, channels=0.4)
    flags = [
        (layer.name, layer.trainable)
        for layer in small._flatten_layers()
        if layer.name in ["outer", "inner", "p", "q", "r", "y"]
    ]
    assert sorted(flags) == [
        *(("inner", True), ("outer", False), ("p", True)),
        *(("q", False), ("r", False), ("y", True)),
    ]
    assert [v.path for v in small.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]


def test_names_of_inputs_and_layers_stay():
    unnamed, named = keras.Input((5,)), keras.Input((5,), name="other")
    h = layers.Dense(4, name="a")(unnamed) + layers.Dense(4, name="b")(named)
    model = keras.Model({"first": unnamed, "other": named}, layers.Dense(3, name="y")(h))
    small, _ = tfprune.shrink(model, channels=0.5)
    assert [one.name for one in small.layers] == [one.name for one in model.layers]
    assert small.inputs[1].name == "other"
    assert small({"first": np.ones((1, 5)), "other": np.ones((1, 5))}).shape == (1, 3)


@pytest.fixture
def mistaken():
    """Teach a rule that returns something, which is forgotten afterwards."""
    yield lambda found: tfprune.channel_rule(Scale)(lambda visit: found)
    table._LAYERS.pop(Scale, None)


@pytest.mark.parametrize("found", [None, [], 3, "two tracks"])
def test_a_rule_that_does_not_return_what_comes_out(scaled, mistaken, found):
    track = untracked((None, 4))
    mistaken([track, track] if found == "two tracks" else found)
    message = r"rule of Scale must return a track for each output.*here 1.*Received: .*for 's'"
    with pytest.raises(TypeError, match=message):
        tfprune.shrink(scaled, channels=0.5)


def test_such_a_rule_inside_another_layer():
    class WithShape(Scale):
        def compute_output_shape(self, shape):
            return shape

    tfprune.channel_rule(WithShape)(lambda visit: None)
    given = keras.Input((3, 4))
    x = layers.TimeDistributed(WithShape(), name="s")(layers.Dense(4)(given))
    with pytest.raises(TypeError, match="rule of WithShape must return a track"):
        tfprune.shrink(keras.Model(given, layers.Dense(2)(x)), channels=0.5)
