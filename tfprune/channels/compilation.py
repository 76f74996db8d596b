"""Compile the smaller model as the larger one was, with what its optimizer remembers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import keras
import numpy as np
from keras import tree

from tfprune.channels import graph

Pairs = Iterable[tuple[Any, Any]]
"""(variable of the model, variable of the smaller one)"""


class Cutter(Protocol):
    """What has changed the weights of a model, and changes slots of its optimizer the same way."""

    def cut(self, variable: Any, value: np.ndarray) -> np.ndarray:
        """Return what a value of a variable's shape becomes."""
        ...


def compile_like(model: keras.Model, small: keras.Model, pairs: Pairs, cutter: Cutter) -> None:
    """Compile `small` as `model` is, if it is, and cut the optimizer's slots to its weights.

    Losses and functions are those of `model`; optimizers and metrics, which remember something,
    are made anew. Warns if that cannot be done, and about slots that start anew.
    """
    if not model.compiled:
        return
    try:
        _compile(model, small)
        reason = "its class compiles in a way of its own"
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        small.compiled = False
        reason = str(error).strip().splitlines()[0]
    if not small.compiled:
        warnings.warn(
            "The smaller model is not compiled: its optimizer or metrics cannot be made again from "
            f"their configuration ({reason}). Call `compile` on it.",
            stacklevel=3,
        )
        return
    old, new = _inner(model.optimizer), _inner(small.optimizer)
    if old is not None and old.built and not _is_new(model.optimizer):
        if not new.built:  # twice would give a scaled one more variables
            small.optimizer.build(small.trainable_variables)
        _copy_slots(model, small, pairs, cutter)


def _compile(model: keras.Model, small: keras.Model) -> None:
    given = graph.compile_arguments(model)
    if given is None:
        small.compile_from_config(model.get_compile_config())
    else:
        # A function of the user's own cannot be found by the name that a configuration holds.
        small.compile(**{name: _anew(value) for name, value in given.items()})


def _anew(given: Any) -> Any:
    """Return an argument of `compile` with new optimizers and metrics in the place of the old."""

    def one(value: Any) -> Any:
        if isinstance(value, (keras.optimizers.Optimizer, keras.metrics.Metric)):
            return type(value).from_config(value.get_config())
        return value

    return tree.map_structure(one, given)


def _inner(optimizer: Any) -> Any:
    return getattr(optimizer, "inner_optimizer", optimizer)


def _is_new(optimizer: Any) -> bool:
    """Tell whether an optimizer has taken no step, so that its slots hold nothing.

    Loading a model that was never trained builds them, and they would be saved: twice its size.
    """
    # One that scales the loss or adds gradients up remembers something before its first step.
    plain = _inner(optimizer) is optimizer and not getattr(
        optimizer, "gradient_accumulation_steps", None
    )
    return plain and int(optimizer.iterations) == 0


def _copy_slots(model: keras.Model, small: keras.Model, pairs: Pairs, cutter: Cutter) -> None:
    """Copy what the optimizer holds, cut like the weights it is for.

    Slots meet by the weight that they are for: a layer may have been frozen since `compile`.
    """
    olds = {id(new): old for old, new in pairs}
    held = {key: (owner, slot) for key, owner, slot in _slots(model, {})}
    alike = _weights(model, {}) == _weights(small, olds)
    anew = []
    for key, _, after in _slots(small, olds):
        owner, before = held.get(key, (None, None))
        value = None if before is None else np.asarray(keras.ops.convert_to_numpy(before.value))
        if value is not None and owner is not None and tuple(owner.shape) == value.shape:
            value = cutter.cut(owner, value)
        # Nothing tells for which weight an array is that does not bear its name, but their order.
        sure = owner is not None or alike or len(after.shape) == 0
        if sure and value is not None and tuple(after.shape) == value.shape:
            after.assign(value)
        else:
            anew.append(f"'{after.name}'")
    if anew:
        warnings.warn(
            f"What the optimizer remembers starts anew in {', '.join(anew)}: it holds nothing for "
            "a weight that was frozen when the model was compiled, and what does not have the "
            "shape of its weight cannot be cut.",
            stacklevel=4,
        )


def _weights(model: keras.Model, olds: dict[int, Any]) -> list[int]:
    """Return the ids of the weights that an optimizer is for; see `_slots` for the arguments."""
    return [id(olds.get(id(v), v)) for v in graph.optimized(_inner(model.optimizer))]


def _slots(model: keras.Model, olds: dict[int, Any]) -> Iterator[tuple[tuple, Any, Any]]:
    """Yield (key, the weight it is for or None, variable) for all that an optimizer holds.

    Args:
        model: a compiled one.
        olds: by the id of a weight, the weight that stands for it in keys.
    """
    # Layers of two nested models may have the same name: their slots come in the same order.
    owners: dict[str, list[Any]] = {}
    for variable in graph.optimized(_inner(model.optimizer)):
        owners.setdefault(f"{variable.path.replace('/', '_')}_", []).append(variable)
    met: dict[Any, int] = {}
    for slot in model.optimizer.variables:
        prefix = max((p for p in owners if slot.name.startswith(p)), key=len, default="")
        # What has no owner may have a name made up by Keras: its kind and turn must do.
        name = slot.name if prefix else len(slot.shape) > 0
        turn = met[name] = met.get(name, -1) + 1
        if not prefix:
            yield (None, name, turn), None, slot
            continue
        same = owners[prefix]
        owner = same[turn % len(same)]
        what = slot.name.removeprefix(prefix)
        yield (id(olds.get(id(owner), owner)), what, turn // len(same)), owner, slot
