"""Weights of files are read without a model, by hand-made files and by those that Keras writes."""

import io
import json
import pathlib
import random
import subprocess
import sys
import zipfile

import flatbuffers
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from tfprune import layouts
from tfprune.schedules import ConstantSparsity
from tfprune.weightfiles import constants, flatbuffer, inspect_file, isolated
from tfprune.weightfiles.result import nm_pattern
from tfprune.wrapper import PruneLowMagnitude

L = keras.layers
TWO_FOUR = np.array([0, 1, 0, 1] * 8, "float32").reshape(8, 4, order="F")  # along the inputs


def figures(path):
    """Return {name: (shape, nonzero, pattern)}."""
    return {w.name: (w.shape, w.nonzero, w.pattern) for w in inspect_file(path).weights}


def wrapped(layer):
    return PruneLowMagnitude(layer, ConstantSparsity(0.5, 0))


# -- N:M -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "pattern"),
    [
        ([0, 0, 1, 1], "2:4"),
        ([0, 1, 0, 1], "1:2"),
        ([0, 0, 0, 1], "3:4"),
        ([0, 1, 1, 1], "1:4"),
        ([0, 0, 0, 0, 1, 1, 1, 1], "4:8"),
        ([0, 0, 1, 1, 1, 0, 1, 1], "1:4"),
        ([0, 1, 1, 1, 1, 1, 1, 1], ""),
        ([1, 1, 1, 1], ""),
        ([0, 0, 0, 0], ""),
        ([0, 1, 0], "1:2"),  # a ragged group counts as filled with zeros
        ([0, 0, 1, 1, 1, 1], "2:4"),
    ],
)
def test_nm_pattern_along_the_inputs(column, pattern):
    zero = np.array(column)[:, None] == 0
    assert nm_pattern(zero, layouts.of_kernel(2)) == pattern


def test_nm_pattern_must_hold_for_every_output():
    zero = np.array([[0, 0, 1, 1], [1, 1, 1, 0]]).T == 0
    assert nm_pattern(zero, layouts.of_kernel(2)) == "1:4"
    assert nm_pattern(zero, None) == ""


# -- Keras files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """One model with nested, recurrent and attention layers and an optimizer, saved three ways."""
    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("saved")
    x = keras.Input((8, 8, 3))
    y = L.BatchNormalization()(L.Conv2D(4, 3, name="first")(x))
    inner = keras.Sequential([L.Dense(5), L.Dense(8, name="second")], name="inner")
    y = L.Reshape((-1, 8))(inner(y))
    y = L.MultiHeadAttention(2, 4, name="att")(y, y)
    y = L.Dense(4)(L.Bidirectional(L.GRU(3), name="both")(y))
    model = keras.Model(x, y)
    kernel = model.get_layer("inner").layers[1].kernel
    kernel.assign(np.ones((5, 8)) * (np.arange(5) % 2)[:, None])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    model.save_weights(folder / "m.weights.h5")
    return folder, model


WANTED = {
    "first/kernel": (3, 3, 3, 4),
    "inner/dense/kernel": (4, 5),
    "inner/second/kernel": (5, 8),
    "att/query/kernel": (8, 2, 4),
    "att/key/kernel": (8, 2, 4),
    "att/value/kernel": (8, 2, 4),
    "att/attention_output/kernel": (2, 4, 8),
    "both/forward_gru/gru_cell/kernel": (8, 9),
    "both/forward_gru/gru_cell/recurrent_kernel": (3, 9),
    "both/backward_gru/gru_cell/kernel": (8, 9),
    "both/backward_gru/gru_cell/recurrent_kernel": (3, 9),
    "dense_1/kernel": (6, 4),
}


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.weights.h5"])
def test_names_and_shapes_as_the_user_knows_them(saved, name):
    folder, model = saved
    result = inspect_file(folder / name)
    assert {w.name: w.shape for w in result.weights} == WANTED
    found = {w.name: w for w in result.weights}
    assert found["inner/second/kernel"].nonzero == 16
    assert found["inner/second/kernel"].pattern == "1:2"
    assert found["att/query/kernel"].nonzero == 64
    assert result.size + result.other_size == model.count_params()  # no optimizer, nothing lost
    assert not result.masked
    if name != "m.weights.h5":  # which does not know the order of layers
        assert [w.name for w in result.weights][:3] == list(WANTED)[:3]


LAYERS = [
    (L.Conv2DTranspose(4, 3, name="x"), (6, 6, 8), "x/kernel", layouts.of_transposed_kernel(4)),
    (L.Embedding(6, 8, name="x"), (5,), "x/embeddings", layouts.of_embedding()),
    (L.EinsumDense("ab,cb->ac", 6, name="x"), (8,), "x/kernel", layouts.Layout((1,), (0,))),
    (L.SeparableConv1D(4, 3, name="x"), (9, 8), "x/pointwise_kernel", layouts.of_kernel(3)),
    (L.MultiHeadAttention(2, 4, name="x"), (5, 8), "x/query/kernel", layouts.Layout((0,), (1, 2))),
    (
        L.MultiHeadAttention(2, 4, name="x"),
        (5, 8),
        "x/attention_output/kernel",
        layouts.Layout((0, 1), (2,)),
    ),
]


@pytest.mark.parametrize(("layer", "shape", "name", "layout"), LAYERS)
def test_patterns_run_along_the_input_channels(layer, shape, name, layout, tmp_path):
    layer = type(layer).from_config(layer.get_config())
    x = keras.Input(shape)
    model = keras.Model(x, layer(x, x) if "Attention" in type(layer).__name__ else layer(x))
    variable = next(v for v in model.weights if v.path.endswith(name))
    rows = np.tile([0, 0, 1, 1], layout.input_size(variable.shape) // 4)
    outputs = int(np.prod(variable.shape)) // rows.size
    variable.assign(layout.from_rows(np.tile(rows, (outputs, 1)), tuple(variable.shape)))
    model.save(tmp_path / "m.keras")
    shape = tuple(variable.shape)
    assert figures(tmp_path / "m.keras")[name] == (shape, int(np.prod(shape)) // 2, "2:4")


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".h5"])
def test_masks_of_wrappers_are_applied_and_left_out(tmp_path, ending):
    lstm = wrapped(L.Bidirectional(L.LSTM(4)))
    dense = wrapped(L.Dense(3, name="out"))
    model = keras.Sequential([keras.Input((6, 5)), lstm, dense])
    rng = np.random.default_rng(0)
    kept = {}
    for wrapper in (lstm, dense):
        for count, (weight, mask, _) in enumerate(wrapper.pruning_vars, start=3):
            keep = rng.permutation(np.arange(mask.shape[0] * mask.shape[1]) < 2 * count)
            mask.assign(keep.reshape(mask.shape))
            # The optimizer's momentum has moved what was cut.
            weight.assign(np.where(mask.numpy(), 1.0, 1e-4))
            kept["/".join(weight.path.split("/")[-4:])] = 2 * count
    path = tmp_path / f"m{ending}"
    (model.save_weights if ending == ".weights.h5" else model.save)(path)
    result = inspect_file(path)
    assert result.masked
    assert "still holds pruning wrappers" in str(result)
    found = {w.name: w.nonzero for w in result.weights}
    assert len(kept) == len(found) == 5
    for path, count in kept.items():
        (name,) = (n for n in found if path.endswith(n))
        assert found[name] == count
    assert result.other_size == 16 + 16 + 3


def test_a_wrapper_that_is_an_attribute_of_a_subclassed_model(tmp_path):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.wide = wrapped(L.Dense(4, name="inside"))

        def call(self, x):
            return self.wide(x)

    model = Model()
    model(np.zeros((1, 6), "float32"))
    model.wide.update_masks(0)
    model.wide.layer.kernel.assign(np.ones((6, 4)))
    model.save_weights(tmp_path / "m.weights.h5")
    (row,) = inspect_file(tmp_path / "m.weights.h5").weights
    assert (row.name, row.shape, row.nonzero) == ("inside/kernel", (6, 4), 12)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_legacy_tf_keras_files_with_tfmot_wrappers(tmp_path, ending):
    tf_keras = pytest.importorskip("tf_keras")
    from tfprune import legacy
    from tfprune.criteria import Criterion

    wide = tf_keras.layers.Dense(16, name="wide")
    wrapper = legacy.wrap(wide, ConstantSparsity(0.5, 0), Criterion("unstructured"))
    model = tf_keras.Sequential([tf_keras.Input((12,)), wrapper, tf_keras.layers.Dense(3)])
    mask = (np.arange(12 * 16).reshape(12, 16) % 4 == 0).astype("float32")
    wrapper.pruning_vars[0][1].assign(mask)
    model.compile("adam", "mse")
    model.save(tmp_path / f"m.{ending}")
    result = inspect_file(tmp_path / f"m.{ending}")
    names = [w.name for w in result.weights]
    assert names[0] == "wide/kernel"
    assert names[1].startswith("dense")
    assert [w.nonzero for w in result.weights] == [48, 48]
    assert result.masked
    assert result.other_size == 19


def hand_made(tmp_path, arrays, config=None):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for path, values in arrays.items():
            file[path] = values
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("model.weights.h5", buffer.getvalue())
        if config is not None:
            archive.writestr("config.json", json.dumps(config))
    return tmp_path / "m.keras"


def test_a_file_of_early_keras_3_takes_its_names_from_the_configuration(tmp_path):
    dense = [{"class_name": "Dense", "config": {"name": n}} for n in ("hidden", "out")]
    path = hand_made(
        tmp_path,
        {
            "layers/dense/vars/0": TWO_FOUR[:, :3],
            "layers/dense/vars/1": np.ones(3),
            "layers/dense_1/vars/0": np.float16([[1, 0]]),
            "optimizer/vars/2": np.ones((9, 9)),
        },
        {"class_name": "Sequential", "config": {"name": "s", "layers": dense}},
    )
    result = inspect_file(path)
    rows = [(w.name, w.dtype, w.size, w.nonzero, w.pattern) for w in result.weights]
    assert rows == [
        ("hidden/kernel", "float32", 24, 12, "1:2"),
        ("out/kernel", "float16", 2, 1, ""),
    ]
    assert (result.size, result.nonzero, result.other_size) == (26, 13, 3)
    assert result.sparsity == 0.5


def test_nothing_in_the_file_is_run(tmp_path, monkeypatch):
    """A Lambda layer or an unknown class is only a name here."""
    layer = {"class_name": "Evil", "module": "os", "config": {"name": "x", "function": "system"}}
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    path = hand_made(tmp_path, {"layers/evil/vars/0": np.ones((2, 2))}, config)
    assert list(figures(path)) == ["x/kernel"]


def test_neither_tensorflow_nor_keras_is_loaded(saved):
    code = (
        "import sys; from tfprune.weightfiles import inspect_file; "
        f"print(inspect_file({str(saved[0] / 'm.keras')!r}).size); "
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    root = pathlib.Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.split()[1:] == ["False", "False"]


# -- .tflite files ---------------------------------------------------------------------------------


def convert(function, shape, optimize=False, data=None):
    spec = tf.TensorSpec(shape, tf.float32)
    concrete = tf.function(function, input_signature=[spec]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if optimize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter.convert()


@pytest.fixture(scope="module")
def dense_tflite():
    kernel, bias = tf.constant(TWO_FOUR), tf.constant([1.0, 0.0, 2.0, 3.0])
    return convert(lambda x: tf.nn.relu(tf.matmul(x, kernel) + bias), (1, 8))


def test_tflite_by_hand(dense_tflite, tmp_path):
    (tmp_path / "a.tflite").write_bytes(dense_tflite)
    result = inspect_file(tmp_path / "a.tflite")
    (row,) = result.weights
    assert (row.shape, row.dtype, row.size, row.nonzero) == ((4, 8), "float32", 32, 16)
    assert row.pattern == "1:2"
    assert result.other_size == 4
    assert result.file_bytes == len(dense_tflite)


def test_quantized_tflite_counts_the_same_zeros(tmp_path):
    kernel = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
    kernel[np.abs(kernel) < 0.5] = 0
    content = convert(lambda x: tf.matmul(x, tf.constant(kernel)), (1, 64), optimize=True)
    (constant,) = constants.read_constants(content)
    assert constant.dtype == "int8"
    assert constant.zeros >= (kernel == 0).sum()
    np.testing.assert_array_equal(
        constant.is_zero.reshape(32, 64) | (kernel.T != 0), np.ones((32, 64), bool)
    )


class Points:
    """What the schema gives for zero points 3 and 0 along the first axis."""

    def __init__(self, points, axis):
        self.points, self.axis = points, axis

    def ZeroPointLength(self):
        return len(self.points)

    def ZeroPointAsNumpy(self):
        return np.array(self.points)

    def QuantizedDimension(self):
        return self.axis


def test_a_zero_is_what_the_zero_point_says():
    values = np.array([3, 0, 1, 3, 0, 0], "int8")
    zero = constants._is_zero(values, (2, 3), Points([3], 0), False)
    assert zero.tolist() == [True, False, False, True, False, False]
    zero = constants._is_zero(values, (2, 3), Points([3, 0], 0), False)
    assert zero.tolist() == [True, False, False, False, True, True]
    with pytest.raises(ValueError, match="do not fit"):
        constants._is_zero(values, (2, 3), Points([3, 0], 1), False)


def test_depthwise_kernels_have_no_input_channels_to_group(tmp_path):
    kernel = tf.constant(np.array([0.0, 1.0] * 36, "float32").reshape(3, 3, 8, 1))
    content = convert(
        lambda x: tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME"), (1, 5, 5, 8)
    )
    (tmp_path / "a.tflite").write_bytes(content)
    (row,) = inspect_file(tmp_path / "a.tflite").weights
    assert (row.shape, row.nonzero, row.pattern) == ((1, 3, 3, 8), 36, "")


# -- Results and bad input -------------------------------------------------------------------------


def test_prints_and_saves(saved, tmp_path):
    result = inspect_file(saved[0] / "m.keras")
    for part in ("inner/second/kernel", "5x8", "60.0%", "1:2", "all weights", "after gzip"):
        assert part in str(result)
    done = json.loads(result.to_json(tmp_path / "a.json"))
    assert done == json.loads((tmp_path / "a.json").read_text())
    assert done["sparsity"] == result.sparsity
    assert done["weights"][2]["sparsity"] == pytest.approx(0.6)
    with pytest.raises(FileExistsError):
        result.to_json(tmp_path / "a.json")
    with pytest.raises(AttributeError):
        result.path = "other"


def test_bad_paths(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        inspect_file(tmp_path / "none.keras")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        inspect_file(tmp_path / "folder.keras")
    with pytest.raises(ValueError, match=r"\.keras, \.h5, \.hdf5, \.tflite is expected"):
        inspect_file(tmp_path / "a.txt")
    for wrong in (3, None, b"a.keras"):
        with pytest.raises(TypeError, match=r"`path` must be the path of a model file.*Received: "):
            inspect_file(wrong)


@pytest.mark.parametrize("ending", ["keras", "h5", "weights.h5", "tflite"])
@pytest.mark.parametrize("content", [b"", b"PK", b"hello, this is no model at all"])
def test_files_of_another_kind(tmp_path, ending, content):
    (tmp_path / f"a.{ending}").write_bytes(content)
    kind = "Not a .tflite file" if ending == "tflite" else "damaged, cut short, or not a"
    with pytest.raises(ValueError, match=f"Cannot read.*{kind}"):
        inspect_file(tmp_path / f"a.{ending}")


def test_another_schema_version_is_no_damage(tmp_path, dense_tflite):
    model = schema.ModelT.InitFromPackedBuf(dense_tflite, 0)
    model.version = 4
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (tmp_path / "a.tflite").write_bytes(builder.Output())
    with pytest.raises(ValueError, match=r"schema version 3 was expected.*version 4$") as caught:
        inspect_file(tmp_path / "a.tflite")
    assert "damaged" not in str(caught.value)


def test_a_zip_without_weights_or_with_a_false_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("other", "x")
    with pytest.raises(ValueError, match=r"no model\.weights\.h5 in it, only other"):
        inspect_file(tmp_path / "a.keras")
    with h5py.File(tmp_path / "a.h5", "w") as file:  # declared, never written
        file.create_dataset("dense/dense/kernel:0", shape=(1 << 20, 1 << 20), dtype="float32")
    with pytest.raises(ValueError, match="claims 4,398,046,511,104 bytes"):
        inspect_file(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("code", "seconds", "words"),
    [
        ("while True: pass", 1.0, "did not end within 1 seconds"),
        ("import os; os.abort()", isolated.SECONDS, "crashed the HDF5 library"),
    ],
)
def test_a_reader_that_hangs_or_crashes(tmp_path, monkeypatch, code, seconds, words):
    monkeypatch.setattr(isolated, "_CHILD", code)
    monkeypatch.setattr(isolated, "SECONDS", seconds)
    (tmp_path / "a.h5").write_bytes(b"x")
    with pytest.raises(ValueError, match=words):
        inspect_file(tmp_path / "a.h5")


def damaged(content, rng):
    """Cut a file short, or flip bits in it."""
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 4, 32])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_damaged_tflite_files(dense_tflite):
    rng = random.Random(0)
    refused = 0
    for _ in range(1500):
        try:
            constants.read_constants(damaged(dense_tflite, rng))
        except ValueError:
            refused += 1
    assert 300 < refused < 1500


def test_the_lengths_of_all_vectors_are_bounded_together():
    left = [10]
    assert flatbuffer.count(6, left) == 6
    with pytest.raises(ValueError, match="a vector of 5 elements does not fit"):
        flatbuffer.count(5, left)


def test_a_damaged_length_ends_no_loop_in_the_billions(dense_tflite):
    """Every place that could be a length is set to 2^31 - 1."""
    for start in range(0, len(dense_tflite) - 4, 4):
        changed = bytearray(dense_tflite)
        changed[start : start + 4] = b"\xff\xff\xff\x7f"
        try:
            constants.read_constants(bytes(changed))
        except ValueError as error:
            assert str(error)  # noqa: PT017 -- the point is that nothing else is raised


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_damaged_keras_files(saved, tmp_path, name, monkeypatch):
    monkeypatch.setattr(isolated, "SECONDS", 5.0)
    content = (saved[0] / name).read_bytes()
    rng = random.Random(1)
    path = tmp_path / name
    for _ in range(60 if name == "m.keras" else 8):
        path.write_bytes(damaged(content, rng))
        try:
            inspect_file(path)
        except ValueError as error:
            assert "Cannot read" in str(error)  # noqa: PT017 -- a lucky flip may be harmless
