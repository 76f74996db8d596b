"""Whether the tables of a `.tflite` file fit together: what every reader of graphs relies on.

The runtime refuses these files as well, but a reader that does not look would say of a model that
no app can load that it is right.
"""

from __future__ import annotations

from typing import Any

from tfprune.weightfiles import flatbuffer
from tfprune.weightfiles.sparse_tensor import decode


def require_sound(model: Any, content: bytes) -> None:
    """Raise unless each number in the tables of a file stands for something that is there.

    Args:
        model: the root table.
        content: of the file.

    Raises:
        ValueError: there is no graph, a number of a buffer, an operation code or a tensor is out of
            range, a shape has a negative size, or positions in sparse encoding lie outside of their
            weight.
    """
    limit = [len(content)]
    buffers = range(flatbuffer.count(model.BuffersLength(), limit))
    for index in buffers:
        flatbuffer.bytes_of(model.Buffers(index), content)
    codes = range(model.OperatorCodesLength())
    graphs = range(flatbuffer.count(model.SubgraphsLength(), limit))
    if not graphs:
        raise ValueError("there is no graph in it")
    for number in graphs:
        graph = model.Subgraphs(number)
        tensors = range(flatbuffer.count(graph.TensorsLength(), limit))
        for index in tensors:
            _require_tensor(model, graph.Tensors(index), index, buffers, content)
        _require_operations(graph, codes, tensors, limit)
        for what, count, at in (
            ("inputs", graph.InputsLength(), graph.Inputs),
            ("outputs", graph.OutputsLength(), graph.Outputs),
        ):
            numbers = [at(i) for i in range(flatbuffer.count(count, limit))]
            if any(one not in tensors for one in numbers):
                raise ValueError(f"the {what} {numbers} of graph {number} name no tensor of it")


def _require_tensor(model: Any, tensor: Any, index: int, buffers: range, content: bytes) -> None:
    if tensor.Buffer() not in buffers:
        raise ValueError(f"tensor {index} names buffer {tensor.Buffer()} of {len(buffers)}")
    shape = tuple(int(tensor.Shape(i)) for i in range(_axes(tensor.ShapeLength(), index)))
    signature = range(_axes(tensor.ShapeSignatureLength(), index))
    if min(shape, default=0) < 0 or any(tensor.ShapeSignature(i) < -1 for i in signature):
        raise ValueError(f"tensor {index} has the shape {shape}")
    dtype = flatbuffer.dtype_of(tensor)
    raw = flatbuffer.bytes_of(model.Buffers(tensor.Buffer()), content)
    if tensor.Sparsity() is not None and dtype and raw.size:
        decode(flatbuffer.sparse_tensor(tensor, flatbuffer.values_of(raw, dtype), shape))


def _axes(length: int, index: int) -> int:
    if length > 64:  # no kernel takes more than 8; a damaged length would be read for long
        raise ValueError(f"tensor {index} has {length} axes")
    return length


def _require_operations(graph: Any, codes: range, tensors: range, limit: list[int]) -> None:
    for position in range(flatbuffer.count(graph.OperatorsLength(), limit)):
        table = graph.Operators(position)
        read = [table.Inputs(i) for i in range(flatbuffer.count(table.InputsLength(), limit))]
        made = [table.Outputs(i) for i in range(flatbuffer.count(table.OutputsLength(), limit))]
        if table.OpcodeIndex() not in codes:
            raise ValueError(f"operation {position} names code {table.OpcodeIndex()}")
        # -1 stands for an optional input that is left out.
        if any(one not in tensors for one in made) or any(
            one != -1 and one not in tensors for one in read
        ):
            raise ValueError(f"the operation {position} names a tensor that is not there")
