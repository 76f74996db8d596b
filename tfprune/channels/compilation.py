"""Compile the smaller model as the larger one was, with what its optimizer remembers."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np

from tfprune.channels.surgery import Surgeon


def compile_like(model: keras.Model, small: keras.Model, surgeon: Surgeon) -> None:
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
        small.optimizer.build(small.trainable_variables)
        _copy_slots(model, small, surgeon)


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _copy_slots(model: keras.Model, small: keras.Model, surgeon: Surgeon) -> None:
    """Copy what the optimizer holds, cut like the weights it is for."""
    owners = {f"{v.path.replace('/', '_')}_": v for v in model.trainable_variables}
    old, new = model.optimizer.variables, small.optimizer.variables
    for before, after in zip(old, new, strict=True):
        value = np.asarray(keras.ops.convert_to_numpy(before.value))
        matching = [p for p in owners if before.name.startswith(p)]
        owner = owners[max(matching, key=len)] if matching else None
        if owner is not None and tuple(owner.shape) == value.shape:
            value = surgeon.cut(owner, value)
        if tuple(after.shape) == value.shape:
            after.assign(value)
        else:
            warnings.warn(
                f"The optimizer's '{before.name}' starts anew: it does not have the shape of the "
                "weight that it is for.",
                stacklevel=4,
            )
