"""Wrapping layers, lists and models, by tfmot's call and by rules."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfprune
from tfprune.wrapper import PruneLowMagnitude, wrappers

HALF = tfprune.ConstantSparsity(0.5, 0)


def _names(model):
    return [wrapper.layer_name for wrapper in wrappers(model)]


def _update(model):
    for wrapper in wrappers(model):
        wrapper.update_masks(wrapper.pruning_schedule.end_step or 0)


def test_a_sequential_model_is_copied_and_the_original_left_alone(small_model, batch):
    before = small_model.predict(batch[0], verbose=0)
    pruned = tfprune.prune_low_magnitude(small_model)
    assert _names(pruned) == ["conv1", "conv2", "wide", "logits"]
    assert pruned.layers[0].name == "prune_low_magnitude_conv1"
    np.testing.assert_allclose(pruned.predict(batch[0], verbose=0), before, rtol=1e-5)
    pruned.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pruned.fit(*batch, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    np.testing.assert_array_equal(small_model.predict(batch[0], verbose=0), before)
    # Keras refuses `layer.output` where a layer is shared by two models.
    assert small_model.get_layer("flatten").output is not None
    stripped = tfprune.strip_pruning(pruned)
    assert stripped.get_layer("flatten").output is not None
    assert [layer.name for layer in stripped.layers] == [layer.name for layer in small_model.layers]


def test_a_functional_model_with_shared_and_nested_layers():
    shared = layers.Dense(8, name="shared")
    block = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, name="inner"), layers.Dropout(0.1)], name="block"
    )
    a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
    inner_in = keras.Input((8,))
    nested = keras.Model(inner_in, block(shared(inner_in)) + inner_in, name="nested")
    x = layers.add([shared(a), nested(b), block(b)])
    model = keras.Model([a, b], {"out": layers.Dense(2, name="out")(x), "x": x})
    data = [np.random.default_rng(i).random((3, 8), np.float32) for i in range(2)]
    expected = model(data)
    pruned = tfprune.prune_low_magnitude(model, HALF)
    assert sorted(_names(pruned)) == ["inner", "out", "shared"]
    for key, value in pruned(data).items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-5)
    _update(pruned)
    stripped = tfprune.strip_pruning(pruned)
    for key, value in pruned(data).items():
        np.testing.assert_allclose(value, stripped(data)[key], rtol=1e-5)
    assert stripped.get_layer("nested").get_layer("block").get_layer("inner").built
    assert model.count_params() == stripped.count_params()


def test_layers_wrapped_by_hand_in_a_subclassed_model(tmp_path):
    @keras.saving.register_keras_serializable(package="test")
    class Net(keras.Model):
        def __init__(self, pruning=True, **kwargs):
            super().__init__(**kwargs)
            wrap = tfprune.prune_low_magnitude if pruning else lambda layer: layer
            self.blocks = [wrap(layers.Dense(8, name=f"d{i}")) for i in range(2)]
            self.norm = layers.BatchNormalization()

        def call(self, x, training=None):
            for block in self.blocks:
                x = self.norm(block(x), training=training)
            return x

        def get_config(self):
            return super().get_config()

    net = Net()
    net.compile("sgd", "mse")
    x = np.random.default_rng(0).random((32, 8), np.float32)
    net.fit(x, x, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert [w.states()[0].sparsity for w in wrappers(net)] == [0.5, 0.5]
    with pytest.raises(ValueError, match="stripped_weights"):
        tfprune.strip_pruning(net)
    plain = Net(pruning=False)
    plain(x)
    plain.set_weights(tfprune.stripped_weights(net))
    np.testing.assert_allclose(plain(x), net(x), rtol=1e-5)
    net.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_allclose(loaded(x), net(x), rtol=1e-5)
    with pytest.raises(
        ValueError, match=r"(?s)subclassed model.*prune_low_magnitude\(keras"
    ) as error:
        tfprune.prune_low_magnitude(Net(pruning=False))
    assert "Received: Net" in str(error.value)


def test_a_list_keeps_what_has_nothing_to_prune_and_what_is_wrapped_already():
    done = PruneLowMagnitude(layers.Dense(2))
    items = [layers.Dense(3), layers.ReLU(), done]
    result = tfprune.prune_low_magnitude(items)
    assert isinstance(result[0], PruneLowMagnitude)
    assert result[1] is items[1]
    assert result[2] is done


def test_a_single_layer_that_cannot_be_pruned_is_an_error():
    for layer, reason in [
        (layers.Flatten(name="f"), "Flatten"),
        (layers.DepthwiseConv2D(3, name="f"), "depthwise"),
        (layers.BatchNormalization(name="f"), "norms"),
    ]:
        with pytest.raises(ValueError, match=rf"'f' cannot be pruned.*{reason}"):
            tfprune.prune_low_magnitude(layer)


class Unknown(layers.Layer):
    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], 4))
        self.built = True

    def call(self, x):
        return x @ self.matrix


def test_what_cannot_be_pruned_in_a_model_is_skipped_and_listed():
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(4, 3, name="c"), layers.DepthwiseConv2D(1),
         layers.BatchNormalization(), layers.Flatten(), Unknown(name="odd"),
         layers.Dense(8, name="d")]
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"c \(too few input channels for 2:4: 1\); odd") as record:
        pruned = tfprune.prune_low_magnitude(model, HALF, sparsity_m_by_n=(2, 4))
    assert len(record) == 1
    assert "depthwise" not in str(record[0].message)
    assert _names(pruned) == ["d"]
    table = str(tfprune.summary(pruned))
    for words in ("too few input", "get_prunable", "depthwise kernels"):
        assert words in " ".join(table.replace("│", " ").split()), table


def test_nothing_to_prune_and_models_not_built_are_errors():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="bn")])
    with pytest.raises(ValueError, match=r"Nothing in the model.*bn: norms.*Received: model="):
        tfprune.prune_low_magnitude(model)
    with pytest.raises(ValueError, match="not built yet"):
        tfprune.prune_low_magnitude(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ValueError, match="no layers"):
        tfprune.prune_low_magnitude(keras.Sequential())


@pytest.mark.parametrize("thing", [3, None, "model", object(), np.zeros(3), {"a": 1}])
def test_an_object_of_neither_family_is_refused(thing):
    for call in (
        tfprune.prune_low_magnitude,
        tfprune.strip_pruning,
        tfprune.summary,
        lambda x: tfprune.prune(x, 0.5),
    ):
        with pytest.raises(ValueError, match=r"Expected .*Received: "):
            call(thing)


def test_bad_arguments_of_tfmot_calls():
    layer = layers.Dense(4)
    layer.build((None, 8))
    prune = tfprune.prune_low_magnitude
    for arguments, message in [
        ({"pruning_schedule": 1.5}, r"\[0, 1\)"),
        ({"pruning_schedule": lambda step: 0.5}, "FunctionSchedule"),
        ({"block_size": (0, 4)}, "block_size"),
        ({"block_size": (1, 16)}, "larger than the weight"),
        ({"block_pooling_type": "SUM"}, "AVG"),
        ({"sparsity_m_by_n": (4, 4)}, "fewer zeros"),
        ({"sparsity_m_by_n": (2, 4), "block_size": (1, 2)}, "one pattern"),
        ({"sparsity_m_by_n": (8, 16)}, "too few input channels"),
    ]:
        with pytest.raises(ValueError, match=message):
            prune(layer, **arguments)


def test_unknown_arguments_are_refused(small_model):
    for thing in (small_model, [keras.layers.Dense(2)]):
        with pytest.raises(TypeError, match="pruning_shedule"):
            tfprune.prune_low_magnitude(thing, pruning_shedule=tfprune.ConstantSparsity(0.9, 0))
    with pytest.raises((TypeError, ValueError), match="pruning_shedule"):
        tfprune.prune_low_magnitude(keras.layers.Dense(2), pruning_shedule=None)


class RefuseAll(tfprune.PruningPolicy):
    def allow_pruning(self, layer):
        return False

    def ensure_model_supports_pruning(self, model):
        pass


def test_a_policy_is_asked_about_a_single_layer_and_in_a_list():
    with pytest.raises(ValueError, match="RefuseAll does not allow it"):
        tfprune.prune_low_magnitude(keras.layers.Dense(2), pruning_policy=RefuseAll())
    dense = keras.layers.Dense(2)
    assert tfprune.prune_low_magnitude([dense], pruning_policy=RefuseAll()) == [dense]
    with pytest.raises(TypeError, match="allow_pruning` and `ensure_model"):
        tfprune.prune_low_magnitude(dense, pruning_policy="all")


def test_a_model_in_a_list_is_pointed_out(small_model):
    with pytest.warns(UserWarning, match="it is a model: wrap it by itself"):
        assert tfprune.prune_low_magnitude([small_model]) == [small_model]


def test_weights_that_are_not_finite_are_refused_before_and_after(small_model):
    wide = small_model.get_layer("wide")
    pruned = tfprune.prune_low_magnitude(small_model, tfprune.ConstantSparsity(0.5, 0))
    wide.kernel.assign(np.full(wide.kernel.shape, np.nan))
    with pytest.warns(UserWarning, match="wide .*NaN or infinite"):
        tfprune.prune_low_magnitude(small_model)
    with pytest.raises(
        ValueError, match=r"'wide' cannot be pruned: its weights hold NaN.* Received: a"
    ):
        tfprune.prune_low_magnitude(wide)
    pruned.get_layer("prune_low_magnitude_wide").layer.kernel.assign(wide.kernel)
    with pytest.raises(ValueError, match="wide/kernel holds NaN"):
        tfprune.strip_pruning(pruned)


class OwnBlock(keras.layers.Layer):
    """Wraps a layer of its own, as in a subclassed model."""

    def __init__(self, wrap=True, **kwargs):
        super().__init__(**kwargs)
        self.wrap = wrap
        dense = keras.layers.Dense(4)
        self.dense = tfprune.prune_low_magnitude(dense) if wrap else dense

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x, training=None):
        return self.dense(x, training=training)

    def get_config(self):
        return {**super().get_config(), "wrap": self.wrap}


def test_wrappers_inside_a_layer_of_ones_own_are_not_taken_for_stripped(tmp_path):
    model = keras.Sequential([keras.Input((8,)), OwnBlock(name="own"), keras.layers.Dense(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "own" is not left dense
        pruned = tfprune.prune_low_magnitude(model)
    pruned.compile("sgd", "mse")
    x = np.random.default_rng(0).random((16, 8), np.float32)
    pruned.fit(x, x[:, :2], verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    with pytest.raises(ValueError, match="inside a model or layer of your own class"):
        tfprune.strip_pruning(pruned)
    layers = [keras.Input((8,)), OwnBlock(wrap=False), keras.layers.Dense(2)]
    plain = keras.Sequential(layers)
    plain.set_weights(tfprune.stripped_weights(pruned))
    np.testing.assert_allclose(plain(x), pruned(x), rtol=1e-6)
    assert np.mean(plain.get_weights()[0] == 0) == 0.5
    tfprune.export_tflite(pruned, tmp_path / "own.tflite")
    assert (tmp_path / "own.tflite").exists()


class OwnSequential(keras.Sequential):
    pass


def test_a_subclass_of_sequential_is_told_that_its_class_is_lost():
    with pytest.warns(UserWarning, match="what its class OwnSequential adds"):
        tfprune.prune_low_magnitude(OwnSequential([keras.Input((8,)), keras.layers.Dense(2)]))


@pytest.mark.parametrize(("block", "sparsity"), [((1, 4), 0.5), ((4, 4), 0.3)])
def test_ragged_blocks_that_are_pruned_are_not_called_short(block, sparsity):
    model = keras.Sequential([keras.Input((53,)), keras.layers.Dense(10, name="out")])
    pruned = tfprune.prune_low_magnitude(
        model, tfprune.ConstantSparsity(sparsity, 0), block_size=block
    )
    pruned.compile("sgd", "mse")
    x = np.random.default_rng(0).random((16, 53), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pruned.fit(x, x[:, :10], verbose=0, callbacks=[tfprune.UpdatePruningStep()])
        tfprune.strip_pruning(pruned)


def test_a_policy_decides_layer_by_layer(small_model):
    class OnlyDense(tfprune.PruningPolicy):
        def allow_pruning(self, layer):
            return isinstance(layer, layers.Dense)

        def ensure_model_supports_pruning(self, model):
            if not model.built:
                raise ValueError("unbuilt")

    pruned = tfprune.prune_low_magnitude(small_model, HALF, pruning_policy=OnlyDense())
    assert _names(pruned) == ["wide", "logits"]


def test_the_write_up_with_rules_for_each_layer(small_model):
    pruned = tfprune.prune(
        small_model,
        [
            tfprune.Rule("conv1", schedule=0.5),
            tfprune.Rule("conv2|wide", schedule=0.5, pattern="2:4"),
            tfprune.Rule("logits", skip=True),
        ],
    )
    _update(pruned)
    rows = {row.layer: row for row in tfprune.summary(pruned).rows}
    assert (rows["conv1"].pattern, rows["conv1"].reached) == ("unstructured", 0.5)
    assert (rows["conv2"].pattern, rows["conv2"].reached) == ("2:4", 0.5)
    kernel = pruned.get_layer("prune_low_magnitude_conv2").layer.kernel
    groups = np.asarray(kernel).transpose(3, 0, 1, 2).reshape(-1, 4)
    assert (np.count_nonzero(groups, axis=1) == 2).all()
    assert rows["logits"].reached == 0.0
    assert rows["logits"].reason == "a rule says to skip it"


def test_rules_for_classes_functions_nested_paths_and_the_first_match(small_model):
    outer = keras.Sequential([keras.Input((8, 8, 2)), small_model, layers.Dense(2, name="head")])
    pruned = tfprune.prune(
        outer,
        [
            tfprune.Rule("small/conv", schedule=0.25),
            tfprune.Rule(lambda layer: layer.name == "head", skip=True),
            tfprune.Rule(layers.Dense, schedule=0.75),
        ],
    )
    _update(pruned)
    reached = {row.layer: row.reached for row in tfprune.summary(pruned).rows if row.size}
    assert reached["conv1"] == 0.25
    assert reached["conv2"] == 0.25
    assert reached["wide"] == 0.75
    assert reached["head"] == 0.0


def test_a_rule_for_nothing_or_for_what_cannot_be_pruned(small_model):
    with pytest.raises(ValueError, match=r"conv9.*matches no layer.*conv1, norm, relu"):
        tfprune.prune(small_model, [tfprune.Rule("conv9", schedule=0.5)])
    with pytest.raises(ValueError, match="earlier rule"):
        tfprune.prune(small_model, [tfprune.Rule(schedule=0.5), tfprune.Rule("conv1", skip=True)])
    with pytest.raises(ValueError, match=r"'norm', asked for by name.*norms"):
        tfprune.prune(small_model, [tfprune.Rule("norm", schedule=0.5)])
    with pytest.raises(ValueError, match=r"asked for by name.*too few input channels for 2:4: 2"):
        tfprune.prune(small_model, [tfprune.Rule("conv1", schedule=0.5, pattern="2:4")])
    with pytest.raises(ValueError, match="matches no layer that can be pruned"):
        tfprune.prune(small_model, [tfprune.Rule("rel.", schedule=0.5)])
    with pytest.raises(ValueError, match="prune_low_magnitude"):
        tfprune.prune(layers.Dense(2), 0.5)


@pytest.mark.parametrize(
    ("rule", "said", "received"),
    [
        ("{layers: conv1x, schedule: 0.5}", "matches no layer.*conv1, norm.*leave it", "conv1x"),
        ("{layers: rel., schedule: 0.5}", "no layer that can be.*relu: .*skip: true", "rel."),
        ("{layers: norm, schedule: 0.5}", "'norm', asked for by name.*skip: true", "norm"),
    ],
)
def test_a_rule_that_does_not_fit_is_told_with_its_place(
    small_model, tmp_path, rule, said, received
):
    path = tmp_path / "bad.yaml"
    path.write_text(f"- {{layers: conv2, schedule: 0.5}}\n- {rule}\n")
    with pytest.raises(ValueError, match=said) as raised:
        tfprune.prune(small_model, path)
    assert str(raised.value).startswith(f"{path}, line 2: The rule ")
    assert str(raised.value).endswith(f"Received: layers='{received}'")
    with pytest.raises(ValueError, match=r"^The rule .* Received: layers=Embedding$"):
        tfprune.prune(small_model, [tfprune.Rule(layers.Embedding, 0.5)])


def test_rules_from_yaml_one_schedule_and_a_number(small_model, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(
        "- {layers: conv2, schedule: 0.5, pattern: 2:4}\n- layers: {class: Dense}\n  skip: true\n"
    )
    assert _names(tfprune.prune(small_model, path)) == ["conv2"]
    assert _names(tfprune.prune(small_model, 0.9)) == ["conv1", "conv2", "wide", "logits"]
    assert len(_names(tfprune.prune(small_model, tfprune.OneShot(0.9)))) == 4


def test_a_compiled_model_with_losses_and_metrics_of_its_own_can_be_wrapped(small_model, batch):
    def my_loss(y, p):
        return keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True)

    small_model.compile(keras.optimizers.Adam(1e-3), my_loss, metrics=["accuracy"])
    small_model.fit(*batch, verbose=0)
    pruned = tfprune.prune_low_magnitude(small_model)
    pruned.compile("adam", my_loss)
    pruned.fit(*batch, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    tfprune.strip_pruning(pruned)


def test_wrapping_twice_keeps_the_masks_of_the_first_time(small_model):
    once = tfprune.prune(small_model, [tfprune.Rule("conv1", schedule=0.5)])
    _update(once)
    twice = tfprune.prune(once, [tfprune.Rule("wide", schedule=0.5)])
    reached = {row.layer: row.reached for row in tfprune.summary(twice).rows if row.size}
    assert reached["conv1"] == 0.5
    assert sorted(_names(twice)) == ["conv1", "wide"]


def test_a_layer_that_cannot_be_rebuilt_is_shared_with_a_warning():
    class Stubborn(layers.Layer):
        def __init__(self, factor_source, **kwargs):
            super().__init__(**kwargs)
            self.factor_source = factor_source

        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")
            self.built = True

        def call(self, x):
            return x * self.scale * self.factor_source()

    stubborn = Stubborn(lambda: 2.0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), stubborn])
    with pytest.warns(UserWarning, match="shares it with the original"):
        pruned = tfprune.prune_low_magnitude(model)
    assert pruned.layers[-1] is stubborn


def test_adapted_and_preprocessing_layers_survive():
    text = layers.StringLookup(output_mode="int")
    text.adapt(["a", "b", "c"])
    norm = layers.Normalization()
    norm.adapt(np.array([[1.0, 2.0], [3.0, 6.0]]))
    words, numbers = keras.Input((1,), dtype="string"), keras.Input((2,))
    x = layers.Flatten()(layers.Embedding(5, 4)(text(words)))
    x = layers.concatenate([x, norm(numbers), layers.Lambda(lambda t: t * 2.0)(numbers)])
    model = keras.Model([words, numbers], layers.Dense(1)(x))
    import tensorflow as tf

    data = [tf.constant([["a"], ["zz"]]), tf.ones((2, 2))]
    pruned = tfprune.prune_low_magnitude(model)
    np.testing.assert_allclose(pruned(data), model(data), rtol=1e-5)
    _update(pruned)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stripped = tfprune.strip_pruning(pruned)
    np.testing.assert_allclose(pruned(data), stripped(data), rtol=1e-5)


def test_strip_warns_of_what_missed_its_target(small_model):
    pruned = tfprune.prune_low_magnitude(small_model, tfprune.PolynomialDecay(0.2, 0.8, 0, 100))
    with pytest.warns(UserWarning, match=r"conv1/kernel is at 0.0%, not 79.9%"):
        tfprune.strip_pruning(pruned)


def test_prune_scope_does_nothing_to_keras_3():
    with tfprune.prune_scope():
        assert tfprune.prune_low_magnitude(layers.Dense(2)).name == "prune_low_magnitude_dense"


def test_lossless_round_trip_of_frozen_layers(small_model):
    small_model.get_layer("conv1").trainable = False
    pruned = tfprune.prune_low_magnitude(small_model)
    assert not pruned.get_layer("prune_low_magnitude_conv1").trainable
    stripped = tfprune.strip_pruning(tfprune.prune_low_magnitude(small_model, tfprune.OneShot(0.0)))
    assert not stripped.get_layer("conv1").trainable
    assert stripped.get_layer("conv2").trainable
