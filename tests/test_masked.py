"""Scores, soft pruning and RigL at work: in `fit`, in loops, across files, and with everything."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tfprune.wrapper import PruneLowMagnitude, wrappers

RNG = np.random.default_rng(0)
X = RNG.standard_normal((32, 8)).astype("float32")
Y = np.tanh(X @ RNG.standard_normal((8, 1))).astype("float32")

GROWS = tfprune.PolynomialDecay(0.0, 0.75, 0, 12, power=1, frequency=3)
STANDS = tfprune.ConstantSparsity(0.75, 0, 12, frequency=3)
WAYS = {
    "movement": {"schedule": GROWS, "score": "movement"},
    "taylor 2:4": {"schedule": GROWS, "score": "taylor", "pattern": "2:4"},
    "snip": {"schedule": tfprune.ConstantSparsity(0.5, 3, 9, frequency=3), "score": "snip"},
    "soft": {"schedule": GROWS, "regrowth": "soft"},
    "soft 2:4, decay": {"schedule": GROWS, "pattern": "2:4",
                        "regrowth": tfprune.SoftPruning(decay=0.1)},
    "soft movement": {"schedule": GROWS, "score": "movement", "regrowth": "soft"},
    "rigl": {"schedule": STANDS, "regrowth": tfprune.RigL(0.5)},
    "rigl that grows": {"schedule": tfprune.PolynomialDecay(0.5, 0.75, 0, 12, frequency=3),
                        "regrowth": "rigl"},
}  # fmt: skip


def build(way, optimizer="adam", **compile_arguments):
    keras.utils.set_random_seed(0)
    dense = keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, "tanh", name="wide"), layers.Dense(1, name="out")]
    )
    rule = WAYS[way] if isinstance(way, str) else way
    model = tfprune.prune(dense, [tfprune.Rule("wide", **rule)])
    model.compile(optimizer, "mse", **compile_arguments)
    return model


class Watch(keras.callbacks.Callback):
    """Keeps the mask and the weight of the first wrapper after each batch."""

    def __init__(self):
        super().__init__()
        self.masks, self.weights = [], []

    def on_train_batch_end(self, batch, logs=None):
        weight, mask, _ = wrappers(self.model)[0].pruning_vars[0]
        self.masks.append(np.array(mask))
        self.weights.append(np.array(weight))

    @property
    def kept(self):
        return [int(mask.sum()) for mask in self.masks]

    @property
    def returned(self):
        pairs = zip(self.masks, self.masks[1:], strict=False)
        return [int((new & ~old).sum()) for old, new in pairs]


def fit(model, epochs=4, initial_epoch=0, **arguments):
    watch = Watch()
    model.fit(
        X, Y, 8, epochs, shuffle=False, verbose=0, initial_epoch=initial_epoch,
        callbacks=[tfprune.UpdatePruningStep(), watch], **arguments,
    )  # fmt: skip
    return watch


# -- What they do ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_the_schedule_is_met_and_what_is_stripped_is_what_was_evaluated(way):
    model = build(way)
    fit(model)
    (wrapper,) = wrappers(model)
    final = 0.5 if "2:4" in way or way == "snip" else 0.75
    assert wrapper.states()[0].sparsity == pytest.approx(final, abs=0.02)
    assert wrapper.cut_weights_are_zero()
    stripped = tfprune.strip_pruning(model)
    assert np.mean(stripped.layers[0].get_weights()[0] == 0) == pytest.approx(final, abs=0.02)
    np.testing.assert_allclose(stripped(X), model(X), rtol=1e-5, atol=1e-6)
    assert tfprune.summary(model).rows[0].reached == wrapper.states()[0].sparsity


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_to_train_are_one(way):
    """A tape loop, XLA and `fit` end with the same masks; steps of several batches end too."""
    import tensorflow as tf

    plain = build(way, jit_compile=False)
    expected = fit(plain).masks[-1]
    np.testing.assert_array_equal(fit(build(way, jit_compile=True)).masks[-1], expected)

    model, optimizer = build(way), keras.optimizers.Adam()

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(4):
        for i in range(0, 32, 8):
            callback.on_train_batch_begin(-1)
            train_step(X[i : i + 8], Y[i : i + 8])
        callback.on_epoch_end(epoch)
    callback.on_train_end()
    (wrapper,) = wrappers(model)
    np.testing.assert_array_equal(np.asarray(wrapper.pruning_vars[0][1]), expected)
    # With momentum, cut weights that nobody masks in a loop move; the stripped model has none.
    stripped = tfprune.strip_pruning(model)
    np.testing.assert_allclose(stripped(X), plain(X), rtol=2e-3, atol=2e-3)

    jumping = build(way, steps_per_execution=3)
    fit(jumping)
    assert wrappers(jumping)[0].last_update_step == (9 if way == "snip" else 12)
    assert wrappers(jumping)[0].cut_weights_are_zero()


def test_soft_pruning_lets_weights_learn_and_return_until_the_last_update():
    model = build("soft", keras.optimizers.Adam(0.05))
    watch = fit(model)
    assert watch.kept[2:12:3] == [104, 80, 56, 32]
    assert sum(watch.returned) > 0
    before, after = watch.weights[9], watch.weights[10]
    cut = ~watch.masks[9] & ~watch.masks[10]
    assert (before[cut] != 0).all()
    assert np.mean(before[cut] != after[cut]) > 0.9  # the gradient passes through the mask
    for step in (11, 15):
        assert np.count_nonzero(watch.weights[step]) == 32  # cut for good
    assert watch.masks[15].tolist() == watch.masks[11].tolist()


def test_soft_pruning_computes_with_masked_weights_and_gives_them_that_gradient():
    import tensorflow as tf

    wrapper = PruneLowMagnitude(
        layers.Dense(2, use_bias=False), tfprune.ConstantSparsity(0.5, 0, 9), regrowth="soft"
    )
    wrapper.build((None, 3))
    wrapper.layer.kernel.assign([[1.0, -2.0], [3.0, 0.5], [-0.25, 4.0]])
    wrapper.update_masks(0)
    x = np.array([[1.0, 2.0, 3.0]], "float32")
    with tf.GradientTape() as tape:
        y = wrapper(x)
    gradient = tape.gradient(y, wrapper.layer.kernel.value)
    np.testing.assert_array_equal(y, [[6.0, 10.0]])  # 2 * 3 and -2 + 3 * 4
    np.testing.assert_array_equal(gradient, [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    assert np.count_nonzero(wrapper.layer.kernel) == 6


@pytest.mark.parametrize("scaled", [False, True])
def test_the_decay_pulls_cut_weights_only(scaled):
    """With a gradient of zero only the decay moves: w - rate * decay * w."""
    rule = {"schedule": tfprune.ConstantSparsity(0.5, 0, 99, 99),
            "regrowth": tfprune.SoftPruning(decay=0.5)}  # fmt: skip
    optimizer = keras.optimizers.SGD(0.1)
    model = build(rule, keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer)
    model.layers[1].trainable = False
    model.layers[1].set_weights([np.zeros((16, 1)), np.zeros(1)])  # nothing comes back through it
    model.compile(model.optimizer, "mse")
    start = np.asarray(model.layers[0].layer.kernel).copy()
    watch = fit(model, epochs=1)
    mask = watch.masks[0]
    assert mask.sum() == 64
    np.testing.assert_allclose(watch.weights[-1], np.where(mask, start, start * 0.95**4), 1e-5)


def test_rigl_keeps_the_number_of_weights_and_lets_them_in_at_zero():
    model = build("rigl", keras.optimizers.SGD(0.1, momentum=0.9))
    watch = fit(model)
    assert watch.kept == [32] * 16
    # Half of 32, along the cosine over 12 steps: 0.5 / 2 * (1 + cos(45, 90, 135, 180 degrees)).
    new = [watch.returned[step] for step in (1, 4, 7, 10)]
    assert [n <= most for n, most in zip(new, (14, 8, 2, 0), strict=True)] == [True] * 4
    assert new[0] > 0
    assert sum(watch.returned) == sum(new)
    grown = watch.masks[2] & ~watch.masks[1]
    np.testing.assert_array_equal(watch.weights[2][grown], 0)
    assert (watch.weights[3][grown] != 0).all()
    assert all(not w[~m].any() for w, m in zip(watch.weights, watch.masks, strict=True))


def test_weights_moved_behind_the_mask_come_in_at_zero():
    """In a loop of one's own momentum moves what is cut, until the end of the epoch."""
    wrapper = PruneLowMagnitude(layers.Dense(4), STANDS, regrowth=tfprune.RigL(1.0))
    wrapper.build((None, 8))
    wrapper.update_masks(0)
    weight, mask, _ = wrapper.pruning_vars[0]
    old = np.array(mask)
    weight.assign(np.where(old, np.array(weight), 7.0))
    total, steps = wrapper.own_weights[2:4]
    total.assign(np.where(old, 0.0, 1.0))
    steps.assign(1.0)
    wrapper.update_masks(3)
    new = np.array(mask)
    assert (new & ~old).sum() > 0
    np.testing.assert_array_equal(np.array(weight)[new & ~old], 0)


def test_movement_cuts_what_shrinks_though_it_is_large():
    rule = {"schedule": tfprune.OneShot(0.5, step=4), "score": "movement"}
    model = build(rule, keras.optimizers.SGD(0.01))
    wrapper = wrappers(model)[0]
    start = np.asarray(wrapper.layer.kernel).copy()
    watch = fit(model)
    moved = (np.abs(watch.weights[2]) - np.abs(start))[np.sign(watch.weights[2]) == np.sign(start)]
    kept = watch.masks[3][np.sign(watch.weights[2]) == np.sign(start)]
    assert moved[kept].mean() > moved[~kept].mean()
    assert np.quantile(np.abs(start)[~watch.masks[3]], 0.9) > np.quantile(np.abs(start), 0.5)


# -- Files -----------------------------------------------------------------------------------------


def same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert wrappers(one)[0].read_step() == wrappers(other)[0].read_step()
    assert wrappers(one)[0].last_update_step == wrappers(other)[0].last_update_step


@pytest.mark.filterwarnings("ignore:The run ends:UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_a_half_pruned_model_goes_on_exactly_where_it_stopped(way, tmp_path):
    """From the end of an epoch, and from a file of the very step at which masks change."""
    momentum = {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9)}
    whole = build(way, **momentum)
    path = tmp_path / "{epoch}-{batch}.keras"
    saver = keras.callbacks.ModelCheckpoint(path, save_freq=6)
    model = build(way, optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    for one, callbacks in ((whole, []), (model, [saver])):
        one.fit(X, Y, 8, 4, shuffle=False, verbose=0,
                callbacks=[*callbacks, tfprune.UpdatePruningStep()])  # fmt: skip
    same(whole, model)

    half = build(way, optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    fit(half, epochs=2)
    half.save(tmp_path / "half.keras")
    again = keras.models.load_model(tmp_path / "half.keras")
    fit(again, epochs=4, initial_epoch=2)
    same(whole, again)


@pytest.mark.filterwarnings("ignore:The run ends:UserWarning")
@pytest.mark.parametrize("saver_first", [True, False])
@pytest.mark.parametrize("way", ["taylor 2:4", "soft movement", "rigl", "snip"])
def test_a_file_of_the_step_of_an_update_neither_repeats_nor_loses_it(way, saver_first, tmp_path):
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "{batch}.keras", save_freq=3)
    callbacks = [saver, tfprune.UpdatePruningStep()][:: 1 if saver_first else -1]
    x, y = X[:24], Y[:24]
    whole = build(way, keras.optimizers.SGD(0.1, momentum=0.9))
    whole.fit(x, y, 8, shuffle=False, verbose=0, callbacks=callbacks)
    again = keras.models.load_model(tmp_path / "3.keras")
    for model in (whole, again):
        model.fit(x, y, 8, 2, shuffle=False, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    same(whole, again)


def test_a_file_in_the_middle_of_soft_pruning_holds_the_cut_weights_and_strip_does_not(tmp_path):
    model = build("soft")
    with pytest.warns(UserWarning, match="The run ends at step 8"):
        fit(model, epochs=2)
    model.save(tmp_path / "m.keras")
    weight, mask, _ = wrappers(keras.models.load_model(tmp_path / "m.keras"))[0].pruning_vars[0]
    assert np.count_nonzero(weight) == 128
    assert np.asarray(mask).sum() == 80
    with pytest.warns(UserWarning, match="not pruned as its schedules say"):
        stripped = tfprune.strip_pruning(model)
    np.testing.assert_allclose(stripped(X), model(X), rtol=1e-5, atol=1e-6)
    assert np.count_nonzero(stripped.get_weights()[0]) == 80
    assert np.count_nonzero(tfprune.stripped_weights(model)[0]) == 80
    assert np.count_nonzero(model.layers[0].layer.kernel) == 128  # it may go on
    row = tfprune.summary(model).rows[0]
    assert (row.nonzero, row.reached, row.target) == (80, 0.375, 0.75)


@pytest.mark.parametrize("way", WAYS)
def test_the_configuration_comes_back(way, tmp_path):
    model = build(way)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert wrappers(loaded)[0].criterion == wrappers(model)[0].criterion
    again = tfprune.prune(loaded, [tfprune.Rule("out", 0.5)])  # copies the layer that is wrapped
    assert wrappers(again)[0].criterion == wrappers(model)[0].criterion


@keras.saving.register_keras_serializable(package="test")
def by_size_of_step(weight, gradient):
    return np.abs(weight - gradient)


def test_a_function_of_ones_own_is_saved_by_its_registered_name(tmp_path):
    rule = {"schedule": tfprune.OneShot(0.5, 4), "score": by_size_of_step}
    model = build(rule)
    fit(model, epochs=1)
    model.save(tmp_path / "m.keras")
    score = wrappers(keras.models.load_model(tmp_path / "m.keras"))[0].criterion.score
    assert score.function is by_size_of_step
    assert (str(score), score.record) == ("by_size_of_step", "gradient")
    with pytest.raises(ValueError, match=r"register_keras_serializable.*Received: unstructured by"):
        build({**rule, "score": lambda weight: np.abs(weight)})


@pytest.mark.parametrize("ending", ["keras", "weights.h5", "h5"])
def test_files_are_read_without_the_model_too(ending, tmp_path):
    """At first all that was recorded is zero, and looks like a mask that keeps nothing."""
    model = build("rigl")
    for path, left in ((tmp_path / f"0.{ending}", 128), (tmp_path / f"1.{ending}", 32)):
        (model.save_weights if ending == "weights.h5" else model.save)(path)
        counts = {weight.shape: weight.nonzero for weight in tfprune.inspect_file(path).weights}
        assert counts == {(8, 16): left, (16, 1): 16}
        fit(model)


# -- What they go with -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["soft movement", "rigl"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(way, policy):
    keras.config.set_dtype_policy(policy)
    model = build(way)
    fit(model)
    assert wrappers(model)[0].states()[0].sparsity == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("way", ["taylor 2:4", "soft", "rigl"])
def test_gradient_accumulation_counts_updates(way):
    model = build(way, keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    fit(model, epochs=6)
    assert wrappers(model)[0].read_step() == 12
    final = 0.5 if "2:4" in way else 0.75
    assert wrappers(model)[0].states()[0].sparsity == pytest.approx(final, abs=0.02)


CASES = {
    "convolution": (lambda: layers.Conv2D(4, 3), (6, 6, 4), "float32"),
    "attention": (lambda: layers.MultiHeadAttention(2, 4), (5, 8), "float32"),
    "rnn": (lambda: layers.LSTM(4), (5, 8), "float32"),
    "table": (lambda: layers.Embedding(20, 8), (6,), "int32"),
}


@pytest.mark.parametrize("way", ["taylor 2:4", "soft 2:4, decay", "rigl"])
@pytest.mark.parametrize("case", CASES)
def test_other_layers(case, way):
    make, shape, dtype = CASES[case]
    rule = dict(WAYS[way])
    wrapper = PruneLowMagnitude(make(), rule.pop("schedule"), **rule)
    inputs = keras.Input(shape, dtype=dtype)
    outputs = wrapper(inputs, inputs) if case == "attention" else wrapper(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(layers.Reshape((-1, 4))(outputs)))
    model.compile("adam", "mse")
    x = np.random.default_rng(0).integers(0, 20, (32, *shape)).astype(dtype) / (
        dtype[0] == "f" or 1
    )
    model.fit(x, np.ones((32, 4)), 8, 4, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    final = 0.75 if way == "rigl" else 0.5
    for state in wrapper.states():
        assert np.mean(~state.mask) == pytest.approx(final, abs=0.02), state.name


def test_tensorboard_says_by_what_masks_are_chosen():
    from tfprune.tensorboard import rules_page

    assert "| wide | 2:4, soft, decay 0.1 | `PolynomialDecay" in rules_page(
        build("soft 2:4, decay")
    )


def test_a_layer_alone_and_a_list_take_the_same_choices():
    layer = tfprune.prune_low_magnitude(layers.Dense(3), GROWS, score="taylor", regrowth="soft")
    (other,) = tfprune.prune_low_magnitude([layers.Dense(3)], STANDS, regrowth="rigl")
    assert str(layer.criterion) == "unstructured by taylor, soft"
    assert str(other.criterion) == "unstructured, RigL(0.3)"
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    (wrapper,) = wrappers(tfprune.prune_low_magnitude(model, GROWS, score="movement"))
    assert str(wrapper.criterion) == "unstructured by movement"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pruning_schedule": 0.5, "score": "taylor"}, "The score 'taylor' needs the gradients"),
        ({"pruning_schedule": 0.5, "regrowth": "rigl"}, "RigL .* needs an `end_step`"),
        ({"pruning_schedule": STANDS, "regrowth": "rigl", "block_size": (1, 4)}, "pattern '1x4'"),
        ({"pruning_schedule": GROWS, "score": "l3"}, "Unknown score"),
        ({"pruning_schedule": GROWS, "regrowth": "set"}, "Unknown regrowth"),
    ],
)
def test_choices_that_cannot_work_are_refused_when_they_are_made(arguments, message):
    for what in (layers.Dense(8), [layers.Dense(8)], keras.Sequential([layers.Dense(8)])):
        with pytest.raises(ValueError, match=message):
            tfprune.prune_low_magnitude(what, **arguments)


JAX = """
import json, keras, numpy as np, tfprune
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8, name="d"),
                          keras.layers.Dense(1)])
rule = tfprune.Rule("d$", tfprune.PolynomialDecay(0.0, 0.5, 0, 6, frequency=2), "2:4",
                    regrowth=tfprune.SoftPruning(decay=0.01))
pruned = tfprune.prune(model, [rule])
pruned.compile("adam", "mse")
x = np.random.default_rng(0).random((64, 16), np.float32)
with_weights = []
def note(batch, logs=None):
    pruned.jax_state_sync()
    with_weights.append(int(np.count_nonzero(pruned.layers[0].layer.kernel)))
watch = keras.callbacks.LambdaCallback(on_train_batch_end=note)
pruned.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[tfprune.UpdatePruningStep(), watch])
print(json.dumps([with_weights, tfprune.summary(pruned).rows[0].reached]))
"""


def test_soft_pruning_on_the_jax_backend(run_python):
    pytest.importorskip("jax")
    output = run_python(JAX, KERAS_BACKEND="jax").strip().splitlines()[-1]
    assert json.loads(output) == [[128] * 5 + [64] * 3, 0.5]
