"""Weights that several layers of a model hold: kept shared in the smaller model, or refused.

A layer may be called by itself and stand inside another, or in two others (`SpectralNormalization`
around a convolution that the model calls too, one cell in two `RNN`). Rebuilt from their
configurations alone, each would get weights of its own, and training would pull them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from tfprune.channels.facts import Trace
from tfprune.cloning import CANNOT_REBUILD, is_graph, rebuilt


def held_by_several(trace: Trace) -> set[int]:
    """Return the ids of the variables that several layers of a model hold."""
    owners: dict[int, set[int]] = {}
    for layer in _called(trace):
        for variable in layer.variables:
            owners.setdefault(id(variable), set()).add(id(layer))
    return {key for key, layers in owners.items() if len(layers) > 1}


def _called(trace: Trace) -> Iterator[keras.layers.Layer]:
    """Yield the layers that a model and those nested in it call, as often as they do."""
    for step in (step for steps in trace.steps.values() for step in steps):
        layer = step.call.operation
        if isinstance(layer, keras.layers.Layer) and not is_graph(layer):
            yield layer


def rebuilt_around(
    layer: keras.layers.Layer, shared: set[int], new: Callable[[Any], Any]
) -> keras.layers.Layer | None:
    """Return a layer rebuilt around the new layers in the place of those that it shares.

    They are found where its configuration has a layer under the name of an attribute. There an
    entry is put that Keras makes the new layer of, so that `from_config` works as it always does.

    Args:
        layer: none of its weights are cut.
        shared: ids of variables, see `held_by_several`.
        new: returns the one new layer for a layer.

    Returns:
        The layer; None if it shares no layer, or is not to be rebuilt like that.
    """
    if not any(id(variable) in shared for variable in getattr(layer, "variables", ())):
        return None  # an operation of the graph has none
    handed, changes = {}, {}
    try:
        for name in layer.get_config():
            inner = getattr(layer, name, None)
            if isinstance(inner, keras.layers.Layer) and any(
                id(variable) in shared for variable in inner.variables
            ):
                key = f"tfprune>made_{name}"
                handed[key] = _Made(new(inner))
                changes[name] = {"class_name": key, "registered_name": key, "config": {}}
        return rebuilt(layer, changes, handed) if changes else None
    except CANNOT_REBUILD:
        return None


class _Made:
    """Stands for a class, of which Keras makes a layer from a configuration: here one that is."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def from_config(self, config: dict[str, Any]) -> Any:
        return self._layer


def require_kept(trace: Trace, made: Mapping[int, tuple[Any, Any]]) -> None:
    """Raise unless layers that hold one weight hold one in the smaller model too.

    Args:
        trace: of the model.
        made: by the id of a layer, (layer, the layer made for it).

    Raises:
        ValueError: they do not.
    """
    met: dict[int, tuple[Any, int | None]] = {}
    for old, new in (made[id(layer)] for layer in _called(trace)):
        afters = [id(variable) for variable in new.variables]
        alike = len(afters) == len(old.variables)
        for number, before in enumerate(old.variables):
            after = afters[number] if alike else None
            other, wanted = met.setdefault(id(before), (old, after))
            if other is not old and (after is None or after != wanted):
                raise ValueError(
                    f"The layers '{other.name}' ({type(other).__name__}) and '{old.name}' "
                    f"({type(old).__name__}) share the weight '{before.path}', and rebuilt smaller "
                    "each would get its own. Sharing is kept for a layer that is called several "
                    "times, and for one that another takes as an argument which its `get_config` "
                    "names like its attribute. Share it like that, or give each of the two its own "
                    f"weights. Received: a weight of shape {tuple(before.shape)} in both"
                )
