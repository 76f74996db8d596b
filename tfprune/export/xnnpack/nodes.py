"""The operations of a `.tflite` graph as XNNPACK's delegate sees them."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfprune.export.graph import Graph, Operation
from tfprune.export.xnnpack.delegation import UNARY_KINDS, pieces_of

CONVOLUTION, DEPTHWISE, DENSE = "convolution", "depthwise convolution", "fully connected"
UNARY, BINARY, RESIZE = "unary", "binary", "bilinear resize"
REDUCE, DEPTH_TO_SPACE, OTHER = "reduction", "depth to space", "other"

_KINDS = {
    "CONV_2D": CONVOLUTION, "DEPTHWISE_CONV_2D": DEPTHWISE, "FULLY_CONNECTED": DENSE,
    "ADD": BINARY, "MUL": BINARY, "RESIZE_BILINEAR": RESIZE, "MEAN": REDUCE, "SUM": REDUCE,
    "DEPTH_TO_SPACE": DEPTH_TO_SPACE, **dict.fromkeys(UNARY_KINDS, UNARY),
}  # fmt: skip
_SAME = 0  # of the schema's Padding
_SETTINGS = (REDUCE, RESIZE, UNARY, OTHER)  # their constants are settings, not values


@dataclasses.dataclass(frozen=True)
class Window:
    """How a convolution moves over its input.

    Attributes:
        kernel: (height, width).
        stride: (height, width).
        dilation: (height, width).
        padding: (top, right, bottom, left); None where it depends on the input, as "same" with a
            stride does.
        groups: of input channels.
        channels: input channels of a group.
        multiplier: outputs for each input channel, of a depthwise convolution.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int] | None
    groups: int
    channels: int
    multiplier: int


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation that XNNPACK may take.

    Attributes:
        number: its place in the order in which they run.
        kind: one of the names above.
        operation: in the file.
        inputs: indices of tensors, constants included, settings left out.
        outputs: indices of tensors.
        window: of a convolution.
        piece: number of the piece of the graph that it is in; -1 if XNNPACK does not take it.
    """

    number: int
    kind: str
    operation: Operation
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    window: Window | None
    piece: int

    @property
    def filter(self) -> int | None:
        """Index of the tensor of weights that counts for the threshold, if it has one."""
        pointwise = self.kind == CONVOLUTION and self.window and self.window.kernel == (1, 1)
        return self.inputs[1] if pointwise or self.kind == DENSE else None


def nodes_of(graph: Graph, clamps: bool = True, pads_pointwise: bool = False) -> list[Node]:
    """Return the nodes of a graph, with zero paddings taken into the convolution behind them.

    Args:
        graph: of a file.
        clamps: whether `x * x` and the minimum or maximum with a constant count as unary, as in
            XNNPACK since 2025.
        pads_pointwise: whether 1x1 convolutions take paddings in, too; see `layout.Release`.
    """
    pieces = pieces_of(graph)
    paddings = {}
    for operation in graph.operations:
        padding = _fusible(graph, operation, pads_pointwise)
        if padding is not None:
            paddings[operation.outputs[0]] = (operation, padding)
    found = []
    for operation in graph.operations:
        if operation.outputs and operation.outputs[0] in paddings:
            continue
        kind = _kind(graph, operation, clamps)
        inputs = tuple(i for i in operation.inputs if i >= 0)
        before = None
        if inputs and inputs[0] in paddings:
            source, before = paddings[inputs[0]]
            inputs = (source.inputs[0], *inputs[1:])
        if kind in _SETTINGS:
            inputs = tuple(dict.fromkeys(i for i in inputs if not graph.is_constant(i)))
        window = _window(graph, operation, before) if kind in (CONVOLUTION, DEPTHWISE) else None
        piece = pieces[operation.position]
        node = Node(len(found), kind, operation, inputs, operation.outputs, window, piece)
        found.append(node)
    return found


def _kind(graph: Graph, operation: Operation, clamps: bool) -> str:
    kind = operation.kind
    dynamic = [i for i in operation.inputs if i >= 0 and not graph.is_constant(i)]
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        weights = operation.inputs[1] if len(operation.inputs) > 1 else -1
        return _KINDS[kind] if weights >= 0 and graph.is_constant(weights) else OTHER
    if kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D") and set(operation.options.values()) == {1}:
        return UNARY  # of one pixel at every pixel: a clamp
    if clamps and kind == "MUL" and len(dynamic) == 2 and dynamic[0] == dynamic[1]:
        return UNARY
    if clamps and kind in ("MINIMUM", "MAXIMUM") and len(dynamic) == 1:
        return UNARY
    return _KINDS.get(kind, OTHER)


def _window(graph: Graph, operation: Operation, before: tuple | None) -> Window:
    options = operation.options
    depthwise = operation.kind == "DEPTHWISE_CONV_2D"
    shape = graph.constant(operation.inputs[1]).shape
    channels = graph.tensors[operation.inputs[0]].shape[-1]
    kernel = _kernel(graph, operation)
    stride = (options["StrideH"], options["StrideW"])
    dilation = (options["DilationHFactor"], options["DilationWFactor"])
    padding: tuple | None = (0, 0, 0, 0)
    if options["Padding"] == _SAME and stride != (1, 1):
        # A 1x1 kernel needs no padding at any stride; its check looks at the numbers alone.
        padding = None
    elif options["Padding"] == _SAME:
        high, wide = ((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
        padding = (high // 2, wide - wide // 2, high - high // 2, wide // 2)
    if before is not None and padding is not None:
        padding = tuple(a + b for a, b in zip(padding, before, strict=True))
    return Window(
        kernel,
        stride,
        dilation,
        padding,
        1 if depthwise else max(1, channels // shape[3]),
        shape[3],
        options.get("DepthMultiplier", 1),
    )


def _fusible(
    graph: Graph, operation: Operation, pads_pointwise: bool
) -> tuple[int, int, int, int] | None:
    """Return (top, right, bottom, left) of a zero padding that its one reader takes in."""
    if operation.kind != "PAD" or not graph.is_constant(operation.inputs[1]):
        return None
    output = operation.outputs[0]
    readers = graph.consumers(output)
    if len(readers) != 1 or output in graph.outputs or readers[0][1] != 0:
        return None
    reader = readers[0][0]
    if reader.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return None
    if not pads_pointwise and reader.kind == "CONV_2D" and _kernel(graph, reader) == (1, 1):
        return None
    if reader.options["Padding"] == _SAME and _strides(reader) != (1, 1):
        return None
    amounts = np.asarray(graph.values(operation.inputs[1]))
    if amounts.shape != (4, 2) or amounts[[0, 3]].any():
        return None
    (top, bottom), (left, right) = amounts[1].tolist(), amounts[2].tolist()
    return (top, right, bottom, left)


def _kernel(graph: Graph, operation: Operation) -> tuple[int, int]:
    _, height, width, _ = graph.constant(operation.inputs[1]).shape
    return height, width


def _strides(operation: Operation) -> tuple[int, int]:
    return (operation.options["StrideH"], operation.options["StrideW"])


def label(graph: Graph, node: Node) -> str:
    """Return how to call a node in a message: its kind and where it stands in the model."""
    kind = node.operation.kind
    called = graph.tensors[node.outputs[0]].name if node.outputs else ""
    if "/" not in called and node.filter is not None:  # an output of the model: it is no place
        weight = graph.constant(node.filter).name
        called = weight if "/" in weight else called  # one that is used twice has lost its name
    if "PartitionedCall" in called:  # the converter's word for an output, which is no place
        return f"{kind} at an output of the model"
    name = _place(called, kind)
    return f"{kind} '{name}'" if name else kind


def _place(name: str, kind: str) -> str:
    """Return the layer out of a tensor's name, which lists all operations that were fused.

    Example: "net/relu/Relu;net/conv/BiasAdd;net/conv/convolution" of a CONV_2D is "conv".
    """
    parts = name.split(";")
    parts = [part for part in parts if "/" in part] or parts  # "convolution" alone is no place
    words = {"CONV_2D": "conv", "DEPTHWISE_CONV_2D": "depthwise", "FULLY_CONNECTED": "matmul"}
    wanted = words.get(kind, "")
    # The case is Keras's: "convolution" of Keras 3 is "Conv2D" of tf_keras.
    fitting = [p for p in parts if wanted in p.rsplit("/", 1)[-1].lower()] if wanted else []
    steps = (fitting or [p for p in parts if wanted in p.lower()] or parts)[0].split("/")
    return "/".join(steps[1:-1] or steps)
