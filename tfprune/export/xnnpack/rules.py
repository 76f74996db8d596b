"""What XNNPACK's sparse inference asks of each operation: a table of small checks.

With sparse inference, activations lie in memory channel by channel (NCHW) instead of pixel by pixel
(NHWC). An operation can bring them into that layout (ENTRY), work in it (INSIDE), or lead out of it
(EXIT). `layout.py` says what XNNPACK makes of these.

Source: `xnn_check_nchw_compatibility` in `src/subgraph.c` of XNNPACK, as of 2026-08. The order of
the checks is that of the source, oddities included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tfprune.export.graph import Graph
from tfprune.export.xnnpack import nodes
from tfprune.export.xnnpack.nodes import Node, Window

ENTRY, INSIDE, EXIT = "entry", "inside", "exit"
_FLOATS = ("float32", "float16")


@dataclasses.dataclass(frozen=True)
class Check:
    """One condition.

    Attributes:
        complaint: what is said of a node if it does not hold.
        holds: of a node in a graph.
        advice: how to change the model if it does not.
    """

    complaint: str
    holds: Callable[[Node, Graph], bool]
    advice: str


@dataclasses.dataclass(frozen=True)
class Rule:
    """What holds for one kind of operation.

    Attributes:
        roles: the part that it can play if every check holds.
        checks: in order.
    """

    roles: frozenset[str]
    checks: tuple[Check, ...]


def _window(test: Callable[[Window], bool]) -> Callable[[Node, Graph], bool]:
    def holds(node: Node, graph: Graph) -> bool:
        assert node.window is not None
        return test(node.window)

    return holds


def _rank(node: Node, graph: Graph) -> bool:
    return len(graph.tensors[node.inputs[0]].shape) == 4


def _both_ends(node: Node, graph: Graph) -> bool:
    return all(len(graph.tensors[i].shape) == 4 for i in (node.inputs[0], *node.outputs))


def _both_ranks(node: Node, graph: Graph) -> bool:
    return all(len(graph.tensors[i].shape) == 4 for i in node.inputs)


def _broadcast(node: Node, graph: Graph) -> bool:
    # XNNPACK looks at the shape of the *first* input for a constant second one.
    wide = sum(size != 1 for size in graph.tensors[node.inputs[0]].shape)
    return wide <= 1 or not any(graph.is_constant(i) for i in node.inputs)


def _spatial(node: Node, graph: Graph) -> bool:
    shape = graph.tensors[node.inputs[0]].shape
    return len(shape) == 4 and min(shape[1:3]) > 1


FLOATS = Check(
    "computes integers",
    lambda node, graph: all(
        (graph.constant(i) if graph.is_constant(i) else graph.tensors[i]).dtype in _FLOATS
        for i in (*node.inputs, *node.outputs)
    ),
    "export with quantize=None or 'float16': XNNPACK has no sparse kernels for integers",
)
_GROUPS = Check("has several groups of channels", _window(lambda w: w.groups == 1), "use groups=1")
_DILATION = Check("is dilated", _window(lambda w: w.dilation == (1, 1)), "use dilation_rate=1")
_POINTWISE = (
    _GROUPS,
    _DILATION,
    Check(
        "has a padding",
        # "same" with a stride counts as none here; the stride is what fails then.
        _window(lambda w: w.padding in ((0, 0, 0, 0), None)),
        "take the padding before this 1x1 convolution away",
    ),
    Check(
        "has a stride above 1",
        _window(lambda w: w.stride == (1, 1)),
        "give the stride to a depthwise convolution before this 1x1 convolution",
    ),
)
_THREE_BY_THREE = (
    _GROUPS,
    _DILATION,
    Check(
        "has another padding than 1 on each side",
        _window(lambda w: w.padding == (1, 1, 1, 1)),
        "put ZeroPadding2D(1) before it and use padding='valid'",
    ),
    Check("has another stride than 2", _window(lambda w: w.stride == (2, 2)), "use strides=2"),
    Check(
        "has other than 3 input channels",
        _window(lambda w: w.channels == 3),
        "feed it three channels (a grey image: three times), or use 1x1 and depthwise convolutions",
    ),
)
_DEPTHWISE = (
    _DILATION,
    Check(
        "pads one side more than the other (padding='same' with a stride, or "
        "ZeroPadding2D(((0, 1), (0, 1))))",
        _window(lambda w: w.padding is not None),
        "put ZeroPadding2D(1) (5x5: 2) before it and use padding='valid'",
    ),
    Check(
        "has a depth multiplier above 1",
        _window(lambda w: w.multiplier == 1),
        "use depth_multiplier=1",
    ),
    Check(
        "has another stride than 1 or 2",
        _window(lambda w: w.stride in ((1, 1), (2, 2))),
        "use strides=1 or 2, the same for both axes",
    ),
    Check(
        "has another kernel than 3x3 or 5x5",
        _window(lambda w: w.kernel in ((3, 3), (5, 5))),
        "use kernel_size=3 or 5",
    ),
    Check(
        "has another padding than half its kernel on each side",
        _window(lambda w: w.padding == (w.kernel[0] // 2,) * 4),
        "put ZeroPadding2D(1) (5x5: 2) before it and use padding='valid'",
    ),
)
_NEVER = Check(
    "is unknown to sparse inference",
    lambda node, graph: False,
    "between the first convolution and the global average pooling use only 1x1 and depthwise "
    "convolutions, activations, and the addition or product of two branches",
)
_PADDING = Check(
    "is a padding that no depthwise or 3x3 convolution takes in",
    lambda node, graph: False,
    "put ZeroPadding2D right before a depthwise convolution with padding='valid', or take it away",
)
_SIZE = Check(
    "has a kernel that is neither 1x1 nor, at the entry, 3x3",
    lambda node, graph: False,
    "use a depthwise convolution and a 1x1 convolution in its place",
)
_FOUR = Check(
    "has other than four axes", _rank, "keep the four axes (batch, height, width, channels)"
)


def rule_for(node: Node) -> Rule:
    """Return the rule of a node."""
    return _RULES[_row(node)]


def failing(node: Node, graph: Graph) -> Check | None:
    """Return the first check that a node does not pass."""
    if node.piece < 0:
        return _NEVER
    for check in (FLOATS, *rule_for(node).checks):
        if not check.holds(node, graph):
            return check
    return None


def _row(node: Node) -> str:
    if node.operation.kind == "PAD":
        return "padding"
    if node.kind != nodes.CONVOLUTION:
        return node.kind
    assert node.window is not None
    return {(1, 1): "1x1", (3, 3): "3x3"}.get(node.window.kernel, "convolution")


_RULES = {
    "1x1": Rule(frozenset({INSIDE}), _POINTWISE),
    "3x3": Rule(frozenset({ENTRY}), _THREE_BY_THREE),
    "convolution": Rule(frozenset(), (_SIZE,)),
    nodes.DEPTHWISE: Rule(frozenset({INSIDE}), _DEPTHWISE),
    # The source does not ask for four axes, the released runtime does.
    nodes.DENSE: Rule(
        frozenset({INSIDE}),
        (Check("has other than four axes", _both_ends, _FOUR.advice),),
    ),
    nodes.UNARY: Rule(frozenset({INSIDE}), (_FOUR,)),
    nodes.BINARY: Rule(
        frozenset({INSIDE}),
        (
            Check(
                "has an input of other than four axes",
                _both_ranks,
                f"{_FOUR.advice}; the converter drops axes of length 1 from what is added, and "
                "from what a Reshape makes: multiply by a 1x1 convolution of "
                "GlobalAveragePooling2D(keepdims=True)",
            ),
            Check(
                "has a constant input",
                _broadcast,
                "move the constant out of the trunk or into a convolution, and use "
                "activation='sigmoid' rather than 'hard_sigmoid'",
            ),
        ),
    ),
    nodes.RESIZE: Rule(
        frozenset({INSIDE}),
        (Check("has a height or width of 1", _spatial, "resize before they shrink to 1"),),
    ),
    nodes.REDUCE: Rule(frozenset({INSIDE, EXIT}), (_FOUR,)),
    nodes.DEPTH_TO_SPACE: Rule(frozenset({EXIT}), ()),
    "padding": Rule(frozenset(), (_PADDING,)),
    nodes.OTHER: Rule(frozenset(), (_NEVER,)),
}
