"""Build the smaller model: new configurations, the same calls, weights without what was removed.

Layers are made from their configurations and called again on new symbolic tensors, in the order in
which the old model was read: all of it public Keras. (`keras.models.clone_model` would do the same,
but tells its `call_function` only the layer, not which of its calls is meant, which a slice or a
split in a shared place needs.)
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.channels import graph, rules
from tfprune.channels.atoms import Atoms, index_of_axes
from tfprune.channels.rules.slicing import sliced_key
from tfprune.channels.tracing import Step, Trace
from tfprune.channels.track import kept_shape
from tfprune.cloning import copy_layer, is_graph


class Surgeon:
    """Removes atoms from a model; the model itself is not changed.

    Args:
        model: the model.
        trace: of the model.
        atoms: of the model.
        removed: numbers of the atoms to remove.
    """

    def __init__(self, model: keras.Model, trace: Trace, atoms: Atoms, removed: np.ndarray) -> None:
        self._model, self._trace, self._atoms = model, trace, atoms
        self._keep = atoms.keep(removed)
        self._index = index_of_axes(atoms.places)
        self._made: dict[int, Any] = {}
        self.pairs: list[tuple[Any, Any]] = []
        """(variable of the model, variable of the smaller one), once `build` is done."""

    def build(self) -> keras.Model:
        """Return the smaller model, with its weights."""
        small = self._graph(self._model)
        pairs = [(self._model, small), *self._made.values()]
        # A model that is frozen freezes what is in it, so models come first, the outer before the
        # inner, which were made before it.
        models = [pair for pair in pairs if is_graph(pair[0])]
        rest = [pair for pair in pairs if not is_graph(pair[0])]
        for old, new in [models[0], *reversed(models[1:]), *rest]:
            if isinstance(old, keras.layers.Layer) and old.trainable != new.trainable:
                new.trainable = old.trainable
        for old, new in pairs:
            self._copy_weights(old, new)
        return small

    def positions(self, variable: Any, axis: int) -> np.ndarray | None:
        """Return which positions of an axis stay, None if all do."""
        place = self._index.get((id(variable), axis))
        if place is None:
            return None
        ids = self._atoms.places[place].ids
        left = np.where(ids < 0, True, self._keep[ids])
        return None if left.all() else np.flatnonzero(left)

    def cut(self, variable: Any, value: np.ndarray) -> np.ndarray:
        """Return what stays of a value of a variable's shape: the variable, or a slot of it."""
        for axis in range(value.ndim):
            left = self.positions(variable, axis)
            if left is not None:
                value = np.take(value, left, axis)
        return value

    def _count(self, variable: Any, axis: int) -> int:
        left = self.positions(variable, axis % len(variable.shape))
        return int(variable.shape[axis]) if left is None else left.size

    # -- Structure -------------------------------------------------------------------------------

    def _graph(self, model: keras.Model) -> keras.Model:
        steps = self._trace.steps[id(model)]
        if type(model) is keras.Sequential and _is_chain(model, steps):
            layers = [self._layer(step) for step in steps]
            heads = list(self._heads(model).values())
            return keras.Sequential([*heads, *layers], name=model.name)
        return self._functional(model, steps)

    def _functional(self, model: keras.Model, steps: list[Step]) -> keras.Model:
        new = self._heads(model)
        for step in steps:
            layer = self._layer(step)
            args, kwargs = self._arguments(step)
            args, kwargs = _mapped(lambda x: new.get(id(x), x), (args, kwargs))
            results = tree.flatten(layer(*args, **kwargs))
            pairs = zip(step.call.outputs, results, strict=True)
            new.update({id(old): made for old, made in pairs})
        ends = tree.map_structure(lambda x: new[id(x)], graph.outputs(model))
        kind = type(model) if _takes_graph(type(model)) else keras.Model
        heads = tree.map_structure(lambda x: new[id(x)], graph.inputs(model))
        return kind(heads, ends, name=model.name)

    def _heads(self, model: keras.Model) -> dict[int, Any]:
        """Return a new symbolic input for each, by the id of the old one."""
        olds: list[Any] = list(tree.flatten(graph.inputs(model)) or [])
        found = {}
        for old, track in zip(olds, self._trace.heads[id(model)], strict=True):
            shape = kept_shape(track, self._keep)
            found[id(old)] = keras.Input(
                batch_shape=shape,
                dtype=old.dtype,
                name=graph.input_name(old),
                sparse=old.sparse,
            )
        return found

    def _arguments(self, step: Step) -> tuple[tuple, dict]:
        """Return the arguments of a call; the key of a slice is moved."""
        call = step.call
        if type(call.operation).__name__ != "GetItem" or not step.inputs[0].axes:
            return call.args, call.kwargs
        track = step.inputs[0]
        if len(call.args) > 1:
            return (call.args[0], sliced_key(call.args[1], track, self._keep)), call.kwargs
        return call.args, {**call.kwargs, "key": sliced_key(call.kwargs["key"], track, self._keep)}

    def _layer(self, step: Step) -> Any:
        """Return the one new layer for the layer of a call."""
        layer = step.call.operation
        if id(layer) not in self._made:
            new = self._graph(layer) if is_graph(layer) else self._resized(step)
            self._made[id(layer)] = (layer, new)
        return self._made[id(layer)][1]

    def _resized(self, step: Step) -> Any:
        layer = step.call.operation
        rule = rules.find(layer)
        if rule is None or rule.config is None:
            return copy_layer(layer)
        inputs = [kept_shape(track, self._keep) for track in step.inputs]
        outputs = [kept_shape(track, self._keep) for track in step.outputs]
        changes = rule.config(layer, self._count, inputs, outputs)
        if not changes:
            return copy_layer(layer)
        return type(layer).from_config({**layer.get_config(), **changes})

    # -- Weights ---------------------------------------------------------------------------------

    def _copy_weights(self, old: Any, new: Any) -> None:
        if not isinstance(old, keras.layers.Layer) or is_graph(old) or old is new:
            return
        rule = rules.find(old)
        factors = rule.factors(old, self._count) if rule and rule.factors else []
        by_id = {id(variable): factor for variable, factor in factors}
        for before, after in zip(old.variables, new.variables, strict=True):
            value = self.cut(before, _numpy(before))
            if tuple(after.shape) != value.shape:
                raise RuntimeError(
                    f"The weight '{before.path}' should have the shape {value.shape} and was "
                    f"rebuilt with {tuple(after.shape)}: the rule of {type(old).__name__} is wrong."
                )
            after.assign(value * by_id[id(before)] if id(before) in by_id else value)
            self.pairs.append((before, after))
        if hasattr(new, "finalize_state") and old.built:
            new.finalize_state()


def _mapped(change: Callable[[Any], Any], structure: Any) -> Any:
    return tree.map_structure(change, structure)


def _numpy(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable.value))


def _is_chain(model: keras.Sequential, steps: list[Step]) -> bool:
    """Tell whether calls are those of the layers in turn: rebuilding them gives the same."""
    own = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    return [id(step.call.operation) for step in steps] == [id(layer) for layer in own]


def _takes_graph(kind: type) -> bool:
    """Tell whether a class can be made as `keras.Model` is, from inputs and outputs."""
    if kind is keras.Model or kind.__init__ is keras.Model.__init__:
        return True
    parameters = list(inspect.signature(kind.__init__).parameters)
    if parameters[1:3] == ["inputs", "outputs"] or parameters[1:2] == ["args"]:
        return True
    if kind is not keras.Sequential:
        warnings.warn(
            f"The smaller model is a plain `keras.Model`: {kind.__name__} cannot be made from "
            "inputs and outputs, so what its class adds (a `train_step`, say) is not in it.",
            stacklevel=2,
        )
    return False
