"""The exported file computes what the model does and keeps its zeros."""

import gzip
import json
import os
import warnings

import keras
import numpy as np
import pytest
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from tfprune.export import ExportMismatch, export_tflite, norms
from tfprune.schedules import ConstantSparsity
from tfprune.weightfiles.constants import read_constants
from tfprune.wrapper import PruneLowMagnitude

L = keras.layers
FORMS = (None, "float16", "dynamic", "int8")


def run(path, **inputs):
    """Run a file independently of the code under test."""
    return Interpreter(model_path=str(path)).get_signature_runner()(**inputs)


@pytest.mark.parametrize("quantize", FORMS)
def test_every_form_of_a_small_cnn(cnn, images, tmp_path, quantize, zeros_of):
    path = tmp_path / "cnn.tflite"
    result = export_tflite(cnn, path, quantize, representative_data=images)

    want = cnn(images[:1]).numpy()
    (got,) = run(path, input=images[:1]).values()
    limit = {None: 1e-6, "float16": 1e-3}.get(quantize, 0.05)
    np.testing.assert_allclose(got, want, atol=limit)
    assert got.dtype == np.float32  # floats in and out, int8 included

    assert os.listdir(tmp_path) == ["cnn.tflite"]
    content = path.read_bytes()
    assert result.file_bytes == len(content)
    assert result.gzip_bytes == len(gzip.compress(content, 9, mtime=0))
    assert [w.name for w in result.weights] == ["cnn/conv/kernel", "cnn/out/kernel"]
    assert [w.shape for w in result.weights] == [(8, 3, 3, 3), (5, 800)]
    assert sum(w.zeros for w in result.weights) >= zeros_of(cnn)
    assert result.sparsity == pytest.approx(0.75, abs=0.01)
    dtypes = {
        None: ["float32", "float32"],
        "float16": ["float16", "float16"],
        "dynamic": ["float32", "int8"],  # the convolution has fewer than 1024 weights
        "int8": ["int8", "int8"],
    }
    assert [w.dtype for w in result.weights] == dtypes[quantize]
    assert bool(result.notes) == (quantize == "dynamic")
    assert [c.runtime for c in result.checks] == ["default", "XNNPACK off"]


def test_quantized_files_are_smaller(cnn, images, tmp_path):
    sizes = [
        export_tflite(cnn, tmp_path / f"{q}.tflite", q, representative_data=images).file_bytes
        for q in FORMS
    ]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[1] > sizes[3]


@pytest.mark.parametrize("quantize", FORMS)
def test_nested_inputs_and_named_outputs(two_inputs, tmp_path, quantize):
    rng = np.random.default_rng(0)
    data = {"text": {"ids": rng.integers(0, 30, (9, 7))}, "extra": rng.normal(size=(9, 4))}
    path = tmp_path / "two.tflite"
    result = export_tflite(two_inputs, path, quantize, representative_data=data)
    ids, extra = data["text"]["ids"][:1].astype("int32"), data["extra"][:1].astype("float32")
    want = two_inputs({"text": {"ids": ids}, "extra": extra})
    got = run(path, text_ids=ids, extra=extra)
    assert set(got) == set(result.outputs) == {"score", "rank"}
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=0.05)


def test_made_up_ids_stay_within_the_vocabulary(tmp_path):
    x = keras.Input((50,), dtype="int32")
    model = keras.Model(x, L.Dense(2)(L.Flatten()(L.Embedding(3, 2)(x))))
    assert export_tflite(model, tmp_path / "a.tflite").samples == 6


@pytest.mark.parametrize("quantize", FORMS)
def test_a_recurrent_model_and_its_zeros(lstm, tmp_path, quantize, zeros_of):
    data = np.random.default_rng(0).normal(size=(10, 6, 40))
    result = export_tflite(lstm, tmp_path / "a.tflite", quantize, representative_data=data)
    names = {"lstm/lstm_cell/kernel", "lstm/lstm_cell/recurrent_kernel", "dense/kernel"}
    assert {w.name.split("/", 1)[1] for w in result.weights} == {n.split("/", 1)[1] for n in names}
    assert sum(w.zeros for w in result.weights) >= zeros_of(lstm)
    assert lstm.layers[1].unroll is False  # int8 sets it while it traces


LAYERS = {
    "attention": lambda x: L.MultiHeadAttention(2, 4)(x, x),
    "gru": lambda x: L.Bidirectional(L.GRU(5))(x),
    "conv1d": lambda x: L.Conv1DTranspose(4, 3)(L.Conv1D(4, 3)(x)),
    "einsum": L.EinsumDense("abc,cde->abde", output_shape=(None, 3, 4)),
    "norm": lambda x: L.Dense(4, activation="gelu")(L.LayerNormalization()(x)),
    "nested": lambda x: keras.Sequential([L.Dense(6), L.Dense(6)])(x),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_a_free_number_of_steps(name, tmp_path, cut, zeros_of):
    x = keras.Input((None, 6))
    model = cut(keras.Model(x, LAYERS[name](x)))
    result = export_tflite(model, tmp_path / "a.tflite")
    assert sum(w.zeros for w in result.weights) == zeros_of(model)
    assert result.max_rel_error < 5e-6


def test_a_convlstm_is_cut_up_and_its_zeros_are_counted(tmp_path, cut, zeros_of):
    x = keras.Input((2, 6, 6, 2))
    model = cut(keras.Model(x, L.ConvLSTM2D(2, 3)(x)))
    result = export_tflite(model, tmp_path / "a.tflite")
    assert len(result.weights) == 8
    assert sum(w.zeros for w in result.weights) == zeros_of(model)
    assert not result.notes


def test_a_free_length_works_at_another_length(tmp_path):
    x = keras.Input((None, 5))
    model = keras.Model(x, L.Dense(2)(L.LSTM(4)(x)))
    export_tflite(model, tmp_path / "a.tflite")
    sample = np.random.default_rng(1).normal(size=(1, 11, 5)).astype("float32")
    (got,) = run(tmp_path / "a.tflite", input=sample).values()
    np.testing.assert_allclose(got, model(sample), atol=1e-6)


def test_mixed_precision_is_exported_in_float32(tmp_path):
    x = keras.Input((9, 4))
    half = "mixed_float16"
    y = L.MultiHeadAttention(2, 4, dtype=half)(x, x)
    y = L.Dense(3, dtype=half)(L.LSTM(4, dtype=half)(y))
    model = keras.Model(x, y)
    result = export_tflite(model, tmp_path / "a.tflite")
    assert {w.dtype for w in result.weights} == {"float32"}
    assert result.max_rel_error < 5e-6
    assert [layer.compute_dtype for layer in model.layers[1:]] == ["float16"] * 3
    assert model(np.zeros((1, 9, 4))).dtype.name == "float16"


def test_preprocessing_inside_the_model(tmp_path):
    x = keras.Input((8, 8, 1), dtype="uint8")
    y = L.Normalization(mean=[0.5], variance=[0.1])(L.Rescaling(1 / 255)(x))
    model = keras.Model(x, L.Dense(2)(L.Flatten()(L.RandomFlip()(y))))
    export_tflite(model, tmp_path / "a.tflite")
    image = np.arange(64, dtype="uint8").reshape(1, 8, 8, 1)
    (got,) = run(tmp_path / "a.tflite", input=image).values()
    np.testing.assert_allclose(got, model(image, training=False), rtol=1e-4)


def wrapped(layer):
    return PruneLowMagnitude(layer, ConstantSparsity(0.5, 0))


def test_wrappers_are_stripped_and_masks_applied(tmp_path):
    layer = wrapped(L.Dense(16, name="wide"))
    model = keras.Sequential([keras.Input((12,)), layer, L.Dense(3)])
    layer.update_masks(0)
    layer.layer.kernel.assign_add(np.full((12, 16), 0.1))  # as momentum does
    result = export_tflite(model, tmp_path / "a.tflite")
    assert result.weights[0].zeros == 96
    assert not [c for c in read_constants((tmp_path / "a.tflite").read_bytes()) if "mask" in c.name]
    assert model.layers[0] is layer  # still wrapped, to train on


class Subclassed(keras.Model):
    def __init__(self, dtype=None):
        super().__init__(dtype=dtype)
        self.wide = wrapped(L.Dense(16, dtype=dtype))
        self.out = L.Dense(3, dtype=dtype)

    def call(self, x):
        return self.out(self.wide(x))


@pytest.mark.parametrize("dtype", [None, "mixed_float16"])
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_subclassed_model_with_wrappers(tmp_path, dtype, quantize):
    model = Subclassed(dtype)
    x = np.random.default_rng(0).normal(size=(30, 12)).astype("float32")
    model(x)
    model.wide.update_masks(0)
    model.wide.layer.kernel.assign_add(np.full((12, 16), 0.1))  # as momentum does
    result = export_tflite(
        model, tmp_path / "a.tflite", quantize, representative_data=x, sample_inputs=x
    )
    assert result.weights[0].zeros >= 96
    assert (model.wide.layer.kernel.numpy() == 0).sum() == 96
    (got,) = run(tmp_path / "a.tflite", input=x[:1]).values()
    np.testing.assert_allclose(got, model(x[:1]).numpy(), atol=0.1 if quantize else 5e-3)


def test_a_subclassed_model_short_of_its_target_warns(tmp_path):
    model = Subclassed()
    model(np.zeros((1, 12), "float32"))
    with pytest.warns(UserWarning, match="not pruned as its schedules say"):
        export_tflite(model, tmp_path / "a.tflite")


def test_an_embedding_hidden_in_a_subclassed_model_needs_samples(tmp_path):
    class Text(keras.Model):
        def __init__(self):
            super().__init__()
            self.table, self.out = L.Embedding(9, 4), L.Dense(2)

        def call(self, ids):
            return self.out(self.table(ids))

    model = Text()
    ids = np.arange(8).reshape(2, 4)
    model(ids)
    with pytest.raises(ValueError, match="Pass some as `sample_inputs`"):
        export_tflite(model, tmp_path / "a.tflite")
    result = export_tflite(model, tmp_path / "a.tflite", sample_inputs=ids)
    assert "int32" in result.inputs[0]


def test_result_prints_and_saves(cnn, tmp_path):
    result = export_tflite(cnn, tmp_path / "a.tflite")
    text = str(result)
    for part in ("conv/kernel", "8x3x3x3", "all weights", "after gzip", "XNNPACK off"):
        assert part in text
    saved = json.loads(result.to_json(tmp_path / "a.json"))
    assert saved == json.loads((tmp_path / "a.json").read_text())
    assert saved["weights"][0]["zeros"] == result.weights[0].zeros
    assert saved["sparsity"] == result.sparsity
    assert saved["versions"]["keras"] == keras.__version__
    with pytest.raises(AttributeError):
        result.path = "other"


def test_export_is_silent(cnn, tmp_path, capfd):
    capfd.readouterr()
    export_tflite(cnn, tmp_path / "a.tflite")
    assert capfd.readouterr() == ("", "")


# -- What is refused, and that nothing is left behind ----------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"quantize": "int4"}, ValueError, "'float16', 'dynamic' or 'int8'.*'int4'"),
        ({"quantize": "int8"}, ValueError, "needs calibration data"),
        ({"model": L.Dense(3)}, ValueError, "not a layer"),
        ({"model": object()}, ValueError, "Expected a model of Keras 3"),
        ({"model": keras.Sequential([L.Dense(3)])}, ValueError, "must be built"),
        ({"path": "no/such/a.tflite"}, FileNotFoundError, "does not exist"),
        ({"sample_inputs": np.zeros((2, 5))}, ValueError, "`sample_inputs` does not fit"),
        ({"representative_data": np.zeros((0, 12, 12, 3))}, ValueError, "holds no samples"),
        ({"sample_inputs": np.full((1, 12, 12, 3), np.nan)}, ValueError, "NaN or infinite"),
    ],
)
def test_bad_arguments(cnn, tmp_path, monkeypatch, change, error, words):
    monkeypatch.chdir(tmp_path)
    arguments = {"model": cnn, "path": "a.tflite", **change}
    with pytest.raises(error, match=words):
        export_tflite(**arguments)
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_kept(cnn, tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export_tflite(cnn, path)
    assert path.read_bytes() == b"mine"
    export_tflite(cnn, path, overwrite=True)
    assert path.read_bytes()[4:8] == b"TFL3"


def dense(**weights):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="out")])
    model.layers[0].kernel.assign(weights.get("kernel", np.ones((4, 3))))
    return model


def test_weights_with_nan_or_too_large_for_float16(tmp_path):
    kernel = np.ones((4, 3))
    kernel[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"out/kernel' holds NaN.*1 such"):
        export_tflite(dense(kernel=kernel), tmp_path / "a.tflite")
    kernel[0, 0] = 1e5
    with pytest.raises(ValueError, match="too large for float16"):
        export_tflite(dense(kernel=kernel), tmp_path / "a.tflite", "float16")
    assert os.listdir(tmp_path) == []


def test_int8_that_would_stay_float_is_refused(tmp_path):
    x = keras.Input((4, 4, 4, 2))
    model = keras.Model(x, L.Conv3D(2, 3, name="deep")(x))
    data = np.random.default_rng(0).normal(size=(4, 4, 4, 4, 2))
    with pytest.raises(ValueError, match="no int8 kernel for the operation: deep/kernel"):
        export_tflite(model, tmp_path / "a.tflite", "int8", representative_data=data)
    assert os.listdir(tmp_path) == []


def test_int8_notes_operations_that_stay_float(cnn, images, tmp_path):
    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(3)(L.Lambda(keras.ops.sin)(L.Dense(4)(x))))
    data = np.random.default_rng(0).normal(size=(9, 6))
    result = export_tflite(model, tmp_path / "a.tflite", "int8", representative_data=data)
    assert result.notes == ("operations that stay in float32: SIN",)
    result = export_tflite(cnn, tmp_path / "b.tflite", "int8", representative_data=images)
    assert result.notes == ()


@pytest.fixture(scope="module")
def perceptron():
    keras.utils.set_random_seed(1)
    layers = [keras.Input((8,)), L.Dense(64, activation="relu"), L.Dense(4)]
    return keras.Sequential(layers), np.random.default_rng(0).normal(size=(100, 8))


@pytest.mark.parametrize("bias", [0.0, 5.0])
@pytest.mark.parametrize("scale", [1e-3, 0.1])
def test_int8_calibrated_on_another_scale_is_refused(perceptron, tmp_path, bias, scale):
    """With a bias the error is small beside the outputs: 0.14. Their variation is all lost."""
    model, x = perceptron
    model.layers[-1].bias.assign(np.full(4, bias))
    with pytest.raises(ExportMismatch, match=r"int8 file answers nonsense.*calibration data"):
        export_tflite(
            model, tmp_path / "a.tflite", "int8", representative_data=scale * x, sample_inputs=x
        )
    assert os.listdir(tmp_path) == []


def test_int8_names_the_exponential_within_softplus(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), L.Dense(64), L.Activation("softplus"), L.Dense(4)])
    model.layers[0].kernel.assign(6 * model.layers[0].kernel)  # softplus of up to 20
    x = np.random.default_rng(0).normal(size=(100, 8))
    with pytest.raises(ExportMismatch, match=r"EXP of '.*[Ss]oftplus.*' has int8 outputs"):
        export_tflite(model, tmp_path / "a.tflite", "int8", representative_data=x)
    assert os.listdir(tmp_path) == []


def test_int8_that_follows_roughly_is_noted(perceptron, tmp_path):
    model, x = perceptron
    model.layers[-1].bias.assign(np.zeros(4))
    path, x = tmp_path / "a.tflite", x[:32].astype("float32")
    with pytest.warns(UserWarning, match=r"a\.tflite: the file follows Keras only roughly"):
        result = export_tflite(model, path, "int8", representative_data=x / 2, sample_inputs=x)
    assert "note: the file follows Keras only roughly" in str(result)

    # What a file explains of the variance is its R squared.
    got = np.concatenate([value for one in x for value in run(path, input=one[None]).values()])
    want = model(x).numpy()
    r_squared = 1 - ((got - want) ** 2).sum() / ((want - want.mean(0)) ** 2).sum()
    assert 0.5 < r_squared < 0.96
    assert 1 - result.checks[0].unexplained ** 2 == pytest.approx(r_squared, abs=1e-4)
    assert f"explains {r_squared:.0%} of how Keras's outputs vary" in result.notes[0]


@pytest.mark.filterwarnings("error")
def test_int8_calibrated_well_has_no_such_note(perceptron, tmp_path):
    model, x = perceptron
    assert not export_tflite(model, tmp_path / "a.tflite", "int8", representative_data=x).notes


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_int8_calibrated_on_a_single_value_is_refused(perceptron, tmp_path, value):
    model, x = perceptron
    data = np.full((50, 8), value)
    for sample_inputs in (None, x):
        with pytest.raises(ValueError, match=f"single value.*Received: {value:g} throughout 'inp"):
            export_tflite(
                model,
                tmp_path / "a.tflite",
                "int8",
                representative_data=data,
                sample_inputs=sample_inputs,
            )
    assert os.listdir(tmp_path) == []
    export_tflite(model, tmp_path / "a.tflite", "dynamic", representative_data=data)


def test_int8_over_a_free_number_of_steps_is_refused_not_a_crash(tmp_path):
    x = keras.Input((None, 5))
    model = keras.Model(x, L.LSTM(4)(x))
    data = np.random.default_rng(0).normal(size=(3, 6, 5))
    with pytest.raises(ValueError, match="cannot be unrolled"):
        export_tflite(model, tmp_path / "a.tflite", "int8", representative_data=data)


def test_other_models_that_cannot_become_tflite(tmp_path):
    text = keras.Sequential([keras.Input((), dtype="string"), L.StringLookup(vocabulary=["a"])])
    with pytest.raises(ValueError, match="takes strings"):
        export_tflite(text, tmp_path / "a.tflite")
    x = keras.Input((3, 2), batch_size=1)
    with pytest.raises(ValueError, match="stateful=False"):
        export_tflite(keras.Model(x, L.LSTM(2, stateful=True)(x)), tmp_path / "a.tflite")
    half = keras.Sequential([keras.Input((4,)), L.Dense(3, dtype="float16")])
    with pytest.raises(ValueError, match=r"is float16.*policy 'float32'"):
        export_tflite(half, tmp_path / "a.tflite")
    x = keras.Input((4,))
    fft = keras.Model(x, L.Lambda(lambda t: keras.ops.erfinv(t))(x))
    with pytest.raises(ValueError, match=r"no kernel for tf\.Erfinv"):
        export_tflite(fft, tmp_path / "a.tflite", sample_inputs=np.zeros((1, 4)))
    assert os.listdir(tmp_path) == []


def test_a_file_that_differs_is_not_written(cnn, tmp_path, monkeypatch, cut):
    from tfprune.export import exporter

    convert = exporter.convert
    other = keras.models.clone_model(cnn)  # other weights, same names and shapes
    cut(other)

    def convert_another(model, function, interface, quantize, calibrating):
        function = exporter.trace(other, interface)
        return convert(other, function, interface, quantize, calibrating)

    monkeypatch.setattr(exporter, "convert", convert_another)
    monkeypatch.setattr(exporter.zeros, "check_zeros", lambda weights, constants: ({}, []))
    with pytest.raises(ExportMismatch, match="wrong on the runtime 'default'"):
        export_tflite(cnn, tmp_path / "a.tflite")
    assert os.listdir(tmp_path) == []


def test_zeros_that_were_lost_are_an_error(cnn, tmp_path, monkeypatch):
    from tfprune.export import exporter

    read = exporter.constants_.read_constants

    def read_dense(content):
        constants = read(content)
        for constant in constants:
            constant.is_zero[:7] = False
        return constants

    monkeypatch.setattr(exporter.constants_, "read_constants", read_dense)
    with pytest.raises(ValueError, match=r"not zero in the exported file.*kernel"):
        export_tflite(cnn, tmp_path / "a.tflite")
    assert os.listdir(tmp_path) == []


def flat_channels(kit, count):
    """Return a model whose channels do not vary, and inputs: what is left of them is rounding."""
    keras.utils.set_random_seed(0)
    inputs = kit.Input((8, 8, 3))
    x, norms = kit.layers.Conv2D(8, 1)(inputs), []
    for index in range(count):
        x = kit.layers.Conv2D(8, 1, use_bias=False)(x)
        norms.append(kit.layers.BatchNormalization(beta_initializer="ones", name=f"norm{index}"))
        x = norms[-1](x)
    images = np.full((4, 8, 8, 3), 0.7, "float32")
    for norm in norms:
        norm.moving_variance.assign(np.zeros(8))
        norm.moving_mean.assign(np.mean(kit.Model(inputs, norm.input)(images), (0, 1, 2)))
    return kit.Model(inputs, kit.layers.GlobalAveragePooling2D()(x)), images


@pytest.mark.parametrize("kit", [keras, tf_keras], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("quantize", [None, "float16"])
def test_batch_normalization_that_blows_rounding_up(tmp_path, kit, quantize):
    model, images = flat_channels(kit, 3)
    words = (
        r"is wrong on the runtime.*'norm\d' and 2 other layers\) multiplies 24 channels by up to"
    )
    with pytest.raises(ExportMismatch, match=rf"{words} 31\.6.*`moving_variance`.*to 1"):
        export_tflite(model, tmp_path / "a.tflite", quantize, sample_inputs=images)
    assert os.listdir(tmp_path) == []
    for layer in model.layers:  # as the message says
        if "norm" in layer.name:
            layer.moving_variance.assign(np.ones(8))
    assert export_tflite(model, tmp_path / "a.tflite", sample_inputs=images).max_rel_error < 5e-5


def test_batch_normalization_of_channels_that_vary_is_not_suspected(cnn):
    assert norms.suspicion(cnn) == ""


@pytest.mark.parametrize("left", [0, 1])
def test_a_model_without_a_weight_left_is_noted(tmp_path, left):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    kernel = np.zeros((4, 3))
    kernel.flat[:left] = 1
    model.layers[0].kernel.assign(kernel)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = export_tflite(model, tmp_path / "a.tflite")
    told = [str(one.message) for one in caught if "every weight is zero" in str(one.message)]
    assert len(told) == (left == 0)
    assert any("every weight is zero" in note for note in result.notes) == (left == 0)
