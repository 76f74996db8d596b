"""What a wrapper must know of the arguments that the layer inside it takes.

Keras works out for a layer the shapes that its `build` wants; a wrapper that takes whatever
arguments its layer takes must do that for the layer.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras


def shapes_of(function, args, kwargs) -> dict[str, Any]:
    """Return `{argument_shape: shape}` for the tensors, nested ones too, given to a call."""
    kwargs = {k: v for k, v in kwargs.items() if k not in ("training", "mask")}
    bound = inspect.signature(function).bind(*args, **kwargs).arguments
    shapes = {}
    for name, value in bound.items():
        flat = keras.tree.flatten(value)
        if flat and all(hasattr(leaf, "shape") for leaf in flat):
            shapes[f"{name}_shape"] = keras.tree.map_structure(
                lambda leaf: tuple(leaf.shape), value
            )
    return shapes


def arguments_for(build, shapes: dict[str, Any]) -> dict[str, Any]:
    """Return the shapes that a `build` method asks for, by Keras's rule of names."""
    names = list(inspect.signature(build).parameters)
    if len(names) == 1:
        return {names[0]: next(iter(shapes.values()))}
    return {name: shapes[name] for name in names if name in shapes}


def with_training(signature: inspect.Signature) -> inspect.Signature:
    """Return a signature that takes `training`, which the wrapper must know of."""
    parameters = list(signature.parameters.values())
    if "training" in signature.parameters:
        return signature
    training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
    last = parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    parameters.insert(len(parameters) - bool(last), training)
    return signature.replace(parameters=parameters)
