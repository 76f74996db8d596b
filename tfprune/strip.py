"""Take the pruning wrappers off: what is left is an ordinary model with zeros in its weights."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

import numpy as np

from tfprune.family import family, require_family, room
from tfprune.layouts import Layout
from tfprune.patterns import Block, Pattern
from tfprune.placement import whole

_PRUNED_WITH: weakref.WeakKeyDictionary[Any, list[dict[str, str]]] = weakref.WeakKeyDictionary()
TOLERANCE = 0.005
"""A tie may leave a weight this far from its target."""


def pruned_layers(model: Any) -> list[Any]:
    """Return the wrapped layers of a model of either family, behind the same doors."""
    return room(family(model) or "keras").pruned_layers(model)


def shortfalls(layers: list[Any]) -> list[str]:
    """Return one phrase for each weight that is less sparse than its schedule's end.

    Example: `["conv1/kernel is at 51.0 %, not 80.0 %"]`.
    """
    phrases = []
    for layer in layers:
        final = layer.pruning_schedule.final_sparsity
        if final is None:
            continue
        for state in layer.states():
            shape, layout = state.weight.shape, state.layout
            if state.sparsity < least_sparsity(layer.pattern, shape, layout, final) - TOLERANCE:
                target = layer.pattern.expected_sparsity(shape, layout, final, final)
                phrases.append(
                    f"{layer.layer_name}/{state.name} is at {state.sparsity:.1%}, not {target:.1%}"
                )
    return phrases


def least_sparsity(
    pattern: Pattern, shape: tuple[int, ...], layout: Layout | None, final: float
) -> float:
    """Return the fraction of zeros that a pattern gives to a weight at the end, at the least."""
    target = pattern.expected_sparsity(shape, layout, final, final)
    if isinstance(pattern, Block) and layout is not None:  # ragged ones hold fewer weights
        return min(target, pattern.least_sparsity(shape, layout, final))
    return target


def can_strip(model: Any) -> bool:
    """Tell whether `strip_pruning` can take a model's wrappers off."""
    return room(family(model) or "keras").can_strip(model)


def strip_pruning(model: Any) -> Any:
    """Return the model without its pruning wrappers, its pruned weights set to zero.

    Warns about every weight that is less sparse than its schedule was to make it.

    Args:
        model: a Sequential or Functional model that holds wrapped layers, or one wrapped layer;
            Keras 3 or tf_keras.

    Returns:
        A Keras 3 model that shares nothing with the one passed in, or, for a wrapped layer, the
        layer inside it. For tf_keras, what tfmot's `strip_pruning` returns.

    Raises:
        ValueError: if it is neither, a subclassed model (the message shows the way round), or
            its weights are NaN or infinite.

    Example:

    ```python
    plain = tfprune.strip_pruning(pruned_model)
    plain.save("small.keras")
    ```

    Source: tfmot's `strip_pruning`; unlike it, weights are masked once more and checked.
    """
    kind = require_family(model, "a model with wrapped layers, or a wrapped layer,")
    if not room(kind).can_strip(model):
        held = _held(model)
        if held:
            raise ValueError(
                f"A {type(model).__name__} is no model to be stripped as a whole, but it holds "
                f"one that is: `tfprune.strip_pruning({model.name}.{held[0]})`. "
                f"Received: {type(model).__name__} {model.name!r}"
            )
        if not pruned_layers(model):
            raise ValueError(
                "Nothing is wrapped for pruning here, so there is nothing to strip. Pass the model "
                f"that `prune_low_magnitude` returned. Received: {type(model).__name__} "
                f"{model.name!r}"
            )
        raise ValueError(
            "Cannot strip layers that were wrapped inside a model or layer of your own class: only "
            "that class knows how they are put together. Build the same model with plain layers "
            "and hand over the weights:\n\n"
            "    plain = MyModel(pruning=False)\n"
            "    plain(some_inputs)  # builds it\n"
            "    plain.set_weights(tfprune.stripped_weights(model))\n\n"
            f"`export_tflite` takes the model as it is. Received: {type(model).__name__}"
        )
    _require_finite(model)
    missed = shortfalls(pruned_layers(model))
    if missed:
        warnings.warn(
            "Stripping a model that is not pruned as its schedules say: "
            + "; ".join(missed)
            + ". Train longer with `UpdatePruningStep`, or shorten the schedule.",
            stacklevel=2,
        )
    rules = pruned_with(model)
    stripped = room(kind).strip(model)
    _PRUNED_WITH[stripped] = rules
    return stripped


def without_wrappers(model: Any) -> Any:
    """Return a model as it would be if it were stripped now, without a word on what it misses.

    For looking at a model that is still to be trained. One without wrappers is returned itself.
    """
    return room(family(model) or "keras").strip(model) if pruned_layers(model) else model


def pruned_with(model: Any) -> list[dict[str, str]]:
    """Return for each layer its schedule and what its masks were chosen by.

    A model that `strip_pruning` returned remembers it as long as it is in memory.
    """
    return [
        {
            "layer": str(layer.layer_name),
            "schedule": repr(layer.pruning_schedule),
            "pattern": str(layer.criterion),
        }
        for layer in pruned_layers(model)
    ] or _PRUNED_WITH.get(model, [])


def _held(model: Any) -> list[str]:
    """Return the attributes of a model that hold wrapped models, as a `Distiller` does."""
    keras_ = room(family(model) or "keras")
    return [
        name
        for name, value in vars(model).items()
        if not name.startswith("_")
        and family(value) == family(model)
        and keras_.is_model(value)
        and can_strip(value)
        and pruned_layers(value)
    ]


def _require_finite(model: Any) -> None:
    for layer in pruned_layers(model):
        for state in layer.states():
            if not np.isfinite(state.weight).all():
                raise ValueError(
                    f"The weight {layer.layer_name}/{state.name} holds NaN or infinite values: "
                    "training has diverged. Strip a checkpoint from before. Received: "
                    f"{np.count_nonzero(~np.isfinite(state.weight))} of {state.weight.size} values"
                )


def stripped_weights(model: Any) -> list[np.ndarray]:
    """Return the weights of a model, masked and without the pruning wrappers' own.

    For `plain.set_weights(...)` on the same model built from plain layers; the way to strip a
    subclassed model, which `strip_pruning` cannot take apart. Keras 3 or tf_keras.

    Example: `plain.set_weights(tfprune.stripped_weights(model))`.

    Raises:
        ValueError: it is no model of Keras 3 or tf_keras.

    Source: tfprune's own; the weights are masked as in `strip_pruning`.
    """
    require_family(model, "a model")
    layers = pruned_layers(model)
    own = {id(v) for layer in layers for v in layer.own_weights}
    with room(family(model) or "keras").masked(layers):
        return [whole(v) for v in model.weights if id(v) not in own]
