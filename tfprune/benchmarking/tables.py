"""Read the tables of a `.tflite` file: its graphs, inputs and outputs. Nothing is run.

The schema classes trust every offset, so what a damaged file makes them raise is turned into one
`ValueError`; what only the runtime can tell is left to a process of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfprune.weightfiles import flatbuffer, structure

SCHEMA_VERSION = 3
_DTYPES = {
    "FLOAT32": "float32", "FLOAT16": "float16", "FLOAT64": "float64", "INT8": "int8",
    "UINT8": "uint8", "INT16": "int16", "UINT16": "uint16", "INT32": "int32", "UINT32": "uint32",
    "INT64": "int64", "UINT64": "uint64", "BOOL": "bool",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One input or output.

    Attributes:
        name: in the signature, or of the tensor in a file without signatures.
        index: of the tensor in its subgraph.
        shape: to run with.
        stored_shape: as it stands in the file; another one means that the input is resized.
        dtype: name of a numpy dtype, or of TFLite's type ("STRING") where numpy has none.
        scale: of quantization; 0 if the values are not quantized.
        zero_point: of quantization.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    stored_shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    def real(self, values: np.ndarray) -> np.ndarray:
        """Return the numbers that the values stand for, in float64."""
        wide = values.astype(np.float64)
        return (wide - self.zero_point) * self.scale if self.scale else wide


Described = tuple[Tensor, tuple[int, ...]]
"""A tensor, and its shape with -1 where the length is free."""


@dataclasses.dataclass(frozen=True)
class Graph:
    """What can be run: a signature, or the main graph of a file without signatures.

    Attributes:
        signature: its name; None for a file without.
        subgraph: index of the graph.
        inputs: in the order of the graph.
        outputs: in the order of the graph.
    """

    signature: str | None
    subgraph: int
    inputs: tuple[Described, ...]
    outputs: tuple[Described, ...]


@dataclasses.dataclass(frozen=True)
class Contents:
    """What stands in a file.

    Attributes:
        version: of the schema.
        graphs: one for each signature, or the main graph.
        quantized: whether any tensor holds quantized integers.
        custom: names of custom operations.
    """

    version: int
    graphs: tuple[Graph, ...]
    quantized: bool
    custom: tuple[str, ...]


def read_tables(content: bytes) -> Contents:
    """Return what stands in the tables of a file.

    Raises:
        ValueError: the file is damaged or cut short.
    """
    try:
        return _read(content)
    except flatbuffer.DAMAGE as error:
        raise ValueError(
            "its tables point outside of it or contradict each other "
            f"({type(error).__name__}: {error})"
        ) from error


def with_fixed_shapes(content: bytes) -> bytes:
    """Return a file whose free axes have the length that stands in its shapes: 1 for the batch.

    LiteRT.js cannot choose a length. Free axes are marked in a list beside the shape, which keeps
    its place and its length; only the marks are written over.
    """
    from ai_edge_litert import schema_py_generated as schema

    done = bytearray(content)
    model: Any = schema.Model.GetRootAs(done, 0)
    for graph_index in range(model.SubgraphsLength()):
        graph: Any = model.Subgraphs(graph_index)
        for index in range(graph.TensorsLength()):
            tensor: Any = graph.Tensors(index)
            if tensor.ShapeSignatureLength() != tensor.ShapeLength() or not tensor.ShapeLength():
                continue
            # Both are views of `done`.
            tensor.ShapeSignatureAsNumpy()[:] = tensor.ShapeAsNumpy()
    return bytes(done)


def _read(content: bytes) -> Contents:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    limit = len(content) // 4  # every element of a vector takes four bytes or more
    types = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
    version = int(model.Version())
    quantized = False
    subgraphs = [model.Subgraphs(i) for i in range(_count(model.SubgraphsLength(), limit))]
    if version == SCHEMA_VERSION:
        structure.require_sound(model, content)
    for graph in subgraphs:
        for index in range(_count(graph.TensorsLength(), limit)):
            tensor = graph.Tensors(index)
            scaled = tensor.Quantization() is not None and tensor.Quantization().ScaleLength()
            quantized |= bool(scaled) and types[tensor.Type()].startswith(("INT", "UINT"))
    graphs = []
    for index in range(_count(model.SignatureDefsLength(), limit)):
        one = model.SignatureDefs(index)
        graph = subgraphs[one.SubgraphIndex()]
        maps = [one.Inputs(i) for i in range(_count(one.InputsLength(), limit))]
        ins = {m.TensorIndex(): _text(m.Name()) for m in maps}
        maps = [one.Outputs(i) for i in range(_count(one.OutputsLength(), limit))]
        outs = {m.TensorIndex(): _text(m.Name()) for m in maps}
        graphs.append(_graph(graph, types, limit, _text(one.SignatureKey()), one, ins, outs))
    if not graphs and subgraphs:
        graphs.append(_graph(subgraphs[0], types, limit, None, None, {}, {}))
    codes = [model.OperatorCodes(i) for i in range(_count(model.OperatorCodesLength(), limit))]
    custom = sorted({_text(c.CustomCode()) for c in codes if c.CustomCode()})
    return Contents(version, tuple(graphs), quantized, tuple(custom))


def _count(length: int, limit: int) -> int:
    if not 0 <= length <= limit:
        raise ValueError(f"a vector of {length} elements does not fit into the file")
    return length


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")


def _graph(
    graph: Any,
    types: dict[int, str],
    limit: int,
    key: str | None,
    signature: Any,
    input_names: dict[int, str],
    output_names: dict[int, str],
) -> Graph:
    ins = [graph.Inputs(i) for i in range(_count(graph.InputsLength(), limit))]
    outs = [graph.Outputs(i) for i in range(_count(graph.OutputsLength(), limit))]
    return Graph(
        key,
        signature.SubgraphIndex() if signature is not None else 0,
        tuple(_tensor(graph, types, limit, index, input_names) for index in ins),
        tuple(_tensor(graph, types, limit, index, output_names) for index in outs),
    )


def _tensor(
    graph: Any, types: dict[int, str], limit: int, index: int, names: dict[int, str]
) -> Described:
    if not 0 <= index < graph.TensorsLength():
        raise ValueError(f"tensor {index} does not exist")
    tensor = graph.Tensors(index)
    shape = tuple(tensor.Shape(i) for i in range(_count(tensor.ShapeLength(), limit)))
    free = tuple(
        tensor.ShapeSignature(i) for i in range(_count(tensor.ShapeSignatureLength(), limit))
    )
    kind = types[tensor.Type()]
    scale, point = 0.0, 0
    quantization = tensor.Quantization()
    if quantization is not None and quantization.ScaleLength() == 1:
        scale = float(quantization.Scale(0))
        point = int(quantization.ZeroPoint(0)) if quantization.ZeroPointLength() else 0
    done = Tensor(
        names.get(index, _text(tensor.Name())),
        index,
        shape,
        shape,
        _DTYPES.get(kind, kind),
        scale,
        point,
    )
    return done, free or shape
