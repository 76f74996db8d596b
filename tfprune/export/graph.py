"""A `.tflite` file as a graph of operations: what rules and encodings look at.

DENSIFY and DEQUANTIZE of constants only unpack weights, so that a weight *is* the constant before
them here, whatever it is stored as.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tfprune.weightfiles import flatbuffer, structure
from tfprune.weightfiles.sparse_tensor import decode

_UNPACK = ("DENSIFY", "DEQUANTIZE")
# The fields of an operation's options that rules ask for, by the name of its table.
_OPTIONS = {
    "CONV_2D": ("Conv2DOptions", ("Padding", "StrideH", "StrideW", "DilationHFactor",
                                  "DilationWFactor", "FusedActivationFunction")),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", ("Padding", "StrideH", "StrideW",
                          "DilationHFactor", "DilationWFactor", "DepthMultiplier",
                          "FusedActivationFunction")),
    "MAX_POOL_2D": ("Pool2DOptions", ("FilterHeight", "FilterWidth", "StrideH", "StrideW")),
    "AVERAGE_POOL_2D": ("Pool2DOptions", ("FilterHeight", "FilterWidth", "StrideH", "StrideW")),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "SUM": ("ReducerOptions", ("KeepDims",)),
    "ADD": ("AddOptions", ("FusedActivationFunction",)),
    "SUB": ("SubOptions", ("FusedActivationFunction",)),
    "MUL": ("MulOptions", ("FusedActivationFunction",)),
    "DIV": ("DivOptions", ("FusedActivationFunction",)),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("FusedActivationFunction",)),
    "CONCATENATION": ("ConcatenationOptions", ("FusedActivationFunction",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "STRIDED_SLICE": ("StridedSliceOptions", ("EllipsisMask", "NewAxisMask", "ShrinkAxisMask")),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value of the graph.

    Attributes:
        index: its number in the subgraph.
        name: as the converter wrote it.
        shape: -1 for a free axis.
        dtype: "float32", "int8", ...; empty for kinds that hold no numbers.
        buffer: number of its data in the file; 0 for none.
        constant: whether the file holds its values.
        sparse: whether they are in sparse encoding.
        symmetric: whether zero is stored as 0.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    constant: bool
    sparse: bool
    symmetric: bool

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of the graph.

    Attributes:
        position: its number in the subgraph.
        kind: "CONV_2D", ...; "CUSTOM" for what is not built in.
        inputs: indices of tensors, -1 where an optional one is left out.
        outputs: indices of tensors.
        options: those that rules ask for, such as {"StrideH": 2} or {"Beta": 1.0}.
    """

    position: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Graph:
    """One subgraph of a file.

    Attributes:
        tensors: all of them, by index.
        operations: in the order they run, without those that only unpack weights.
        inputs: indices of tensors that the caller gives.
        outputs: indices of tensors that the caller gets.
        stored: {index of an unpacked weight: index of the constant it is unpacked from}.
    """

    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stored: dict[int, int]
    _data: tuple[Any, bytes]

    def is_constant(self, index: int) -> bool:
        """Tell whether a tensor is known before the model runs."""
        return index in self.stored or self.tensors[index].constant

    def constant(self, index: int) -> Tensor:
        """Return the stored tensor that a constant is, or is unpacked from."""
        return self.tensors[self.stored.get(index, index)]

    def values(self, index: int) -> np.ndarray:
        """Return the values of a constant, dense, as stored (int8 without its scale)."""
        tensor = self.constant(index)
        table, content = self._data
        raw = flatbuffer.bytes_of(table.model.Buffers(tensor.buffer), content)
        flat = flatbuffer.values_of(raw, tensor.dtype)
        if not tensor.sparse:
            return flat.reshape(tensor.shape)
        stored = table.graph.Tensors(tensor.index)
        return decode(flatbuffer.sparse_tensor(stored, flat, tensor.shape))

    def blocks(self, index: int) -> list[tuple[int, int]]:
        """Return (axis, size) of the blocks that a tensor in sparse encoding is cut in."""
        tensor = self.tensors[index]
        stored = self._data[0].graph.Tensors(index)
        none = np.empty(0, tensor.dtype or "uint8")
        encoded = flatbuffer.sparse_tensor(stored, none, tensor.shape)
        sizes = dict(zip(encoded.order, encoded.levels, strict=True))
        rank = len(tensor.shape)
        return [(axis, sizes[rank + i].size) for i, axis in enumerate(encoded.blocks)]

    def consumers(self, index: int) -> list[tuple[Operation, int]]:
        """Return the operations that read a tensor, with the number of their input."""
        return [(op, i) for op in self.operations for i, t in enumerate(op.inputs) if t == index]


@dataclasses.dataclass(frozen=True)
class _Tables:
    model: Any
    graph: Any


def read_graphs(content: bytes, names: Callable[[str], str] = str) -> list[Graph]:
    """Return the subgraphs of a `.tflite` file.

    Args:
        content: of the file.
        names: what to call a tensor, by the name that it has in the file.

    Raises:
        ValueError: the bytes are not a whole `.tflite` file.
    """
    return flatbuffer.guarded(functools.partial(_read, names=names), content)


def _read(content: bytes, names: Callable[[str], str]) -> list[Graph]:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    structure.require_sound(model, content)
    limit = [len(content)]
    return [
        _graph(schema, model, model.Subgraphs(i), content, limit, names)
        for i in range(flatbuffer.count(model.SubgraphsLength(), limit))
    ]


def _graph(
    schema: Any,
    model: Any,
    graph: Any,
    content: bytes,
    limit: list[int],
    names: Callable[[str], str],
) -> Graph:
    count = flatbuffer.count
    tensors = tuple(
        _tensor(model, graph.Tensors(i), i, content, names)
        for i in range(count(graph.TensorsLength(), limit))
    )
    operations, stored = [], {}
    for position in range(count(graph.OperatorsLength(), limit)):
        table = graph.Operators(position)
        done = Operation(
            position,
            flatbuffer.kind_of(schema, model, table),
            tuple(table.Inputs(i) for i in range(count(table.InputsLength(), limit))),
            tuple(table.Outputs(i) for i in range(count(table.OutputsLength(), limit))),
            _options(schema, model, table),
        )
        source = done.inputs[0] if done.inputs else -1
        known = source >= 0 and (source in stored or tensors[source].constant)
        if done.kind in _UNPACK and known and done.outputs:
            stored[done.outputs[0]] = stored.get(source, source)
        else:
            operations.append(done)
    return Graph(
        tensors,
        tuple(operations),
        tuple(graph.Inputs(i) for i in range(count(graph.InputsLength(), limit))),
        tuple(graph.Outputs(i) for i in range(count(graph.OutputsLength(), limit))),
        stored,
        (_Tables(model, graph), content),
    )


def _tensor(
    model: Any, table: Any, index: int, content: bytes, names: Callable[[str], str]
) -> Tensor:
    dtype = flatbuffer.dtype_of(table)
    known = flatbuffer.bytes_of(model.Buffers(table.Buffer()), content)
    quantization: Any = table.Quantization()  # None for plain numbers
    scaled = bool(quantization and quantization.ZeroPointLength())
    signature = table.ShapeSignatureLength()
    shape = table.ShapeSignature if signature else table.Shape
    return Tensor(
        index,
        names(flatbuffer.text_of(table.Name())),
        tuple(int(shape(i)) for i in range(signature or table.ShapeLength())),
        dtype,
        table.Buffer(),
        known.size > 0 and not table.IsVariable(),
        table.Sparsity() is not None,
        not scaled or not np.any(quantization.ZeroPointAsNumpy()),
    )


def _options(schema: Any, model: Any, table: Any) -> dict[str, Any]:
    name, fields = _OPTIONS.get(flatbuffer.kind_of(schema, model, table), ("", ()))
    union = table.BuiltinOptions()
    if union is None or not fields:
        return {}
    options = getattr(schema, name)()
    options.Init(union.Bytes, union.Pos)
    return {field: getattr(options, field)() for field in fields}
