"""What is rebuilt smaller is otherwise what it was: functions, classes, inputs, shared layers."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from channels.checks import answers, difference, inputs_for, randomise
from channels.gate import cut_is_mask
from channels.graphs.cases import frozen_in
from tfprune.channels.cost import Cost
from tfprune.channels.rules import table
from tfprune.channels.structure import NOTHING, read


def relu(x):
    """Return three times x: no function of Keras, though one of its names."""
    return 3.0 * x


def half(x):
    """Return half of x, under a name that Keras does not know."""
    return 0.5 * x


def penalty(w):
    """Return a penalty that a configuration cannot hold."""
    return 0.001 * ops.sum(ops.abs(w))


class Half(keras.initializers.Initializer):
    """An initializer that is not registered."""

    def __call__(self, shape, dtype=None):
        return ops.full(shape, 0.5, dtype)


# -- Functions of one's own -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"activation": relu},
        {"activation": lambda x: x * ops.sigmoid(x)},
        {"kernel_regularizer": penalty},
        {"bias_initializer": Half()},
        {"kernel_constraint": lambda w: w},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("wrap", [lambda d: d, layers.TimeDistributed], ids=["plain", "each step"])
def test_functions_are_handed_over(options, wrap):
    x = keras.Input((5, 4))
    h = layers.Dense(8, name="a")(x)
    h = wrap(layers.Dense(8, name="b", **options))(h)
    model = keras.Model(x, layers.Dense(2, name="y")(h))
    structure = read(randomise(model))
    ((name, value),) = options.items()
    removed = np.arange(3)  # of `a`, which `b` reads
    small, _, _ = cut_is_mask(model, structure, removed, inputs_for(model))
    (layer,) = [one for one in small._flatten_layers() if one.name == "b"]
    assert getattr(layer, name) is value
    assert layer.kernel.shape == (5, 8)


def test_regularizer_of_a_norm_is_not_shared():
    x = keras.Input((4,))
    norm = layers.BatchNormalization(gamma_regularizer=penalty, name="n")
    model = keras.Model(x, layers.Dense(2)(norm(layers.Dense(8, name="a")(x))))
    small, _ = tfprune.shrink(model, channels=0.5)
    assert small.get_layer("n").gamma.shape == (4,)
    assert float(small.losses[0]) == pytest.approx(0.004)  # four scales of 1
    assert model.get_layer("n").gamma.shape == (8,)


def test_functions_of_layers_that_are_copied_by_what_wraps_them():
    x = keras.Input((5, 4))
    with keras.saving.custom_object_scope({"half": half}):
        both = layers.Bidirectional(layers.SimpleRNN(4, activation=half), name="both")
    assert both.forward_layer.activation is half
    model = keras.Model(x, layers.Dense(2)(both(layers.Dense(8, name="a")(x))))
    structure = read(randomise(model))
    small, _, _ = cut_is_mask(model, structure, np.arange(3), inputs_for(model))
    assert small.get_layer("both").backward_layer.activation is half


class Bent(layers.Layer):
    """x * weights, with an argument that its configuration does not tell."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), name="w")

    def call(self, inputs):
        return inputs * self.w


def test_a_layer_that_cannot_be_rebuilt_is_named(monkeypatch):
    monkeypatch.setattr(table, "_LAYERS", dict(table._LAYERS))

    @tfprune.channel_rule(Bent)
    def bent(visit):
        visit.equate(visit.ids(visit.layer.w, 0), visit.channels(visit.track, -1))
        return visit.track

    x = keras.Input((4,))
    h = Bent(object(), name="bent")(layers.Dense(8, name="a")(x))
    model = keras.Model(x, layers.Dense(2)(h))
    with pytest.raises(ValueError, match=r"'bent' cannot be made smaller.*`get_config`.*: Bent"):
        tfprune.shrink(model, channels=0.5)


# -- A layer that is wrapped and called by itself -------------------------------------------------


def test_layer_that_is_also_called_at_every_step():
    shared = layers.Dense(8, name="d")
    steps, once = keras.Input((5, 4)), keras.Input((4,))
    h = layers.GlobalAveragePooling1D()(layers.TimeDistributed(shared, name="t")(steps))
    model = keras.Model([steps, once], layers.Dense(2)(h + shared(once)))
    structure = read(randomise(model))
    assert structure.atoms.count == 8
    # 4 x 8 + 8 and 8 x 2 + 2; without 3 channels 4 x 5 + 5 and 5 x 2 + 2
    assert model.count_params() == 58
    small, _, _ = cut_is_mask(model, structure, np.arange(3), inputs_for(model))
    assert small.count_params() == 37
    assert small.get_layer("t").layer is small.get_layer("d")


def test_model_that_is_also_called_at_every_step():
    net = keras.Sequential([keras.Input((4,)), layers.Dense(6, name="p")], name="net")
    steps, once = keras.Input((5, 4)), keras.Input((3,))
    h = layers.GlobalAveragePooling1D()(layers.TimeDistributed(net, name="t")(steps))
    g = net(layers.Dense(4, name="s")(once))
    u = layers.Dense(5, name="u")(layers.Concatenate()([h, g]))
    model = keras.Model([steps, once], layers.Dense(2)(u))
    structure = read(randomise(model))
    # What `t` does is not seen, so that nothing of `net` goes; the 5 channels of `u` may.
    assert structure.atoms.count == 5
    assert "wraps a layer" in frozen_in(structure)["net/p.kernel1"][1]
    small, _, _ = cut_is_mask(model, structure, np.arange(2), inputs_for(model))
    assert small.get_layer("t").layer is small.get_layer("net")


# -- Models ---------------------------------------------------------------------------------------


class Warm(keras.Model):
    """A Functional model with an argument of its own, which is an attribute too."""

    def __init__(self, inputs, outputs, temperature=3.0, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.temperature = temperature


class Written(keras.Model):
    """One that tells the argument in its configuration only."""

    def __init__(self, *args, temperature, **kwargs):
        super().__init__(*args, **kwargs)
        self._kelvin = temperature

    def get_config(self):
        return {"temperature": self._kelvin}


class Secret(keras.Model):
    """One that does not tell."""

    def __init__(self, inputs, outputs, temperature=3.0, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self._kelvin = temperature


class Closed(keras.Model):
    """One that does not tell and cannot do without."""

    def __init__(self, inputs, outputs, temperature):
        super().__init__(inputs, outputs)
        self._kelvin = temperature


def of_class(kind):
    """Return a small model of a class with a temperature of 7."""
    x = keras.Input((4,))
    return kind(x, layers.Dense(2)(layers.Dense(8)(x)), temperature=7.0)


@pytest.mark.parametrize(("kind", "name"), [(Warm, "temperature"), (Written, "_kelvin")])
def test_arguments_of_a_models_class(kind, name):
    model = of_class(kind)
    small, _ = tfprune.shrink(model, channels=0.5)
    assert type(small) is kind
    assert getattr(small, name) == 7.0
    assert small.name == model.name


class Headed(keras.Model):
    """One that is told which of its layers is the head."""

    def __init__(self, inputs, outputs, heads=(), **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.heads = heads


def test_layers_among_the_arguments_are_the_new_ones():
    x, head = keras.Input((4,)), layers.Dense(2, name="head")
    model = Headed(x, head(layers.Dense(8)(x)), heads=[head])
    small, report = tfprune.shrink(model, channels=0.5)
    assert small.heads[0] is small.get_layer("head")
    assert small.count_params() == report.params_after == 4 * 4 + 4 + 4 * 2 + 2


def test_arguments_that_are_not_known_are_told():
    with pytest.warns(UserWarning, match="a Secret, has the default of `temperature`"):
        small, _ = tfprune.shrink(of_class(Secret), channels=0.5)
    assert type(small) is Secret
    with pytest.warns(UserWarning, match="plain `keras.Model`: Closed .* attribute 'temperature'"):
        small, _ = tfprune.shrink(of_class(Closed), channels=0.5)
    assert type(small) is not Closed


class FirstOf(layers.Layer):
    """Return the first of two inputs, of which the second may be missing."""

    def call(self, first, second=None):
        return first if second is None else first + second

    def compute_output_shape(self, first_shape, second_shape=None):
        return first_shape


def test_an_optional_input_stays_optional():
    x, other = keras.Input((4,), name="x"), keras.Input((4,), optional=True, name="other")
    h = FirstOf()(x, other)
    model = keras.Model([x, other], layers.Dense(2)(layers.Dense(8, name="a")(h)))
    small, _ = tfprune.shrink(model, channels=0.5)
    assert [one.name for one in small.layers] == [one.name for one in model.layers]
    alone = np.ones((1, 4), "float32")
    assert difference(answers(small, [alone, None]), answers(small, [alone, 0 * alone])) == 0


class Remembering(keras.Model):
    """A model with a weight of its own, as long as a layer is wide."""

    def __init__(self, inputs, outputs, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.memory = self.add_weight(shape=(self.get_layer("a").units,), name="memory")


class Counting(keras.Model):
    """A model with a weight of its own."""

    def __init__(self, inputs, outputs, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.count = self.add_weight(shape=(3,), initializer="zeros", name="count")


def small_network(kind):
    x = keras.Input((4,))
    return kind(x, layers.Dense(2)(layers.Dense(8, name="a")(x)))


def test_weights_that_a_models_class_makes_go_along():
    model = small_network(Counting)
    model.count.assign([1.0, 2.0, 3.0])
    small, report = tfprune.shrink(model, channels=0.5)
    assert isinstance(small, Counting)
    np.testing.assert_array_equal(small.count, [1.0, 2.0, 3.0])
    assert report.params_after == small.count_params() == 4 * 4 + 4 + 4 * 2 + 2 + 3


def test_weights_of_a_class_that_is_lost_are_not_missed():
    class Lost(Counting):
        def __init__(self, *args, depth, **kwargs):
            super().__init__(*args, **kwargs)

    model = small_network(lambda x, y: Lost(x, y, depth=1))
    with pytest.warns(UserWarning, match=r"is a plain `keras.Model`: Lost is none"):
        small, _ = tfprune.shrink(model, channels=0.5)
    assert small.count_params() == 4 * 4 + 4 + 4 * 2 + 2


def test_weights_of_a_class_that_depend_on_a_layer_are_refused():
    with pytest.raises(
        ValueError, match=r"weights of its own.*Received: \[\(8,\)\] and \[\(4,\)\]"
    ):
        tfprune.shrink(small_network(Remembering), channels=0.5)


def test_a_model_of_another_size_than_counted_is_told(monkeypatch):
    monkeypatch.setattr(Cost, "params", lambda self, removed: 38)
    structure = read(small_network(keras.Model))
    with pytest.raises(RuntimeError, match=r"have 38 parameters.*with 58.*Received"):
        structure.without(NOTHING)
