"""tf_keras models through tfprune's doors: tfmot does the work, and its faults are mended."""

import os
import types
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import tfprune
from tfprune import legacy
from tfprune.strip import pruned_layers
from tfprune.tfmot import classes, tfmot_keras

# Fires at 0, 3, 6 and 7: begin 0, and an end that is no multiple of the frequency.
GROWING = tfprune.PolynomialDecay(0.2, 0.8, begin_step=0, end_step=7, power=1, frequency=3)
AT_ONCE = tfprune.ConstantSparsity(0.5, 0)


@pytest.fixture(scope="module")
def tfmot():
    """The part of tfmot that a user calls `tfmot.sparsity.keras`, loaded as tfprune loads it."""
    modules = tfmot_keras()
    return types.SimpleNamespace(
        prune_low_magnitude=modules.prune.prune_low_magnitude,
        strip_pruning=modules.prune.strip_pruning,
        prune_scope=modules.prune.prune_scope,
        PolynomialDecay=modules.pruning_schedule.PolynomialDecay,
        ConstantSparsity=modules.pruning_schedule.ConstantSparsity,
        UpdatePruningStep=modules.pruning_callbacks.UpdatePruningStep,
    )


def dense_model(units=(8, 4), inputs=8):
    return tf_keras.Sequential(
        [tf_keras.Input((inputs,)), *(layers.Dense(n, name=f"dense{n}") for n in units)]
    )


def mixed_model():
    return tf_keras.Sequential(
        [
            tf_keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2DTranspose(4, 3, name="transposed"),
            layers.Flatten(name="flatten"),
            layers.Dense(8, name="wide"),
            layers.Dense(3, name="logits"),
        ]
    )


def fit(model, steps=2, callbacks=None, shape=(8,), outputs=4, graph=False):
    """Train for a few steps; eagerly, since tracing a graph takes longer than they do."""
    rng = np.random.default_rng(0)
    x = rng.random((2 * steps, *shape), np.float32)
    y = rng.random((2 * steps, outputs), np.float32)
    model.compile("adam", "mse", run_eagerly=not graph)
    callbacks = [tfprune.UpdatePruningStep()] if callbacks is None else callbacks
    return model.fit(x, y, batch_size=2, callbacks=callbacks, verbose=0)


def is_2_by_4(kernel):
    """Tell whether four input channels in a row hold two zeros; a kernel is (..., in, out)."""
    return bool(((np.moveaxis(kernel, -2, -1).reshape(-1, 4) == 0).sum(axis=1) == 2).all())


class Sparsities(tf_keras.callbacks.Callback):
    """Writes down the sparsity of each mask of the first wrapper after each training step."""

    def __init__(self):
        super().__init__()
        self.reached = []

    def on_train_batch_end(self, batch, logs=None):
        (_, mask, _) = pruned_layers(self.model)[0].layer.pruning_vars[0]
        self.reached.append(round(1 - float(mask.numpy().mean()), 3))


# -- What is loaded, and when --------------------------------------------------------------------

LOADED = """
import os, sys, tempfile
import keras, numpy as np, tensorflow as tf
before = dict(os.environ)
import tfprune
HEAVY = ("tensorflow_model_optimization", "tf_keras")

def state():
    loaded = [m for m in HEAVY if m in sys.modules]
    changed = {k for k in {*os.environ, *before} if os.environ.get(k) != before.get(k)}
    print(loaded, sorted(changed), os.environ.get("TF_USE_LEGACY_KERAS"))

def run(k):
    model = k.Sequential([k.Input((4,)), k.layers.Dense(4)])
    model = tfprune.prune_low_magnitude(model)
    model.compile("sgd", k.losses.MeanSquaredError())
    x = np.ones((2, 4), "float32")
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tempfile.mkdtemp())]
    model.fit(x, x, callbacks=callbacks, verbose=0)
    with tfprune.prune_scope():
        pass
    str(tfprune.summary(model))
    print(tfprune.summary(tfprune.strip_pruning(model)).sparsity)

run(keras)
state()
import tf_keras
run(tf_keras)
state()
run(keras)
print(tf.keras.layers.Dense is keras.layers.Dense)
"""


def test_tfmot_and_tf_keras_load_only_for_tf_keras_models(run_python, monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    lines = run_python(LOADED).splitlines()
    assert lines == [
        "0.5",
        "[] [] None",
        "0.5",
        # The same check sees them once a tf_keras model is pruned; the variable is put back.
        "['tensorflow_model_optimization', 'tf_keras'] [] None",
        "0.5",
        "True",  # `tf.keras`, used here for the first time, is still Keras 3
    ]


def test_both_families_work_side_by_side():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(8, 8)).astype("float32")
    x = rng.random((4, 8), np.float32)
    for arguments in (
        {"pruning_schedule": tfprune.ConstantSparsity(0.7, 0)},
        {"pruning_schedule": AT_ONCE, "sparsity_m_by_n": (2, 4)},
        {"pruning_schedule": AT_ONCE, "block_size": (2, 4), "block_pooling_type": "MAX"},
    ):
        masks = []
        for k in (keras, tf_keras):
            model = k.Sequential([k.Input((8,)), k.layers.Dense(8, name="dense")])
            model.layers[-1].set_weights([kernel, np.zeros(8)])
            model = tfprune.prune_low_magnitude(model, **arguments)
            # Without learning, the masks of both are chosen from the very same weights.
            model.compile(k.optimizers.SGD(0.0), k.losses.MeanSquaredError(), run_eagerly=True)
            model.fit(x, x, callbacks=[tfprune.UpdatePruningStep()], verbose=0)
            ((state,),) = (layer.states() for layer in pruned_layers(model))
            masks.append(state.mask)
            assert str(pruned_layers(model)[0].pattern) == str(arguments_pattern(arguments))
        np.testing.assert_array_equal(*masks)
        assert 0.4 < 1 - masks[0].mean() < 0.8


def arguments_pattern(arguments):
    if "sparsity_m_by_n" in arguments:
        return tfprune.NM(2, 4)
    return tfprune.Block((2, 4), "MAX") if "block_size" in arguments else tfprune.Unstructured()


# -- Wrapping ------------------------------------------------------------------------------------


def test_a_model_is_wrapped_under_tfmots_names(tfmot):
    ours, theirs = (
        prune(dense_model()) for prune in (tfprune.prune_low_magnitude, tfmot.prune_low_magnitude)
    )
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert all(legacy.is_wrapped(layer) for layer in [*ours.layers, *theirs.layers])
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]


def test_a_layer_and_a_list_are_wrapped():
    layer = tfprune.prune_low_magnitude(layers.Dense(4, input_shape=(8,)), 0.5)
    model = tf_keras.Sequential([layer])
    assert model.built
    wrapped, plain = tfprune.prune_low_magnitude([layers.Dense(4), layers.ReLU()], 0.5)
    assert legacy.is_wrapped(wrapped)
    assert isinstance(plain, layers.ReLU)
    fit(model)
    assert tfprune.summary(model).sparsity == 0.5


def test_rules_choose_the_layers():
    rules = [
        tfprune.Rule("conv", schedule=0.75),
        tfprune.Rule("wide", schedule=0.5, pattern="2:4"),
        tfprune.Rule(layers.Dense, skip=True),
    ]
    model = tfprune.prune(mixed_model(), rules)
    fit(model, shape=(8, 8, 3), outputs=3)
    rows = {row.layer: row for row in tfprune.summary(model).rows}
    assert (rows["conv"].pattern, rows["conv"].reached) == ("unstructured", 0.75)
    assert (rows["wide"].pattern, rows["wide"].reached) == ("2:4", 0.5)
    assert (rows["logits"].pattern, rows["logits"].reason) == ("", "a rule says to skip it")
    assert rows["transposed"].reason == "no rule matches it"
    assert is_2_by_4(tfprune.strip_pruning(model).get_layer("wide").kernel.numpy())


def test_a_rule_by_name_for_what_tfmot_cannot_do_is_an_error():
    rule = tfprune.Rule("transposed", schedule=0.5, pattern="2:4")
    with pytest.raises(ValueError, match=r"'transposed', asked for by name.*input channels"):
        tfprune.prune(mixed_model(), [rule])
    with pytest.raises(ValueError, match=r"matches no layer.*conv, norm, transposed"):
        tfprune.prune(mixed_model(), [tfprune.Rule("attention", schedule=0.5)])


@pytest.mark.parametrize("more", [{"score": "movement"}, {"regrowth": "soft"}])
def test_scores_and_regrowth_that_tfmot_does_not_know_are_an_error(more):
    schedule = tfprune.PolynomialDecay(0.0, 0.5, 0, 9)
    model = tf_keras.Sequential([tf_keras.Input((8,)), layers.Dense(4), layers.Dense(2)])
    calls = [
        lambda: tfprune.prune_low_magnitude(layers.Dense(4), schedule, **more),
        lambda: tfprune.prune_low_magnitude([layers.Dense(4)], schedule, **more),
        lambda: tfprune.prune_low_magnitude(model, schedule, **more),
        lambda: tfprune.prune(
            model,
            [tfprune.Rule("dense_[13]$", 0.5), tfprune.Rule(None, schedule, **more)],
        ),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"tfmot, which knows magnitudes only.*Received: "):
            call()


def test_skipped_layers_are_listed_once_with_their_reasons():
    with pytest.warns(UserWarning, match="Left dense") as caught:
        model = tfprune.prune_low_magnitude(mixed_model(), AT_ONCE, sparsity_m_by_n=(2, 4))
    (message,) = [str(w.message) for w in caught if "Left dense" in str(w.message)]
    assert "conv (too few input channels for 2:4: 3)" in message
    assert "transposed (tfmot does not group the input channels of Conv2DTranspose)" in message
    assert "norm" not in message
    assert "flatten" not in message
    rows = {row.layer: row for row in tfprune.summary(model).rows}
    assert rows["conv"].reason == "too few input channels for 2:4: 3"
    assert rows["wide"].pattern == "2:4"


def test_layers_that_tfmot_does_not_know_are_left_dense():
    model = tf_keras.Sequential(
        [
            tf_keras.Input((4, 6)),
            layers.EinsumDense("abc,cd->abd", (None, 6), name="einsum"),
            layers.Dense(4, name="dense"),
        ]
    )
    with pytest.warns(
        UserWarning, match=r"einsum \(tfmot does not know layers of type EinsumDense"
    ):
        model = tfprune.prune_low_magnitude(model)
    assert [layer.name for layer in model.layers] == ["einsum", "prune_low_magnitude_dense"]
    with pytest.raises(ValueError, match="does not know layers of type EinsumDense"):
        tfprune.prune_low_magnitude(layers.EinsumDense("ab,bc->ac", 4))


def test_depthwise_kernels_are_left_alone():
    with pytest.raises(ValueError, match="depthwise kernels are left alone"):
        tfprune.prune_low_magnitude(layers.DepthwiseConv2D(3))


def test_a_layer_without_weights_asked_for_alone_is_an_error():
    with pytest.raises(ValueError, match="'relu' cannot be pruned: no weights to prune"):
        tfprune.prune_low_magnitude(layers.ReLU(name="relu"))


@pytest.mark.parametrize(
    "schedule",
    [
        tfprune.PolynomialDecay(0.0, 0.5, 0, 10),
        tfprune.Iterative([0.25, 0.5], every=2),
        tfprune.ConstantSparsity(0.5, begin_step=5),
        tfprune.OneShot(0.5, step=1),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_growing_n_m_pattern_is_refused(schedule):
    with pytest.raises(
        ValueError, match=r"N:M mask once, at the first step.*begin_step=0.*Keras 3"
    ):
        tfprune.prune_low_magnitude(layers.Dense(8), schedule, sparsity_m_by_n=(2, 4))


def test_an_n_m_pattern_at_once_is_taken():
    for schedule in (AT_ONCE, tfprune.OneShot(0.5), 0.5):
        model = tfprune.prune_low_magnitude(dense_model(), schedule, sparsity_m_by_n=(2, 4))
        fit(model, steps=1)
        assert all(is_2_by_4(s.weight) for layer in pruned_layers(model) for s in layer.states())


@pytest.mark.parametrize(
    "layer", [layers.Conv2DTranspose(8, 3), layers.Embedding(8, 8)], ids=lambda x: type(x).__name__
)
def test_n_m_along_the_wrong_axis_is_refused(layer):
    with pytest.raises(ValueError, match="does not group the input channels of"):
        tfprune.prune_low_magnitude(layer, AT_ONCE, sparsity_m_by_n=(2, 4))


@pytest.mark.parametrize(
    ("layer", "shape", "arguments", "reason"),
    [
        (lambda: layers.Conv2D(8, 3), (8, 8, 4), {"block_size": (1, 4)}, "on 2-D weights only"),
        (lambda: layers.Conv1D(8, 3), (8, 4), {"sparsity_m_by_n": (2, 4)}, "channels of Conv1D"),
        (lambda: layers.Conv2D(8, 3), (8, 8, 1), {"sparsity_m_by_n": (2, 4)}, "too few input"),
        (lambda: layers.Dense(4), (8,), {"block_size": (16, 1)}, "16x1 is larger than the weight"),
        (lambda: layers.Dense(4), (8,), {"block_size": (1, 4)}, "as wide as the weight, 8x4"),
        (lambda: layers.Dense(4), (8,), {"block_size": (8, 1)}, "as high or as wide"),
        (lambda: layers.Dense(1), (8,), {"block_size": (4, 1)}, "as wide as the weight, 8x1"),
    ],
    ids=["block on conv", "2:4 on Conv1D", "one channel", "large block", "wide", "high", "column"],
)
def test_what_tfmot_cannot_do_is_refused_before_and_after_building(layer, shape, arguments, reason):
    built = layer()
    built.build((None, *shape))
    with pytest.raises(ValueError, match=reason):
        tfprune.prune_low_magnitude(built, AT_ONCE, **arguments)
    wrapped = tfprune.prune_low_magnitude(layer(), AT_ONCE, **arguments)
    with pytest.raises(ValueError, match=reason):  # by hand, when it gets its weights
        tf_keras.Sequential([tf_keras.Input(shape), wrapped])
    model = tf_keras.Sequential([tf_keras.Input(shape), layer(), layers.Flatten()])
    with pytest.raises(ValueError, match=f"Nothing in the model .*{reason}"):
        tfprune.prune_low_magnitude(model, AT_ONCE, **arguments)


def test_nested_models_and_shared_layers():
    inner = tf_keras.Sequential([tf_keras.Input((8,)), layers.Dense(8, name="a")], name="inner")
    shared = layers.Dense(8, name="shared")
    inputs = tf_keras.Input((8,))
    outputs = layers.Dense(4, name="last")(shared(shared(inner(inputs))))
    model = tfprune.prune_low_magnitude(tf_keras.Model(inputs, outputs), AT_ONCE)
    assert [p.layer_name for p in pruned_layers(model)] == ["a", "shared", "last"]
    fit(model)
    summary = tfprune.summary(model)
    assert [(row.layer, row.reached) for row in summary.rows] == [
        ("a", 0.5),
        ("shared", 0.5),
        ("last", 0.5),
    ]
    stripped = tfprune.strip_pruning(model)
    assert not pruned_layers(stripped)
    assert stripped.get_layer("inner").get_layer("a").kernel.numpy().astype(bool).sum() == 32


def test_rules_reach_into_nested_models_by_path():
    inner = tf_keras.Sequential([tf_keras.Input((8,)), layers.Dense(8, name="a")], name="inner")
    inputs = tf_keras.Input((8,))
    model = tf_keras.Model(inputs, layers.Dense(4, name="last")(inner(inputs)))
    pruned = tfprune.prune(model, [tfprune.Rule("inner/a", schedule=0.5)])
    assert [p.layer_name for p in pruned_layers(pruned)] == ["a"]


def test_a_custom_layer_says_what_to_prune():
    class WithBias(layers.Dense, tfprune.PrunableLayer):
        def get_prunable_weights(self):
            return [self.kernel, self.bias]

    layer = WithBias(4, name="custom", bias_initializer="random_normal")
    model = tf_keras.Sequential([tf_keras.Input((8,)), tfprune.prune_low_magnitude(layer, AT_ONCE)])
    fit(model)
    (wrapped,) = pruned_layers(model)
    assert {s.name: s.sparsity for s in wrapped.states()} == {"kernel": 0.5, "bias": 0.5}


def test_a_subclassed_model_gets_an_error_that_shows_the_way():
    class Classifier(tf_keras.Model):
        def __init__(self, wrap=lambda layer: layer):
            super().__init__()
            self.dense = wrap(layers.Dense(4, name="dense"))

        def call(self, x):
            return self.dense(x)

    with pytest.raises(ValueError, match="Wrap the layers where the class makes them"):
        tfprune.prune_low_magnitude(Classifier())
    model = Classifier(tfprune.prune_low_magnitude)
    fit(model, graph=True)  # its first step builds it
    assert tfprune.summary(model).rows[0].reached == 0.5
    with pytest.raises(ValueError, match=r"stripped_weights"):
        tfprune.strip_pruning(model)
    plain = Classifier()
    plain.build((None, 8))
    plain.dense.set_weights(tfprune.strip_pruning(model.dense).get_weights())
    assert np.count_nonzero(plain.dense.kernel) == 16
    x = np.ones((2, 8), "float32")
    np.testing.assert_allclose(plain(x), model(x), rtol=1e-6)


def test_wrappers_inside_a_layer_of_ones_own_are_not_taken_for_stripped():
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = tfprune.prune_low_magnitude(layers.Dense(4))

        def call(self, x, training=False):
            return self.dense(x, training=training)

    model = tf_keras.Sequential([layers.InputLayer((8,)), Block(name="own"), layers.Dense(4)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "own" is not left dense
        pruned = tfprune.prune_low_magnitude(model)
    fit(pruned)
    with pytest.raises(ValueError, match="inside a model or layer of your own class"):
        tfprune.strip_pruning(pruned)
    assert [w.shape for w in tfprune.stripped_weights(pruned)] == [(8, 4), (4,), (4, 4), (4,)]


def test_stripped_weights_are_those_of_the_plain_model():
    class Classifier(tf_keras.Model):
        def __init__(self, wrap):
            super().__init__()
            self.first = wrap(layers.Dense(8, name="first"))
            self.norm = layers.BatchNormalization()
            self.last = wrap(layers.Dense(4, name="last"))

        def call(self, x, training=False):
            return self.last(self.norm(self.first(x), training=training))

    model = Classifier(tfprune.prune_low_magnitude)
    fit(model)
    for wrapped in pruned_layers(model):  # as an optimizer with momentum does
        weight, _, _ = wrapped.layer.pruning_vars[0]
        weight.assign(weight + 1e-3)
    plain = Classifier(lambda layer: layer)
    plain.build((None, 8))
    plain.set_weights(tfprune.stripped_weights(model))
    assert np.count_nonzero(plain.first.kernel) == 32
    assert np.count_nonzero(plain.last.kernel) == 16
    x = np.random.default_rng(0).random((3, 8), np.float32)
    np.testing.assert_allclose(plain(x), model(x), rtol=1e-6)


# -- Training ------------------------------------------------------------------------------------


def test_first_and_last_update_always_happen(tfmot):
    ours, theirs = Sparsities(), Sparsities()
    model = tfprune.prune_low_magnitude(dense_model((40,), 50), GROWING)
    fit(model, 9, [tfprune.UpdatePruningStep(), ours], shape=(50,), outputs=40, graph=True)
    # tfmot counts steps from 1: what is due at step 0 happens in the first one, for that step.
    at = {1: GROWING.sparsity(1), 3: GROWING.sparsity(3), 6: GROWING.sparsity(6), 7: 0.8}
    expected = [at[max(s for s in at if s <= step)] for step in range(1, 10)]
    np.testing.assert_allclose(ours.reached, expected, atol=1e-3)

    schedule = tfmot.PolynomialDecay(0.2, 0.8, begin_step=0, end_step=7, power=1, frequency=3)
    model = tfmot.prune_low_magnitude(dense_model((40,), 50), schedule)
    fit(model, 9, [tfmot.UpdatePruningStep(), theirs], shape=(50,), outputs=40, graph=True)
    assert theirs.reached[:2] == [0.0, 0.0]  # the update at step 0 never came
    assert theirs.reached[-1] < 0.8  # nor did the last


def test_the_default_schedule_prunes_in_a_short_run(tfmot):
    """tfmot's first update comes at step 100, so a shorter run ends dense, in silence."""
    ours, theirs = dense_model(), dense_model()
    ours, theirs = tfprune.prune_low_magnitude(ours), tfmot.prune_low_magnitude(theirs)
    fit(ours, 3)
    fit(theirs, 3, [tfmot.UpdatePruningStep()])
    assert tfprune.summary(ours).sparsity == 0.5
    assert tfprune.summary(theirs).sparsity == 0.0


def test_every_schedule_works():
    for schedule, steps, final in (
        (tfprune.OneShot(0.5, step=2), 3, 0.5),
        (tfprune.Iterative([0.25, 0.5, 0.75], every=2), 5, 0.75),
        (tfprune.FunctionSchedule(lambda t: 0.125 * t, end_step=4, frequency=2), 4, 0.5),
    ):
        model = tfprune.prune_low_magnitude(dense_model(), schedule)
        fit(model, steps)
        assert tfprune.summary(model).sparsity == pytest.approx(final), schedule


class EveryOther(tfprune.PruningSchedule):
    """A schedule of the user's, which tells no steps."""

    def __call__(self, step):
        return step % 2 == 0, 0.5

    def get_config(self):
        return {"class_name": "EveryOther", "config": {}}


TABULAR = [
    GROWING,
    AT_ONCE,
    tfprune.PolynomialDecay(0.0, 0.9, begin_step=3, end_step=20, frequency=4),
    tfprune.PolynomialDecay(0.1, 0.9, begin_step=0, end_step=9, frequency=1),
    tfprune.PolynomialDecay(0.1, 0.9, begin_step=1, end_step=2, frequency=7),
    tfprune.ConstantSparsity(0.3, 5, frequency=3),
    tfprune.ConstantSparsity(0.3, 5, end_step=10, frequency=3),
    tfprune.ConstantSparsity(0.3, 2, end_step=3_000_000_000, frequency=1),  # no table of that
    tfprune.ConstantSparsity(0.0, 0, frequency=1),
    tfprune.OneShot(0.5),
    tfprune.OneShot(0.5, step=1),
    tfprune.OneShot(0.5, step=4),
    tfprune.Iterative([0.25, 0.5, 0.75], every=3, begin_step=2),
    tfprune.FunctionSchedule([0.1, 0.7, 0.2], end_step=8, begin_step=1, frequency=4),
]


@pytest.mark.parametrize("schedule", TABULAR, ids=str)
def test_a_schedule_in_the_graph_answers_as_it_does_in_python(schedule):
    """Each step that tfmot will count, and what was due at step 0, which it does not."""
    legacy_schedule, _ = classes()
    asked = tf.function(legacy_schedule(schedule), jit_compile=True)
    for step in range(1, 25):
        due, sparsity = asked(tf.constant(step, tf.int64))
        wanted = schedule.update_between(-1 if step == 1 else step - 1, step) is not None
        assert bool(due) == (wanted and schedule.sparsity(step) > 0), step
        if wanted:
            assert sparsity.numpy() == np.float32(schedule.sparsity(step)), step


def test_a_schedule_of_ones_own_is_asked_in_python_at_every_step():
    seen = []

    class Asked(EveryOther):
        def __call__(self, step):
            seen.append(step)
            return super().__call__(step)

    model = tfprune.prune_low_magnitude(dense_model((4,)), Asked())
    fit(model, 3, graph=True)
    assert {1, 2, 3} <= set(seen)
    assert tfprune.summary(model).sparsity == 0.5


@pytest.mark.parametrize(
    "arguments",
    [
        {"pruning_schedule": GROWING},
        {"pruning_schedule": AT_ONCE, "sparsity_m_by_n": (2, 4)},
        {"pruning_schedule": AT_ONCE, "block_size": (2, 4)},
    ],
    ids=["growing", "2:4", "blocks"],
)
def test_under_xla_the_same_weights_are_pruned(arguments):
    masks = []
    for jit in (False, True):
        tf_keras.utils.set_random_seed(1)
        model = tfprune.prune_low_magnitude(dense_model((40,), 48), **arguments)
        # Without learning the masks of both are chosen from the very same weights.
        model.compile(tf_keras.optimizers.SGD(0.0), "mse", jit_compile=jit)
        assert model.jit_compile == jit
        x = np.ones((16, 48), "float32")
        callbacks = [tfprune.UpdatePruningStep()]
        model.fit(x, x[:, :40], batch_size=2, callbacks=callbacks, verbose=0)
        (wrapped,) = pruned_layers(model)
        assert wrapped.read_step() == 8
        masks.append(wrapped.states()[0].mask)
    np.testing.assert_array_equal(*masks)
    assert 1 - masks[0].mean() == pytest.approx(0.8 if len(arguments) == 1 else 0.5, abs=1e-3)


def test_under_xla_a_schedule_of_ones_own_says_what_to_do():
    schedule = EveryOther()
    model = tfprune.prune_low_magnitude(dense_model(), schedule)
    model.compile("adam", "mse", jit_compile=True)
    x = np.ones((6, 8), "float32")
    fit_ = {"batch_size": 2, "callbacks": [tfprune.UpdatePruningStep()], "verbose": 0}
    with pytest.raises(ValueError, match=r"EveryOther.*without `jit_compile`.*FunctionSchedule"):
        model.fit(x, x[:, :4], **fit_)

    # The way that the message shows.
    table = tfprune.FunctionSchedule(schedule.sparsity, end_step=2, frequency=2)
    model = tfprune.prune_low_magnitude(dense_model(), table)
    model.compile("adam", "mse", jit_compile=True)
    model.fit(x, x[:, :4], **fit_)
    assert tfprune.summary(model).sparsity == 0.5


def test_under_xla_a_model_built_too_late_for_that_shows_the_reason_in_xlas_error():
    class Late(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tfprune.prune_low_magnitude(layers.Dense(4), EveryOther())

        def call(self, x):
            return self.dense(x)

    model = Late()
    model.compile("adam", "mse", jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"of_your_own_cannot_be_compiled_by"):
        model.fit(
            np.ones((4, 8)), np.ones((4, 4)), callbacks=[tfprune.UpdatePruningStep()], verbose=0
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_training_that_diverges_is_named(value):
    model = tfprune.prune_low_magnitude(dense_model(), AT_ONCE)

    class Diverge(tf_keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            kernel = self.model.layers[1].layer.kernel
            kernel.assign(tf.fill(kernel.shape, value))

    with pytest.raises(ValueError, match=r"NaN or infinite: training has diverged.*dense4/kernel"):
        fit(model, 1, [Diverge(), tfprune.UpdatePruningStep()])
    with pytest.raises(ValueError, match="diverged"):
        tfprune.strip_pruning(model)


def test_layers_with_nan_are_not_wrapped():
    model = dense_model()
    model.layers[0].kernel.assign(np.full((8, 8), np.nan))
    with pytest.warns(UserWarning, match=r"dense8 \(its weights hold NaN or infinite values"):
        model = tfprune.prune_low_magnitude(model)
    assert [p.layer_name for p in pruned_layers(model)] == ["dense4"]


def test_a_run_that_is_too_short_says_so():
    model = tfprune.prune_low_magnitude(dense_model(), GROWING)
    with pytest.warns(UserWarning, match=r"ends at step 4; dense8 will be at 45.7%, not 80.0%"):
        fit(model, 4)
    with pytest.warns(UserWarning, match="not pruned as its schedules say: dense8/kernel is at"):
        tfprune.strip_pruning(model)


def test_the_end_of_a_run_is_reported(capsys):
    model = tfprune.prune_low_magnitude(dense_model(), AT_ONCE)
    fit(model, 2, [tfprune.UpdatePruningStep(verbose=True)])
    report = capsys.readouterr().out
    assert "Pruned to 50.0% zeros in 2 layers at step 2: every layer is at its target." in report


def test_training_without_the_callback_is_an_error():
    model = tfprune.prune_low_magnitude(dense_model())
    with pytest.raises(tf.errors.InvalidArgumentError, match="UpdatePruningStep"):
        fit(model, 1, [], graph=True)


def test_weights_are_sparse_after_each_epoch():
    """An optimizer with momentum moves masked weights; what is saved then must be sparse."""
    model = tfprune.prune_low_magnitude(dense_model(), AT_ONCE)
    seen = []

    class Look(tf_keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.extend(np.mean(layer.get_weights()[0] == 0) for layer in self.model.layers)

    # Momentum that starts before the first update goes on pushing the weights it cut.
    model.compile(tf_keras.optimizers.SGD(0.1, momentum=0.9), "mse", run_eagerly=True)
    x = np.ones((8, 8), "float32")
    callbacks = [tfprune.UpdatePruningStep(), Look()]
    model.fit(x, x[:, :4], batch_size=2, epochs=2, callbacks=callbacks, verbose=0)
    assert seen == [0.5] * 4


def test_custom_training_loop_as_in_tfmots_guide():
    model = tfprune.prune_low_magnitude(dense_model(), AT_ONCE)
    optimizer = tf_keras.optimizers.Adam()
    model.optimizer = optimizer
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    x, y = np.ones((2, 8), "float32"), np.zeros((2, 4), "float32")
    callback.on_train_begin()
    for _ in range(2):
        callback.on_train_batch_begin(batch=-1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        callback.on_epoch_end(batch=-1)
    assert [layer.read_step() for layer in pruned_layers(model)] == [2, 2]
    assert all((layer.get_weights()[0] == 0).mean() == 0.5 for layer in model.layers)


def test_callbacks_are_taken_alone_and_in_a_list(tmp_path):
    model = tfprune.prune_low_magnitude(dense_model())
    fit(model, 1, tfprune.UpdatePruningStep())
    fit(model, 1, [tfprune.PruningSummaries(tmp_path), tfprune.UpdatePruningStep()])
    assert pruned_layers(model)[0].read_step() == 2
    assert os.listdir(tmp_path / "metrics")


MIRRORED = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tf_keras, tfprune
from tfprune.strip import pruned_layers

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = tf_keras.Sequential([
        tf_keras.Input((8,)), tf_keras.layers.Dense(8, name="a"), tf_keras.layers.Dense(4, name="b")
    ])
    dense = tf_keras.models.clone_model(model)
    dense.compile("adam", tf_keras.losses.MeanSquaredError())
    model = tfprune.prune_low_magnitude(
        model, tfprune.PolynomialDecay(0.25, 0.75, 0, 5, frequency=2)
    )
    model.compile("adam", tf_keras.losses.MeanSquaredError())
sent = []
class Watch(type(strategy.extended)):
    def _batch_reduce_to(self, operation, pairs, options):
        sent.extend(pairs)
        return super()._batch_reduce_to(operation, pairs, options)
strategy.extended.__class__ = Watch
x = np.random.default_rng(0).random((24, 8), np.float32)
dense.fit(x, x[:, :4], batch_size=4, verbose=0)
gradients = len(sent)
sent.clear()
model.fit(x, x[:, :4], batch_size=4, callbacks=[tfprune.UpdatePruningStep()], verbose=0)
print(gradients > 0, len(sent) - gradients)
for layer in pruned_layers(model):
    for weight, mask, _ in layer.layer.pruning_vars:
        masks = [m.numpy() for m in strategy.experimental_local_results(mask)]
        kernels = [w.numpy() for w in strategy.experimental_local_results(weight)]
        print(layer.read_step(), len(masks), np.array_equal(*masks), np.array_equal(*kernels),
              float(np.mean(kernels[0] == 0)), float(np.mean(masks[0] == 0)))
"""


def test_mirrored_strategy_keeps_the_masks_of_its_replicas_alike(run_python):
    lines = run_python(MIRRORED).splitlines()
    # tfmot takes the mean over the replicas of every masked weight at each step.
    assert lines == ["True 0", *["6 2 True True 0.75 0.75"] * 2]


# -- Saving --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half_trained():
    """A 2:4 model and a growing one, both in the middle of their training."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The run ends at step 4")
        models = {
            "nm": tfprune.prune_low_magnitude(
                dense_model(), tfprune.ConstantSparsity(0.5, 0, frequency=1), sparsity_m_by_n=(2, 4)
            ),
            "growing": tfprune.prune_low_magnitude(dense_model(), GROWING),
        }
        for model in models.values():
            fit(model, 4)
    return models


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("ending", ["h5", "keras"])
def test_a_loaded_model_goes_on_where_it_stopped(half_trained, ending, tmp_path):
    for name, model in half_trained.items():
        path = str(tmp_path / f"{name}.{ending}")
        model.save(path)
        with tfprune.prune_scope():
            loaded = tf_keras.models.load_model(path)
        for old, new in zip(pruned_layers(model), pruned_layers(loaded), strict=True):
            assert new.pattern == old.pattern
            assert new.pruning_schedule == old.pruning_schedule
            assert new.read_step() == 4
            np.testing.assert_array_equal(old.states()[0].mask, new.states()[0].mask)
        assert int(loaded.optimizer.iterations) == 4
        loaded.fit(
            np.ones((8, 8)), np.ones((8, 4)), 2, callbacks=tfprune.UpdatePruningStep(), verbose=0
        )
        final = {"nm": 0.5, "growing": 0.8}[name]
        assert tfprune.summary(loaded).sparsity == pytest.approx(final, abs=0.02)
        kernels = [layer.states()[0].weight for layer in pruned_layers(loaded)]
        assert all(map(is_2_by_4, kernels)) == (name == "nm")


FRESH = """
import os
import tf_keras, tfprune
for path in {paths!r}:
    with tfprune.prune_scope():
        model = tf_keras.models.load_model(path)
    print([row.pattern for row in tfprune.summary(model).rows], tfprune.summary(model).sparsity)
print(os.environ["TF_USE_LEGACY_KERAS"])
"""


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_fresh_process_loads_what_tfprune_and_tfmot_have_saved(
    half_trained, tfmot, run_python, tmp_path
):
    paths = [str(tmp_path / name) for name in ("a.h5", "a.keras", "tfmot.h5")]
    half_trained["nm"].save(paths[0])
    half_trained["nm"].save(paths[1])
    theirs = tfmot.prune_low_magnitude(dense_model())
    theirs.save(paths[2])
    code = FRESH.format(paths=paths)
    assert run_python(code, TF_USE_LEGACY_KERAS="0").splitlines() == [
        "['2:4', '2:4'] 0.5",
        "['2:4', '2:4'] 0.5",
        "['unstructured', 'unstructured'] 0.0",
        "0",  # as the user had set it
    ]


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_tfmot_itself_forgets_the_n_m_pattern(tfmot, tmp_path):
    schedule = tfmot.ConstantSparsity(0.5, 0, frequency=1)
    model = tfmot.prune_low_magnitude(dense_model(), schedule, sparsity_m_by_n=(2, 4))
    fit(model, 4, [tfmot.UpdatePruningStep()])
    assert is_2_by_4(pruned_layers(model)[0].states()[0].weight)
    model.save(tmp_path / "tfmot.h5")
    with tfmot.prune_scope():
        loaded = tf_keras.models.load_model(tmp_path / "tfmot.h5")
    assert [str(layer.pattern) for layer in pruned_layers(loaded)] == ["unstructured"] * 2


# -- Stripping and looking -----------------------------------------------------------------------


def test_strip_masks_once_more(tfmot):
    ours, theirs = (tfprune.prune_low_magnitude(dense_model(), AT_ONCE) for _ in range(2))
    for model in (ours, theirs):
        fit(model)
        for layer in pruned_layers(model):  # as an optimizer with momentum does
            weight, _, _ = layer.layer.pruning_vars[0]
            weight.assign(weight + 1e-3)
    stripped = tfprune.strip_pruning(ours)
    assert [type(layer) for layer in stripped.layers] == [layers.Dense] * 2
    assert all(np.mean(layer.kernel == 0) == 0.5 for layer in stripped.layers)
    assert tfprune.summary(stripped).sparsity == 0.5
    forgotten = tfmot.strip_pruning(theirs)
    assert all(np.mean(layer.kernel == 0) == 0.0 for layer in forgotten.layers)


def test_strip_keeps_the_outputs():
    model = tfprune.prune_low_magnitude(mixed_model(), AT_ONCE)
    fit(model, shape=(8, 8, 3), outputs=3)
    x = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
    np.testing.assert_allclose(tfprune.strip_pruning(model)(x), model(x), rtol=1e-5, atol=1e-6)


def test_strip_of_one_wrapped_layer_returns_the_layer_inside():
    inside = layers.Dense(4)
    assert tfprune.strip_pruning(tfprune.prune_low_magnitude(inside)) is inside


def test_the_summary_of_each_layer():
    model = tfprune.prune_low_magnitude(dense_model(), GROWING)
    summary = tfprune.summary(model)
    assert [(r.layer, r.weight, r.shape) for r in summary.rows] == [
        ("dense8", "kernel", (8, 8)),
        ("dense4", "kernel", (8, 4)),
    ]
    assert [r.target for r in summary.rows] == pytest.approx([51 / 64, 26 / 32])
    assert [r.reached for r in summary.rows] == [0.0, 0.0]
    assert summary.parameters == 8 * 8 + 8 + 8 * 4 + 4
    fit(model, 8)
    summary = tfprune.summary(model)
    assert [r.nonzero for r in summary.rows] == [13, 6]
    biases = sum(np.count_nonzero(layer.layer.bias) for layer in model.layers)
    assert summary.nonzero == 13 + 6 + biases
    assert "dense8" in str(summary)


def test_attention_and_recurrent_weights_have_names_of_their_own():
    inputs = tf_keras.Input((3, 8))
    outputs = layers.LSTM(4, name="lstm")(
        layers.MultiHeadAttention(2, 2, name="mha")(inputs, inputs)
    )
    model = tfprune.prune_low_magnitude(tf_keras.Model(inputs, outputs), AT_ONCE)
    fit(model, shape=(3, 8))
    rows = [(row.layer, row.weight) for row in tfprune.summary(model).rows]
    attention = ("query", "key", "value", "attention_output")
    assert rows == [
        *(("mha", f"{part}/kernel") for part in attention),
        ("lstm", "kernel"),
        ("lstm", "recurrent_kernel"),
    ]
    assert all(row.reached == 0.5 for row in tfprune.summary(model).rows)


def test_models_that_tfmot_has_wrapped_are_welcome(tfmot):
    schedule = tfmot.PolynomialDecay(0.2, 0.5, begin_step=0, end_step=4, frequency=1)
    model = tfmot.prune_low_magnitude(dense_model(), schedule)
    assert pruned_layers(model)[0].pruning_schedule == tfprune.PolynomialDecay(
        0.2, 0.5, 0, 4, frequency=1
    )
    fit(model, 4)
    assert tfprune.summary(model).sparsity == 0.5
    assert tfprune.summary(tfprune.strip_pruning(model)).sparsity == 0.5


def test_wrapped_layers_are_not_wrapped_again():
    model = tfprune.prune_low_magnitude(dense_model())
    again = tfprune.prune_low_magnitude(model)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
