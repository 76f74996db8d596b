"""What `PruningSummaries` writes, read back with TensorBoard's own reader."""

import os
import pathlib
import types
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

import tfprune
from tfprune import layouts, tensorboard
from tfprune.strip import pruned_layers
from tfprune.wrapper import WeightState

BATCHES, EPOCHS = 4, 3
# Updates at 2 (inside the first epoch), 5 and 8 (the end of the second); the run ends at 12.
SCHEDULE = tfprune.PolynomialDecay(0.2, 0.8, begin_step=2, end_step=8, frequency=3)
RULES = [
    tfprune.Rule("conv|wide", schedule=SCHEDULE),
    tfprune.Rule("logits", skip=True),
]
WEIGHTS = ("conv/kernel", "wide/kernel")
LAYOUT = "custom_scalars__config__"


def read(log_dir, run="metrics"):
    return EventAccumulator(os.path.join(log_dir, run), size_guidance={"tensors": 0}).Reload()


def values(events, tag):
    """Return [(step, array)] of a tag."""
    return [(e.step, tf.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]


def scalars(events, tag):
    return [(step, float(value)) for step, value in values(events, tag)]


def close(found, expected):
    """Tell whether two curves are the same, step by step."""
    assert [step for step, _ in found] == [step for step, _ in expected]
    np.testing.assert_allclose(*([v for _, v in c] for c in (found, expected)), atol=1e-6)
    return True


def family(name):
    """Return the modules and the base class of callbacks of a family."""
    return keras if name == "keras" else pytest.importorskip("tf_keras")


def build(k):
    layers = k.layers
    return k.Sequential(
        [
            k.Input((6, 6, 2)),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="flatten"),
            layers.Dense(8, activation="relu", name="wide"),
            layers.Dense(3, name="logits"),
        ]
    )


def data():
    rng = np.random.default_rng(0)
    return rng.random((8 * BATCHES, 6, 6, 2), np.float32), rng.random((8 * BATCHES, 3), np.float32)


class Spy:
    """Keeps the state of every pruned weight at each step, as numpy sees it."""

    def __init__(self, k, model):
        self.states = {0: self._look(model)}

        class Callback(k.callbacks.Callback):
            def on_train_batch_end(_, batch, logs=None):
                (step,) = {layer.read_step() for layer in pruned_layers(model)}
                self.states[step] = self._look(model)

        self.callback = Callback()

    @staticmethod
    def _look(model):
        return {
            f"{layer.layer_name}/{state.name}": state
            for layer in pruned_layers(model)
            for state in layer.states()
        }


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def run(request, tmp_path_factory):
    """One training run of each family: what was written, and what there was to write."""
    k = family(request.param)
    k.utils.set_random_seed(0)
    model = tfprune.prune(build(k), RULES)
    model.compile("adam", k.losses.MeanSquaredError())
    log_dir = tmp_path_factory.mktemp(request.param)
    spy = Spy(k, model)
    x, y = data()
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=EPOCHS,
        validation_data=(x, y),
        callbacks=[
            tfprune.UpdatePruningStep(),
            tfprune.PruningSummaries(log_dir, update_freq=2),
            spy.callback,
        ],
        verbose=0,
    )
    return types.SimpleNamespace(
        model=model, log_dir=log_dir, events=read(log_dir), states=spy.states, keras=k
    )


def test_tags_are_grouped_and_complete(run):
    tags = set(run.events.Tags()["tensors"])
    groups = ("sparsity", "target", "threshold", "flipped", "surviving_weights", "mask")
    expected = {f"{group}/{weight}" for group in groups for weight in WEIGHTS}
    assert tags == expected | {"sparsity/model", "rules", LAYOUT}


def test_updates_are_logged_at_their_steps_and_the_final_state_too(run):
    # 0: the state it begins with; 2, 5, 8: updates; 4, 8, 12: epochs end.
    for weight in WEIGHTS:
        assert [step for step, _ in scalars(run.events, f"sparsity/{weight}")] == [
            0,
            2,
            4,
            5,
            8,
            12,
        ]


def test_sparsity_is_what_numpy_counts(run):
    for weight in WEIGHTS:
        for step, value in scalars(run.events, f"sparsity/{weight}"):
            state = run.states[step][weight]
            assert value == pytest.approx(np.mean(state.weight == 0), abs=1e-6)
    for step, value in scalars(run.events, "sparsity/model"):
        flat = np.concatenate([run.states[step][weight].weight.ravel() for weight in WEIGHTS])
        assert value == pytest.approx(np.mean(flat == 0), abs=1e-6)
    assert scalars(run.events, "sparsity/model")[-1][1] == pytest.approx(0.8, abs=0.01)


def test_thresholds_are_the_smallest_magnitude_kept(run):
    for weight in WEIGHTS:
        logged = scalars(run.events, f"threshold/{weight}")
        assert logged[0] == (0, 0.0)
        for step, value in logged:
            assert value == pytest.approx(run.states[step][weight].threshold)
        assert logged[-1][1] > 0


def test_two_in_four_has_a_threshold_only_where_an_update_cut_something(tmp_path):
    """The last update finds every group cut: the price of that is no threshold."""
    keras.utils.set_random_seed(0)
    schedule = tfprune.FunctionSchedule(lambda step: min(0.5, step / 16), 12, frequency=2)
    rules = [tfprune.Rule("conv", schedule=0.5), tfprune.Rule("wide", schedule, pattern="2:4")]
    rules += [tfprune.Rule("logits", skip=True)]
    model = tfprune.prune(build(keras), rules)
    model.compile("adam", "mse")
    spy = Spy(keras, model)
    watch = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path), spy.callback]
    model.fit(*data(), batch_size=8, epochs=EPOCHS, verbose=0, callbacks=watch)
    events = read(tmp_path)
    logged = scalars(events, "threshold/wide/kernel")
    assert logged
    for step, value in logged:
        assert value == pytest.approx(spy.states[step]["wide/kernel"].threshold)
        assert value > 0
    every = [step for step, _ in scalars(events, "sparsity/wide/kernel")]
    assert every[0] < logged[0][0]
    assert logged[-1][0] < every[-1]
    assert spy.states[every[-1]]["wide/kernel"].threshold == 0.0  # what is saved stays as it was
    assert [step for step, _ in scalars(events, "threshold/conv/kernel")] == every
    ((_, text),) = values(events, "rules")
    assert "threshold of an N:M pattern" in text.item().decode()


def test_targets_follow_the_schedule(run):
    for weight in WEIGHTS:
        size = run.states[0][weight].weight.size
        for step, value in scalars(run.events, f"target/{weight}"):
            due = SCHEDULE.update_between(-1, step)
            if due is None:
                assert value == 0.0
            else:
                # A whole number of weights is kept, so the target is off by half a weight at most.
                assert value == pytest.approx(SCHEDULE.sparsity(due), abs=0.5 / size + 1e-6)
        reached = scalars(run.events, f"sparsity/{weight}")
        assert close(scalars(run.events, f"target/{weight}"), reached)


def test_flips_are_counted_against_the_mask_written_before(run):
    for weight in WEIGHTS:
        logged = scalars(run.events, f"flipped/{weight}")
        steps = [step for step, _ in scalars(run.events, f"sparsity/{weight}")]
        assert [step for step, _ in logged] == steps[1:]
        for (step, value), before in zip(logged, steps, strict=False):
            old, new = run.states[before][weight].mask, run.states[step][weight].mask
            assert value == pytest.approx(np.mean(old != new), abs=1e-6)
        assert dict(logged)[2] == pytest.approx(0.2, abs=0.01)
        assert dict(logged)[12] == 0.0


def test_histograms_count_the_surviving_weights(run):
    for weight in WEIGHTS:
        for step, buckets in values(run.events, f"surviving_weights/{weight}"):
            state = run.states[step][weight]
            assert buckets[:, 2].sum() == state.mask.sum()
            kept = state.weight[state.mask]
            assert buckets[0, 0] == pytest.approx(kept.min(), abs=1e-6)
            assert buckets[-1, 1] == pytest.approx(kept.max(), abs=1e-6)


def test_pictures_are_the_masks(run):
    for weight in WEIGHTS:
        for step, picture in values(run.events, f"mask/{weight}"):
            mask = run.states[step][weight].mask
            # Inputs run down and outputs across: rows are (height, width, channel) of a kernel.
            expected = mask.reshape(-1, mask.shape[-1])
            decoded = tf.io.decode_png(picture[2]).numpy()[:, :, 0]
            np.testing.assert_array_equal(decoded, expected * 255)


def test_rules_page_lists_every_layer(run):
    ((step, page),) = values(run.events, "rules")
    text = page.item().decode()
    assert step == 0
    assert f"| conv | unstructured | `{SCHEDULE}` |" in text
    assert f"| wide | unstructured | `{SCHEDULE}` |" in text
    assert "| logits | a rule says to skip it |" in text
    assert "| norm | no rule matches it |" in text
    assert run.events.SummaryMetadata("rules").plugin_data.plugin_name == "text"


def layouts_in(events):
    """Return the titles of the charts in each layout that was written, by category."""
    found = [
        layout_pb2.Layout.FromString(np.asarray(page).item()) for _, page in values(events, LAYOUT)
    ]
    return [{c.title: [chart.title for chart in c.chart] for c in one.category} for one in found]


def test_custom_scalars_are_laid_out_once_with_a_chart_for_each_layer(run):
    (found,) = layouts_in(run.events)
    assert list(found) == ["Whole model", "Layer by layer"]
    assert found["Layer by layer"] == ["conv", "wide"]
    assert run.events.SummaryMetadata(LAYOUT).plugin_data.plugin_name == "custom_scalars"


def test_losses_are_written_too(run):
    train, validation = read(run.log_dir, "train"), read(run.log_dir, "validation")
    assert len(train.Tensors("epoch_loss")) == EPOCHS
    assert len(validation.Tensors("epoch_loss")) == EPOCHS
    assert "batch_loss" in train.Tags()["tensors"]  # update_freq=2


def test_the_order_of_the_callbacks_does_not_matter(run, tmp_path):
    run.keras.utils.set_random_seed(0)
    model = tfprune.prune(build(run.keras), RULES)
    model.compile("adam", run.keras.losses.MeanSquaredError())
    callbacks = [tfprune.PruningSummaries(tmp_path), tfprune.UpdatePruningStep()]
    x, y = data()
    model.fit(x, y, batch_size=8, epochs=EPOCHS, callbacks=callbacks, verbose=0)
    events = read(tmp_path)
    assert set(events.Tags()["tensors"]) == set(run.events.Tags()["tensors"])
    for weight in WEIGHTS:
        for group in ("sparsity", "target"):
            tag = f"{group}/{weight}"
            assert close(scalars(events, tag), scalars(run.events, tag))


@pytest.mark.parametrize("order", [1, -1], ids=["after", "before"])
def test_an_update_at_step_0_is_logged_at_step_0(order, tmp_path):
    model = tfprune.prune_low_magnitude(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="a")]),
        tfprune.OneShot(0.5, step=0),
    )
    model.compile("sgd", "mse")
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path)]
    x = np.zeros((2, 4), "float32")
    model.fit(x, x, callbacks=callbacks[::order], verbose=0)
    logged = scalars(read(tmp_path), "sparsity/a/kernel")
    assert logged == [(0, 0.0), (0, 0.5), (1, 0.5)]


def test_the_end_of_an_epoch_is_written_in_a_loop_of_ones_own(tmp_path):
    model = tfprune.prune_low_magnitude(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="a")])
    )
    update, summaries = tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path)
    for callback in (update, summaries):
        callback.set_model(model)
    update.on_train_begin()
    update.on_train_batch_begin(-1)
    update.on_epoch_end(0)
    summaries.on_epoch_end(0)
    assert scalars(read(tmp_path), "sparsity/a/kernel") == [(1, 0.5)]


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path):
    x, y = data()
    model = tfprune.prune(build(keras), RULES)
    model.compile("adam", keras.losses.MeanSquaredError())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The run ends at step 4")
        model.fit(
            x,
            y,
            batch_size=8,
            callbacks=[tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path / "logs")],
            verbose=0,
        )
    model.save(tmp_path / "half.keras")
    half = {
        run: next((tmp_path / "logs" / run).iterdir()).read_bytes() for run in ("metrics", "train")
    }
    resumed = keras.models.load_model(tmp_path / "half.keras")
    resumed.fit(
        x,
        y,
        batch_size=8,
        epochs=EPOCHS,
        initial_epoch=1,
        callbacks=[tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path / "logs")],
        verbose=0,
    )
    events = read(tmp_path / "logs")
    logged = scalars(events, "sparsity/wide/kernel")
    assert [step for step, _ in logged] == [0, 2, 4, 4, 5, 8, 12]
    sparsities = [value for _, value in logged]
    assert sparsities == sorted(sparsities)
    assert sparsities[-1] == pytest.approx(0.8, abs=0.01)
    assert close(scalars(events, "target/wide/kernel"), logged)
    assert {tag.split("/", 1)[1] for tag in events.Tags()["tensors"] if "/kernel" in tag} == set(
        WEIGHTS
    )
    first, again = layouts_in(events)  # of two processes, the same to TensorBoard
    assert first == again
    for run in ("metrics", "train"):  # a file of each, the first as it was
        files = sorted((tmp_path / "logs" / run).iterdir())
        assert len(files) == 2
        assert files[0].read_bytes() == half[run]


def test_one_callback_serves_two_fits(tmp_path):
    model = tfprune.prune(build(keras), RULES)
    model.compile("adam", keras.losses.MeanSquaredError())
    x, y = data()
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The run ends at step 4")
        model.fit(x, y, batch_size=8, callbacks=callbacks, verbose=0)
    model.fit(x, y, batch_size=8, epochs=2, callbacks=callbacks, verbose=0)
    events = read(tmp_path)
    assert [step for step, _ in scalars(events, "sparsity/model")] == [0, 2, 4, 4, 5, 8, 12]
    assert len(layouts_in(events)) == 1  # nothing new to say


@pytest.mark.parametrize("name", ["keras", "tf_keras"])
def test_layers_of_the_same_name_keep_their_own_curves(name, tmp_path):
    """Two nested models may each hold a layer "dense", of other shapes."""
    k = family(name)
    inner = [
        k.Sequential([k.Input((4,)), k.layers.Dense(units, name="dense")], name=f"part{units}")
        for units in (4, 6)
    ]
    inputs = k.Input((4,))
    model = k.Model(inputs, inner[1](inner[0](inputs)))
    pruned = tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0, frequency=1))
    pruned.compile("sgd", k.losses.MeanSquaredError())
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path)]
    pruned.fit(np.ones((6, 4)), np.ones((6, 6)), batch_size=2, callbacks=callbacks, verbose=0)
    events = read(tmp_path)
    sizes = {
        tag: values(events, f"surviving_weights/{tag}")[-1][1][:, 2].sum()
        for tag in ("dense/kernel", "dense_1/kernel")
    }
    assert sizes == {"dense/kernel": 8, "dense_1/kernel": 12}
    steps = [step for step, _ in scalars(events, "sparsity/dense/kernel")]
    assert len(steps) == len(scalars(events, "sparsity/dense_1/kernel"))


def test_the_kernels_of_a_legacy_attention_layer_keep_their_own_curves(tmp_path):
    k = pytest.importorskip("tf_keras")
    inputs = k.Input((3, 4))
    outputs = k.layers.MultiHeadAttention(1, 2, name="mha")(inputs, inputs)
    model = tfprune.prune_low_magnitude(k.Model(inputs, outputs))
    summaries = tfprune.PruningSummaries(tmp_path)
    summaries.set_model(model)
    summaries.on_epoch_begin(0)
    tags = {t for t in read(tmp_path).Tags()["tensors"] if t.startswith("mask/")}
    parts = ("query", "key", "value", "attention_output")
    assert tags == {f"mask/mha/{part}/kernel" for part in parts}


def test_a_model_that_is_built_by_its_first_batch(tmp_path):
    model = keras.Sequential(
        [tfprune.prune_low_magnitude(keras.layers.Dense(4, name="late"))], name="unbuilt"
    )
    model.compile("sgd", "mse")
    x = np.ones((4, 4), "float32")
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path)]
    model.fit(x, x, batch_size=2, callbacks=callbacks, verbose=0)
    events = read(tmp_path)
    assert scalars(events, "sparsity/late/kernel")[-1] == (2, 0.5)
    ((_, page),) = values(events, "rules")
    assert "| late | unstructured |" in page.item().decode()


def test_large_weights_give_a_sample_and_a_small_picture(tmp_path):
    model = keras.Sequential([keras.Input((600,)), keras.layers.Dense(500, name="big")])
    model = tfprune.prune_low_magnitude(model)
    summaries = tfprune.PruningSummaries(tmp_path)
    summaries.set_model(model)
    summaries.on_epoch_begin(0)
    events = read(tmp_path)
    ((_, buckets),) = values(events, "surviving_weights/big/kernel")
    assert buckets[:, 2].sum() == 100_000  # every third of 300,000
    ((_, picture),) = values(events, "mask/big/kernel")
    assert tf.io.decode_png(picture[2]).shape == (200, 250, 1)


def test_a_large_mask_is_averaged_in_its_picture():
    mask = np.zeros((512, 2), bool)
    mask[::2, 0] = True  # every other weight: half grey
    mask[:3, 1] = True  # one whole pair of rows, and half of the next
    state = WeightState("kernel", mask * 1.0, mask, 0.0, layouts.of_kernel(2))
    picture = tensorboard._picture(state)
    assert picture.shape == (256, 2)
    np.testing.assert_array_equal(picture[:, 0], 0.5)
    np.testing.assert_array_equal(picture[:3, 1], [1.0, 0.5, 0.0])


def test_the_picture_of_a_bias_is_one_row():
    mask = np.array([True, False, True])
    picture = tensorboard._picture(WeightState("bias", mask * 1.0, mask, 0.0, None))
    np.testing.assert_array_equal(picture, [[1.0, 0.0, 1.0]])


def test_the_picture_of_a_transposed_convolution_has_its_inputs_down():
    mask = np.zeros((1, 1, 2, 3), bool)  # (height, width, outputs, inputs)
    mask[0, 0, 1, 0] = True
    state = WeightState("kernel", mask * 1.0, mask, 0.0, layouts.of_transposed_kernel(4))
    np.testing.assert_array_equal(tensorboard._picture(state), [[0, 1], [0, 0], [0, 0]])


@pytest.mark.parametrize("log_dir", [None, "", 3, b"logs", ["logs"]])
def test_a_bad_log_dir_is_refused_with_an_example(log_dir):
    with pytest.raises(ValueError, match=r"`log_dir` must be the path.*'logs/run1'.*Received: log"):
        tfprune.PruningSummaries(log_dir)


@pytest.mark.parametrize("below", ["", "run1", "runs/1"])
def test_a_log_dir_that_is_a_file_or_below_one_is_refused(tmp_path, below):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match=r"`log_dir` .*taken' is a file.*Received: log_dir="):
        tfprune.PruningSummaries(tmp_path / "taken" / below)


@pytest.mark.parametrize("update_freq", ["foo", 0, True, 2.5, None])
def test_an_unknown_update_freq_is_refused(tmp_path, update_freq):
    with pytest.raises(ValueError, match=r"`update_freq` says.*Received: update_freq="):
        tfprune.PruningSummaries(tmp_path, update_freq)


def test_paths_are_taken_as_strings_or_path_objects(tmp_path):
    assert tfprune.PruningSummaries(str(tmp_path)).log_dir == str(tmp_path)
    assert tfprune.PruningSummaries(pathlib.Path(tmp_path)).log_dir == str(tmp_path)


def test_a_plain_model_writes_its_losses_and_nothing_else(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((2, 2), "float32")
    model.fit(x, x[:, :1], callbacks=[tfprune.PruningSummaries(tmp_path)], verbose=0)
    assert len(read(tmp_path, "train").Tensors("epoch_loss")) == 1
    assert "sparsity/model" not in read(tmp_path).Tags()["tensors"]


def test_something_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Expected a model"):
        tfprune.PruningSummaries(tmp_path).set_model("model")
