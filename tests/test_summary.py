"""The table of a model's sparsity: whose row is whose, and what it says."""

import json

import keras
import numpy as np
import pytest

import tfprune

tf_keras = pytest.importorskip("tf_keras")

FAMILIES = pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras", "tf_keras"])


def two_encoders(k):
    """A model with three layers called "dense": its own, and one in each nested model."""

    def encoder(name):
        layers = [k.layers.Dense(8, name="dense"), k.layers.Dense(8, name=f"only_{name}")]
        return k.Sequential([k.Input((8,)), *layers], name=name)

    x = k.Input((8,))
    y = encoder("e2")(encoder("e1")(x))
    return k.Model(x, k.layers.Dense(8, name="dense")(y), name="both")


def reasons(model):
    return {row.layer: row.reason for row in tfprune.summary(model).rows}


@FAMILIES
def test_layers_of_the_same_name_keep_their_own_reasons(k):
    rules = [
        tfprune.Rule("e1/dense", skip=True),
        tfprune.Rule("only_e1", schedule=0.5),
    ]
    assert reasons(tfprune.prune(two_encoders(k), rules)) == {
        "only_e1": "",  # the only one of its name needs no path
        "e1/dense": "a rule says to skip it",
        "e2/dense": "no rule matches it",
        "only_e2": "no rule matches it",
        "dense": "no rule matches it",
    }


@FAMILIES
def test_wrapped_layers_of_the_same_name_show_their_paths(k):
    rules = [tfprune.Rule("e1/dense", schedule=0.5), tfprune.Rule("e2/dense", schedule=0.75)]
    summary = tfprune.summary(tfprune.prune(two_encoders(k), rules))
    assert [(row.layer, row.target) for row in summary.rows] == [
        ("e1/dense", 0.5),
        ("e2/dense", 0.75),
        ("only_e1", None),
        ("only_e2", None),
        ("dense", None),
    ]
    assert all(name in str(summary) for name in ("e1/dense", "e2/dense"))
    labels = [label.get_text() for label in summary.plot().get_yticklabels()]
    assert len(set(labels)) == 5


def test_models_deeper_down_and_a_shared_layer():
    shared = keras.layers.Dense(4, name="dense")

    def wrapped_in(name, layer):
        return keras.Sequential([keras.Input((4,)), layer], name=name)

    x = keras.Input((4,))
    y = wrapped_in("a", wrapped_in("b", shared))(shared(x))
    y = wrapped_in("c", wrapped_in("b", keras.layers.Dense(4, name="dense")))(y)
    model = tfprune.prune(keras.Model(x, y), [tfprune.Rule("c/b/dense", schedule=0.5)])
    names = [row.layer for row in tfprune.summary(model).rows]
    assert names[0] == "c/b/dense"
    assert len(names) == 2
    assert names[1] in ("dense", "a/b/dense")  # shared: it stands in both places


def test_layers_of_a_model_that_was_left_alone_as_a_whole_say_why():
    class Inner(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inside = keras.layers.Dense(8, name="inside")

        def call(self, x):
            return self.inside(x)

    x = keras.Input((8,))
    model = keras.Model(x, keras.layers.Dense(8, name="last")(Inner(name="inner")(x)))
    model = tfprune.prune(model, [tfprune.Rule("last", schedule=0.5)])
    assert reasons(model)["inside"] == "no rule matches it"


def test_a_single_layer_has_a_row():
    layer = tfprune.prune_low_magnitude(keras.layers.Dense(4, name="alone"), 0.5)
    layer.build((None, 4))
    assert [row.layer for row in tfprune.summary(layer).rows] == ["alone"]


def test_saving_keeps_a_file_that_is_there(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="out")])
    model.layers[0].kernel.assign(np.array([[0.0, 1.0]] * 4))
    summary = tfprune.summary(model)
    path = tmp_path / "summary.json"
    saved = json.loads(summary.to_json(path))
    assert saved == json.loads(path.read_text()) == json.loads(summary.to_json())
    assert (saved["rows"][0]["nonzero"], saved["rows"][0]["size"]) == (4, 8)

    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        summary.to_json(path)
    assert path.read_text() == "mine"
    summary.to_json(str(path), overwrite=True)
    assert json.loads(path.read_text()) == saved
