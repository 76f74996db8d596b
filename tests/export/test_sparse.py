"""Which weights are encoded, and that a rewritten file is otherwise what it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import tfprune
from tfprune.export import rewriting, sparse
from tfprune.export.graph import read_graphs
from tfprune.weightfiles import constants


def prune(model, sparsity, seed=0):
    """Set weights to zero at random."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            keep = rng.random(variable.shape) >= sparsity
            variable.assign(variable.numpy() * keep)
    return model


def network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(16, 3, activation="relu")(inputs)
    x = layers.DepthwiseConv2D(3, depth_multiplier=8)(x)
    x = layers.Conv2D(40, 1, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(300)(layers.Flatten()(x)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return {form: content of a dense file, pruned to 80 %}."""
    folder = tmp_path_factory.mktemp("dense")
    model = prune(network(), 0.8)
    data = np.random.default_rng(0).random((8, 12, 12, 3), "float32")
    found = {}
    for form in (None, "float16", "dynamic", "int8"):
        path = folder / f"{form}.tflite"
        extra = {"representative_data": data} if form == "int8" else {}
        tfprune.export_tflite(model, path, quantize=form, sparse=False, **extra)
        found[form] = path.read_bytes()
    return found


def kinds(content):
    """Return {kind of operation that reads it: Storage} of each weight."""
    graph = read_graphs(content)[0]
    found = {}
    for one in sparse.decide(content):
        names = {one.tensor, *(t for t, stored in graph.stored.items() if stored == one.tensor)}
        for name in names:
            for operation, _ in graph.consumers(name):
                found.setdefault(operation.kind, []).append(one)
    return found


@pytest.mark.parametrize("form", [None, "float16"])
def test_float_weights_are_encoded(exported, form):
    found = kinds(exported[form])
    assert all(one.encoded for one in found["CONV_2D"][1:])
    assert found["DEPTHWISE_CONV_2D"][0].encoded
    assert found["FULLY_CONNECTED"][0].encoded


def test_int8_convolutions_are_encoded_and_dense_layers_are_not(exported):
    found = kinds(exported["int8"])
    assert found["DEPTHWISE_CONV_2D"][0].encoded
    assert not found["FULLY_CONNECTED"][0].encoded
    assert "would not load" in found["FULLY_CONNECTED"][0].reason


def test_dynamic_range_weights_stay_dense(exported):
    found = kinds(exported["dynamic"])
    quantized = found["FULLY_CONNECTED"]
    assert not any(one.encoded for one in quantized)
    assert "float activations" in quantized[0].reason


@pytest.mark.parametrize(
    ("sparsity", "form", "encoded"),
    # Inputs up to 256: an index takes one byte. float32: 5 bytes for 4, so 20 %; int8: 50 %.
    [(0.15, None, False), (0.25, None, True), (0.45, "int8", False), (0.6, "int8", True)],
)
def test_only_what_gets_smaller_is_encoded(tmp_path, sparsity, form, encoded):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4, 4, 128)), layers.Conv2D(128, 1)])
    prune(model, sparsity)
    data = np.random.default_rng(0).standard_normal((4, 4, 4, 128)).astype("float32")
    dense, auto = tmp_path / "dense.tflite", tmp_path / "auto.tflite"
    tfprune.export_tflite(model, dense, form, data, sparse=False)
    result = tfprune.export_tflite(model, auto, form, data)
    assert result.weights[0].encoded is encoded
    assert (auto.stat().st_size < dense.stat().st_size) is encoded


@pytest.mark.parametrize("form", [None, "float16", "int8"])
def test_the_file_is_as_large_as_the_formula_says(exported, form):
    content = exported[form]
    storage = sparse.decide(content)
    saved = sum(one.dense_bytes - one.stored_bytes for one in storage)
    done = sparse.rewrite(content, storage)
    assert saved > 0
    assert len(done) <= (len(content) - saved) * 1.01 + 100 * sum(s.encoded for s in storage)


@pytest.mark.parametrize("form", [None, "float16", "int8"])
def test_a_rewritten_file_reads_as_the_dense_one(exported, form):
    content = exported[form]
    done = sparse.rewrite(content, sparse.decide(content))
    before, after = (read_graphs(c)[0] for c in (content, done))
    assert sum(t.sparse for t in after.tensors) >= 2
    assert [op.kind for op in before.operations] == [op.kind for op in after.operations]
    for old, new in zip(before.operations, after.operations, strict=True):
        for a, b in zip(old.inputs, new.inputs, strict=True):
            if a >= 0 and before.is_constant(a):
                np.testing.assert_array_equal(before.values(a), after.values(b))
    assert zeros_of(content) == zeros_of(done)
    x = np.random.default_rng(3).random((1, 12, 12, 3), "float32")
    first, second = (answer(c, x) for c in (content, done))
    np.testing.assert_array_equal(first, second)


def zeros_of(content):
    """Return (name, zeros) of each weight."""
    return sorted((c.name, c.zeros) for c in constants.read_constants(content) if c.is_weight)


def answer(content, x):
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_data_start_at_multiples_of_16(exported):
    done = sparse.rewrite(exported[None], sparse.decide(exported[None]))
    model = schema.Model.GetRootAs(done, 0)
    starts = []
    for index in range(model.BuffersLength()):
        data = model.Buffers(index).DataAsNumpy() if model.Buffers(index).DataLength() else None
        if data is not None:
            whole = np.frombuffer(done, "uint8")
            starts.append(
                data.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
            )
    assert len(starts) > 4
    assert not any(start % 16 for start in starts)


def test_signatures_and_metadata_stay(exported):
    content = exported[None]
    done = sparse.rewrite(content, sparse.decide(content), ("mine", b"{}"))
    before, after = (schema.ModelT.InitFromPackedBuf(c, 0) for c in (content, done))
    assert [s.signatureKey for s in after.signatureDefs] == [b"serving_default"]
    names = [m.name for m in before.metadata]
    assert [m.name for m in after.metadata] == [*names, b"mine"]
    assert after.description == before.description


def test_two_tensors_of_the_same_data_are_encoded_once(exported):
    content = exported[None]
    model = rewriting.unpack(content)
    graph = model.subgraphs[0]
    reader = next(op for op in graph.operators if op.opcodeIndex == 1 and len(op.inputs) == 3)
    original = int(reader.inputs[1])
    graph.tensors.append(graph.tensors[original])
    reader.inputs = np.array([reader.inputs[0], len(graph.tensors) - 1, reader.inputs[2]], "int32")
    double = rewriting.pack(model)
    done = sparse.rewrite(double, sparse.decide(double))
    x = np.random.default_rng(3).random((1, 12, 12, 3), "float32")
    np.testing.assert_array_equal(answer(done, x), answer(content, x))


def test_what_is_sparse_already_is_left(exported):
    done = sparse.rewrite(exported[None], sparse.decide(exported[None]))
    again = sparse.decide(done)
    assert not any(one.encoded for one in again)
    assert sum(one.reason == "stored sparse already" for one in again) >= 2


def test_a_model_without_weights_and_one_without_zeros(tmp_path):
    plain = keras.Sequential([keras.Input((4,)), layers.Rescaling(2.0)])
    assert tfprune.export_tflite(plain, tmp_path / "a.tflite").weights == ()
    keras.utils.set_random_seed(0)
    full = keras.Sequential([keras.Input((40,)), layers.Dense(40)])
    result = tfprune.export_tflite(full, tmp_path / "b.tflite")
    assert [(one.encoded, one.reason) for one in result.weights] == [(False, "no zeros")]
    with pytest.raises(ValueError, match="sparse=True needs a weight"):
        tfprune.export_tflite(full, tmp_path / "c.tflite", sparse=True)
    assert not (tmp_path / "c.tflite").exists()


def test_a_weight_of_nothing_but_zeros(tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64)])
    model.layers[0].kernel.assign(np.zeros((64, 64)))
    result = tfprune.export_tflite(model, tmp_path / "zeros.tflite")
    assert result.weights[0].encoded
    assert tfprune.inspect_file(tmp_path / "zeros.tflite").sparsity == 1.0


@pytest.mark.parametrize("given", ["yes", 1, None, "True"])
def test_what_sparse_may_be(tmp_path, given):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    with pytest.raises(ValueError, match="`sparse` must be"):
        tfprune.export_tflite(model, tmp_path / "a.tflite", sparse=given)


@pytest.mark.parametrize("strip", [False, True])
def test_the_file_says_how_it_was_pruned(tmp_path, strip):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="wide")])
    pruned = tfprune.prune_low_magnitude(
        model, tfprune.ConstantSparsity(0.5, 0), sparsity_m_by_n=(2, 4)
    )
    pruned.compile("sgd", "mse")
    x = np.ones((4, 8), "float32")
    pruned.fit(x, x, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    tfprune.export_tflite(tfprune.strip_pruning(pruned) if strip else pruned, tmp_path / "m.tflite")
    found = tfprune.inspect_file(tmp_path / "m.tflite")
    assert found.metadata["version"] == tfprune.__version__
    assert found.metadata["sparsity"] == 0.5
    rule = found.metadata["rules"][0]
    assert (rule["layer"], rule["pattern"]) == ("wide", "2:4")
    assert "ConstantSparsity" in rule["schedule"]
    assert "wide, ConstantSparsity" in str(found)


def test_the_file_says_if_it_is_not_known_how_it_was_pruned(tmp_path):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="wide")])
    tfprune.export_tflite(model, tmp_path / "dense.tflite")
    tfprune.export_tflite(prune(model, 0.5), tmp_path / "m.tflite")
    assert "not known" in str(tfprune.inspect_file(tmp_path / "m.tflite"))
    assert "not known" not in str(tfprune.inspect_file(tmp_path / "dense.tflite"))


@pytest.fixture
def huge(monkeypatch):
    """Let the converter put weights behind the flatbuffer, which it does by itself beyond 2 GB."""
    convert = tf.lite.TFLiteConverter.from_concrete_functions

    def with_offsets(*arguments):
        converter = convert(*arguments)
        converter._experimental_use_buffer_offset = True
        return converter

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_concrete_functions", with_offsets)
    return prune(network(), 0.8)


@pytest.mark.parametrize("given", ["auto", False])
def test_a_file_whose_weights_lie_behind_the_flatbuffer_stays_as_it_is(huge, tmp_path, given):
    result = tfprune.export_tflite(huge, tmp_path / "a.tflite", sparse=given)
    assert len(result.weights) == 4
    assert not any(one.encoded for one in result.weights)
    assert all(one.zeros > 0 for one in result.weights)
    assert given is False or "beyond 2 GB" in result.weights[0].reason
    assert "beyond 2 GB" in result.notes[0]
    content = (tmp_path / "a.tflite").read_bytes()
    assert any(b.offset > 1 for b in schema.ModelT.InitFromPackedBuf(content, 0).buffers)
    assert tfprune.inspect_file(tmp_path / "a.tflite").sparsity == pytest.approx(0.8, abs=0.02)
    assert tfprune.explain(tmp_path / "a.tflite").if_encoded is None
    with pytest.raises(ValueError, match="cannot be rewritten"):
        rewriting.unpack(content)


def test_a_file_beyond_2_gb_cannot_be_made_sparse(huge, tmp_path):
    with pytest.raises(ValueError, match=r"sparse=True needs.*beyond 2 GB"):
        tfprune.export_tflite(huge, tmp_path / "a.tflite", sparse=True)
    assert not (tmp_path / "a.tflite").exists()
