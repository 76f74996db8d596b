"""Copy a Keras 3 model, putting other layers in the place of some; the original is untouched.

tfmot shares the layers of the model it is given; in Keras 3 that would make `layer.output` of both
models ambiguous and let training change the dense model behind the user's back.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import keras

Inner = Callable[
    [keras.layers.Layer, keras.layers.Layer], tuple[keras.layers.Layer, keras.layers.Layer]
]


def copy_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return a layer of the same configuration, without its weights.

    An operation of the graph that is no layer (an addition, say) has no state and is shared.
    A layer that cannot be rebuilt from its configuration, or that holds a table which the
    configuration does not (an adapted text or lookup layer), is shared instead; the first with a
    warning if it can be trained.
    """
    if not isinstance(layer, keras.layers.Layer):
        return layer
    if hasattr(layer, "adapt") and not layer.variables:
        return layer
    try:
        return type(layer).from_config(layer.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        if layer.variables:
            warnings.warn(
                f"The layer '{layer.name}' cannot be rebuilt from its configuration "
                f"({str(error).strip().splitlines()[0]}), so the copy of the model shares it with "
                "the original: training one trains both. Give it a `get_config` method.",
                stacklevel=2,
            )
        return layer


def clone(
    model: keras.Model, replace: Callable[[keras.layers.Layer], keras.layers.Layer], inner: Inner
) -> keras.Model:
    """Return a copy of a Sequential or Functional model, nested models included, weights and all.

    Args:
        model: the model to copy; it is not changed.
        replace: called with each layer; returns the layer that stands in its place in the copy.
        inner: called with a layer of the original and its replacement; returns the two layers
            whose variables correspond (the one inside a wrapper, say).
    """
    for one in _models(model):
        if isinstance(one, keras.Sequential) and type(one) is not keras.Sequential:
            warnings.warn(
                f"The copy of '{one.name}' is a plain `keras.Sequential`: what its class "
                f"{type(one).__name__} adds (a `train_step`, say) is not in it. Write it as a "
                "subclass of a Functional `keras.Model`, whose copies keep their class.",
                stacklevel=2,
            )
    made: dict[int, keras.layers.Layer] = {}

    def clone_layer(layer: keras.layers.Layer) -> keras.layers.Layer:
        """Return the one copy of a layer, which may stand in several of the models."""
        if id(layer) not in made:
            made[id(layer)] = clone_graph(layer) if is_graph(layer) else replace(layer)
        return made[id(layer)]

    def clone_graph(graph: keras.Model) -> keras.Model:
        # Not `recursive=True`, which Keras 3.3 and older do not know what to do with.
        return keras.models.clone_model(graph, clone_function=clone_layer)

    with _not_compiled(model):
        copy = clone_graph(model)
    for old in leaves(model):
        copy_variables(*inner(old, made[id(old)]))
    return copy


def is_graph(obj: Any) -> bool:
    """Tell whether an object is a Sequential or Functional model, whose layers can be copied."""
    functional = isinstance(obj, keras.Model) and hasattr(obj, "operations")
    return isinstance(obj, keras.Sequential) or functional


def leaves(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of a graph and of the graphs nested in it, each once."""
    found: dict[int, keras.layers.Layer] = {}
    for layer in model.layers:
        below = leaves(layer) if is_graph(layer) else [layer]
        found |= {id(one): one for one in below if not isinstance(one, keras.layers.InputLayer)}
    return list(found.values())


@contextlib.contextmanager
def _not_compiled(model: keras.Model):
    """Keep `clone_model` from compiling the copy.

    It would rebuild losses and metrics from their configuration, which fails for a plain function,
    and the copy is compiled anew by the user anyway, as with tfmot.
    """
    compiled = [m for m in _models(model) if m.compiled]
    for m in compiled:
        m.compiled = False
    try:
        yield
    finally:
        for m in compiled:
            m.compiled = True


def _models(model: keras.Model) -> list[keras.Model]:
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return [model, *(m for n in nested for m in _models(n))]


def copy_variables(source: keras.layers.Layer, target: keras.layers.Layer) -> None:
    """Copy every variable of a built layer, seeds and statistics included."""
    if source is target or not isinstance(source, keras.layers.Layer):
        return
    for old, new in zip(source.variables, target.variables, strict=True):
        new.assign(old)
    if hasattr(target, "finalize_state") and source.built:
        target.finalize_state()  # `Normalization` derives constants from its variables
