"""Which layers read the input of a model, whose channels come from outside in a fixed order."""

from __future__ import annotations

import keras
from keras import tree

from tfprune.channels import graph
from tfprune.cloning import is_graph


def readers(model: keras.Model) -> set[int]:
    """Return the ids of layers that get a model's input as it is, or nearly so.

    Nearly: through layers that have no weights (padding, activations) or `Normalization`, which
    work on the channels of the input. Nested models are looked into.

    Args:
        model: a built Sequential or Functional model.

    Example: of `Sequential([Input((8,)), ReLU(), first, second])` the id of `first`.
    """
    found: set[int] = set()
    _follow(model, {id(x) for x in tree.flatten(graph.inputs(model))}, found)
    return found


def _follow(model: keras.Model, given: set[int], found: set[int]) -> list[bool]:
    """Tell which outputs of a graph are its model's input still, given which of its tensors are."""
    for call in graph.calls(model):
        inner = call.operation
        fed = [id(x) in given for x in call.tensors]
        if is_graph(inner):
            heads = tree.flatten(graph.inputs(inner))
            inside = {id(head) for head, one in zip(heads, fed, strict=False) if one}
            still = _follow(inner, inside, found)
        elif fed and all(fed):
            found.add(id(inner))
            plain = not getattr(inner, "weights", ())
            still = [plain or isinstance(inner, keras.layers.Normalization)] * len(call.outputs)
        else:
            continue
        given |= {id(x) for x, one in zip(call.outputs, still, strict=False) if one}
    return [id(x) in given for x in tree.flatten(graph.outputs(model))]
