"""The calls of a Keras 3 graph, in the order in which they run.

The one file that reads what Keras keeps to itself: the nodes of a model, which are needed since a
layer that is called twice has two of them and its own attributes tell only one; what `compile` was
given, since its configuration names functions and does not hold them; and the weights for which an
optimizer was built, which may have been frozen since.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import keras
from keras import tree

from tfprune.cloning import is_graph


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer or operation.

    Attributes:
        operation: the layer, nested model or `keras.ops` operation.
        args: positional arguments, symbolic tensors among them; a layer's first ones also if they
            were given by name.
        kwargs: keyword arguments.
        outputs: the symbolic tensors that it gave, flat.
    """

    operation: Any
    args: tuple
    kwargs: dict[str, Any]
    outputs: tuple[Any, ...]

    @property
    def tensors(self) -> list[Any]:
        """The symbolic tensors among the arguments, in the order of `tree.flatten`."""
        return [x for x in tree.flatten((self.args, self.kwargs)) if is_tensor(x)]


def is_tensor(value: Any) -> bool:
    """Tell whether a value is a symbolic tensor of Keras."""
    return isinstance(value, keras.KerasTensor)


def calls(model: keras.Model) -> list[Call]:
    """Return the calls inside a Sequential or Functional model, those inside nested ones not."""
    graph = _function(model)
    found = []
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if not node.is_input and not isinstance(node.operation, keras.layers.InputLayer):
                args, kwargs = _in_order(node.operation, node.arguments)
                found.append(Call(node.operation, args, kwargs, tuple(node.outputs)))
    return found


def _in_order(operation: Any, arguments: Any) -> tuple[tuple, dict[str, Any]]:
    """Return a call's arguments, tensors given by name in the places where a layer expects them.

    Flattened, names are in alphabetical order: `lstm(sequences=x, mask=m)` is no call on `m`.
    """
    args, kwargs = tuple(arguments.args), dict(arguments.kwargs)
    if not isinstance(operation, keras.layers.Layer):
        return args, kwargs
    known = inspect.signature(operation.call).parameters.values()
    for one in list(known)[len(args) :]:
        tensors = tree.flatten(kwargs.get(one.name))
        if one.kind is not one.POSITIONAL_OR_KEYWORD or not tensors:
            break
        if not all(map(is_tensor, tensors)):
            break
        args = (*args, kwargs.pop(one.name))
    return args, kwargs


def inputs(model: keras.Model) -> Any:
    """Return the symbolic inputs, structured as the model takes them."""
    return _function(model)._inputs_struct


def input_like(tensor: Any, shape: tuple[int | None, ...]) -> Any:
    """Return a symbolic input like another in all but its shape: its name, type, being optional."""
    config = tensor._keras_history.operation.get_config()
    return keras.layers.InputLayer(**{**config, "batch_shape": shape}).output


def outputs(model: keras.Model) -> Any:
    """Return the symbolic outputs, structured as the model gives them."""
    return _function(model)._outputs_struct


def require_graph(model: Any) -> None:
    """Raise unless a model is a built Sequential or Functional one.

    Raises:
        TypeError: it is no Keras 3 model.
        ValueError: it is a subclassed model, or not built.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Channels are removed from a Keras 3 model (`import keras`). "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    if not is_graph(model):
        raise ValueError(
            f"The model '{model.name}' is a subclass of `keras.Model` with a `call` of its own, "
            "so the way of its channels cannot be read. Write it with the Functional API: "
            "`keras.Model(inputs, outputs)`, with `self.call`'s steps in between. "
            f"Received: {type(model).__name__}"
        )
    if not model.built or not getattr(_function(model), "_nodes_by_depth", None):
        raise ValueError(
            f"The model '{model.name}' is not built, so the shapes of its weights are unknown. "
            "Give it an `keras.Input(shape)` first, or call it on data once."
        )


def compile_arguments(model: keras.Model) -> dict[str, Any] | None:
    """Return what `keras.Model.compile` was given, None if the model's class compiles differently.

    Example: `compile_arguments(model)["loss"]` is the very function that was passed.
    """
    own = any(
        getattr(type(model), name) is not getattr(keras.Model, name)
        for name in ("compile", "get_compile_config", "compile_from_config")
    )
    kept = getattr(model, "_compile_config", None)
    return None if own or kept is None else dict(kept.config)


def optimized(optimizer: Any) -> list[Any]:
    """Return the weights for which an optimizer was built, in the order of their slots."""
    parts = getattr(optimizer, "_inner_optimizers", None)  # of several, each for some weights
    if parts:
        return [weight for part in parts for weight in optimized(part)]
    return list(optimizer._trainable_variables)


def _function(model: Any) -> Any:
    """Return the Functional model inside a Sequential one, or the model itself."""
    return model._functional if isinstance(model, keras.Sequential) else model
