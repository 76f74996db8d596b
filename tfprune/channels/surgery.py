"""Build the smaller model: new configurations, the same calls, weights without what was removed.

Layers are made from their configurations and called again on new symbolic tensors, in the order in
which the old model was read: all of it public Keras. (`keras.models.clone_model` would do the same,
but tells its `call_function` only the layer, not which of its calls is meant, which a slice or a
split in a shared place needs.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.channels import graph, rules, sharing
from tfprune.channels.atoms import Atoms, index_of_axes
from tfprune.channels.construction import model_like
from tfprune.channels.facts import Step, Trace
from tfprune.channels.rules.slicing import sliced_key
from tfprune.channels.track import kept_shape
from tfprune.cloning import CANNOT_REBUILD, copy_layer, is_graph, rebuilt

Shapes = Sequence[tuple[int | None, ...]]


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
        self._copied: set[int] = set()
        self._shared = sharing.held_by_several(trace)
        self.pairs: list[tuple[Any, Any]] = []
        """(variable of the model, variable of the smaller one), once `build` is done."""
        self.dropped: list[Any] = []
        """Variables of classes of models that plain models take the place of, with a warning."""

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
        sharing.require_kept(self._trace, self._made)
        for old, new in pairs:
            if is_graph(old):
                self._copy_own_weights(old, new)
            else:
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
        heads = tree.map_structure(lambda x: new[id(x)], graph.inputs(model))
        return model_like(model, heads, ends, self._instead)

    def _instead(self, value: Any) -> Any:
        """Return the new layer for one that is made already, and anything else as it is."""
        return self._made.get(id(value), (value, value))[1]

    def _heads(self, model: keras.Model) -> dict[int, Any]:
        """Return a new symbolic input for each, by the id of the old one."""
        olds: list[Any] = list(tree.flatten(graph.inputs(model)) or [])
        found = {}
        for old, track in zip(olds, self._trace.heads[id(model)], strict=True):
            shape = kept_shape(track, self._keep)
            found[id(old)] = graph.input_like(old, shape)
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
        inputs = [kept_shape(track, self._keep) for track in step.inputs]
        outputs = [kept_shape(track, self._keep) for track in step.outputs]
        return self._new(step.call.operation, inputs, outputs)

    def _new(self, layer: Any, inputs: Shapes, outputs: Shapes) -> Any:
        """Return the one new layer for a layer, which may be called in several places."""
        if id(layer) not in self._made:
            if id(layer) in self._trace.steps:
                new = self._graph(layer)
            elif type(layer) is keras.layers.TimeDistributed:
                new = self._at_every_step(layer, inputs, outputs)
            else:
                new = self._resized(layer, inputs, outputs)
            self._made[id(layer)] = (layer, new)
        return self._made[id(layer)][1]

    def _at_every_step(self, layer: Any, inputs: Shapes, outputs: Shapes) -> Any:
        """Wrap the new layer, not another that is made like it: it may be called elsewhere too."""
        without = ([(s[0], *s[2:]) for s in shapes] for shapes in (inputs, outputs))
        inner = self._new(layer.layer, *without)
        config = {key: value for key, value in layer.get_config().items() if key != "layer"}
        return keras.layers.TimeDistributed(inner, **config)

    def _inside(self, layer: Any) -> Any:
        """Return the one new layer for a layer that others hold and of which nothing is cut."""
        steps = (step for steps in self._trace.steps.values() for step in steps)
        step = next((one for one in steps if one.call.operation is layer), None)
        if step is None:  # it is only held
            if id(layer) not in self._made:
                self._made[id(layer)] = (layer, copy_layer(layer))
            return self._made[id(layer)][1]
        new = self._layer(step)
        # What holds it may look at its weights before its own call comes.
        if not new.built and layer.get_build_config():
            new.build_from_config(layer.get_build_config())
        return new

    def _resized(self, layer: Any, inputs: Shapes, outputs: Shapes) -> Any:
        rule = rules.find(layer)
        changes = rule.config(layer, self._count, inputs, outputs) if rule and rule.config else {}
        if not self._cuts(layer) and not _differ(layer, changes):
            return sharing.rebuilt_around(layer, self._shared, self._inside) or copy_layer(layer)
        try:
            return rebuilt(layer, changes)
        except CANNOT_REBUILD as error:
            raise ValueError(
                f"The layer '{layer.name}' cannot be made smaller: Keras does not rebuild it from "
                f"its configuration ({str(error).strip().splitlines()[0][:200]}). Register the "
                "functions and classes that it was given with "
                "`keras.saving.register_keras_serializable`; a layer of your own needs a "
                f"`get_config` with all arguments. Received: {type(layer).__name__}"
            ) from error

    def _cuts(self, layer: Any) -> bool:
        """Tell whether a layer loses some of its weights."""
        axes = ((v, a) for v in getattr(layer, "variables", ()) for a in range(len(v.shape)))
        return any(self.positions(variable, axis) is not None for variable, axis in axes)

    # -- Weights ---------------------------------------------------------------------------------

    def _copy_own_weights(self, old: keras.Model, new: keras.Model) -> None:
        """Copy the weights that the class of a model makes for itself, beside its layers'."""
        befores, afters = _own_weights(old), _own_weights(new)
        if not afters:
            self.dropped += befores
            return
        if [tuple(v.shape) for v in befores] != [tuple(v.shape) for v in afters]:
            raise ValueError(
                f"The class of the model '{old.name}' makes weights of its own, and rebuilt "
                "smaller it makes others: their shapes may depend on the layers. Make them in a "
                "layer, or shrink a plain `keras.Model(model.inputs, model.outputs)`. Received: "
                f"{[tuple(v.shape) for v in befores]} and {[tuple(v.shape) for v in afters]}"
            )
        for before, after in zip(befores, afters, strict=True):
            if before is not after:  # of a model that both hold, a teacher
                after.assign(before)
                self.pairs.append((before, after))

    def _copy_weights(self, old: Any, new: Any) -> None:
        if not isinstance(old, keras.layers.Layer) or old is new:
            return
        rule = rules.find(old)
        factors = rule.factors(old, self._count) if rule and rule.factors else []
        by_id = {id(variable): factor for variable, factor in factors}
        for before, after in zip(old.variables, new.variables, strict=True):
            if id(before) in self._copied:  # with the layer that is wrapped
                continue
            self._copied.add(id(before))
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


def _own_weights(model: keras.Model) -> list[Any]:
    inside = {id(variable) for layer in model.layers for variable in layer.variables}
    return [variable for variable in model.weights if id(variable) not in inside]


def _mapped(change: Callable[[Any], Any], structure: Any) -> Any:
    return tree.map_structure(change, structure)


def _numpy(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable.value))


def _is_chain(model: keras.Sequential, steps: list[Step]) -> bool:
    """Tell whether calls are those of the layers in turn: rebuilding them gives the same."""
    own = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    return [id(step.call.operation) for step in steps] == [id(layer) for layer in own]


def _differ(layer: Any, changes: dict[str, Any]) -> bool:
    """Tell whether changes of a layer's configuration are any."""
    config: dict[str, Any] = layer.get_config() if changes else {}
    return any(not np.array_equal(config.get(key, ()), changes[key]) for key in changes)
