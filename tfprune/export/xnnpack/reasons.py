"""Why a graph is not run with sparse kernels: the first reason, and how to change the model."""

from __future__ import annotations

from tfprune.export.xnnpack import nodes as nodes_
from tfprune.export.xnnpack.layout import Layout
from tfprune.export.xnnpack.nodes import Node, label
from tfprune.export.xnnpack.rules import ENTRY, EXIT, INSIDE, failing, rule_for

FALLBACK = "let one trunk lead from the first convolution to GlobalAveragePooling2D"


def first_reason(layout: Layout) -> tuple[str, str]:
    """Return (what stands against the sparse kernels, what to do about it)."""
    graph = layout.graph
    pointwise = [n for n in layout.nodes if n.kind == nodes_.CONVOLUTION and n.filter is not None]
    if not pointwise:
        return (
            "it has no 1x1 convolution, the only operation with sparse kernels",
            "build the model from depthwise and 1x1 convolutions, as MobileNet is",
        )
    whole = [n for n in pointwise if failing(n, graph) is None]
    if not whole:
        return _blocked(layout, pointwise[0])
    numbers = {node.number for node in whole}
    close = [
        c for c in layout.clusters if c.compatible and not c.switched and numbers & set(c.members)
    ]
    if close:
        best = max(close, key=lambda c: c.weights)
        needed = best.weights * 2 // 3 + 1 - best.zeros
        return (
            f"{best.zeros / best.weights:.1%} of the {best.weights:,} weights of its 1x1 "
            "convolutions are zero, and more than 66.7 % are needed",
            f"prune {needed:,} more of these weights, of any of these layers",
        )
    ends = [n for n in layout.nodes if EXIT in rule_for(n).roles and failing(n, graph) is None]
    if not ends:
        return (
            "nothing leads out of the layout of the sparse kernels",
            "end the trunk with GlobalAveragePooling2D (or depth_to_space)",
        )
    against, advice = blockade(layout)
    if against:
        return against, advice
    between = _before(layout, ends, numbers)
    if between is not None:
        return _blocked(layout, between)
    return "its 1x1 convolutions and their inputs form no closed trunk", FALLBACK


def _before(layout: Layout, ends: list[Node], trunk: set[int]) -> Node | None:
    """Return the first node between a trunk and a way out of the layout that cannot work in it.

    Args:
        layout: of the graph.
        ends: the ways out.
        trunk: numbers of the 1x1 convolutions that could be sparse.
    """
    producer = {out: node for node in layout.nodes for out in node.outputs}
    seen: dict[int, Node] = {}
    ahead = list(ends)
    while ahead:
        node = ahead.pop()
        if node.number in seen or node.number in trunk:
            continue
        seen[node.number] = node
        if ENTRY not in rule_for(node).roles:
            ahead += [producer[index] for index in node.inputs if index in producer]
    odd = [number for number, node in seen.items() if failing(node, layout.graph) is not None]
    return seen[min(odd)] if odd else None


def blockade(layout: Layout) -> tuple[str, str]:
    """Return what is in the way of the 1x1 convolutions that could be sparse, and what to do.

    Two empty texts if no single operation is.
    """
    graph = layout.graph
    kinds = [n for n in layout.nodes if n.kind == nodes_.CONVOLUTION and n.filter is not None]
    pointwise = [n for n in kinds if failing(n, graph) is None]
    producer = {out: node for node in layout.nodes for out in node.outputs}
    seen: set[int] = set()
    ahead = list(pointwise)
    blocked: list[Node] = []
    while ahead:
        node = ahead.pop()
        if node.number in seen:
            continue
        seen.add(node.number)
        if failing(node, graph) is not None or not rule_for(node).roles & {INSIDE, EXIT, ENTRY}:
            blocked.append(node)
            continue
        if ENTRY in rule_for(node).roles:
            continue
        for index in node.inputs:
            if graph.is_constant(index):
                continue
            if index not in producer:
                name = graph.tensors[index].name
                return (
                    f"{label(graph, node)} reads the input '{name}' of the model directly",
                    "begin with ZeroPadding2D(1) and a 3x3 convolution with strides=2, "
                    "padding='valid', on three channels",
                )
            ahead.append(producer[index])
    if blocked:
        return _blocked(layout, min(blocked, key=lambda n: n.number))
    trunk = [layout.nodes[number] for number in sorted(seen)]
    read = {index for node in trunk for index in node.inputs}
    inside = read | {index for node in trunk for index in node.outputs}
    for node in layout.nodes:
        if failing(node, graph) is not None and set(node.inputs) & inside:
            return _blocked(layout, node)
    for index in graph.outputs:
        if index in read:
            return (
                f"'{graph.tensors[index].name}', in the middle of the trunk, is an output of the "
                "model",
                "give out what follows GlobalAveragePooling2D, or add a copy with its own branch",
            )
        if index in inside:
            last = label(graph, producer[index]).removesuffix(" at an output of the model")
            return (
                f"{last} ends in an output of the model, and nothing leads out of the layout of "
                "the sparse kernels there",
                "give out what follows GlobalAveragePooling2D, or let a model of its own have this "
                "branch",
            )
    return "", ""


def _blocked(layout: Layout, node: Node) -> tuple[str, str]:
    check = failing(node, layout.graph)
    assert check is not None
    rest = [n for n in layout.nodes if n.number > node.number and n.kind == node.kind]
    rest = [label(layout.graph, n) for n in rest if failing(n, layout.graph) is check]
    if node.kind != nodes_.DEPTHWISE or not rest:
        # Of full convolutions and unknown operations, another one may be fine where it stands.
        return f"{label(layout.graph, node)} {check.complaint}", check.advice
    others = f"{', '.join(rest[:4])}{' and more' if len(rest) > 4 else ''}"
    advice = f"{check.advice} (there, and at {others})"
    return f"{label(layout.graph, node)} {check.complaint}", advice
