"""Change a `.tflite` file in place: the object form of the schema, and back to bytes.

The schema classes come with ai-edge-litert. What they write is right but for two things mended
here: the data of tensors must start at multiples of 16, which they forget, and a table that two
tensors share must not be written twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfprune.weightfiles.sparse_tensor import SparseTensor

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16
_VECTORS = {
    "uint8": (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    "uint16": (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    "int32": (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
}
_DENSIFY = schema.BuiltinOperator.DENSIFY


class _AlignedBuffer(schema.BufferT):
    """A buffer whose data start at a multiple of 16, as the schema asks (`force_align`)."""

    def Pack(self, builder: Any) -> int:
        data = None
        if self.data is not None and len(self.data):
            raw = np.ascontiguousarray(self.data, "uint8")
            builder.Prep(_ALIGNMENT, raw.size)
            data = builder.CreateNumpyVector(raw)
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class _Once:
    """A table that is written once, however many others refer to it."""

    def __init__(self, table: Any):
        self.table = table
        self._place: tuple[int, int] | None = None

    def Pack(self, builder: Any) -> int:
        if self._place is None or self._place[0] != id(builder):
            self._place = (id(builder), self.table.Pack(builder))
        return self._place[1]


def unpack(content: bytes) -> Any:
    """Return the object form of a whole file with all its data inside the flatbuffer.

    Raises:
        ValueError: it keeps data behind the flatbuffer, as files beyond 2 GB do.
    """
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    for index, buffer in enumerate(model.buffers):
        if buffer.offset > 1:
            raise ValueError(
                "A file that keeps its data inside the flatbuffer was expected; those beyond 2 GB "
                f"cannot be rewritten. Received: the buffer {index} at byte {buffer.offset}"
            )
        model.buffers[index] = _AlignedBuffer(buffer.data)
    return model


def pack(model: Any, size: int = 1024) -> bytes:
    """Return the bytes of a file; `size` is a guess of their number."""
    builder = flatbuffers.Builder(size)
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def store_sparse(model: Any, graph_index: int, index: int, sparse: SparseTensor) -> None:
    """Store a constant in sparse encoding, unpacked by a DENSIFY operation that runs first.

    The tensor stays where it is, so that its readers need not change: it becomes the output of the
    operation. Other tensors of the graph with the same data are replaced by it.
    """
    graph = model.subgraphs[graph_index]
    tensor = graph.tensors[index]
    _merge(graph, index)
    shared = None if tensor.quantization is None else _Once(tensor.quantization)
    stored = schema.TensorT(
        shape=np.asarray(tensor.shape, "int32"),
        type=tensor.type,
        buffer=tensor.buffer,
        name=tensor.name,
        quantization=shared,  # type: ignore[arg-type]
        sparsity=_parameters(sparse),
    )
    model.buffers[tensor.buffer].data = np.frombuffer(sparse.values.tobytes(), "uint8")
    tensor.buffer, tensor.name, tensor.quantization = 0, None, shared
    graph.tensors.append(stored)
    operation = schema.OperatorT(
        opcodeIndex=_densify(model),
        inputs=np.array([len(graph.tensors) - 1], "int32"),
        outputs=np.array([index], "int32"),
        builtinOptionsType=schema.BuiltinOptions.DensifyOptions,
        builtinOptions=schema.DensifyOptionsT(),
    )
    graph.operators.insert(0, operation)


def rename(model: Any, names: Callable[[str], str]) -> None:
    """Give every tensor another name."""
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.name:
                tensor.name = names(tensor.name.decode("utf-8", "replace"))


def add_metadata(model: Any, name: str, content: bytes) -> None:
    """Add a named entry that runtimes pass over; one of the same name is replaced."""
    data = np.frombuffer(content, "uint8")
    for one in model.metadata or []:
        if one.name in (name, name.encode()):
            model.buffers[one.buffer].data = data
            return
    model.buffers.append(_AlignedBuffer(data))
    done = schema.MetadataT(name=name, buffer=len(model.buffers) - 1)
    model.metadata = [*(model.metadata or []), done]


def _merge(graph: Any, index: int) -> None:
    """Let the readers of every tensor with the same data read this one."""
    buffer = graph.tensors[index].buffer
    same = {i for i, t in enumerate(graph.tensors) if t.buffer == buffer and i != index}
    if not same:
        return
    for operation in graph.operators:
        if operation.inputs is not None:
            operation.inputs = np.array([index if i in same else i for i in operation.inputs])
            operation.inputs = operation.inputs.astype("int32")
    for i in same:
        graph.tensors[i].buffer = 0


def _parameters(sparse: SparseTensor) -> Any:
    levels = []
    for level in sparse.levels:
        if level.segments is None or level.indices is None:
            dense = schema.DimensionType.DENSE
            levels.append(schema.DimensionMetadataT(format=dense, denseSize=level.size))
            continue
        segments_type, segments = _vector(level.segments)
        indices_type, indices = _vector(level.indices)
        compressed = schema.DimensionMetadataT(
            format=schema.DimensionType.SPARSE_CSR,
            arraySegmentsType=segments_type,
            arraySegments=segments,
            arrayIndicesType=indices_type,
            arrayIndices=indices,
        )
        levels.append(compressed)
    order = np.array(sparse.order, "int32")
    return schema.SparsityParametersT(traversalOrder=order, dimMetadata=levels)


def _vector(values: np.ndarray) -> tuple[int, Any]:
    kind, vector = _VECTORS[values.dtype.name]
    return kind, vector(values=values)


def _densify(model: Any) -> int:
    """Return the number of the operation code, which is added if it is not there."""
    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == _DENSIFY:
            return index
    model.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=_DENSIFY, version=1, builtinCode=_DENSIFY)
    )
    return len(model.operatorCodes) - 1
