"""tfmot's four pruning guides run on Keras 3, and what they promise is really there."""

import os
import tempfile
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfprune
from tfprune.wrapper import wrappers

from . import comprehensive_guide as comprehensive
from . import pruning_for_on_device_inference, pruning_with_keras
from . import pruning_with_sparsity_2_by_4 as two_by_four

pytestmark = [
    pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Argument `input_shape` is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated:UserWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _temporary_files(tmp_path_factory):
    """Catch the files that the guides leave in the system's folder for temporary files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("guides")))
        yield


def zeros(layer):
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    return int(kernel.size - np.count_nonzero(kernel))


def scalars(log_dir, run="metrics"):
    """Return {tag: [(step, value)]} of the scalars in a run's folder."""
    events = EventAccumulator(os.path.join(log_dir, run), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
    }


def sparse_tensors(model_content):
    """Return the zeros of each weight of a `.tflite`, by its shape."""
    interpreter = tf.lite.Interpreter(model_content=model_content)
    interpreter.allocate_tensors()
    found = {}
    for detail in interpreter.get_tensor_details():
        if len(detail["shape"]) >= 2 and detail["dtype"] in (np.float32, np.int8):
            try:
                values = interpreter.get_tensor(detail["index"])
            except ValueError:  # an intermediate result: the interpreter keeps no values of it
                continue
            found[tuple(int(n) for n in detail["shape"])] = int((values == 0).sum())
    return found


# -- pruning_with_keras --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras_guide(_temporary_files):
    keras.utils.clear_session(free_memory=False)  # names of layers, whatever was tested before
    guide = pruning_with_keras.Guide()
    guide.train_a_model_without_pruning()
    guide.baseline_weights = guide.model.get_weights()
    guide.define_the_model()
    guide.train_and_evaluate()
    guide.export()
    guide.quantize()
    return guide


def test_pruning_with_keras_reaches_80_percent(keras_guide):
    conv, dense = (layer for layer in keras_guide.model_for_export.layers if layer.weights)
    assert type(conv) is keras.layers.Conv2D
    assert type(dense) is keras.layers.Dense
    assert zeros(conv) == 3 * 3 * 12 - 22  # 20 % of 108 weights are 21.6
    assert zeros(dense) == 20280 * 8 // 10
    assert keras_guide.baseline_model_accuracy >= 0.9
    assert keras_guide.model_for_pruning_accuracy >= 0.9


def test_pruning_with_keras_leaves_the_dense_model_as_it_was(keras_guide):
    for before, now in zip(keras_guide.baseline_weights, keras_guide.model.weights, strict=True):
        np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(now))


def test_pruning_with_keras_logs_the_way_there(keras_guide):
    logged = scalars(keras_guide.logdir)
    assert logged["sparsity/dense/kernel"][:2] == [(0, 0.0), (0, 0.5)]  # before and after
    assert logged["sparsity/dense/kernel"][-1] == (10, pytest.approx(0.8))
    assert logged["sparsity/model"][-1] == (10, pytest.approx(0.8, abs=1e-3))
    assert len(scalars(keras_guide.logdir, "train")["epoch_loss"]) == 2
    assert len(scalars(keras_guide.logdir, "validation")["epoch_loss"]) == 2


def test_pruning_with_keras_makes_smaller_files(keras_guide):
    size = keras_guide.get_gzipped_model_size
    baseline = size(keras_guide.keras_file)
    assert size(keras_guide.pruned_keras_file) < baseline / 2.8  # the guide's "3x smaller"
    assert size(keras_guide.pruned_tflite_file) < baseline / 2.8
    assert size(keras_guide.quantized_and_pruned_tflite_file) < baseline / 8


def test_pruning_with_keras_files_hold_the_zeros(keras_guide):
    loaded = keras.models.load_model(keras_guide.pruned_keras_file, compile=False)
    conv, dense = (layer for layer in loaded.layers if layer.weights)
    assert (zeros(conv), zeros(dense)) == (86, 16224)
    with open(keras_guide.pruned_tflite_file, "rb") as f:
        tensors = sparse_tensors(f.read())
    assert tensors[12, 3, 3, 1] == 86
    assert tensors[10, 2028] == 16224
    assert sparse_tensors(keras_guide.quantized_and_pruned_tflite_model)[10, 2028] >= 16224


def test_pruning_with_keras_keeps_the_accuracy_in_tflite(keras_guide):
    accuracy = keras_guide.evaluate_the_quantized_model()
    assert accuracy == pytest.approx(keras_guide.model_for_pruning_accuracy, abs=0.02)


# -- comprehensive_guide -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained_weights(_temporary_files):
    return comprehensive.setup_pretrained_weights()


def train(model):
    """Train one step, as the guide says after `# Typically you train the model here`."""
    model.compile(loss=keras.losses.categorical_crossentropy, optimizer="adam")
    callbacks = [tfprune.UpdatePruningStep()]
    model.fit(comprehensive.x_train, comprehensive.y_train, callbacks=callbacks, verbose=0)
    return wrappers(model)[0].layer


def test_whole_model(pretrained_weights):
    base_model, model = comprehensive.prune_whole_model(pretrained_weights)
    wrapped = model.layers[0]
    assert isinstance(wrapped, tfprune.PruneLowMagnitude)
    assert wrapped.name == f"prune_low_magnitude_{base_model.layers[0].name}"
    np.testing.assert_array_equal(wrapped.layer.get_weights()[0], base_model.get_weights()[0])
    assert zeros(train(model)) == 200


def test_some_layers_through_clone_model(pretrained_weights):
    _, model = comprehensive.prune_some_layers(pretrained_weights)
    assert [type(layer).__name__ for layer in model.layers] == ["PruneLowMagnitude", "Flatten"]
    assert zeros(train(model)) == 200


def test_some_layers_in_a_functional_model():
    model = comprehensive.functional_example()
    x, y = comprehensive.x_train, np.zeros((1, 10), "float32")
    model.compile(loss="mse", optimizer="adam")
    model.fit(x, y, callbacks=[tfprune.UpdatePruningStep()], verbose=0)
    assert zeros(wrappers(model)[0].layer) == 100


def test_some_layers_in_a_sequential_model_are_built_at_once():
    model = comprehensive.sequential_example()
    assert model.built
    assert model.output_shape == (None, 20)
    assert zeros(train(model)) == 200


def test_custom_layer_prunes_its_bias_too():
    model = comprehensive.custom_layer()
    model.layers[0].layer.bias.assign(np.arange(1, 21))
    layer = train(model)
    assert zeros(layer) == 200
    bias = keras.ops.convert_to_numpy(layer.bias)
    np.testing.assert_array_equal(bias == 0, [True] * 10 + [False] * 10)


def test_fit_with_both_callbacks(pretrained_weights):
    model, log_dir = comprehensive.model_fit(pretrained_weights)
    assert zeros(wrappers(model)[0].layer) == 200
    name = wrappers(model)[0].layer.name
    assert scalars(log_dir)[f"sparsity/{name}/kernel"][-1] == (2, 0.5)


def test_custom_training_loop_as_the_guide_drives_it(pretrained_weights):
    model, log_dir = comprehensive.custom_training_loop(pretrained_weights)
    (wrapper,) = wrappers(model)
    assert zeros(wrapper.layer) == 200
    assert wrapper.read_step() == 2
    assert int(keras.ops.convert_to_numpy(wrapper.pruning_step)) == 2
    # The guide's loop logs at the begin of its epochs only, so not the end of the last one.
    logged = scalars(log_dir)[f"sparsity/{wrapper.layer.name}/kernel"]
    assert logged == [(0, 0.0), (1, 0.5)]


def test_custom_training_loop_counts_batches_without_the_hook_at_their_end(pretrained_weights):
    model, _ = comprehensive.custom_training_loop(pretrained_weights, batches=3)
    (wrapper,) = wrappers(model)
    assert int(keras.ops.convert_to_numpy(wrapper.pruning_step)) == wrapper.read_step() == 6


def test_checkpoint_of_an_untrained_model_as_in_the_guide(pretrained_weights):
    base_model, model = comprehensive.prune_whole_model(pretrained_weights)
    loaded = comprehensive.checkpoint_and_deserialize(model)
    assert isinstance(loaded.layers[0], tfprune.PruneLowMagnitude)
    np.testing.assert_array_equal(
        loaded.layers[0].layer.get_weights()[0], base_model.get_weights()[0]
    )
    assert zeros(train(loaded)) == 200


def test_checkpoint_of_a_trained_model_goes_on(pretrained_weights):
    model, _ = comprehensive.model_fit(pretrained_weights)
    loaded = comprehensive.checkpoint_and_deserialize(model)
    before, after = wrappers(model)[0], wrappers(loaded)[0]
    assert after.read_step() == before.read_step() == 2
    assert after.pruning_schedule == before.pruning_schedule
    assert int(loaded.optimizer.iterations) == 2
    (old,), (new,) = before.states(), after.states()
    np.testing.assert_array_equal(old.mask, new.mask)
    np.testing.assert_array_equal(old.weight, new.weight)
    assert new.sparsity == 0.5


def test_export_with_size_compression(pretrained_weights):
    model, _ = comprehensive.model_fit(pretrained_weights)
    stripped, wrapped_size, stripped_size = comprehensive.export_with_size_compression(model)
    assert [type(layer).__name__ for layer in stripped.layers] == ["Dense", "Flatten"]
    assert zeros(stripped.layers[0]) == 200
    assert stripped_size < wrapped_size
    x = comprehensive.x_train
    np.testing.assert_allclose(stripped.predict(x), model.predict(x), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Stripping a model that is not pruned:UserWarning")
def test_export_of_an_untrained_model_as_in_the_guide(pretrained_weights):
    base_model, model = comprehensive.prune_whole_model(pretrained_weights)
    stripped, *_ = comprehensive.export_with_size_compression(model)
    np.testing.assert_array_equal(stripped.get_weights()[0], base_model.get_weights()[0])


def test_block_size_as_a_list():
    model = comprehensive.hardware_specific_optimizations()
    assert str(model.layers[0].pattern) == "1x16"
    layer = train(model)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    # A row of 20 weights is one block of 16 and a ragged one of 4, each whole or gone.
    blocks = np.stack([(kernel[:, :16] == 0).mean(1), (kernel[:, 16:] == 0).mean(1)])
    assert set(np.unique(blocks)) == {0.0, 1.0}
    assert (blocks == 1).sum() == 20  # half of 40 blocks


# -- pruning_with_sparsity_2_by_4 ----------------------------------------------------------------


@pytest.fixture(scope="module")
def two_by_four_guide(_temporary_files):
    model, accuracy = two_by_four.train()
    tflite_file = two_by_four.convert(model)
    return types.SimpleNamespace(
        model=model, accuracy=accuracy, interpreter=two_by_four.load(tflite_file)
    )


def is_2_by_4(values):
    """Tell whether each four neighbours along the last axis hold two zeros."""
    return bool(((values.reshape(-1, 4) == 0).sum(axis=1) == 2).all())


def test_two_by_four_in_the_dense_layer(two_by_four_guide):
    tensor = two_by_four.find_tensor(two_by_four_guide.interpreter, two_by_four.DENSE)
    assert tensor.shape == (1024, 3136)
    assert is_2_by_4(tensor)
    shown = two_by_four.dense_values_to_display(tensor)
    assert shown.sum() == 24 * 24 / 2


def test_two_by_four_in_the_second_convolution(two_by_four_guide):
    tensor = two_by_four.conv_tensor(two_by_four_guide.interpreter)
    assert tensor.shape == (64, 5, 5, 32)
    assert is_2_by_4(tensor)
    assert two_by_four.conv_values_to_display(tensor).sum() == 24 * 24 / 2


def test_random_sparsity_in_the_first_convolution(two_by_four_guide):
    tensor = two_by_four.find_tensor(two_by_four_guide.interpreter, two_by_four.CONV)
    assert tensor.shape == (32, 5, 5, 1)
    assert (tensor == 0).sum() == tensor.size / 2
    assert not is_2_by_4(tensor)
    assert two_by_four.random_values_to_display(tensor).shape == (24, 24)


def test_two_by_four_learns_and_leaves_the_last_layer_dense(two_by_four_guide):
    assert two_by_four_guide.accuracy > 0.2
    assert zeros(two_by_four_guide.model.layers[-1]) == 0
    assert not wrappers(two_by_four_guide.model)


def test_two_by_four_pictures(two_by_four_guide, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    tensor = two_by_four.find_tensor(two_by_four_guide.interpreter, two_by_four.DENSE)
    shown = two_by_four.dense_values_to_display(tensor)
    two_by_four.show(plt, shown, "Structural pruning for Dense layer")
    drawn = plt.gca().images[0].get_array()
    np.testing.assert_array_equal(drawn, shown)
    plt.close("all")


def test_the_names_that_the_guide_looks_for_are_not_those_of_keras_3(two_by_four_guide):
    """Plain Keras 3 models, never wrapped, have no such names either."""
    plain = keras.Sequential(
        [
            keras.layers.Conv2D(2, 3, input_shape=(6, 6, 1), name="pruning_sparsity_0_5"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="structural_pruning_dense"),
        ]
    )
    for interpreter in (
        two_by_four_guide.interpreter,
        two_by_four.load(two_by_four.convert(plain)),
    ):
        names = [detail["name"] for detail in interpreter.get_tensor_details()]
        for guide, keras_3 in [
            (two_by_four.GUIDE_DENSE, two_by_four.DENSE),
            (two_by_four.GUIDE_CONV, two_by_four.CONV),
        ]:
            assert not any(guide in name for name in names)
            assert any(keras_3 in name for name in names)


# -- pruning_for_on_device_inference -------------------------------------------------------------


@pytest.fixture(scope="module")
def device_guide(_temporary_files):
    guide = pruning_for_on_device_inference.Guide()
    guide.train_the_dense_model()
    guide.define_parameters()
    guide.message = guide.build_the_sparse_model()
    guide.fine_tune_the_sparse_model()
    guide.convert()
    return guide


def test_on_device_policy_takes_both_models(device_guide):
    assert device_guide.message == ""  # tfmot: "Could not find a GlobalAveragePooling2D layer with"
    policy = device_guide.pruning_params["pruning_policy"]
    for model in (device_guide.dense_model, device_guide.model_for_pruning):
        assert len(policy.distance(model).layers) == 2


def test_on_device_policy_turns_a_model_down_that_stays_dense(device_guide):
    entry = keras.layers.Conv2D(8, 3, strides=2, padding="same")
    rest = device_guide.build_model().layers[2:]
    model = keras.Sequential([keras.Input((32, 32, 3)), entry, *rest])
    with pytest.raises(ValueError, match=r"would not make the model.*ZeroPadding2D\(1\)"):
        tfprune.prune_low_magnitude(model, **device_guide.pruning_params)


def test_on_device_model_runs_sparse_once_exported(device_guide, tmp_path):
    path = tmp_path / "a.tflite"
    tfprune.export_tflite(device_guide.model_for_export, path, sparse=True)
    found = tfprune.explain(path)
    assert found.verdict.kind == "fast"
    assert [one.sparse for one in found.convolutions] == [True, True]


def test_on_device_policy_prunes_pointwise_convolutions_only(device_guide):
    pointwise = wrappers(device_guide.model_for_pruning)
    assert [w.layer.kernel.shape for w in pointwise] == [(1, 1, 8, 16), (1, 1, 16, 32)]
    for layer in device_guide.model_for_export.layers:
        if type(layer) is keras.layers.Conv2D:
            share = zeros(layer) / np.prod(layer.kernel.shape)
            assert share == (0.75 if layer.kernel_size == (1, 1) else 0.0)
        elif isinstance(layer, (keras.layers.DepthwiseConv2D, keras.layers.Dense)):
            assert zeros(layer) == 0
    logged = scalars(device_guide.logdir)["sparsity/model"]
    assert logged[:2] == [(0, 0.0), (0, 0.25)]
    assert logged[-1] == (12, 0.75)


def test_on_device_file_computes_what_keras_computes(device_guide):
    (images, _) = next(iter(device_guide.ds_test))
    with open(device_guide.pruned_tflite_file, "rb") as f:
        interpreter = tf.lite.Interpreter(model_content=f.read())
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    outputs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = device_guide.model_for_pruning.predict(images, verbose=0)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)
