"""Nested inputs become a flat list and go back."""

import dataclasses

import pytest

from tfprune.export.convert import output_names
from tfprune.export.interface import Input, from_structure, named_leaves


@dataclasses.dataclass
class Tensor:
    shape: tuple
    dtype: str = "float32"
    name: str = ""


def test_named_leaves_in_sorted_order():
    assert named_leaves({"b": 1, "a": [2, {"c": 3}]}) == [("a_0", 2), ("a_1_c", 3), ("b", 1)]
    assert named_leaves(5) == [("", 5)]


def test_structure_round_trip():
    structure = {"b": Tensor((None, 4)), "a": [Tensor((None, 2)), Tensor((None, 3), "int32")]}
    interface = from_structure(structure)
    assert [i.shape for i in interface.inputs] == [(1, 2), (1, 3), (1, 4)]
    assert [i.dtype for i in interface.inputs] == ["float32", "int32", "float32"]
    assert interface.pack(["x", "y", "z"]) == {"b": "z", "a": ["x", "y"]}
    assert interface.flatten({"a": [1, 2], "b": 3}) == [1, 2, 3]
    for other in ({"a": [1], "b": 3}, {"a": [1, 2]}, [1, 2, 3], 1, {"a": [1, 2], "b": {"c": 3}}):
        assert interface.flatten(other) is None


@pytest.mark.parametrize(
    ("structure", "names"),
    [
        (Tensor((None, 2), name="keras_tensor_7"), ["input"]),
        (Tensor((None, 2), name="image:0"), ["image"]),
        ([Tensor((None, 2), name="a/b"), Tensor((None, 2))], ["a_b", "input_1"]),
        ([Tensor((None, 2), name="a"), Tensor((None, 2), name="a")], ["a", "a_1"]),
        ({"x y": Tensor((None, 2), name="a")}, ["x_y"]),
    ],
)
def test_names_of_inputs(structure, names):
    assert [one.name for one in from_structure(structure).inputs] == names


def test_a_fixed_batch_is_kept_and_a_free_axis_stays_free():
    interface = from_structure(Tensor((4, None, 2)))
    assert interface.inputs[0].shape == (4, None, 2)
    assert interface.batch == 4
    with pytest.raises(ValueError, match="no batch dimension"):
        from_structure(Tensor(()))


def test_fits():
    one = Input("x", (1, None, 3), "float32")
    assert one.fits((8, 5, 3))
    assert not one.fits((8, 5, 4))
    assert not one.fits((5, 3))
    assert str(one) == "'x' of shape (batch, any, 3) and dtype float32"


def test_names_of_outputs():
    assert output_names(1) == [("output", 1)]
    assert output_names([1, 2]) == [("output_0", 1), ("output_1", 2)]
    assert output_names({"b": 1, "a c": [2]}) == [("a_c_0", 2), ("b", 1)]
