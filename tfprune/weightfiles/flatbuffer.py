"""Read the constants of a `.tflite` file: plain data, checked, nothing is run.

The schema classes come with ai-edge-litert. They trust every offset, so a damaged file is met with
checks of the lengths that loops run to, and with one place that turns what goes wrong in between
into a `ValueError`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tfprune.weightfiles.sparse_tensor import Level, SparseTensor, decode

T = TypeVar("T")

DTYPES = {
    "FLOAT32": "float32", "FLOAT16": "float16", "FLOAT64": "float64", "INT8": "int8",
    "UINT8": "uint8", "INT16": "int16", "UINT16": "uint16", "INT32": "int32", "UINT32": "uint32",
    "INT64": "int64", "UINT64": "uint64", "BOOL": "bool", "INT4": "int4",
}  # fmt: skip
# Which inputs of an operation are weights. Other constants are biases, shapes, tables, states.
_WEIGHT_INPUTS = {
    "CONV_2D": (1,), "DEPTHWISE_CONV_2D": (1,), "TRANSPOSE_CONV": (1,), "CONV_3D": (1,),
    "CONV_3D_TRANSPOSE": (1,), "FULLY_CONNECTED": (1,), "BATCH_MATMUL": (0, 1), "GATHER": (0,),
    "EMBEDDING_LOOKUP": (1,), "UNIDIRECTIONAL_SEQUENCE_LSTM": range(1, 9), "LSTM": range(1, 9),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2), "RNN": (1, 2), "SVDF": (1, 2),
}  # fmt: skip
_PASS_ON = ("DEQUANTIZE", "DENSIFY", "RESHAPE", "TRANSPOSE")
METADATA = "tfprune"
"""Name of the entry that tfprune writes into its files."""

_SCHEMA = 3
_DAMAGE = (
    *(struct.error, ValueError, IndexError, KeyError, TypeError, OverflowError),
    *(AttributeError, MemoryError, AssertionError),
)


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
    return guarded(_read, content)


def float_operations(content: bytes) -> list[str]:
    """Return the kinds of operations that compute float32 values, sorted, each once.

    What only turns integers into floats or unpacks weights (DEQUANTIZE, DENSIFY) is left out.

    Example: `["SIN"]` for a model in int8 but for a sine.

    Raises:
        ValueError: the bytes are not a whole `.tflite` file.
    """
    return guarded(_float_operations, content)


def read_metadata(content: bytes) -> dict:
    """Return what tfprune wrote into a file about itself, empty if it did not.

    Raises:
        ValueError: the bytes are not a whole `.tflite` file.
    """
    return guarded(_metadata, content)


def guarded(read: Callable[[bytes], T], content: bytes) -> T:
    """Call a reader, and turn what damage makes it raise into one clear error.

    Raises:
        ValueError: not a `.tflite` file, one of another schema version, or a damaged one.
    """
    if len(content) < 16 or content[4:8] != b"TFL3":
        raise ValueError(
            "Not a .tflite file: the bytes 4 to 8 must be b'TFL3'. "
            f"Received: {len(content)} bytes with {bytes(content[4:8])!r} there"
        )
    try:
        version = _version(content)
        if version == _SCHEMA:
            return read(content)
    except _DAMAGE as error:
        raise ValueError(
            "The .tflite file is damaged or cut short: its tables point outside of it or "
            f"contradict each other ({type(error).__name__}: {error}). "
            f"Received: {len(content)} bytes"
        ) from error
    raise ValueError(
        f"A .tflite file of schema version {_SCHEMA} was expected, the only one that today's "
        f"runtimes load; convert the model again. Received: schema version {version}"
    )


def _version(content: bytes) -> int:
    from ai_edge_litert import schema_py_generated as schema

    return schema.Model.GetRootAs(content, 0).Version()


def _metadata(content: bytes) -> dict:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    limit = [len(content)]
    for index in range(count(model.MetadataLength(), limit)):
        table = model.Metadata(index)
        if text_of(table.Name()) == METADATA:
            facts = json.loads(bytes_of(model.Buffers(table.Buffer()), content).tobytes())
            return facts if isinstance(facts, dict) else {}
    return {}


def _read(content: bytes) -> list[Constant]:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    # Every element of a vector takes four bytes or more, so that all of them together are fewer
    # than the bytes of the file; a damaged length must not send a loop through billions.
    limit = [len(content)]
    found: list[Constant] = []
    seen: set[int] = set()
    for graph_index in range(count(model.SubgraphsLength(), limit)):
        graph: Any = model.Subgraphs(graph_index)
        readers = _readers(schema, model, graph, limit)
        for index in range(count(graph.TensorsLength(), limit)):
            tensor: Any = graph.Tensors(index)
            if tensor.Buffer() in seen:
                continue
            readers_of = readers.get(index, [])
            constant = _constant(schema, model, tensor, readers_of, content, (graph_index, index))
            if constant is not None:
                seen.add(tensor.Buffer())
                found.append(constant)
    return found


def count(length: int, left: list[int]) -> int:
    """Return a length after taking it off what may still be counted in this file."""
    left[0] -= length
    if length < 0 or left[0] < 0:
        raise ValueError(f"a vector of {length} elements does not fit into the file")
    return length


@functools.cache
def names_of(enumeration: type) -> dict[int, str]:
    """Return {number: name} of an enumeration of the schema."""
    return {value: key for key, value in vars(enumeration).items() if isinstance(value, int)}


def _float_operations(content: bytes) -> list[str]:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    limit = [len(content)]
    found = set()
    for graph_index in range(count(model.SubgraphsLength(), limit)):
        graph: Any = model.Subgraphs(graph_index)
        for position in range(count(graph.OperatorsLength(), limit)):
            operator: Any = graph.Operators(position)
            kind = kind_of(schema, model, operator)
            outputs = [operator.Outputs(i) for i in range(count(operator.OutputsLength(), limit))]
            types = {graph.Tensors(index).Type() for index in outputs}
            if kind not in ("DEQUANTIZE", "DENSIFY") and schema.TensorType.FLOAT32 in types:
                found.add(kind)
    return sorted(found)


def kind_of(schema: Any, model: Any, operator: Any) -> str:
    """Return the name of an operation, such as "CONV_2D"."""
    code = model.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return names_of(schema.BuiltinOperator).get(number, "unknown")


def _readers(schema: Any, model: Any, graph: Any, limit: list[int]) -> dict[int, list[tuple]]:
    """Return {tensor index: [(operation, input position, name of its output)]}."""
    readers: dict[int, list[tuple]] = {}
    outputs: dict[int, list[int]] = {}
    for position in range(count(graph.OperatorsLength(), limit)):
        operator = graph.Operators(position)
        kind = kind_of(schema, model, operator)
        if not count(operator.OutputsLength(), limit):
            continue
        output = operator.Outputs(0)
        name = text_of(graph.Tensors(output).Name())
        for slot in range(count(operator.InputsLength(), limit)):
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


def text_of(raw: bytes | None) -> str:
    """Return a string of the file."""
    return (raw or b"").decode("utf-8", "replace")


def _constant(
    schema: Any,
    model: Any,
    tensor: Any,
    readers: list[tuple],
    content: bytes,
    place: tuple[int, int],
) -> Constant | None:
    buffer = model.Buffers(tensor.Buffer())
    dtype = DTYPES.get(names_of(schema.TensorType).get(tensor.Type(), ""))
    quantization = tensor.Quantization()
    scaled = quantization is not None and quantization.ScaleLength() > 0
    if dtype is None or not (dtype.startswith("float") or scaled):
        return None
    raw = bytes_of(buffer, content)
    if not raw.size:
        return None
    values = values_of(raw, dtype)
    shape = tuple(int(d) for d in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    sparse = tensor.Sparsity() is not None
    size = math.prod(shape)
    if min(shape, default=1) < 1 or (values.size != size and not (sparse and values.size < size)):
        raise ValueError(f"a tensor of shape {shape} holds {values.size} values")
    if sparse:
        values = decode(sparse_tensor(tensor, values, shape)).reshape(-1)
    weight_readers = [name for kind, slot, name in readers if slot in _WEIGHT_INPUTS.get(kind, ())]
    name = text_of(tensor.Name())
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


def sparse_tensor(tensor: Any, values: np.ndarray, shape: tuple[int, ...]) -> SparseTensor:
    """Return a tensor in sparse encoding."""
    from ai_edge_litert import schema_py_generated as schema

    sparsity = tensor.Sparsity()
    depth, rank = sparsity.DimMetadataLength(), len(shape)
    order = tuple(int(sparsity.TraversalOrder(i)) for i in range(min(depth, 2 * rank)))
    blocks = tuple(int(sparsity.BlockMap(i)) for i in range(min(sparsity.BlockMapLength(), rank)))
    levels = []
    for number in range(len(order)):
        table = sparsity.DimMetadata(number)
        if table.Format() == schema.DimensionType.DENSE:
            levels.append(Level(size=table.DenseSize()))
            continue
        segments = _index_vector(schema, table.ArraySegmentsType(), table.ArraySegments())
        indices = _index_vector(schema, table.ArrayIndicesType(), table.ArrayIndices())
        levels.append(Level(segments=segments, indices=indices))
    if sorted(order) != list(range(rank + len(blocks))) or any(not 0 <= b < rank for b in blocks):
        raise ValueError(f"a sparse tensor of {rank} axes is stored in the order {order}")
    return SparseTensor(shape, order, blocks, tuple(levels), values)


def _index_vector(schema: Any, kind: int, table: Any) -> np.ndarray:
    vectors = schema.SparseIndexVector
    reader = {
        vectors.Int32Vector: schema.Int32Vector,
        vectors.Uint16Vector: schema.Uint16Vector,
        vectors.Uint8Vector: schema.Uint8Vector,
    }[kind]()
    reader.Init(table.Bytes, table.Pos)
    return np.asarray(reader.ValuesAsNumpy()) if reader.ValuesLength() else np.empty(0, "uint8")


def bytes_of(buffer: Any, content: bytes) -> np.ndarray:
    """Return the data of a buffer, which files beyond 2 GB keep behind the flatbuffer."""
    if buffer.DataLength():
        if buffer.DataLength() > len(content):
            raise ValueError(f"a buffer of {buffer.DataLength()} bytes is larger than the file")
        return np.asarray(buffer.DataAsNumpy())
    start, size = buffer.Offset(), buffer.Size()
    if start <= 1 or not size:  # 0 and 1 mean: none
        return np.empty(0, "uint8")
    if start + size > len(content):
        raise ValueError(f"a buffer ends at byte {start + size}, behind the end of the file")
    return np.frombuffer(content, "uint8", count=size, offset=start)


def values_of(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Return bytes as flat values."""
    if dtype == "int4":  # two in a byte, the first in the low half
        pairs = np.stack([raw.view("int8") << 4 >> 4, raw.view("int8") >> 4], axis=-1)
        return pairs.reshape(-1)
    return raw.view(dtype)


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
