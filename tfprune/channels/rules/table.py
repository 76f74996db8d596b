"""Which rule serves which layer or operation; a user's own layers join here.

A rule has two parts: `trace` states what belongs together when the model is read, `config` says
what changes in the layer's configuration when channels are gone. A type is looked up as it is, not
by its base classes: a subclass may compute something else, and a guess would be silently wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfprune.channels.track import Track
from tfprune.channels.visit import Visit

Count = Callable[[Any, int], int]
"""(variable, axis) -> how many positions are left along it."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is known of a type of layer or operation.

    Attributes:
        trace: states the facts of one call and returns the tracks of its outputs.
        config: (layer, count, inputs, outputs) -> what changes in its configuration; `inputs` and
            `outputs` are the new shapes of its first call. None: nothing does.
        factors: (layer, count) -> variables, and what to multiply them with once they are cut.
    """

    trace: Callable[[Visit], Sequence[Track] | Track]
    config: Callable[..., dict[str, Any]] | None = None
    factors: Callable[[Any, Count], list[tuple[Any, float]]] | None = None


_LAYERS: dict[type, Rule] = {}
_OPERATIONS: dict[str, Rule] = {}
_OWN: dict[tuple[str, str], Rule] = {}


def layers(
    *types: type,
    config: Callable[..., dict[str, Any]] | None = None,
    factors: Callable[[Any, Count], list[tuple[Any, float]]] | None = None,
) -> Callable:
    """Decorate the rule of Keras layers."""

    def add(trace: Callable) -> Callable:
        _LAYERS.update({kind: Rule(trace, config, factors) for kind in types})
        return trace

    return add


def operations(*names: str, config: Callable[..., dict[str, Any]] | None = None) -> Callable:
    """Decorate the rule of `keras.ops` operations, by the names of their classes."""

    def add(trace: Callable) -> Callable:
        _OPERATIONS.update({name: Rule(trace, config) for name in names})
        return trace

    return add


def inside_keras(
    module: str, *names: str, config: Callable[..., dict[str, Any]] | None = None
) -> Callable:
    """Decorate the rule of layers which Keras defines beside a model of `keras.applications`."""

    def add(trace: Callable) -> Callable:
        _OWN.update({(module, name): Rule(trace, config) for name in names})
        return trace

    return add


def channel_rule(
    layer: type, config: Callable[..., dict[str, Any]] | None = None
) -> Callable[[Callable], Callable]:
    """Teach `shrink` a layer of your own: which of its weights' axes are which channels.

    Args:
        layer: the layer's class.
        config: `(layer, count, inputs, outputs) -> dict`, what changes in `layer.get_config()`;
            `count(variable, axis)` is the new length of an axis. Leave it out if the layer reads
            its sizes from its input.

    Example:

    ```python
    @tfprune.channel_rule(Scale)              # y = x * self.factors, one for each channel
    def scale(visit):
        channels = visit.channels(visit.track, -1)
        visit.equate(visit.ids(visit.layer.factors, 0), channels)
        return visit.track
    ```

    Raises:
        TypeError: `layer` is not a class of Keras 3 layers.

    Source: tfprune's own form of the dependencies in DepGraph (Fang et al. 2023).
    """
    if not (isinstance(layer, type) and issubclass(layer, keras.layers.Layer)):
        raise TypeError(
            "`channel_rule` takes the class of a Keras 3 layer, as in "
            f"`@tfprune.channel_rule(MyLayer)`. Received: {layer!r}"
        )
    return layers(layer, config=config)


def find(operation: Any) -> Rule | None:
    """Return the rule of a layer or operation, None if none is known."""
    kind = type(operation)
    if kind in _LAYERS:
        return _LAYERS[kind]
    module = kind.__module__
    if not module.startswith("keras."):
        return None
    if not isinstance(operation, keras.layers.Layer):
        return _OPERATIONS.get(kind.__name__)
    return _OWN.get((module.rsplit(".", 1)[-1], kind.__name__))
