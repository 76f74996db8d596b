"""Keras 3 models behind the doors that `legacy` has for tf_keras: judge, wrap, clone, strip."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfprune import cloning, registry
from tfprune.cloning import is_graph
from tfprune.criteria import Criterion
from tfprune.decisions import Decision
from tfprune.patterns import Pattern
from tfprune.placement import whole
from tfprune.registry import is_left_alone
from tfprune.schedules import PruningSchedule
from tfprune.wrapper import PruneLowMagnitude
from tfprune.wrapper import wrappers as pruned_layers

__all__ = [
    "can_strip",
    "is_graph",
    "is_left_alone",
    "is_model",
    "is_wrapped",
    "masked",
    "prunable_arrays",
    "pruned_layers",
    "reason_against",
    "strip",
    "tensorboard",
    "wrap",
    "wrap_model",
]


def is_model(obj: Any) -> bool:
    """Tell whether an object is a model, of whatever kind."""
    return isinstance(obj, keras.Model)


def is_wrapped(layer: Any) -> bool:
    """Tell whether a layer is a pruning wrapper."""
    return isinstance(layer, PruneLowMagnitude)


def reason_against(layer: Any, schedule: PruningSchedule, pattern: Pattern) -> str | None:
    """Return why a layer cannot be pruned so, None if it can."""
    del schedule  # every pattern goes with every schedule here
    if is_wrapped(layer):
        return "it is wrapped for pruning already"
    reason = registry.reason_against(layer)
    if reason is not None or not layer.built:
        return reason
    against = [
        pattern.reason_against(tuple(w.variable.shape), w.layout)
        for w in registry.prunable_weights(layer)
    ]
    return against[0] if all(against) else None


def prunable_arrays(layer: Any) -> list[np.ndarray]:
    """Return the weights of a built layer that would be pruned."""
    return [whole(w.variable) for w in registry.prunable_weights(layer)]


def wrap(layer: Any, schedule: PruningSchedule, criterion: Criterion, **kwargs: Any) -> Any:
    """Return a layer in a pruning wrapper."""
    parts = {name: getattr(criterion, name) for name in ("pattern", "score", "regrowth")}
    return PruneLowMagnitude(layer, schedule, **parts, **kwargs)


def wrap_model(model: Any, chosen: dict[int, Decision]) -> Any:
    """Return a copy of a model, weights and all, in which the chosen layers are wrapped.

    Args:
        model: the model to copy; it is not changed.
        chosen: decisions by the id of the layer they speak of.
    """

    def replace(layer: Any) -> Any:
        decision = chosen.get(id(layer))
        copy = cloning.copy_layer(layer)
        if decision is None or decision.criterion is None:
            return copy
        # The copy is not built yet; the wrapper builds it, and the weights follow.
        return wrap(copy, decision.schedule, decision.criterion)

    def inner(old: Any, new: Any) -> tuple[Any, Any]:
        return (old, new.layer) if is_wrapped(new) and not is_wrapped(old) else (old, new)

    return cloning.clone(model, replace, inner)


def can_strip(model: Any) -> bool:
    """Tell whether every wrapper is a layer of the graph, not inside a class of the user's own."""
    if is_wrapped(model):
        return True
    if not is_graph(model):
        return False
    return {id(w) for w in pruned_layers(model)} <= {id(a) for a in cloning.leaves(model)}


def strip(model: Any) -> Any:
    """Mask a model or wrapped layer once more, and return it without wrappers.

    In a model, which is copied, weights that may still return keep their values.
    """
    if is_wrapped(model):
        model.apply_masks()
        return model.layer
    with masked(pruned_layers(model)):
        return cloning.clone(
            model,
            lambda layer: cloning.copy_layer(_unwrapped(layer)),
            inner=lambda old, new: (_unwrapped(old), new),
        )


@contextlib.contextmanager
def masked(layers: list[PruneLowMagnitude]) -> Iterator[None]:
    """Let weights be zero where their masks are; those that may return come back at the end."""
    held = [
        (weight, weight.numpy())
        for layer in layers
        if not layer.cuts_for_good()
        for weight, _, _ in layer.pruning_vars
    ]
    try:
        for layer in layers:
            layer.apply_masks()
        yield
    finally:
        for weight, value in held:
            weight.assign(value)


def tensorboard(log_dir: str, **arguments: Any) -> Any:
    """Return Keras's own TensorBoard callback."""
    return keras.callbacks.TensorBoard(log_dir, **arguments)


def _unwrapped(layer: Any) -> Any:
    return layer.layer if is_wrapped(layer) else layer
