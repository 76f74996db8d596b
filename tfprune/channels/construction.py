"""Make a model of the class of another, from other inputs and outputs."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import tree


def model_like(
    model: keras.Model, inputs: Any, outputs: Any, new: Callable[[Any], Any]
) -> keras.Model:
    """Return a model of the same class and name, so that a `train_step` of one's own stays.

    Further arguments of the class's `__init__` are taken from its `get_config` if it has one, or
    else from attributes of the same name. A class that cannot be made like that becomes a plain
    `keras.Model`, with a warning.

    Args:
        model: a Functional or Sequential model.
        inputs: new symbolic inputs, structured as those of the model.
        outputs: what they lead to.
        new: returns what stands in the place of a layer, and anything else as it is.

    Example: `model_like(Distiller(i, o, heat=7.0), inputs, outputs, lambda x: x).heat` is 7.0.
    """
    kind = type(model)
    if kind is keras.Sequential:
        kind = keras.Model
    if kind.__init__ is keras.Model.__init__:
        return kind(inputs, outputs, name=model.name)
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]  # without `self`
    names = [one.name for one in parameters]
    if names[:2] != ["inputs", "outputs"] and names[:1] != ["args"]:
        return _plain(model, inputs, outputs, "it cannot be made from inputs and outputs")
    rest = [one for one in parameters if one.name not in ("inputs", "outputs", "name")]
    given, unknown = _settings(model, rest)
    required = [one.name for one in rest if one.name in unknown and one.default is one.empty]
    if required:
        return _plain(
            model, inputs, outputs, f"it has no attribute '{required[0]}' to make it with"
        )
    if unknown:
        warnings.warn(
            f"The smaller model, a {kind.__name__}, has the default of `{'`, `'.join(unknown)}`: "
            "the model has no attribute of that name, so its value is not known. Set it as "
            "`self.<name>` in `__init__`, or return it from `get_config`.",
            stacklevel=2,
        )
    if "name" in names or any(one.kind is one.VAR_KEYWORD for one in parameters):
        given["name"] = model.name
    values: Any = tree.map_structure(new, given)
    return kind(inputs, outputs, **values)


def _settings(model: Any, parameters: list[inspect.Parameter]) -> tuple[dict[str, Any], list[str]]:
    """Return the values of further arguments, and the names of those that are not known."""
    written = next(one for one in type(model).__mro__ if "get_config" in vars(one))
    config = {} if written.__module__.startswith("keras.") else model.get_config()
    given, unknown = {}, []
    for one in parameters:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        if one.name in config and not isinstance(config[one.name], dict):  # which is an object's
            given[one.name] = config[one.name]
        elif hasattr(model, one.name):
            given[one.name] = getattr(model, one.name)
        else:
            unknown.append(one.name)
    return given, unknown


def _plain(model: keras.Model, inputs: Any, outputs: Any, reason: str) -> keras.Model:
    kind = type(model).__name__
    warnings.warn(
        f"The smaller model is a plain `keras.Model`: {kind} is none, and {reason}, so what its "
        "class adds (a `train_step`, say) is not in it.",
        stacklevel=2,
    )
    return keras.Model(inputs, outputs, name=model.name)
