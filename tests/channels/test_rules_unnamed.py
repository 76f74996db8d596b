"""Weights and layers that Keras names, with other numbers in every copy; a model without any."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfprune
from channels.checks import answers, difference
from tfprune.channels.rules import table


class Block(layers.Layer):
    """A dense layer and another weight, neither of which has a name."""

    def __init__(self, units=8, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def build(self, shape):
        self.dense.build(shape)
        self.scale = self.add_weight(shape=(self.units,), initializer="ones")

    def call(self, inputs):
        return ops.relu(self.dense(inputs)) * self.scale

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def two_blocks():
    x = keras.Input((6,))
    h = Block(16, name="b2")(Block(16, name="b1")(x))
    return keras.Model(x, layers.Dense(2, name="y")(h))


@pytest.fixture
def taught(monkeypatch):
    """A rule for that layer, which is forgotten afterwards."""
    monkeypatch.setattr(table, "_LAYERS", dict(table._LAYERS))

    @tfprune.channel_rule(Block, config=lambda one, count, i, o: {"units": count(one.scale, 0)})
    def block(visit):
        dense = visit.layer.dense
        visit.reads(dense.kernel, 0, visit.channels(visit.track, -1))
        made = visit.makes(dense.kernel, 1)
        for one in (dense.bias, visit.layer.scale):
            visit.equate(visit.ids(one, 0), made)
        return visit.along(made)


@pytest.mark.usefixtures("taught")
def test_replay_on_a_copy_with_weights_of_other_names():
    model, x = two_blocks(), np.ones((2, 6), "float32")
    small, report = tfprune.shrink(model, channels=0.5)
    copy = two_blocks()
    copy.set_weights(model.get_weights())
    assert copy.get_layer("b1").dense.name != model.get_layer("b1").dense.name
    again = tfprune.replay(copy, report.history)
    assert difference(answers(again, x), answers(small, x)) == 0
    old = [{k: v for k, v in entry.items() if k != "turn"} for entry in report.history]
    assert difference(answers(tfprune.replay(model, old), x), answers(small, x)) == 0


@pytest.mark.usefixtures("taught")
def test_rounds_remove_as_many_as_one():
    for steps in (1, 5):
        _, report = tfprune.shrink(two_blocks(), channels=0.5, steps=steps)
        assert report.channels_removed == 16
        left = {row.layer: row.after for row in report.layers}
        assert left["b1"] + left["b2"] == 16


def test_replay_says_that_only_names_differ():
    def unnamed():
        x = keras.Input((6,))
        return keras.Model(x, layers.Dense(2)(layers.Dense(8)(x)))

    _, report = tfprune.shrink(unnamed(), channels=0.5)
    with pytest.raises(ValueError, match=r"only names differ.*clear_session.*Received"):
        tfprune.replay(unnamed(), report.history)


@pytest.mark.parametrize("target", [{"macs": 0.5}, {"params": 0.5}, {"channels": 0.5}])
def test_a_model_without_weights(target):
    model = keras.Sequential([keras.Input((4,)), layers.ReLU()])
    _, report = tfprune.shrink(model, **target)
    assert "every channel must stay (no kernel makes any)" in "\n".join(report.lines())
