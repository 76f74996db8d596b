"""Which weights of a `.tflite` file take fewer bytes in sparse encoding, and how they get it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tfprune.export import rewriting
from tfprune.export.graph import Graph, Tensor, read_graphs
from tfprune.weightfiles import flatbuffer
from tfprune.weightfiles.sparse_tensor import encode, encoded_bytes

OVERHEAD = 240
"""What a DENSIFY operation, its tensor and the tables of the encoding add to a file (186 to 228
bytes seen), and up to 15 bytes before data that must start at a multiple of 16."""
# The input that is the weight, and the one with the activations, of operations whose kernels take
# a weight that an operation before them unpacks.
_CONVOLUTIONS = {"CONV_2D": (1, 0), "DEPTHWISE_CONV_2D": (1, 0), "TRANSPOSE_CONV": (1, 2)}
_READERS = {**_CONVOLUTIONS, "FULLY_CONNECTED": (1, 0)}
_FLOATS = ("float32", "float16")
_HUGE = "a file beyond 2 GB keeps its weights behind the flatbuffer, and cannot be rewritten"


@dataclasses.dataclass(frozen=True)
class Storage:
    """How one weight is stored, and why.

    Attributes:
        graph: number of the subgraph.
        tensor: index of the tensor in it.
        encoded: whether it is in sparse encoding.
        reason: for that.
        dense_bytes: its size as a plain array.
        stored_bytes: its size in the file: values, indices and segments.
    """

    graph: int
    tensor: int
    encoded: bool
    reason: str
    dense_bytes: int
    stored_bytes: int


def decide(content: bytes) -> list[Storage]:
    """Return, for each weight of a `.tflite` file, whether to encode its zeros.

    A weight is encoded if that saves bytes, and if every operation that reads it has kernels for
    it in the form in which it is stored. Files beyond 2 GB cannot be rewritten.

    Raises:
        ValueError: the bytes are not a whole `.tflite` file.
    """
    found = [_decide(*one) for one in candidates(read_graphs(content))]
    return left_dense(found, _HUGE) if flatbuffer.keeps_data_behind(content) else found


def candidates(graphs: Sequence[Graph]) -> Iterator[tuple[int, Graph, Tensor, str]]:
    """Yield each weight of a file, once: (number of its graph, graph, tensor, reason against).

    The reason is why it cannot be in sparse encoding whatever its zeros, empty if it can.
    """
    users: dict[int, set[int]] = {}
    for number, graph in enumerate(graphs):
        for tensor in graph.tensors:
            if tensor.buffer:
                users.setdefault(tensor.buffer, set()).add(number)
    seen = set()
    for number, graph in enumerate(graphs):
        for index in _weights(graph):
            tensor = graph.constant(index)
            if (number, tensor.buffer) in seen:
                continue
            seen.add((number, tensor.buffer))
            reason = "stored sparse already" if tensor.sparse else unreadable(graph, tensor)
            if not reason and len(users[tensor.buffer]) > 1:
                reason = "shared by several subgraphs"
            yield number, graph, tensor, reason


def rewrite(
    content: bytes,
    storage: Iterable[Storage],
    metadata: tuple[str, bytes] | None = None,
    names: Callable[[str], str] | None = None,
) -> bytes:
    """Return the file with the weights that are to be encoded so, everything else as it was.

    A file beyond 2 GB, of which nothing is to be encoded, stays as it is, without the metadata.

    Args:
        content: of the file.
        storage: what `decide` made of it, or less.
        metadata: name and content of an entry to add.
        names: what to call a tensor, by the name that it has.

    Raises:
        ValueError: a file beyond 2 GB, of which something is to be encoded.
    """
    storage = list(storage)
    if flatbuffer.keeps_data_behind(content) and not any(one.encoded for one in storage):
        return content
    graphs = read_graphs(content)
    model = rewriting.unpack(content)
    if names is not None:
        rewriting.rename(model, names)
    for one in storage:
        if one.encoded:
            values = graphs[one.graph].values(one.tensor)
            rewriting.store_sparse(model, one.graph, one.tensor, encode(values))
    if metadata is not None:
        rewriting.add_metadata(model, *metadata)
    return rewriting.pack(model, len(content))


def left_dense(storage: Iterable[Storage], reason: str) -> list[Storage]:
    """Return the same with nothing encoded, for one more reason."""
    return [
        dataclasses.replace(one, encoded=False, reason=reason, stored_bytes=one.dense_bytes)
        if one.encoded
        else one
        for one in storage
    ]


def _weights(graph: Graph) -> list[int]:
    """Return the constants with two or more axes that operations compute with, each once."""
    found: dict[int, int] = {}
    for operation in graph.operations:
        for index in operation.inputs:
            if index < 0 or not graph.is_constant(index):
                continue
            tensor = graph.constant(index)
            if len(tensor.shape) > 1 and tensor.size > 1 and tensor.dtype in (*_FLOATS, "int8"):
                found.setdefault(tensor.index, tensor.index)
    return list(found)


def _decide(number: int, graph: Graph, tensor: Tensor, reason: str) -> Storage:
    dense = tensor.size * np.dtype(tensor.dtype).itemsize

    def left(reason: str) -> Storage:
        return Storage(number, tensor.index, False, reason, dense, dense)

    if reason:
        return left(reason)
    values = graph.values(tensor.index)
    zeros = 1 - np.count_nonzero(values) / values.size
    sparse = encoded_bytes(values)
    if not zeros:
        return left("no zeros")
    if sparse + OVERHEAD >= dense:
        return left(f"{zeros:.0%} zeros would take {sparse:,} bytes and a DENSIFY operation")
    return Storage(number, tensor.index, True, f"saves {1 - sparse / dense:.0%}", dense, sparse)


def unreadable(graph: Graph, tensor: Tensor) -> str:
    """Return why some reader of a weight has no kernel for it once it is unpacked, or nothing.

    Args:
        graph: of a file.
        tensor: a constant of it, in sparse encoding or not.
    """
    if not tensor.symmetric:
        return "its zero is not stored as 0"
    for index in (tensor.index, *(t for t, s in graph.stored.items() if s == tensor.index)):
        if index in graph.outputs:
            return "it is an output of the model"
        for operation, slot in graph.consumers(index):
            kind = operation.kind
            weight, activations = _READERS.get(kind, (-1, -1))
            if slot != weight:
                return f"{kind} needs it as a constant"
            if tensor.dtype in _FLOATS:
                continue
            if graph.tensors[operation.inputs[activations]].dtype != "int8":
                return f"{kind} with int8 weights and float activations would not load"
            if kind not in _CONVOLUTIONS:
                return f"{kind} in int8 would not load"
    return ""
