"""The inputs of a model as a flat list of named tensors, and its outputs as named arrays.

A `.tflite` file has a flat list of tensors. Keras models take one tensor, a list, or nested
dictionaries. Everything else in this room speaks of the flat list; this file knows the nesting.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

Arrays = list[np.ndarray]
"""One array for each input, in the order of `Interface.inputs`."""


@dataclasses.dataclass(frozen=True)
class Input:
    """One input tensor.

    Attributes:
        name: its name in the signature of the file.
        shape: with the batch dimension; None where the length is free.
        dtype: name of a numpy dtype.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape is a batch of this input (of any batch size)."""
        return len(shape) == len(self.shape) and all(
            want is None or want == got for want, got in zip(self.shape[1:], shape[1:], strict=True)
        )

    def __str__(self) -> str:
        dims = ", ".join("batch" if i == 0 else str(d or "any") for i, d in enumerate(self.shape))
        return f"'{self.name}' of shape ({dims}) and dtype {self.dtype}"


@dataclasses.dataclass(frozen=True)
class Interface:
    """The inputs of a model, flat, and the structure that Keras wants them in.

    Attributes:
        inputs: the flat list.
        structure: nested lists, tuples and dictionaries with integers for leaves: the index of
            each input in the flat list.
    """

    inputs: tuple[Input, ...]
    structure: Any

    @property
    def batch(self) -> int:
        """The fixed batch size of the file: 1, unless the model itself fixes another."""
        return self.inputs[0].shape[0] or 1

    def pack(self, flat) -> Any:
        """Return a flat list of tensors in the structure that the model is called with."""
        return _map(self.structure, lambda index: flat[index])

    def flatten(self, data: Any) -> list[Any] | None:
        """Return the leaves of data of the model's own structure in order, None if it differs."""
        found: list[Any] = [None] * len(self.inputs)
        return found if _collect(self.structure, data, found) else None

    def named(self, sample: Arrays) -> dict[str, np.ndarray]:
        """Return the arrays of a sample by the names of the inputs."""
        return {one.name: array for one, array in zip(self.inputs, sample, strict=True)}

    def describe(self) -> str:
        """Return the inputs in words, for messages."""
        return "; ".join(str(one) for one in self.inputs)


def named_leaves(structure: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return (name, leaf) of nested lists, tuples and dicts; keys in sorted order.

    Example: `named_leaves({"b": 1, "a": [2, 3]})` is `[("a_0", 2), ("a_1", 3), ("b", 1)]`.
    """
    if isinstance(structure, dict):
        items = [(str(key), structure[key]) for key in sorted(structure, key=str)]
    elif isinstance(structure, (list, tuple)):
        items = [(str(i), part) for i, part in enumerate(structure)]
    else:
        return [(prefix, structure)]
    return [
        leaf
        for name, part in items
        for leaf in named_leaves(part, f"{prefix}_{name}" if prefix else name)
    ]


def from_structure(structure: Any, names: list[str] | None = None) -> Interface:
    """Return the interface of nested tensors (anything with a shape, a dtype and maybe a name)."""
    leaves = named_leaves(structure)
    taken: list[str] = []
    inputs = []
    for index, (path, tensor) in enumerate(leaves):
        name = path if path and not path[-1].isdigit() else _own_name(tensor, index, len(leaves))
        name = _unique(re.sub(r"\W", "_", names[index] if names else name), taken)
        shape = tuple(None if d is None else int(d) for d in tensor.shape)
        if not shape:
            raise ValueError(f"The input '{name}' has no batch dimension. Received: shape ()")
        dtype = getattr(tensor.dtype, "name", None) or str(tensor.dtype)
        inputs.append(Input(name, (shape[0] or 1, *shape[1:]), dtype))
    counter = iter(range(len(leaves)))
    return Interface(tuple(inputs), _map(structure, lambda leaf: next(counter)))


def _own_name(tensor: Any, index: int, count: int) -> str:
    name = str(getattr(tensor, "name", "") or "").split(":")[0]
    if name and not name.startswith("keras_tensor"):  # Keras's name for an unnamed input
        return name
    return "input" if count == 1 else f"input_{index}"


def _unique(name: str, taken: list[str]) -> str:
    fresh, count = name, 1
    while fresh in taken:
        fresh, count = f"{name}_{count}", count + 1
    taken.append(fresh)
    return fresh


def _map(structure: Any, function) -> Any:
    if isinstance(structure, dict):
        done = {k: _map(structure[k], function) for k in sorted(structure, key=str)}
        return {k: done[k] for k in structure}
    if isinstance(structure, (list, tuple)):
        return [_map(part, function) for part in structure]
    return function(structure)


def _collect(structure: Any, data: Any, found: list[Any]) -> bool:
    if isinstance(structure, dict):
        return (
            isinstance(data, dict)
            and set(data) == set(structure)
            and all(_collect(structure[k], data[k], found) for k in structure)
        )
    if isinstance(structure, (list, tuple)):
        return (
            isinstance(data, (list, tuple))
            and len(data) == len(structure)
            and all(_collect(s, d, found) for s, d in zip(structure, data, strict=True))
        )
    found[structure] = data
    return not isinstance(data, dict)
