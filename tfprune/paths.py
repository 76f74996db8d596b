"""The layers of a model, and the weights in them, by their paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tfprune import registry
from tfprune.family import room
from tfprune.patterns import Pattern
from tfprune.registry import PrunableWeight


def walk(model: Any, keras_: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, layer) for the layers of a model and of the models nested in it."""
    for layer in model.layers:
        path = prefix + layer.name
        if keras_.is_graph(layer):
            yield from walk(layer, keras_, path + "/")
        elif type(layer).__name__ != "InputLayer":
            yield path, layer


def weights_for(model: Any, pattern: Pattern) -> Iterator[tuple[str, Any, PrunableWeight]]:
    """Yield (path, layer, weight) for what a pattern fits in a Keras 3 model, shared layers once.

    Example: `[path for path, _, _ in weights_for(model, NM(2, 4))]`
    """
    seen: set[int] = set()
    for path, layer in walk(model, room("keras")):
        if id(layer) in seen or registry.reason_against(layer) is not None:
            continue
        seen.add(id(layer))
        for weight in registry.prunable_weights(layer):
            if pattern.reason_against(tuple(weight.variable.shape), weight.layout) is None:
                yield path, layer, weight


def listed(given: str | Iterable[str]) -> list[str]:
    """Return paths that a user gives as a list; a plain string is one path, not its letters.

    Example: `listed("conv")` and `listed(["conv"])` are `["conv"]`.
    """
    return [given] if isinstance(given, str) else list(given)
