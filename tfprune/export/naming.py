"""Name the tensors of a file after the layers of the model.

When a Keras 3 layer is called it opens the scope of its name twice, and TensorFlow numbers the
second: `conv` becomes `conv_1` in the graph, and `conv_1` becomes `conv_1_2`. A message about
'conv_1' would send the user to the wrong layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tfprune.export.precision import sublayers

_NUMBER = re.compile(r"_\d+$")


class Names:
    """Gives tensors the names of layers; call it with a tensor's name.

    Args:
        scopes: {scope in the graph: name of the layer that it belongs to}, "net_1/conv_1" for
            example.
        layers: names of all layers, for those without weights.

    Example: `Names({"net_1/conv_1_2": "conv_1"}, ["relu"])("net_1/conv_1_2/Relu")` is
    "net_1/conv_1/Relu".
    """

    def __init__(self, scopes: dict[str, str], layers: Iterable[str] = ()):
        self._scopes, self._layers = scopes, frozenset(layers)

    def __call__(self, name: str) -> str:
        """Return the name with layers as the model calls them; fused operations are joined by ;."""
        return ";".join(self._one(part) for part in name.split(";"))

    def _one(self, name: str) -> str:
        steps = name.split("/")
        done = []
        for number, step in enumerate(steps[:-1], 1):  # the last one is the operation
            known = self._scopes.get("/".join(steps[:number]))
            bare = _NUMBER.sub("", step)
            done.append(known or (bare if bare in self._layers else step))
        return "/".join([*done, steps[-1]])


def names_of(model: Any, function: Any) -> Names:
    """Return the names for a traced model.

    Args:
        model: of Keras 3; tf_keras opens its scopes once.
        function: what `convert.trace` made of it.
    """
    paths = {id(v.value): v.path for v in model.variables if hasattr(v, "path")}
    handles = {id(v.handle): paths.get(id(v)) for v in function.variables}
    scopes: dict[str, str] = {}
    for outer, inner in function.graph.captures:
        path = handles.get(id(outer))
        if path is None:
            continue
        for operation in inner.consumers():
            scopes |= _aligned(operation.name.split("/")[:-1], path.split("/")[:-1])
    layers = [layer.name for layer in sublayers(model)] if paths else []
    return Names(scopes, layers)


def _aligned(steps: list[str], layers: list[str]) -> dict[str, str]:
    """Return {scope: layer} where the layers of a weight's path follow each other in a scope."""
    for start in range(len(steps) - len(layers) + 1):
        here = steps[start : start + len(layers)]
        if all(
            re.fullmatch(re.escape(b) + r"(_\d+)*", a) for a, b in zip(here, layers, strict=True)
        ):
            ends = range(start + 1, start + len(layers) + 1)
            return {"/".join(steps[:end]): name for end, name in zip(ends, layers, strict=True)}
    return {}
