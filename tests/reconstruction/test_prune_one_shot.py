"""`prune_one_shot`: by hand on tiny models, by least squares, on every kind of model and data."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tfprune.reconstruction import refit

L = keras.layers


def dense_model(kernel, bias=None):
    kernel = np.array(kernel, "float32")
    layer = L.Dense(kernel.shape[1], use_bias=bias is not None, name="only")
    model = keras.Sequential([keras.Input((len(kernel),)), layer])
    layer.set_weights([kernel] if bias is None else [kernel, np.array(bias, "float32")])
    return model


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def cut(model, data, rules=0.5, **arguments):
    return tfprune.prune_one_shot(model, data, rules, progress=False, **arguments)


def mixed():
    """A model with a residual connection, a nested model called twice, and layers of no product."""
    inputs = keras.Input((6, 6, 4))
    inner = keras.Sequential([keras.Input((6, 6, 4)), L.Conv2D(4, 1, name="point")], name="inner")
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(inputs)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.Add()([inner(x), inner(inputs)])
    x = L.LSTM(3, name="lstm")(L.Reshape((36, 4))(x))
    return keras.Model(inputs, L.Dense(2, name="head")(x), name="mixed")


def test_of_two_equal_inputs_one_takes_over_the_weight_of_the_other():
    z = normal(50, 1)
    z -= z.mean()
    small, report = cut(dense_model([[1.0], [2.0]]), np.hstack([z, z]))
    # Damping (1 % of H) pulls a little towards the dense weights.
    np.testing.assert_allclose(small.layers[0].kernel.numpy(), [[0.0], [3.0]], atol=0.03)
    (row,) = report.weights
    assert row.magnitude_error == pytest.approx(1 / 9, rel=1e-4)  # 2 z in the place of 3 z
    assert row.error < 1e-4


def test_the_bias_takes_over_a_constant_input():
    z = normal(50, 1)
    model = dense_model([[2.0], [3.0]], [0.5])
    small, report = cut(model, np.hstack([z, np.ones_like(z)]))
    kernel, bias = small.layers[0].get_weights()
    np.testing.assert_allclose(kernel, [[2.0], [0.0]], rtol=1e-5)
    np.testing.assert_allclose(bias, [3.5], rtol=1e-5)
    assert report.weights[0].error < 1e-6


def test_inputs_far_from_zero_are_cut_as_those_about_zero():
    x = np.round(normal(320, 8) * 16) / 16  # so that adding 1024 rounds nothing
    model = dense_model(normal(8, 3, seed=1), np.zeros(3))
    near, _ = cut(model, x)
    far, report = cut(model, x + 1024)
    np.testing.assert_allclose(
        far.layers[0].kernel.numpy(), near.layers[0].kernel.numpy(), rtol=1e-4, atol=1e-6
    )
    assert report.weights[0].error < 1.0


@pytest.mark.parametrize("x", [normal(1, 8) + 100, np.full((40, 8), 3.3, "float32")])
def test_what_never_varies_is_taken_over_by_the_bias(x):
    model = dense_model(normal(8, 3, seed=1), np.ones(3))
    small, report = cut(model, x)
    assert report.weights[0].sparsity == 0.5
    np.testing.assert_allclose(
        small.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-4
    )


def test_a_refit_that_fails_names_the_layer(monkeypatch):
    monkeypatch.setattr(refit, "damped", lambda gram, raw: -np.eye(4)[None])
    with pytest.raises(ValueError, match=r"The layer 'only' cannot be refitted.*50 rows of 4"):
        cut(dense_model(normal(4, 2)), normal(50, 4))


def test_a_layer_that_is_called_twice_answers_for_both_calls():
    first, second = keras.Input((2,)), keras.Input((2,))
    layer = L.Dense(1, use_bias=False, name="shared")
    model = keras.Model([first, second], [layer(first), layer(second)])
    layer.kernel.assign([[1.0], [2.0]])
    z = normal(50, 1)
    # Together the two inputs are uncorrelated: nothing can take over what the first one did.
    small, report = cut(model, [np.hstack([z, z]), np.hstack([z, -z])])
    np.testing.assert_allclose(small.get_layer("shared").kernel.numpy(), [[0.0], [2.0]], atol=1e-5)
    assert len(report.weights) == 1


def test_the_errors_are_those_of_the_outputs():
    model, x = dense_model(normal(6, 3), np.ones(3)), normal(40, 6, seed=1) + 0.5
    small, report = cut(model, (x, np.zeros(40)))
    dense, kernel = x @ model.layers[0].kernel.numpy() + 1, model.layers[0].kernel.numpy()
    variance = np.sum((dense - dense.mean(axis=0)) ** 2)
    limit = np.sort(np.abs(kernel).ravel())[9]
    by_magnitude = x @ np.where(np.abs(kernel) >= limit, kernel, 0) + 1
    (row,) = report.weights
    expected = np.sum((by_magnitude - dense) ** 2) / variance
    assert row.magnitude_error == pytest.approx(expected, rel=1e-4)
    missed = np.sum((small.predict(x, verbose=0) - dense) ** 2) / variance
    assert row.error == pytest.approx(missed, rel=1e-4)
    assert row.error < row.magnitude_error


def test_a_model_that_remembers_is_as_it_was_and_is_cut_from_a_fresh_start():
    def model():
        keras.utils.set_random_seed(0)
        made = keras.Sequential(
            [keras.Input(batch_shape=(4, 3, 5)), L.GRU(6, stateful=True), L.Dense(3, name="out")]
        )
        return made, made.layers[0].states[0]

    x = normal(12, 3, 5)
    (used, state), (fresh, _) = model(), model()
    used.predict(x[:4], batch_size=4, verbose=0)
    before = state.numpy()
    (first, _), (second, _) = cut(used, x), cut(fresh, x)
    assert np.any(before)
    np.testing.assert_array_equal(state.numpy(), before)
    assert not np.any(first.layers[0].states[0].numpy())
    np.testing.assert_allclose(
        first.get_layer("out").kernel.numpy(), second.get_layer("out").kernel.numpy(), rtol=1e-5
    )


def test_a_later_layer_makes_up_for_the_pruned_one_before_it():
    model = keras.Sequential(
        [keras.Input((8,)), L.Dense(6, "relu", name="first"), L.Dense(3, name="second")]
    )
    x = normal(90, 8)
    rules = [tfprune.Rule("first", 0.5), tfprune.Rule("second", 0.0)]
    small, _ = cut(model, x, rules)
    first, second = model.layers
    hidden = np.maximum(x @ small.layers[0].kernel.numpy() + small.layers[0].bias.numpy(), 0)
    wanted = np.maximum(x @ first.kernel.numpy() + first.bias.numpy(), 0) @ second.kernel.numpy()
    # Ridge regression towards the dense kernel, about the means.
    centred = (hidden - hidden.mean(axis=0)).astype(float)
    weight = np.sqrt(refit.DAMPING * np.sum(centred**2) / 6)
    rows = np.vstack([centred, weight * np.eye(6)])
    goals = np.vstack([wanted - wanted.mean(axis=0), weight * second.kernel.numpy()])
    best = np.linalg.lstsq(rows, goals, rcond=None)[0]
    kernel, bias = small.layers[1].get_weights()
    np.testing.assert_allclose(kernel, best, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        bias, wanted.mean(axis=0) - hidden.mean(axis=0) @ best, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    ("pattern", "zeros"),
    # Of 144 in the 3x3 kernel, 16 in the 1x1, 6 in the head's 3x2. There the smaller of two blocks
    # goes, the ragged one, and the group of one input stays.
    [("unstructured", (72, 8, 3)), ("2:4", (72, 8)), ("2x2", (72, 8, 2)), ("1:2", (72, 8, 2))],
)
def test_every_pattern_in_every_kind_of_layer(pattern, zeros):
    model, x = mixed(), normal(24, 6, 6, 4)
    before, outputs = model.get_weights(), model.predict(x, verbose=0)
    small, report = cut(model, x, pattern=pattern)
    kernels = [
        small.get_layer("conv").kernel.numpy(),
        small.get_layer("inner").get_layer("point").kernel.numpy(),
        small.get_layer("head").kernel.numpy(),
    ]
    assert tuple(int(np.sum(kernel == 0)) for kernel in kernels[: len(zeros)]) == zeros
    by_name = {f"{row.layer}/{row.weight}": row for row in report.weights}
    assert len(by_name) == len(report.weights)
    assert by_name["conv/kernel"].error < by_name["conv/kernel"].magnitude_error
    assert by_name["conv/kernel"].sparsity == 0.5
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(model.predict(x, verbose=0), outputs)
    assert "by magnitude" in str(report)
    assert json.loads(report.to_json())["weights"][0]["layer"] == "conv"
    if pattern == "2:4":
        assert report.dense == (("head", "too few input channels for 2:4: 3"),)
        lanes = kernels[0].reshape(9, 4, 4)
        assert ((lanes != 0).sum(axis=1) == 2).all()


@pytest.mark.parametrize(("sparsity", "pattern", "given"), [(0.9, "2:4", 50.0), (0.5, "1:4", 25.0)])
def test_a_pattern_that_gives_fewer_zeros_than_were_asked_for_warns(sparsity, pattern, given):
    model, x = dense_model(normal(8, 3)), normal(40, 8)
    with pytest.warns(UserWarning, match=f"only will be at {given}%, not {100 * sparsity}%"):
        small, _ = cut(model, x, sparsity, pattern=pattern)
    assert (small.layers[0].kernel.numpy() == 0).mean() == given / 100


def test_a_pattern_that_short_groups_keep_from_its_zeros_warns():
    model, x = dense_model(normal(6, 3)), normal(40, 6)
    expected = r"only will be at 33\.3%, not 50\.0% \(6 inputs are no multiple of 4\)"
    with pytest.warns(UserWarning, match=expected):
        small, _ = cut(model, x, 0.5, pattern="2:4")
    assert (small.layers[0].kernel.numpy() == 0).sum(axis=0).tolist() == [2, 2, 2]


def test_a_pattern_that_gives_what_was_asked_for_does_not_warn(recwarn):
    cut(dense_model(normal(8, 3)), normal(40, 8), 0.5, pattern="2:4")
    assert not [one for one in recwarn if "N:M" in str(one.message)]


def test_no_sparsity_is_no_zeros_in_any_pattern():
    model, x = dense_model(normal(4, 3)), normal(30, 4)
    for pattern in ("unstructured", "2:4", "2x1"):
        small, _ = cut(model, x, np.float32(0.0), pattern=pattern)
        np.testing.assert_allclose(
            small.layers[0].kernel.numpy(), model.layers[0].kernel.numpy(), rtol=1e-5
        )


def test_layers_of_no_product_are_cut_by_magnitude_and_say_so():
    model = mixed()
    small, report = cut(model, normal(8, 6, 6, 4))
    kernel = model.get_layer("lstm").cell.kernel.numpy()
    limit = np.sort(np.abs(kernel).ravel())[kernel.size // 2]
    np.testing.assert_array_equal(
        small.get_layer("lstm").cell.kernel.numpy(), np.where(np.abs(kernel) >= limit, kernel, 0)
    )
    reasons = {row.weight: (row.reason, row.error) for row in report.weights if row.layer == "lstm"}
    assert reasons["recurrent_kernel"] == ("layers of type LSTM are not refitted", None)


def test_too_many_inputs_are_cut_by_magnitude(monkeypatch):
    monkeypatch.setattr("tfprune.reconstruction.fitting._MOST_INPUTS", 3)
    small, report = cut(dense_model(normal(4, 1)), normal(9, 4))
    assert report.weights[0].reason.startswith("4 inputs")
    assert np.count_nonzero(small.layers[0].kernel.numpy()) == 2


def test_a_kernel_of_zeros_stays_as_it_is():
    small, report = cut(dense_model(np.zeros((4, 2))), normal(9, 4))
    assert not small.layers[0].kernel.numpy().any()
    assert report.weights[0].reason == "all of its weights are zero"


class Offered(L.Dense):
    def get_prunable_weights(self):
        return [self.kernel, self.bias]


def test_a_bias_that_is_pruned_keeps_its_zeros():
    layer = Offered(4, name="own")
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.bias.assign([1.0, 4.0, 2.0, 3.0])
    small, report = cut(model, normal(30, 4) + 2.0)
    np.testing.assert_array_equal(small.get_layer("own").bias.numpy(), [0.0, 4.0, 0.0, 3.0])
    assert [row.reason for row in report.weights] == ["", "only kernels are refitted"]
    assert np.sum(small.get_layer("own").kernel.numpy() == 0) == 8


def batches_of(x):
    return [x[:5], x[5:12], x[12:]]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: (x, np.zeros(len(x))),
        lambda x: tf.data.Dataset.from_tensor_slices(x).batch(7),
        lambda x: tf.data.Dataset.from_tensor_slices((x, np.zeros(len(x)))).batch(7),
        lambda x: iter(batches_of(x)),
        lambda x: lambda: iter(batches_of(x)),
        lambda x: {"rows": x},
    ],
    ids=["pair", "dataset", "dataset of pairs", "iterator", "function", "dict"],
)
def test_data_in_every_form_give_the_same_weights(wrap):
    inputs = keras.Input((5,), name="rows")
    model = keras.Model(inputs, L.Dense(2)(L.Dense(4, "relu")(inputs)))
    x = normal(20, 5)
    expected, _ = cut(model, x)
    found, report = cut(model, wrap(x))
    assert report.samples == 20
    for a, b in zip(expected.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_an_allocation_gives_every_layer_its_own_sparsity(small_model, batch):
    spread = tfprune.allocate(small_model, 0.6, "erk")
    _, report = cut(small_model, batch, spread)
    reached = {row.layer: row.sparsity for row in report.weights}
    for row in spread.layers:
        assert reached.get(row.layer, 0.0) == pytest.approx(row.sparsity, abs=1 / row.size)


def test_norms_are_measured_anew_behind_what_was_cut(small_model, batch):
    plain, report = cut(small_model, batch)
    assert report.recalibration is None
    norm = plain.get_layer("norm")
    np.testing.assert_array_equal(norm.moving_mean.numpy(), np.zeros(8))
    small, report = cut(small_model, batch, recalibrate_norms=True)
    values = keras.Model(small.inputs, small.get_layer("conv1").output).predict(batch[0], verbose=0)
    np.testing.assert_allclose(
        small.get_layer("norm").moving_mean.numpy(), values.mean(axis=(0, 1, 2)), rtol=1e-4
    )
    assert [row.layer for row in report.recalibration.norms] == ["norm"]


def test_half_precision(small_model, batch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), L.Dense(3)])
    small, report = cut(model, normal(40, 6))
    assert [row.sparsity for row in report.weights] == [0.5, 0.5]
    assert all(row.error < row.magnitude_error for row in report.weights)
    assert small.layers[0].kernel.dtype == "float32"


def test_the_result_is_exported_with_its_zeros(small_model, batch, tmp_path):
    small, _ = cut(small_model, batch, 0.8)
    tfprune.export_tflite(small, tmp_path / "small.tflite")
    found = tfprune.inspect_file(tmp_path / "small.tflite")
    assert any(weight.sparsity >= 0.79 for weight in found.weights)


def test_tf_keras_models_are_taken_over():
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.Sequential([tf_keras.Input((6,)), tf_keras.layers.Dense(4, name="one")])
    small, report = cut(model, normal(20, 6))
    assert isinstance(small, keras.Model)
    assert np.sum(small.get_layer("one").kernel.numpy() == 0) == 12
    assert np.all(model.get_layer("one").get_weights()[0] != 0)
    assert report.weights[0].error < report.weights[0].magnitude_error


class Stubborn(L.Dense):
    def get_config(self):
        raise NotImplementedError("no configuration")


def test_a_layer_that_cannot_be_copied_is_left_dense():
    model = keras.Sequential([keras.Input((4,)), Stubborn(4, name="own"), L.Dense(2, name="out")])
    before = model.get_layer("own").kernel.numpy()
    with pytest.warns(UserWarning, match="shares it with the original"):
        _, report = cut(model, normal(9, 4))
    np.testing.assert_array_equal(model.get_layer("own").kernel.numpy(), before)
    assert [path for path, _ in report.dense] == ["own"]


def test_an_interruption_leaves_the_model_as_it_was(small_model, batch, monkeypatch):
    before = small_model.get_weights()
    calls = []

    def interrupted(*arguments):
        if calls:
            raise KeyboardInterrupt
        calls.append(arguments)
        return refit.__dict__["_whole"](*arguments)

    monkeypatch.setitem(refit.__dict__, "_whole", refit.refit)
    monkeypatch.setattr(refit, "refit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cut(small_model, batch)
    for old, new in zip(before, small_model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# -- Bad input -----------------------------------------------------------------------------------


class OfMyOwn(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = L.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def subclassed():
    model = OfMyOwn()
    model(np.zeros((1, 4)))
    return model


def diverged():
    model = dense_model(np.ones((4, 2)), [0.0, np.nan])
    return model


class Endless(tfprune.PruningSchedule):
    def __call__(self, step):
        return True, 0.5

    def get_config(self):
        return {"class_name": "Endless", "config": {}}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (subclassed, r"only its class knows.*Received: OfMyOwn"),
        (lambda: keras.Sequential([L.Dense(2)]), r"not built yet.*built=False"),
        (lambda: "model.keras", r"takes a model of Keras 3.*Received: 'model.keras'"),
        (lambda: tfprune.prune(dense_model(np.ones((4, 2))), 0.5), r"Strip it first.*1 wrapped"),
        (diverged, r"only/bias holds NaN or infinite values.*Received: 1 of 2"),
    ],
    ids=["subclassed", "not built", "no model", "wrapped", "diverged"],
)
def test_models_that_cannot_be_cut(make, message):
    with pytest.raises(ValueError, match=message):
        cut(make(), np.ones((8, 4), "float32"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.ones((0, 4)), "holds no samples"),
        (np.ones((8, 5)), r"shape \(None, 4\).*Received: data of shape \(8, 5\)"),
        (np.full((8, 4), np.nan), "holds NaN or infinite values"),
        (iter([]), "holds no batch"),
        (np.full((8, 4), 3e38, "float32"), "'only' is not finite on the calibration data"),
    ],
    ids=["empty", "misshaped", "nan", "no batch", "overflow"],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_data_that_cannot_be_used(data, message):
    with pytest.raises(ValueError, match=message):
        cut(dense_model(np.ones((4, 2))), data)


@pytest.mark.parametrize(
    ("rules", "pattern", "message"),
    [
        (1.0, None, r"^`rules` must be a sparsity.*Received: rules=1.0"),
        (-0.1, "2x2", r"^`rules` must be a sparsity.*Received: rules=-0.1"),
        (0.5, "8:16", "too few input channels for 8:16: 4"),
        (0.5, "5x1", "5x1 is larger than the weight"),
        (0.5, "4 of 2", "Unknown pattern"),
        ([tfprune.Rule(None, 0.5)], "2:4", "goes with a plain sparsity"),
        (True, "2:4", "goes with a plain sparsity"),
        ([tfprune.Rule("other", 0.5)], None, "matches no layer"),
        ([tfprune.Rule("only", Endless())], None, "does not tell its end"),
        (
            [tfprune.Rule("only", tfprune.OneShot(0.5, 9), score="movement")],
            None,
            "no other score or regrowth fits",
        ),
    ],
)
def test_rules_that_make_no_sense(rules, pattern, message):
    with pytest.raises(ValueError, match=message):
        cut(dense_model(np.ones((4, 2))), np.ones((8, 4)), rules, pattern=pattern)


def test_the_largest_weights_are_kept_where_others_would_do_worse(monkeypatch):
    def the_smallest(weights, upper, choice):
        return np.where(np.abs(weights) < np.median(np.abs(weights)), weights, 0.0)

    monkeypatch.setattr(refit, "refit", the_smallest)
    model = dense_model(normal(6, 4))
    pruned, report = cut(model, normal(200, 6, seed=1))
    before, after = (m.layers[0].kernel.numpy() for m in (model, pruned))
    np.testing.assert_array_equal(after != 0, np.abs(before) > np.median(np.abs(before)))
    assert report.weights[0].error <= report.weights[0].magnitude_error
