"""Copy a Keras 3 model, putting other layers in the place of some; the original is untouched.

tfmot shares the layers of the model it is given; in Keras 3 that would make `layer.output` of both
models ambiguous and let training change the dense model behind the user's back.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
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
        return rebuilt(layer)
    except CANNOT_REBUILD as error:
        if layer.variables:
            warnings.warn(
                f"The layer '{layer.name}' cannot be rebuilt from its configuration "
                f"({str(error).strip().splitlines()[0]}), so the copy of the model shares it with "
                "the original: training one trains both. Give it a `get_config` method.",
                stacklevel=2,
            )
        return layer


CANNOT_REBUILD = (NotImplementedError, TypeError, ValueError)
"""What `rebuilt` raises for a layer that is not to be had from its configuration."""


def rebuilt(
    operation: Any,
    changes: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
) -> Any:
    """Return a layer or operation of the same configuration but for some changes, without weights.

    A configuration names a function of the user's own (`activation=my_function`) and Keras finds
    none of that name, or its own of the same name; so such objects are handed over as they are.

    Args:
        operation: a layer or operation.
        changes: of its configuration.
        known: what names in the changes stand for, as in `keras.saving.custom_object_scope`.

    Raises:
        NotImplementedError, TypeError, ValueError: it cannot be made from its configuration.

    Example: `rebuilt(keras.layers.Dense(8, activation=my_function), {"units": 4})`
    """
    kind, config = type(operation), operation.get_config()
    own = {key: getattr(operation, key, None) for key in config}
    own = {key: value for key, value in own.items() if _is_own(value)}
    forms = [{**config, **(changes or {})}]
    if own:  # a layer of one's own may want them as its configuration has them
        forms.insert(0 if kind.__module__.startswith("keras.") else 1, {**forms[0], **own})
    with keras.saving.custom_object_scope({**_names(operation), **(known or {})}):
        for form in forms[:-1]:
            with contextlib.suppress(*CANNOT_REBUILD):
                return kind.from_config(form)
        return kind.from_config(forms[-1])


def _names(operation: Any) -> dict[str, Any]:
    """Return the user's own objects in a layer and in the layers that it wraps, by their names."""
    found: dict[str, Any] = {}
    todo, seen = [operation], set()
    while todo:
        layer = todo.pop()
        seen.add(id(layer))
        for value in vars(layer).values():
            if isinstance(value, keras.layers.Layer):
                todo += [] if id(value) in seen else [value]
            elif _is_own(value):
                found[getattr(value, "__name__", type(value).__name__)] = value
    return found


def _is_own(value: Any) -> bool:
    """Tell whether something is a function, or an object that is called, from outside Keras."""
    module = getattr(value, "__module__", None) or type(value).__module__
    return (
        callable(value)
        and not isinstance(value, keras.layers.Layer)
        and not module.startswith("keras.")
    )


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


def at_a_step(layer: Any) -> Any:
    """Return the layer inside a `TimeDistributed`, or else the layer itself."""
    inside = isinstance(layer, keras.layers.TimeDistributed)
    return at_a_step(layer.layer) if inside else layer


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
        # JAX would have both hold the one array, and `fit` and `predict` of a model use up its own.
        new.assign(keras.ops.copy(old.value))
    if hasattr(target, "finalize_state") and source.built:
        target.finalize_state()  # `Normalization` derives constants from its variables
