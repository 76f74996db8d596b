"""Fast, dense, or wrong: what XNNPACK's sparse inference makes of a `.tflite` file."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import numpy as np

from tfprune.export.graph import Graph, Tensor
from tfprune.export.sparse import unreadable
from tfprune.export.xnnpack import nodes as nodes_
from tfprune.export.xnnpack.layout import RELEASES, Fault, Layout, faults, lay_out
from tfprune.export.xnnpack.nodes import label
from tfprune.export.xnnpack.reasons import FALLBACK, blockade, first_reason

FAST, DENSE, WRONG = "fast", "dense", "wrong"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What becomes of a graph on a CPU with sparse kernels (ARM, WebAssembly).

    Attributes:
        kind: "fast" (sparse kernels run, results are right), "dense" (it loads and is right, at
            the speed of the dense model) or "wrong" (it would give wrong results or not load).
        reason: for "dense" the first thing that stands against the sparse kernels, for "wrong" the
            operation and what happens there, for "fast" what runs.
        advice: how to change the model, empty if there is nothing to do.
    """

    kind: str
    reason: str
    advice: str = ""


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """A 1x1 convolution.

    Attributes:
        tensor: index of its weight.
        name: of the layer.
        shape: (output channels, 1, 1, input channels).
        zeros: fraction.
        encoded: whether its weight is in sparse encoding.
        sparse: whether sparse kernels run it.
        block: neighbouring output channels that the kernel on a 64-bit ARM takes together.
    """

    tensor: int
    name: str
    shape: tuple[int, ...]
    zeros: float
    encoded: bool
    sparse: bool
    block: int


def judge(
    graph: Graph,
    encoded: Collection[int] | None = None,
    zeros: dict[int, int] | None = None,
) -> Verdict:
    """Return what becomes of a graph.

    Args:
        graph: of a file.
        encoded: indices of the constants taken to be in sparse encoding; default: those that are.
        zeros: {index of a constant: its zeros}, to ask what would be; default: as stored.
    """
    for tensor in graph.tensors if encoded is None else ():
        if tensor.sparse and (why := _misread(graph, tensor)):
            return Verdict(
                WRONG,
                f"the weight '{tensor.name}' is in sparse encoding: {why}",
                "convert the model without the converter's sparsity option, and let tfprune "
                "encode the weights that can be",
            )
    wrong = _wrong(graph, encoded, zeros)
    if wrong is not None:
        return Verdict(WRONG, *wrong)
    newest = lay_out(graph, RELEASES[0], encoded, zeros)
    if not newest.switched:
        # Where more zeros would make it wrong, they are not what is missing.
        later = _wrong(graph, *_all_zero(graph), when="with more zeros ")
        return Verdict(DENSE, *(later or first_reason(newest)))
    run = [node for node in newest.nodes if _runs_sparse(newest, node)]
    clusters = [cluster for cluster in newest.clusters if cluster.switched]
    part = sum(c.zeros for c in clusters) / sum(c.weights for c in clusters)
    subject = "convolution runs" if len(run) == 1 else "convolutions run"
    return Verdict(
        FAST,
        f"{len(run)} 1x1 {subject} with sparse kernels; {part:.1%} of their weights are "
        "zero, and more than 66.7 % are needed",
    )


def _wrong(
    graph: Graph,
    encoded: Collection[int] | None,
    zeros: dict[int, int] | None,
    when: str = "",
) -> tuple[str, str] | None:
    """Return (where a graph would go wrong, how to change that), None if it would not."""
    for release in RELEASES:
        layout = lay_out(graph, release, encoded, zeros)
        found = faults(layout)
        if found:
            return _told(layout, found[0], release is RELEASES[0], when)
    return None


def _told(layout: Layout, fault: Fault, newest: bool, when: str) -> tuple[str, str]:
    against, advice = blockade(layout)
    start = f"{against}, but " if against and not fault.advice else ""
    around = " around it all the same" if start else ""
    runtime = "XNNPACK" if newest else "XNNPACK before 2025"
    return (
        f"{start}{when}{runtime} would use sparse kernels{around}: at "
        f"{label(layout.graph, fault.node)}, {fault.what}",
        fault.advice or advice or FALLBACK,
    )


def pointwise(
    graph: Graph,
    encoded: Collection[int] | None = None,
    zeros: dict[int, int] | None = None,
) -> list[Pointwise]:
    """Return the 1x1 convolutions of a graph with float weights, in order; see `judge`."""
    layout = lay_out(graph, RELEASES[0], encoded, zeros)
    found = []
    for node in layout.nodes:
        if node.kind != nodes_.CONVOLUTION or node.filter is None:
            continue
        tensor = graph.constant(node.filter)
        if tensor.dtype not in ("float32", "float16"):
            continue
        values = graph.values(node.filter)
        part = 1 - np.count_nonzero(values) / values.size
        block = channel_block(values.reshape(values.shape[0], -1))
        sparse = _runs_sparse(layout, node)
        name = label(graph, node).partition(" ")[2].strip("'") or tensor.name
        coded = tensor.sparse if encoded is None else tensor.index in encoded
        found.append(Pointwise(tensor.index, name, tensor.shape, part, coded, sparse, block))
    return found


def counted(graph: Graph) -> dict[int, int]:
    """Return {constant: its weights} of what decides whether sparse kernels run, if it were zero.

    That is the 1x1 convolutions which would run sparse, and fully connected layers among them.
    """
    layout = lay_out(graph, RELEASES[0], *_all_zero(graph))
    sizes = _filter_sizes(graph)
    found = [
        graph.constant(node.filter).index
        for node in layout.nodes
        if node.filter is not None and node.inputs[0] in layout.switched
    ]
    return {index: sizes[index] for index in found if index in sizes}


def judge_pruned(graph: Graph) -> Verdict:
    """Return what would become of a graph, were all weights zero that could be counted."""
    return judge(graph, *_all_zero(graph))


def _all_zero(graph: Graph) -> tuple[Collection[int], dict[int, int]]:
    sizes = _filter_sizes(graph)
    return sizes, sizes


def _filter_sizes(graph: Graph) -> dict[int, int]:
    layout = lay_out(graph, RELEASES[0], ())
    filters = (graph.constant(n.filter) for n in layout.nodes if n.filter is not None)
    return {f.index: f.size for f in filters if f.dtype in ("float32", "float16")}


def channel_block(weight: np.ndarray) -> int:
    """Return how many neighbouring output channels XNNPACK takes together: 4, 2 or 1.

    It packs nonzeros of the same input channel in blocks if blocks with any nonzero hold at least
    3.6 of 4 of them, or 1.8 of 2, on average. The kernels for it are fast on a 64-bit ARM.

    Args:
        weight: (output channels, input channels).

    Example: `channel_block(np.ones((4, 8)))` is 4.

    Source: `src/operators/convolution-nchw.c` and `src/configs/spmm-config.c` of XNNPACK.
    """
    nonzero = weight != 0
    for size, tenths in ((4, 36), (2, 18)):
        whole = nonzero[: len(nonzero) // size * size].reshape(-1, size, nonzero.shape[1])
        blocks = int(np.count_nonzero(whole.any(axis=1)))
        if blocks and int(np.count_nonzero(whole)) * 10 >= blocks * tenths:
            return size
    return 1


def _runs_sparse(layout: Layout, node: nodes_.Node) -> bool:
    pointwise = node.kind == nodes_.CONVOLUTION and node.filter is not None
    return pointwise and node.inputs[0] in layout.switched


def _misread(graph: Graph, tensor: Tensor) -> str:
    """Return why a runtime would read a tensor in sparse encoding wrongly, or not at all."""
    for axis, size in graph.blocks(tensor.index):
        if tensor.shape[axis] % size:
            return f"its blocks of {size} do not divide its {tensor.shape[axis]} inputs"
    return unreadable(graph, tensor)
