"""What is read from a file before it runs: its inputs, what must be chosen, what is wrong."""

import gzip

import numpy as np
import pytest

import tfprune
from tfprune.benchmarking.inputs import seeded_inputs
from tfprune.benchmarking.model import Model, read_model
from tfprune.benchmarking.tables import Tensor, read_tables, with_fixed_shapes


def test_inputs_outputs_and_sizes(made):
    model = read_model(made["one"])
    content = made["one"].read_bytes()
    assert [(t.name, t.shape, t.dtype) for t in model.inputs] == [("x", (1, 256), "float32")]
    assert [(t.shape, t.dtype) for t in model.outputs] == [((1, 1024), "float32")]
    assert model.file_bytes == len(content) > 2**20
    assert gzip.decompress(gzip.compress(content, 6)) == content
    assert 0.8 * len(content) < model.gzip_bytes < len(content)
    assert (model.custom, model.quantized, model.notes) == ((), False, ())


def test_quantized_values(made):
    model = read_model(made["int8"])
    assert model.quantized
    assert model.inputs[0].dtype == "int8"
    assert 0.01 < model.inputs[0].scale < 0.1  # about 4 standard deviations in 127 steps


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cut", "damaged or cut short"),
        ("outside", "damaged or cut short"),
        ("empty", "not a .tflite file"),
        ("note", "not a .tflite file"),
        ("new", "Received: version 7"),
        ("two", "2 signatures"),
        ("tokens", "--shape tokens=1x64"),
        ("text", "holds STRING"),
    ],
)
def test_bad_files_are_told_apart(made, name, said):
    with pytest.raises(ValueError, match="Received: ") as caught:
        read_model(made[name])
    assert said in str(caught.value)
    assert made[name].name in str(caught.value)


def test_no_cut_passes_unseen_and_none_breaks_the_reader(made):
    content = made["one"].read_bytes()
    for part in range(1, 40):
        with pytest.raises(ValueError, match="outside of it or contradict"):
            read_tables(content[: len(content) * part // 40])


def test_random_damage_is_a_value_error_or_goes_unseen(made):
    content = made["int8"].read_bytes()
    tail = content[-3000:]  # the tables lie behind the weights
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(150):
        broken = bytearray(tail)
        for place in rng.integers(0, len(broken), 4):
            broken[place] = rng.integers(0, 256)
        try:
            read_tables(content[:-3000] + bytes(broken))
        except ValueError:
            seen += 1
    assert seen > 10


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist.*Received: "):
        read_model(tmp_path / "none.tflite")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        read_model(tmp_path)
    with pytest.raises(TypeError, match=r"path of a \.tflite file.*Received: path=3$"):
        tfprune.demo_page(3, 4)


def test_a_signature_is_chosen_by_name(made):
    double, triple = (read_model(made["two"], name) for name in ("double", "triple"))
    assert {double.subgraph, triple.subgraph} == {0, 1}
    assert [t.name for t in triple.inputs] == ["b"]
    with pytest.raises(ValueError, match="'double', 'triple'"):
        read_model(made["two"], "quadruple")


def test_more_subgraphs_are_no_problem(made):
    assert read_model(made["subgraphs"]).subgraph == 0


def test_a_free_batch_is_one_and_noted(made):
    model = read_model(made["free_batch"])
    assert model.inputs[0].shape == (1, 256)
    assert "batch size of 'x' is free" in model.notes[0]


def test_a_free_batch_can_be_chosen(made):
    model = read_model(made["free_batch"], shapes={"x": (3, 256)})
    assert (model.inputs[0].shape, model.notes) == ((3, 256), ())


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 5), (1,), (1, 0)])
def test_shapes_that_do_not_fit(made, shape):
    with pytest.raises(ValueError, match=r"has the shape 1xany.*Received: shape"):
        read_model(made["tokens"], shapes={"tokens": shape})


def test_fixed_shapes_have_no_free_axes(made):
    content = made["free_batch"].read_bytes()
    fixed = with_fixed_shapes(content)
    tensor, free = read_tables(content).graphs[0].inputs[0]
    assert (tensor.stored_shape, free) == ((1, 256), (-1, 256))
    assert read_tables(fixed).graphs[0].inputs[0][1] == (1, 256)
    assert len(fixed) == len(content)
    assert sum(a != b for a, b in zip(content, fixed, strict=True)) <= 8 * 4


def test_seeded_inputs():
    tensors = (
        Tensor("f", 0, (2, 500), (2, 500), "float32"),
        Tensor("q", 1, (1000,), (1000,), "int8", scale=0.5, zero_point=3),
        Tensor("image", 2, (1000,), (1000,), "uint8"),
        Tensor("tokens", 3, (1000,), (1000,), "int64"),
        Tensor("mask", 4, (1000,), (1000,), "bool"),
    )
    model = Model("m", 1, 1, None, 0, tensors, (), False, (), ())
    first, second = seeded_inputs(model), seeded_inputs(model)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert [a.dtype.name for a in first] == [t.dtype for t in tensors]
    assert [a.shape for a in first] == [t.shape for t in tensors]
    assert abs(first[0].mean()) < 0.2
    assert 0.9 < first[0].std() < 1.1
    assert abs(first[1].mean() - 3) < 0.3  # 0 stands at 3
    assert 1.8 < first[1].std() < 2.2  # and 1 is two steps away
    assert first[2].min() < 10
    assert first[2].max() > 245
    assert set(first[3]) == {0, 1}
    assert set(first[4]) == {False, True}
