"""Which activations XNNPACK lays out channel by channel, found as XNNPACK finds it.

It looks for a way out of the layout (a mean, a sum, a depth-to-space), gathers what leads there
into a cluster, gives up clusters whose values are used outside of them, and switches a cluster if
more than two thirds of the weights of its 1x1 convolutions are zero.

It does **not** look whether a value that it switches was brought into the layout, and is brought
out of it again: where an operation in the middle of a model cannot work in the layout, the part
before it is switched all the same, and the results are wrong (`faults`).

Source: `xnn_subgraph_rewrite_for_nchw` in `src/subgraph.c` of XNNPACK, as of 2026-08, step by step,
because its results depend on the order of the steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Collection

import numpy as np

from tfprune.export.graph import Graph
from tfprune.export.xnnpack import nodes as nodes_
from tfprune.export.xnnpack.nodes import Node, nodes_of
from tfprune.export.xnnpack.rules import ENTRY, EXIT, INSIDE, failing, rule_for

_FLAT = "use GlobalAveragePooling2D(keepdims=False), followed by Dense"
_UNSEEN = (
    "XNNPACK leaves this operation to TensorFlow Lite, and does not see that it reads there: let "
    "it read what follows GlobalAveragePooling2D, or give it a trunk of its own"
)
_ON_MAP = "use Conv2D(units, 1) in the place of Dense: on a feature map it computes the same"
_GATE = "let a 1x1 convolution or a Dense layer read the mean first"
_READ_MEANS = (nodes_.CONVOLUTION, nodes_.DENSE)
_WORKS = {INSIDE, EXIT}
_FEEDS = {INSIDE, ENTRY}


@dataclasses.dataclass(frozen=True)
class Release:
    """How releases of the runtime differ in what counts here.

    Attributes:
        dense: whether a fully connected layer can work in the layout (since 2025).
        clamps: see `nodes_of`.
        pads_pointwise: whether a 1x1 convolution takes in the zero padding before it, as other
            convolutions do. The source says so, the released runtime leaves it where it is.
    """

    dense: bool
    clamps: bool
    pads_pointwise: bool


RELEASES = (
    Release(dense=True, clamps=True, pads_pointwise=False),
    Release(dense=False, clamps=False, pads_pointwise=True),
)
"""The newest first."""


@dataclasses.dataclass
class Cluster:
    """Nodes that are switched together or not at all.

    Attributes:
        members: numbers of nodes.
        weights: of their 1x1 convolutions.
        zeros: of those.
        compatible: whether nothing stands against it but, maybe, the zeros.
    """

    members: list[int]
    weights: int
    zeros: int
    compatible: bool

    @property
    def switched(self) -> bool:
        """Whether XNNPACK would use its sparse kernels."""
        return self.compatible and self.zeros * 3 > self.weights * 2


@dataclasses.dataclass
class Layout:
    """What becomes of a graph.

    Attributes:
        graph: as read.
        nodes: in order.
        clusters: those that lead to an exit or contain nodes that can work in the layout.
        switched: indices of tensors that are laid out channel by channel.
    """

    graph: Graph
    nodes: list[Node]
    clusters: list[Cluster]
    switched: set[int]


def lay_out(
    graph: Graph,
    release: Release,
    encoded: Collection[int] | None = None,
    zeros: dict[int, int] | None = None,
) -> Layout:
    """Return what XNNPACK makes of a graph.

    Args:
        graph: of a file.
        release: of the runtime.
        encoded: indices of the constants taken to be in sparse encoding, without which nothing is
            switched; default: those that are.
        zeros: {index of a constant: its zeros}, to ask what would be; default: as stored.
    """
    if encoded is None:
        encoded = [tensor.index for tensor in graph.tensors if tensor.sparse]
    nodes = nodes_of(graph, release.clamps, release.pads_pointwise)
    roles = [_roles(node, graph, release) for node in nodes]
    done = Layout(graph, nodes, [], set())
    for piece in sorted({node.piece for node in nodes if node.piece >= 0}):
        inside = [n for n in nodes if n.piece == piece]
        read = {graph.constant(i).index for n in inside for i in n.inputs if graph.is_constant(i)}
        if read & set(encoded):
            _lay_out_piece(done, inside, roles, release, zeros)
    return done


@dataclasses.dataclass(frozen=True)
class Fault:
    """A node that reads or writes a layout that it cannot.

    Attributes:
        node: of the layout.
        what: happens there.
        advice: how to change the model; empty if that depends on what stands in the way.
    """

    node: Node
    what: str
    advice: str = ""


def faults(layout: Layout) -> list[Fault]:
    """Return where a switched graph would go wrong, in order."""
    found = (_fault(layout, node) for node in layout.nodes)
    return [fault for fault in found if fault is not None]


def _fault(layout: Layout, node: Node) -> Fault | None:
    graph, switched = layout.graph, layout.switched
    read = {i in switched for i in node.inputs if not graph.is_constant(i) and _wide(graph, i)}
    made = {i in switched for i in node.outputs if _wide(graph, i)}
    roles = set() if failing(node, graph) else rule_for(node).roles
    if any(i in switched and i in graph.outputs and _wide(graph, i) for i in node.outputs):
        return Fault(
            node,
            "an output of the model is laid out channel by channel",
            "give out what follows GlobalAveragePooling2D, or a copy behind a branch of its own",
        )
    if node.kind == nodes_.DENSE:
        if all(_pixels(graph, i) == 1 for i in (node.inputs[0], *node.outputs)):
            return None  # a row of channels is the same in both layouts
        roles = set()
    if len(read) > 1:
        return Fault(node, "one input is laid out channel by channel, one pixel by pixel")
    if read == {True} and not roles & _WORKS:
        what = "it takes for pixel by pixel what is laid out channel by channel"
        beside = _UNSEEN if _is_beside(layout, node) else ""
        return Fault(node, what, _ON_MAP if node.kind == nodes_.DENSE else beside)
    if read == {True} and node.kind not in _READ_MEANS and _reads_mean(layout, node):
        return Fault(node, "it mixes up the axes of a mean with keepdims=True that it reads", _GATE)
    if read == {True} and node.kind == nodes_.REDUCE:
        if not _over_pixels(node, graph):
            return Fault(
                node,
                "it reduces other axes than height and width",
                "reduce height and width alone, as GlobalAveragePooling2D does",
            )
        if made == {False} and not _flattened(node, graph):
            return Fault(node, "with keepdims=True it mixes up the order of its axes", _FLAT)
    elif read == {True} and made == {False} and EXIT not in roles:
        pooled = _pixels(graph, node.inputs[0]) == 1
        what = "its result would be laid out channel by channel, and is read pixel by pixel"
        return Fault(node, what, _FLAT if pooled else "")
    if made == {True} and read != {True} and ENTRY not in roles:
        return Fault(node, "it writes channel by channel what it read pixel by pixel")
    return None


def _reads_mean(layout: Layout, node: Node) -> bool:
    """Tell whether a node reads a mean or sum of each channel that keeps its four axes."""
    means = {n.outputs[0] for n in layout.nodes if n.kind == nodes_.REDUCE}
    return any(i in means and i in layout.switched for i in node.inputs)


def _is_beside(layout: Layout, node: Node) -> bool:
    """Tell whether XNNPACK leaves a node out, and what the node reads is read by others as well."""
    return node.piece < 0 and any(
        other is not node and index in other.inputs and index in layout.switched
        for other in layout.nodes
        for index in node.inputs
    )


def _wide(graph: Graph, index: int) -> bool:
    """Tell whether the layout of a tensor matters.

    With fewer than four axes there is none. One pixel lies in memory in the same way in both, but
    the runtime refuses to load a graph that takes the one for the other.
    """
    return len(graph.tensors[index].shape) == 4


def _pixels(graph: Graph, index: int) -> int:
    return math.prod(graph.tensors[index].shape[1:-1])


def _flattened(node: Node, graph: Graph) -> bool:
    """Tell whether all that is read of a node is its values in a row, whatever its axes."""
    output = node.outputs[0]
    return output not in graph.outputs and all(
        reader.kind == "RESHAPE"
        or (reader.kind == "FULLY_CONNECTED" and len(graph.tensors[reader.outputs[0]].shape) == 2)
        for reader, _ in graph.consumers(output)
    )


def _over_pixels(node: Node, graph: Graph) -> bool:
    axes = np.asarray(graph.values(node.operation.inputs[1])).reshape(-1)
    return sorted(int(a) % 4 for a in axes) == [1, 2]


def _roles(node: Node, graph: Graph, release: Release) -> set[str]:
    if failing(node, graph) is not None or (node.kind == nodes_.DENSE and not release.dense):
        return set()
    return set(rule_for(node).roles)


def _lay_out_piece(
    done: Layout,
    nodes: list[Node],
    roles: list[set[str]],
    release: Release,
    zeros: dict[int, int] | None,
) -> None:
    graph = done.graph
    producer = {out: node.number for node in nodes for out in node.outputs}
    leader = {node.number: node.number for node in nodes}
    refused: set[int] = set()
    dynamic = {n.number: [i for i in n.inputs if not graph.is_constant(i)] for n in nodes}
    given_out = _given_out(graph, done, nodes)

    def join(node: Node) -> bool:
        moved = False
        for index in dynamic[node.number]:
            source = producer.get(index)
            if source is None or index in given_out:  # of or for what is outside of the piece
                refused.add(node.number)
                continue
            if roles[source] & _FEEDS and source not in refused:
                roles[source].discard(EXIT)
                if leader[source] != leader[node.number]:
                    leader[source] = leader[node.number] = max(leader[source], leader[node.number])
                    moved = True
            else:
                refused.add(node.number)
        return moved

    update = False
    for node in nodes:
        if EXIT in roles[node.number]:
            update |= join(node)
    if not update:
        return
    while update:
        update = False
        for node in nodes:
            if node.number not in refused and roles[node.number] & _WORKS:
                update |= join(node)
    for node in nodes:
        if node.number in refused:
            refused.add(leader[node.number])
    inside = [n for n in nodes if roles[n.number] & _WORKS and leader[n.number] not in refused]
    _refuse_shared(nodes, inside, dynamic, leader, refused)
    clusters = _clusters(graph, nodes, leader, refused, zeros)
    done.clusters.extend(clusters.values())
    for node in inside:
        cluster = clusters[leader[node.number]]
        if cluster.switched:
            done.switched.update(dynamic[node.number])


def _given_out(graph: Graph, done: Layout, nodes: list[Node]) -> set[int]:
    """Return the values of a piece that something outside of it reads."""
    piece = nodes[0].piece
    read = {i for node in done.nodes if node.piece != piece for i in node.inputs}
    return {out for node in nodes for out in node.outputs} & (read | set(graph.outputs))


def _refuse_shared(
    nodes: list[Node],
    inside: list[Node],
    dynamic: dict[int, list[int]],
    leader: dict[int, int],
    refused: set[int],
) -> None:
    """Refuse clusters that read a value which something outside of all clusters reads too.

    XNNPACK knows of what is in the same piece. An operation that reads a value twice counts once
    among all readers, and twice among those that take part, so that its cluster is refused.
    """
    taking_part = Counter(i for node in inside for i in dynamic[node.number])
    all_readers = Counter(i for node in nodes for i in set(node.inputs))
    for node in inside:
        if any(taking_part[i] != all_readers[i] for i in dynamic[node.number]):
            refused.add(leader[node.number])


def _clusters(
    graph: Graph,
    nodes: list[Node],
    leader: dict[int, int],
    refused: set[int],
    zeros: dict[int, int] | None,
) -> dict[int, Cluster]:
    found: dict[int, Cluster] = {}
    for node in nodes:
        head = leader[node.number]
        cluster = found.setdefault(head, Cluster([], 0, 0, head not in refused))
        cluster.members.append(node.number)
        if node.filter is not None and graph.constant(node.filter).dtype in ("float32", "float16"):
            index = graph.constant(node.filter).index
            values = graph.values(index)
            cluster.weights += values.size
            known = None if zeros is None else zeros.get(index)
            cluster.zeros += int(np.count_nonzero(values == 0)) if known is None else known
    return found
