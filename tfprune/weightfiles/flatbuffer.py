"""The tables of a `.tflite` file: plain data, checked, nothing is run.

The schema classes come with ai-edge-litert. They trust every offset, so a damaged file is met with
checks of the lengths that loops run to, and with one place that turns what goes wrong in between
into a `ValueError`.
"""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tfprune.weightfiles.sparse_tensor import Level, SparseTensor

T = TypeVar("T")

DTYPES = {
    "FLOAT32": "float32", "FLOAT16": "float16", "FLOAT64": "float64", "INT8": "int8",
    "UINT8": "uint8", "INT16": "int16", "UINT16": "uint16", "INT32": "int32", "UINT32": "uint32",
    "INT64": "int64", "UINT64": "uint64", "BOOL": "bool", "INT4": "int4",
}  # fmt: skip
METADATA = "tfprune"
"""Name of the entry that tfprune writes into its files."""

_SCHEMA = 3
DAMAGE = (
    *(struct.error, ValueError, IndexError, KeyError, TypeError, OverflowError),
    *(AttributeError, MemoryError, AssertionError, ZeroDivisionError),
)
"""What the schema classes raise where a file is damaged."""


class Unreadable(ValueError):
    """Bytes are no `.tflite` file that can be read: the whole message, however deep it was met."""


def read_metadata(content: bytes) -> dict:
    """Return what tfprune wrote into a file about itself, empty if it did not.

    Raises:
        ValueError: the bytes are not a whole `.tflite` file.
    """
    return guarded(_metadata, content)


def keeps_data_behind(content: bytes) -> bool:
    """Tell whether weights lie behind the flatbuffer, as they do in files beyond 2 GB.

    Raises:
        ValueError: the bytes are not a whole `.tflite` file.
    """
    return guarded(_keeps_data_behind, content)


def custom_operations(content: bytes) -> list[str]:
    """Return the names of the operations that no runtime brings kernels for, each once.

    Raises:
        ValueError: the bytes are not a whole `.tflite` file.
    """
    return guarded(_custom_operations, content)


def guarded(read: Callable[[bytes], T], content: bytes) -> T:
    """Call a reader, and turn what damage makes it raise into one clear error.

    Raises:
        Unreadable: not a `.tflite` file, one of another schema version, or a damaged one.
    """
    if len(content) < 16 or content[4:8] != b"TFL3":
        raise Unreadable(
            "Not a .tflite file: the bytes 4 to 8 must be b'TFL3'. "
            f"Received: {len(content)} bytes with {bytes(content[4:8])!r} there"
        )
    try:
        version = _version(content)
        if version == _SCHEMA:
            return read(content)
    except Unreadable:  # from a reader within this one, which has said it all
        raise
    except DAMAGE as error:
        raise Unreadable(
            "The .tflite file is damaged or cut short: its tables point outside of it or "
            f"contradict each other ({type(error).__name__}: {error}). Copy or export it again. "
            f"Received: {len(content)} bytes"
        ) from error
    raise Unreadable(
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


def _keeps_data_behind(content: bytes) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    buffers = range(count(model.BuffersLength(), [len(content)]))
    return any(model.Buffers(index).Offset() > 1 for index in buffers)  # 0 and 1 mean: none


def _custom_operations(content: bytes) -> list[str]:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    codes = range(count(model.OperatorCodesLength(), [len(content)]))
    names = (model.OperatorCodes(index).CustomCode() for index in codes)
    return sorted({text_of(name) for name in names if name})


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


def kind_of(schema: Any, model: Any, operator: Any) -> str:
    """Return the name of an operation, such as "CONV_2D"."""
    code = model.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return names_of(schema.BuiltinOperator).get(number, "unknown")


def dtype_of(tensor: Any) -> str:
    """Return the name of a tensor's numpy type, empty for kinds that hold no numbers."""
    from ai_edge_litert import schema_py_generated as schema

    return DTYPES.get(names_of(schema.TensorType).get(tensor.Type(), ""), "")


def text_of(raw: bytes | None) -> str:
    """Return a string of the file."""
    return (raw or b"").decode("utf-8", "replace")


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
