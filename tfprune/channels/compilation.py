"""Compile the smaller model as the larger one was, with what its optimizer remembers."""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import keras
import numpy as np


class Cutter(Protocol):
    """What has changed the weights of a model, and changes slots of its optimizer the same way."""

    def cut(self, variable: Any, value: np.ndarray) -> np.ndarray:
        """Return what a value of a variable's shape becomes."""
        ...


def compile_like(model: keras.Model, small: keras.Model, cutter: Cutter) -> None:
    """Compile `small` as `model` is, if it is, and cut the optimizer's slots to its weights.

    Warns if the losses or metrics cannot be made again from their configuration.
    """
    if not model.compiled:
        return
    try:
        small.compile_from_config(model.get_compile_config())
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        warnings.warn(
            "The smaller model is not compiled: its loss, metrics or optimizer cannot be made "
            f"again from their configuration ({str(error).strip().splitlines()[0]}). Call "
            "`compile` on it.",
            stacklevel=3,
        )
        return
    if not small.compiled:
        warnings.warn(
            "The smaller model is not compiled, as the loss, metrics or optimizer cannot be made "
            "again from their configuration. Call `compile` on it.",
            stacklevel=3,
        )
        return
    optimizer = _inner(model.optimizer)
    if optimizer is not None and optimizer.built:
        if not _inner(small.optimizer).built:  # twice would give a scaled one more variables
            small.optimizer.build(small.trainable_variables)
        _copy_slots(model, small, cutter)


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _copy_slots(model: keras.Model, small: keras.Model, cutter: Cutter) -> None:
    """Copy what the optimizer holds, cut like the weights it is for."""
    # Layers of two nested models may have the same name: their slots come in the same order.
    owners: dict[str, list[Any]] = {}
    for variable in model.trainable_variables:
        owners.setdefault(f"{variable.path.replace('/', '_')}_", []).append(variable)
    met: dict[str, int] = {}
    old, new = model.optimizer.variables, small.optimizer.variables
    for before, after in zip(old, new, strict=True):
        value = np.asarray(keras.ops.convert_to_numpy(before.value))
        matching = [p for p in owners if before.name.startswith(p)]
        same = owners[max(matching, key=len)] if matching else [None]
        met[before.name] = met.get(before.name, -1) + 1
        owner = same[met[before.name] % len(same)]
        if owner is not None and tuple(owner.shape) == value.shape:
            value = cutter.cut(owner, value)
        if tuple(after.shape) == value.shape:
            after.assign(value)
        else:
            warnings.warn(
                f"The optimizer's '{before.name}' starts anew: it does not have the shape of the "
                "weight that it is for.",
                stacklevel=4,
            )
