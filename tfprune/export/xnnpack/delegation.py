"""Which operations XNNPACK's delegate takes, and the pieces that a graph is cut in by the others.

What it leaves out runs in TensorFlow Lite's own kernels. XNNPACK does not know of these: a value
that only they read besides counts as read by nobody else.

Source: the `Visit...Node` functions in LiteRT's `tflite/delegates/xnnpack/xnnpack_delegate.cc`, as
of 2026-08.
"""

from __future__ import annotations

import numpy as np

from tfprune.export.graph import Graph, Operation

UNARY_KINDS = (
    "ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG",
    "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE",
    "TANH",
)  # fmt: skip
_TAKEN = frozenset((
    *UNARY_KINDS, "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "ADD", "MUL",
    "SUB", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU", "MEAN", "SUM", "REDUCE_MAX",
    "REDUCE_MIN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "SOFTMAX", "PAD", "RESHAPE", "SLICE",
    "STRIDED_SLICE", "SPLIT", "TRANSPOSE", "CONCATENATION", "RESIZE_BILINEAR", "BATCH_MATMUL",
    "DEPTH_TO_SPACE", "SPACE_TO_DEPTH",
))  # fmt: skip
# Inputs that must be known before the model runs: axes, sizes, weights.
_KNOWN = {
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "PAD", "RESHAPE"), (1,)),
    **dict.fromkeys(("RESIZE_BILINEAR", "TRANSPOSE", "PRELU"), (1,)),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "SLICE"), (1, 2)),
    "STRIDED_SLICE": (1, 2, 3),
    "SPLIT": (0,),
    "TRANSPOSE_CONV": (0, 1),
}
_DTYPES = ("float32", "float16", "int8", "uint8")
_FUSED = (0, 1, 2, 3)  # none, ReLU, ReLU from -1 to 1, ReLU6; not tanh, sign or sigmoid
_MOST_AXES = 6
_JOINED, _SPLIT = range(2, 6), range(2, 5)


def is_taken(graph: Graph, operation: Operation) -> bool:
    """Tell whether XNNPACK runs an operation.

    Args:
        graph: that it is in.
        operation: of that graph.

    Example: a STRIDED_SLICE with a stride of 2 is not taken, one with a stride of 1 is.
    """
    kind, options = operation.kind, operation.options
    if kind not in _TAKEN or options.get("FusedActivationFunction", 0) not in _FUSED:
        return False
    known = _KNOWN.get(kind, ())
    if not all(graph.is_constant(i) for i in _at(operation, known)):
        return False
    moving = [i for n, i in enumerate(operation.inputs) if i >= 0 and n not in known]
    for index in (*moving, *operation.outputs):
        tensor = graph.tensors[index]
        if tensor.dtype not in _DTYPES or len(tensor.shape) > _MOST_AXES:
            return False
    if kind == "STRIDED_SLICE":
        masks = (options.get(f"{one}Mask", 0) for one in ("Ellipsis", "NewAxis", "ShrinkAxis"))
        return not any(masks) and bool(np.all(graph.values(operation.inputs[3]) == 1))
    if kind == "SLICE":
        return bool(np.all(graph.values(operation.inputs[2]) > 0))
    if kind == "SOFTMAX":
        return options.get("Beta", 1.0) == 1.0
    if kind == "LEAKY_RELU":
        return options.get("Alpha", 1.0) != 0.0
    if kind == "CONCATENATION":
        return len(operation.inputs) in _JOINED
    return kind != "SPLIT" or len(operation.outputs) in _SPLIT


def _at(operation: Operation, places: tuple[int, ...]) -> list[int]:
    """Return the inputs at some places that are given."""
    inputs = operation.inputs
    return [inputs[n] for n in places if n < len(inputs) and inputs[n] >= 0]


def pieces_of(graph: Graph) -> dict[int, int]:
    """Return {position of an operation: number of its piece, -1 if it is not taken}.

    TensorFlow Lite cuts a graph greedily: it takes all that can run of one sort, taken or not,
    then all of the other sort, until nothing is left.

    Raises:
        ValueError: the operations depend on each other in a circle.
    """
    ready = {i for i in range(len(graph.tensors)) if graph.is_constant(i)} | set(graph.inputs)
    made = {out for operation in graph.operations for out in operation.outputs}
    ready |= {i for i in range(len(graph.tensors)) if i not in made}
    taken = {operation.position: is_taken(graph, operation) for operation in graph.operations}
    left = list(graph.operations)
    pieces: dict[int, int] = {}
    piece = 0
    while left:
        runnable = [op for op in left if _can_run(op, ready)]
        if not runnable:
            raise ValueError("the operations of the graph depend on each other in a circle")
        sort = taken[runnable[0].position]
        moved = True
        while moved:
            moved = False
            for operation in list(left):
                if taken[operation.position] == sort and _can_run(operation, ready):
                    pieces[operation.position] = piece if sort else -1
                    ready |= set(operation.outputs)
                    left.remove(operation)
                    moved = True
        piece += 1
    return pieces


def _can_run(operation: Operation, ready: set[int]) -> bool:
    return all(i < 0 or i in ready for i in operation.inputs)
