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


def test_an_optimizer_without_a_step_brings_no_slots(two_branches):
    two_branches.compile("adam", "mse")
    two_branches.optimizer.build(two_branches.trainable_variables)  # as loading a file does
    two_branches.optimizer.learning_rate = 0.25
    small, _ = tfprune.shrink(two_branches, channels=0.3)
    assert not small.optimizer.built
    assert float(small.optimizer.learning_rate) == 0.25


class Above(keras.metrics.Mean):
    """A metric that cannot be made again: its configuration lacks the limit."""

    def __init__(self, limit):
        super().__init__(name="above")
        self.limit = limit


def test_what_cannot_be_compiled_again_is_told(two_branches):
    two_branches.compile("sgd", "mse", metrics=[Above(3)])
    with pytest.warns(UserWarning, match="The smaller model is not compiled: its optimizer or met"):
        small, _ = tfprune.shrink(two_branches, channels=0.3)
    assert not small.compiled


def mae(y, p):
    """A function that has the name of one of Keras's, and computes something else."""
    return 0 * p[:, 0] + 7.0


def test_losses_and_metrics_of_the_users_own_are_kept(two_branches):
    loss = {"y": lambda y, p: keras.ops.mean(p, -1) * 0 + 3.0}
    two_branches.compile("sgd", loss, metrics=[[mae, "mse", keras.metrics.MeanSquaredError("m")]])
    small, _ = tfprune.shrink(two_branches, channels=0.3)
    x, y = np.ones((4, 6)), np.ones((4, 3))
    found = small.evaluate(x, y, verbose=0, return_dict=True)
    squares = float(np.mean((np.asarray(small(x)) - y) ** 2))
    assert found == pytest.approx({"loss": 3.0, "mae": 7.0, "mse": squares, "m": squares})
    assert float(two_branches.metrics[0].result()) == 0.0  # the model's own saw nothing


class Doubled(keras.Model):
    """A model that compiles in a way of its own."""

    def compile(self, rate):
        super().compile(keras.optimizers.SGD(2 * rate), "mse")

    def get_compile_config(self):
        return {"rate": 0.25}

    def compile_from_config(self, config):
        self.compile(**config)


def test_a_class_that_compiles_in_its_own_way():
    x = keras.Input((6,))
    model = Doubled(x, layers.Dense(3)(layers.Dense(4, name="a")(x)))
    model.compile(rate=0.25)
    small, _ = tfprune.shrink(model, channels=0.5)
    assert float(small.optimizer.learning_rate) == 0.5


# -- Layers frozen or let go since `compile` -----------------------------------------------------


def two_squares(optimizer, frozen):
    """A model with two weights of one shape, trained with one of them frozen."""
    model = keras.Sequential(
        [keras.Input((6,)), *(layers.Dense(6, name=n, use_bias=False) for n in "ab")]
    )
    model.add(layers.Dense(3, name="y", use_bias=False))
    model.get_layer(frozen).trainable = False
    train(model, optimizer)
    return model


def moments(model):
    """Return, by layer, the velocity that Adam holds for its kernel."""
    held = {v.name.removeprefix("sequential_"): v.numpy() for v in model.optimizer.variables}
    names = {n.split("_kernel_")[0]: n for n in held if n.endswith("velocity")}
    return {layer.split("_")[-1]: held[name] for layer, name in names.items()}


def test_a_layer_let_go_since_starts_anew():
    model = two_squares("adam", "a")
    model.get_layer("a").trainable = True
    with pytest.warns(UserWarning, match=r"starts anew in '[^']*a_kernel_momentum', '[^',]*'[,:]"):
        small, report = tfprune.shrink(model, channels={"b": 0.5})
    before, after = moments(model), moments(small)
    assert (sorted(before), sorted(after)) == (["b", "y"], ["a", "b", "y"])
    left = kept(report.history)["b"]
    np.testing.assert_array_equal(after["b"], before["b"][:, left])
    np.testing.assert_array_equal(after["y"], before["y"][left])
    assert not after["a"].any()
    assert int(small.optimizer.iterations) == 2


def test_a_layer_frozen_since_has_no_slots(recwarn):
    model = two_squares("adam", "a")
    model.get_layer("b").trainable = False
    small, _ = tfprune.shrink(model, channels={"a": 0.5})
    assert list(moments(small)) == ["y"]
    np.testing.assert_array_equal(moments(small)["y"], moments(model)["y"])
    assert not [w for w in recwarn if "starts anew" in str(w.message)]


def test_layers_that_swap_roles_do_not_swap_slots():
    model = two_squares("adam", "a")
    model.get_layer("a").trainable, model.get_layer("b").trainable = True, False
    with pytest.warns(UserWarning, match="starts anew"):
        small, _ = tfprune.shrink(model, channels={"a": 0.01})  # nothing, so that shapes fit
    assert moments(model)["b"].any()
    assert not moments(small)["a"].any()


def test_what_bears_no_name_starts_anew_when_weights_changed():
    """Adafactor's averages over rows and columns are all called "kernel"."""
    model = two_squares(keras.optimizers.Adafactor(), "a")
    assert np.abs(model.optimizer.variables[2]).max() > 0
    model.get_layer("a").trainable, model.get_layer("b").trainable = True, False
    with pytest.warns(UserWarning, match="starts anew in 'kernel', 'kernel'"):
        small, _ = tfprune.shrink(model, channels={"a": 0.01})
    assert np.abs(small.optimizer.variables[2]).max() == 0


def test_a_number_that_bears_no_name_is_kept():
    """Nadam's running product, whose name Keras counts up."""
    model = two_squares(keras.optimizers.Nadam(), "a")
    small, _ = tfprune.shrink(model, channels={"a": 0.5})
    old, new = (
        [float(v.numpy()) for v in one.optimizer.variables if len(v.shape) == 0]
        for one in (model, small)
    )
    assert old == new
    assert 0 < old[2] < 1


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
