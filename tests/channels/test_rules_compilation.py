"""A compiled model is compiled after the cut, with what its optimizer remembers."""

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tfprune.channels.structure import read


def nested(name):
    """Return a nested model whose layers are named as those of any other."""
    x = keras.Input((6,))
    return keras.Model(x, layers.Dense(4, name="b")(layers.Dense(5, name="a")(x)), name=name)


@pytest.fixture
def two_branches():
    """Two nested models with layers, and so variables, of the same names."""
    x = keras.Input((6,))
    h = layers.Concatenate()([nested("one")(x), nested("two")(x)])
    return keras.Model(x, layers.Dense(3, name="y")(h))


def train(model, optimizer):
    """Compile, and train for two steps so that no slot is zero."""
    rng = np.random.default_rng(0)
    model.compile(optimizer, "mse", metrics=["mae"])
    model.fit(rng.normal(size=(8, 6)), rng.normal(size=(8, 3)), batch_size=4, verbose=0)


def slots(optimizer, model):
    """Return the slots of each trainable variable, in the order of the model."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    found = []
    for variable in model.trainable_variables:
        index = inner._get_variable_index(variable)
        found.append([np.asarray(slot[index]) for slot in (inner._momentums, inner._velocities)])
    return found


def kept(removed):
    """Return, by layer, which units are left."""
    made = [entry for entry in removed if entry["axis"] == 1]
    return {one["layer"]: np.delete(np.arange(one["of"]), one["removed"]) for one in made}


@pytest.mark.parametrize("scaled", [False, True])
def test_slots_are_cut_like_their_weights(two_branches, scaled):
    model = two_branches
    optimizer = keras.optimizers.Adam(1e-3)
    assert len({v.path for v in model.trainable_variables}) == 6  # of 10 variables
    train(model, keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer)
    ratios = {"one/a": 0.4, "one/b": 0.25, "two/a": 0.6, "two/b": 0.5}
    small, report = tfprune.shrink(model, channels=ratios)
    left = kept(report.history)
    assert {name: units.size for name, units in left.items()} == {
        "one/a": 3,
        "one/b": 3,
        "two/a": 2,
        "two/b": 2,
    }
    together = np.concatenate([left["one/b"], 4 + left["two/b"]])
    cuts = [
        lambda v: v[:, left["one/a"]],
        lambda v: v[left["one/a"]],
        lambda v: v[left["one/a"]][:, left["one/b"]],
        lambda v: v[left["one/b"]],
        lambda v: v[:, left["two/a"]],
        lambda v: v[left["two/a"]],
        lambda v: v[left["two/a"]][:, left["two/b"]],
        lambda v: v[left["two/b"]],
        lambda v: v[together],
        lambda v: v,
    ]
    before, after = slots(model.optimizer, model), slots(small.optimizer, small)
    for cut, old, new in zip(cuts, before, after, strict=True):
        for a, b in zip(old, new, strict=True):
            assert np.abs(a).max() > 0
            np.testing.assert_array_equal(cut(a), b)
    assert int(small.optimizer.iterations) == int(model.optimizer.iterations) == 2
    assert small.optimizer.learning_rate == model.optimizer.learning_rate
    train_on = small.fit(np.ones((4, 6)), np.ones((4, 3)), verbose=0)
    assert np.isfinite(train_on.history["mae"]).all()


def test_what_cannot_be_compiled_again_is_told(two_branches):
    two_branches.compile("sgd", lambda y, p: keras.ops.mean(p))
    with pytest.warns(UserWarning, match="The smaller model is not compiled"):
        small, _ = tfprune.shrink(two_branches, channels=0.3)
    assert not small.compiled


def test_model_that_is_not_compiled_stays_so(two_branches):
    small, _ = tfprune.shrink(two_branches, channels=0.3)
    assert not small.compiled


def test_history_of_another_model(two_branches):
    _, report = tfprune.shrink(two_branches, channels=0.3)
    other = keras.Sequential([keras.Input((6,)), layers.Dense(5, name="a"), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"made for another model.*none of that name"):
        tfprune.replay(other, report.history)


def test_history_of_what_must_stay(two_branches):
    place = next(p for p in read(two_branches).atoms.places if p.layer == "y" and p.axis == 1)
    entry = {"layer": "y", "weight": place.name, "axis": 1, "of": 3, "removed": [0]}
    with pytest.raises(ValueError, match=r"must stay here: it is an output of the model"):
        tfprune.replay(two_branches, [entry])
