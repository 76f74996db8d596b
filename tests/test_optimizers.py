"""The forward pass leaves masks out only where that changes nothing: every optimizer is tried."""

import keras
import numpy as np
import pytest
from keras import ops

import tfprune
from tfprune import optimizers

STILL = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True, clipvalue=0.5),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=0.1),
    "nadam": lambda: keras.optimizers.Nadam(0.01, global_clipnorm=0.1),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
    "rmsprop with all": lambda: keras.optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "accumulating": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
    "loss scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
}

RNG = np.random.default_rng(0)
X = RNG.standard_normal((64, 8), np.float32)
Y = np.tanh(X @ RNG.standard_normal((8, 1), np.float32))


def model(optimizer, steps_per_execution=1, jit_compile=False, cls=keras.Sequential, **kwargs):
    """Return a wrapped model that has trained dense, so that its momentum is not zero."""
    keras.utils.set_random_seed(0)
    schedule = tfprune.PolynomialDecay(0.0, 0.75, begin_step=4, end_step=12, frequency=2)
    wide = tfprune.PruneLowMagnitude(keras.layers.Dense(16, "tanh", **kwargs), schedule)
    built = cls([keras.Input((8,)), wide, keras.layers.Dense(1)])
    built.compile(
        optimizer, "mse", steps_per_execution=steps_per_execution, jit_compile=jit_compile
    )
    return built


class Watch(keras.callbacks.Callback):
    """Counts the cut weights that are not zero after each batch, and notes who was trusted."""

    def __init__(self):
        super().__init__()
        self.alive, self.trusted, self.cut = 0, [], 0

    def on_train_batch_end(self, batch, logs=None):
        wrapper = self.model.layers[0]
        [(weight, mask, _)] = wrapper.pruning_vars
        self.alive += int(np.count_nonzero(weight.numpy()[~mask.numpy()]))
        self.cut += int(np.count_nonzero(~mask.numpy()))
        self.trusted.append(wrapper.zeros_hold)


def train(built, epochs=3):
    watch = Watch()
    built.fit(
        X, Y, 8, epochs, shuffle=False, verbose=0, callbacks=[tfprune.UpdatePruningStep(), watch]
    )
    return watch, tfprune.strip_pruning(built).get_weights()


def assert_spared(monkeypatch, make, **kwargs):
    """Train with and without masks in the forward pass: one result, and no cut weight moved."""
    watch, fast = train(model(make(), **kwargs))
    assert all(watch.trusted)
    assert watch.cut > 0
    assert watch.alive == 0
    monkeypatch.setattr(optimizers, "keeps_zeros", lambda model, weights: False)
    watch, masked = train(model(make(), **kwargs))
    assert not any(watch.trusted)
    for ours, theirs in zip(fast, masked, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", STILL)
def test_cut_weights_stay_zero_and_the_result_is_that_of_masking(name, monkeypatch):
    assert_spared(monkeypatch, STILL[name])


@pytest.mark.parametrize(
    "kwargs",
    [
        {"steps_per_execution": 4},
        {"jit_compile": True},
        {"dtype": "mixed_bfloat16"},
        {"kernel_regularizer": "L1L2", "kernel_constraint": "max_norm"},
    ],
    ids=str,
)
def test_the_same_in_every_way_to_train(kwargs, monkeypatch):
    assert_spared(monkeypatch, STILL["adam"], **kwargs)


class OwnStep(keras.Sequential):
    def train_step(self, *args, **kwargs):
        return super().train_step(*args, **kwargs)


class OwnAdam(keras.optimizers.Adam):
    pass


class Push(keras.regularizers.Regularizer):
    def __call__(self, weight):
        return ops.sum(ops.square(weight - 1.0))


class Shift(keras.constraints.Constraint):
    def __call__(self, weight):
        return weight + 0.01


@pytest.mark.parametrize(
    ("optimizer", "kwargs"),
    [
        (lambda: keras.optimizers.Ftrl(0.1), {}),
        (lambda: keras.optimizers.Adafactor(0.01), {}),
        (lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3), {}),
        (lambda: OwnAdam(0.01), {}),
        (STILL["adam"], {"cls": OwnStep}),
        (STILL["adam"], {"kernel_regularizer": Push()}),
        (STILL["adam"], {"kernel_constraint": Shift()}),
    ],
    ids=["ftrl", "adafactor", "average", "own", "own step", "own regularizer", "own constraint"],
)
def test_what_may_move_a_cut_weight_is_not_trusted_and_masked(optimizer, kwargs):
    built = model(optimizer(), **kwargs)
    watch, stripped = train(built)
    assert not any(watch.trusted)
    assert np.mean(stripped[0] == 0) == 0.75


def test_weights_of_one_path_are_not_trusted():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    halves = [keras.Sequential([keras.Input((8,)), keras.layers.Dense(8, name="twin")], name="half")
              for _ in range(2)]  # fmt: skip
    outer = keras.Sequential([keras.Input((8,)), halves[1]], name="outer")
    built = keras.Model(inputs, outer(halves[0](inputs)))
    weights = [v for v in built.trainable_variables if v.name == "kernel"]
    assert weights[0].path == weights[1].path
    built.compile(keras.optimizers.Adam(), "mse")
    assert not optimizers.keeps_zeros(built, weights)


class Tied(keras.Model):
    """Uses the weight of its wrapped layer a second time, where no mask meets its gradient."""

    def __init__(self, wrapper):
        super().__init__()
        self.wrapper = wrapper

    def call(self, x, training=None):
        hidden = self.wrapper(x, training=training)
        return ops.matmul(hidden, ops.transpose(self.wrapper.layer.kernel))[:, :1]


def test_a_weight_moved_by_another_use_is_found_out_and_masked_from_then_on():
    keras.utils.set_random_seed(0)
    schedule = tfprune.ConstantSparsity(0.5, 0, frequency=100)
    built = Tied(tfprune.PruneLowMagnitude(keras.layers.Dense(16), schedule))
    built.compile("adam", "mse")
    built(X[:1])
    built.optimizer.build(built.trainable_variables)
    kernel, mask, _ = built.wrapper.pruning_vars[0]
    trusted, expected, losses = [], [], []

    def begin(batch, logs=None):
        trusted.append(built.wrapper.zeros_hold)
        kernel.assign(np.ones(kernel.shape))  # seen by a forward pass without masks
        expected.append(np.mean(np.square(built(X) - Y)))

    note = keras.callbacks.LambdaCallback(
        on_train_batch_begin=begin, on_train_batch_end=lambda batch, logs: losses.append(logs)
    )
    built.fit(X, Y, 64, 2, verbose=0, callbacks=[tfprune.UpdatePruningStep(), note])
    assert trusted == [True, False]
    assert losses[0]["loss"] != pytest.approx(expected[0], rel=1e-3)
    assert losses[1]["loss"] == pytest.approx(expected[1], rel=1e-5)
    assert np.count_nonzero(kernel.numpy()[~mask.numpy()]) == 0


def test_weights_loaded_before_a_run_are_masked_before_they_are_used():
    built = model(keras.optimizers.SGD(0.0))
    train(built)
    wrapper = built.layers[0]
    [(weight, mask, _)] = wrapper.pruning_vars
    weight.assign(np.ones(weight.shape))  # dense, whatever the mask
    watch, callback = Watch(), tfprune.UpdatePruningStep()
    losses = built.fit(X, Y, 64, 1, verbose=0, callbacks=[callback, watch]).history
    assert watch.trusted == [True]
    weight.assign(mask.numpy().astype("float32"))
    assert losses["loss"][0] == pytest.approx(built.evaluate(X, Y, 64, verbose=0), rel=1e-5)


def test_momentum_is_cut_and_the_rest_of_the_optimizer_is_left():
    built = model(STILL["adam"]())
    train(built)
    [(weight, mask, _)] = built.layers[0].pruning_vars
    path = weight.path.replace("/", "_")
    slots = {v.name: v.numpy() for v in built.optimizer.variables}
    momentum, velocity = slots[f"{path}_momentum"], slots[f"{path}_velocity"]
    assert np.count_nonzero(momentum[~mask.numpy()]) == 0
    assert np.count_nonzero(momentum[mask.numpy()]) == mask.numpy().sum()
    assert np.count_nonzero(velocity) == velocity.size


@pytest.mark.parametrize(
    ("kind", "slot"),
    [
        ("Adam", "momentum"),
        ("RMSprop", "velocity"),
        ("Adagrad", "accumulator"),
        ("Adadelta", "accumulated_grad"),
        ("Ftrl", "accumulator"),
    ],
)
def test_an_optimizer_of_another_model_is_refused_before_the_first_step(kind, slot):
    first = model(getattr(keras.optimizers, kind)())
    train(first, epochs=1)
    wide = tfprune.PruneLowMagnitude(keras.layers.Dense(12), tfprune.ConstantSparsity(0.5, 0))
    other = keras.Sequential([keras.Input((8,)), wide, keras.layers.Dense(1)])
    other.compile(first.optimizer, "mse")
    with pytest.raises(ValueError, match=rf"state of other weights.*Received: .*_{slot}'"):
        other.fit(X, Y, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert wide.cut_weights_are_zero()
    assert np.count_nonzero(wide.layer.kernel.numpy()) == 8 * 12  # nothing was pruned
    optimizers.require_match(first)


def test_weights_may_be_frozen_behind_an_optimizer_but_not_thawed():
    frozen, thawed = model("adam"), model("adam")
    thawed.layers[1].trainable = False
    for built in (frozen, thawed):
        train(built, epochs=1)
        built.layers[1].trainable = not built.layers[1].trainable
        built.compile(built.optimizer, "mse")
    train(frozen, epochs=1)
    with pytest.raises(
        ValueError, match=r"layers were frozen.*without 'sequential_?\d*/dense_?\d*/kernel'"
    ):
        train(thawed, epochs=1)
