"""Files whose tables are whole and name what is not there: no app could load them."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune.benchmarking.model import read_model
from tfprune.export import rewriting
from tfprune.weightfiles import inspect_file

DAMAGE = {}


def damage(words):
    """Add a function that damages an unpacked file, and what is said of it."""

    def add(change):
        DAMAGE[change.__name__] = change, words
        return change

    return add


@damage("there is no graph in it")
def no_graph(model):
    model.subgraphs = []


@damage(r"the inputs \[9999\] of graph 0 name no tensor of it")
def an_input(model):
    model.subgraphs[0].inputs = np.array([9999], "int32")


@damage(r"the outputs \[-5\] of graph 0 name no tensor of it")
def an_output(model):
    model.subgraphs[0].outputs = np.array([-5], "int32")


@damage("tensor 1 names buffer 9999 of")
def a_buffer(model):
    model.subgraphs[0].tensors[1].buffer = 9999


@damage(r"tensor 0 has the shape \(-3, 16\)")
def a_shape(model):
    model.subgraphs[0].tensors[0].shape = np.array([-3, 16], "int32")


@damage("operation 0 names code 99")
def a_code(model):
    model.subgraphs[0].operators[0].opcodeIndex = 99


@damage("the operation 0 names a tensor that is not there")
def an_operand(model):
    model.subgraphs[0].operators[0].inputs = np.array([0, 9999, -1], "int32")


@damage("which do not fit its segments and indices")
def positions(model):
    (sparse,) = [one.sparsity for one in model.subgraphs[0].tensors if one.sparsity is not None]
    indices = sparse.dimMetadata[-1].arrayIndices
    indices.values = np.full_like(indices.values, 250)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(64)])
    kernel = model.layers[0].kernel
    kernel.assign(np.where(np.arange(1024).reshape(16, 64) % 10, 0, kernel.numpy()))
    path = tmp_path_factory.mktemp("whole") / "model.tflite"
    tfprune.export_tflite(model, path)
    assert tfprune.explain(path).encoded == 1
    return path.read_bytes()


@pytest.mark.parametrize("read", [tfprune.explain, read_model], ids=["explain", "benchmark"])
@pytest.mark.parametrize("name", DAMAGE)
def test_refused_once(content, tmp_path, name, read):
    change, words = DAMAGE[name]
    model = rewriting.unpack(content)
    change(model)
    path = tmp_path / "bad.tflite"
    path.write_bytes(rewriting.pack(model))
    with pytest.raises(ValueError, match=words) as caught:
        read(path)
    text = str(caught.value)
    assert "Copy or export it again" in text
    for phrase in ("damaged or cut short", "Received:", "bad.tflite"):
        assert text.count(phrase) == 1


@pytest.mark.parametrize("read", [tfprune.explain, inspect_file, read_model])
def test_a_file_cut_short_is_told_of_once(content, tmp_path, read):
    path = tmp_path / "bad.tflite"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged or cut short") as caught:
        read(path)
    for phrase in ("damaged", "Received:", "bad.tflite"):
        assert str(caught.value).count(phrase) == 1
