"""The constants of a `.tflite` file: which of them are weights, and where they are zero."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from tfprune.weightfiles import flatbuffer
from tfprune.weightfiles.sparse_tensor import decode

# Which inputs of an operation are weights. Other constants are biases, shapes, tables, states.
_WEIGHT_INPUTS = {
    "CONV_2D": (1,), "DEPTHWISE_CONV_2D": (1,), "TRANSPOSE_CONV": (1,), "CONV_3D": (1,),
    "CONV_3D_TRANSPOSE": (1,), "FULLY_CONNECTED": (1,), "BATCH_MATMUL": (0, 1), "GATHER": (0,),
    "EMBEDDING_LOOKUP": (1,), "UNIDIRECTIONAL_SEQUENCE_LSTM": range(1, 9), "LSTM": range(1, 9),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2), "RNN": (1, 2), "SVDF": (1, 2),
}  # fmt: skip
_PASS_ON = ("DEQUANTIZE", "DENSIFY", "RESHAPE", "TRANSPOSE")


@dataclasses.dataclass(frozen=True)
class Constant:
    """One constant tensor.

    Attributes:
        name: of the tensor; of the operation that reads it where the converter made one up.
        shape: as stored, input channels last.
        dtype: "float32", "float16", "int8", ...
        is_zero: True where the value it stands for is zero, flat.
        is_weight: whether an operation multiplies by it or looks rows up in it.
        sparse: whether it is stored in TFLite's sparse encoding.
        place: number of the subgraph, and of the tensor in it.
        finite: whether no value is NaN or infinite.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_zero: np.ndarray
    is_weight: bool
    sparse: bool
    finite: bool
    place: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nonzero(self) -> int:
        """Number of values that are not zero."""
        return self.is_zero.size - int(np.count_nonzero(self.is_zero))

    @property
    def zeros(self) -> int:
        """Number of values that are zero."""
        return self.size - self.nonzero


def read_constants(content: bytes) -> list[Constant]:
    """Return the constants of a `.tflite` file, in the order of the file, shared data once.

    Integer tensors without a scale (shapes, axes) and strings are left out.

    Raises:
        ValueError: the bytes are not a whole `.tflite` file.
    """
    return flatbuffer.guarded(_read, content)


def float_operations(content: bytes) -> list[str]:
    """Return the kinds of operations that compute float32 values, sorted, each once.

    What only turns integers into floats or unpacks weights (DEQUANTIZE, DENSIFY) is left out.

    Example: `["SIN"]` for a model in int8 but for a sine.

    Raises:
        ValueError: the bytes are not a whole `.tflite` file.
    """
    return flatbuffer.guarded(_float_operations, content)


def _read(content: bytes) -> list[Constant]:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    # Every element of a vector takes four bytes or more, so that all of them together are fewer
    # than the bytes of the file; a damaged length must not send a loop through billions.
    limit = [len(content)]
    found: list[Constant] = []
    seen: set[int] = set()
    for graph_index in range(flatbuffer.count(model.SubgraphsLength(), limit)):
        graph: Any = model.Subgraphs(graph_index)
        readers = _readers(schema, model, graph, limit)
        for index in range(flatbuffer.count(graph.TensorsLength(), limit)):
            tensor: Any = graph.Tensors(index)
            if tensor.Buffer() in seen:
                continue
            readers_of = readers.get(index, [])
            constant = _constant(schema, model, tensor, readers_of, content, (graph_index, index))
            if constant is not None:
                seen.add(tensor.Buffer())
                found.append(constant)
    return found


def _float_operations(content: bytes) -> list[str]:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    limit = [len(content)]
    found = set()
    for graph_index in range(flatbuffer.count(model.SubgraphsLength(), limit)):
        graph: Any = model.Subgraphs(graph_index)
        for position in range(flatbuffer.count(graph.OperatorsLength(), limit)):
            operator: Any = graph.Operators(position)
            kind = flatbuffer.kind_of(schema, model, operator)
            count = flatbuffer.count(operator.OutputsLength(), limit)
            outputs = [operator.Outputs(i) for i in range(count)]
            types = {graph.Tensors(index).Type() for index in outputs}
            if kind not in ("DEQUANTIZE", "DENSIFY") and schema.TensorType.FLOAT32 in types:
                found.add(kind)
    return sorted(found)


def _readers(schema: Any, model: Any, graph: Any, limit: list[int]) -> dict[int, list[tuple]]:
    """Return {tensor index: [(operation, input position, name of its output)]}."""
    readers: dict[int, list[tuple]] = {}
    outputs: dict[int, list[int]] = {}
    for position in range(flatbuffer.count(graph.OperatorsLength(), limit)):
        operator = graph.Operators(position)
        kind = flatbuffer.kind_of(schema, model, operator)
        if not flatbuffer.count(operator.OutputsLength(), limit):
            continue
        output = operator.Outputs(0)
        name = flatbuffer.text_of(graph.Tensors(output).Name())
        for slot in range(flatbuffer.count(operator.InputsLength(), limit)):
            tensor = operator.Inputs(slot)
            readers.setdefault(tensor, []).append((kind, slot, name))
            if kind in _PASS_ON and slot == 0:
                outputs.setdefault(tensor, []).append(output)
    # What reads the output of a DEQUANTIZE or DENSIFY reads the constant before it; and one of them
    # may follow the other.
    return {tensor: _all_readers(tensor, readers, outputs, 0) for tensor in readers}


def _all_readers(tensor: int, readers: dict, outputs: dict, depth: int) -> list[tuple]:
    behind = outputs.get(tensor, []) if depth < len(_PASS_ON) else []
    through = (r for out in behind for r in _all_readers(out, readers, outputs, depth + 1))
    return [*readers.get(tensor, []), *through]


def _constant(
    schema: Any,
    model: Any,
    tensor: Any,
    readers: list[tuple],
    content: bytes,
    place: tuple[int, int],
) -> Constant | None:
    buffer = model.Buffers(tensor.Buffer())
    dtype = flatbuffer.DTYPES.get(flatbuffer.names_of(schema.TensorType).get(tensor.Type(), ""))
    quantization = tensor.Quantization()
    scaled = quantization is not None and quantization.ScaleLength() > 0
    if dtype is None or not (dtype.startswith("float") or scaled):
        return None
    raw = flatbuffer.bytes_of(buffer, content)
    if not raw.size:
        return None
    values = flatbuffer.values_of(raw, dtype)
    shape = tuple(int(d) for d in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    sparse = tensor.Sparsity() is not None
    size = math.prod(shape)
    if min(shape, default=1) < 1 or (values.size != size and not (sparse and values.size < size)):
        raise ValueError(f"a tensor of shape {shape} holds {values.size} values")
    if sparse:
        values = decode(flatbuffer.sparse_tensor(tensor, values, shape)).reshape(-1)
    weight_readers = [name for kind, slot, name in readers if slot in _WEIGHT_INPUTS.get(kind, ())]
    name = flatbuffer.text_of(tensor.Name())
    anonymous = "/" not in name  # the converter's own names, such as `arith.constant2`
    return Constant(
        name=weight_readers[0] if weight_readers and anonymous else name,
        shape=shape,
        dtype=dtype,
        is_zero=_is_zero(values, shape, quantization if scaled else None, sparse),
        is_weight=len(shape) >= 2 and size > 1 and bool(weight_readers),
        sparse=sparse,
        finite=bool(np.isfinite(values).all()),
        place=place,
    )


def _is_zero(values: np.ndarray, shape: tuple, quantization: Any, sparse: bool) -> np.ndarray:
    """Compare with the value that stands for zero: the zero point, one for each channel maybe."""
    if quantization is None or not quantization.ZeroPointLength():
        return values == 0
    points = np.asarray(quantization.ZeroPointAsNumpy())
    if (points == points[0]).all():
        return values == points[0]
    axis = quantization.QuantizedDimension()
    if sparse or not 0 <= axis < len(shape) or points.size != shape[axis]:
        raise ValueError(f"{points.size} zero points do not fit the shape {shape}")
    wide = points.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return (values.reshape(shape) == wide).reshape(-1)
