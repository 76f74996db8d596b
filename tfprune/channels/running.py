"""Run a graph call by call, in inference, while somebody looks on."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Generator, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.channels import graph
from tfprune.channels.batches import Batch
from tfprune.cloning import at_a_step, is_graph, leaves


def tensors(model: keras.Model, batch: Batch) -> list[Any]:
    """Return the inputs of a batch as tensors of the model's types, flat."""
    heads = tree.flatten(graph.inputs(model)) or []
    pairs = zip(batch.inputs, heads, strict=True)
    return [ops.convert_to_tensor(array, dtype=head.dtype) for array, head in pairs]


def visits(model: keras.Model, given: list[Any]) -> Generator[tuple[Any, list[Any]], None, list]:
    """Yield (layer or operation, its inputs) just before each call; return the outputs, flat.

    The calls inside nested models come in their places. A tensor is let go once its last reader
    ran; a model is run only as far as somebody goes on asking. Layers read their weights when they
    are called, so that whoever looks on may change those of the layer at hand.

    Args:
        model: a Sequential or Functional model.
        given: a tensor for each input, flat.

    Example: `[layer.name for layer, _ in visits(model, tensors(model, batch))]`
    """
    calls = graph.calls(model)
    ends = [id(x) for x in tree.flatten(graph.outputs(model)) or []]
    heads = tree.flatten(graph.inputs(model)) or []
    last = {id(x): number for number, call in enumerate(calls) for x in call.tensors}
    values = {id(head): tensor for head, tensor in zip(heads, given, strict=True)}
    for number, call in enumerate(calls):
        read = [values[id(x)] for x in call.tensors]
        if is_graph(call.operation):
            results = yield from visits(call.operation, read)
        else:
            yield call.operation, read
            results = in_inference(call, values)
        values.update({id(x): result for x, result in zip(call.outputs, results, strict=True)})
        for one in {id(x) for x in call.tensors}:
            if last[one] == number and one not in ends:
                del values[one]
    return [values[one] for one in ends]


def in_inference(call: graph.Call, values: dict[int, Any]) -> list[Any]:
    """Make one call with values in the place of symbolic tensors; return its outputs, flat.

    Args:
        call: of a layer, a nested model or an operation.
        values: of the symbolic tensors, by their ids.
    """

    def value(x: Any) -> Any:
        return values[id(x)] if graph.is_tensor(x) else x

    args = tree.map_structure(value, call.args) or ()
    kwargs = tree.map_structure(value, call.kwargs) or {}
    if "training" in inspect.signature(call.operation.call).parameters:
        kwargs["training"] = False
    return tree.flatten(call.operation(*args, **kwargs)) or []


def operations(model: keras.Model) -> list[Any]:
    """Return the layers and operations in the order of their calls; one called twice comes twice.

    Example: `len(operations(model))` is the number of calls that `visits` yields.
    """
    found = []
    for call in graph.calls(model):
        inside = is_graph(call.operation)
        found += operations(call.operation) if inside else [call.operation]
    return found


@contextlib.contextmanager
def states_kept(model: keras.Model) -> Iterator[None]:
    """Set what a run changes back to what it was: the states of a stateful recurrent layer, seeds.

    Example: `with states_kept(model): model(batch)`
    """
    changing = [*model.non_trainable_variables, *_states(model)]
    before = [(v, np.array(ops.convert_to_numpy(v.value))) for v in changing]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def forget(model: keras.Model) -> None:
    """Set the states of stateful recurrent layers to zero, as those of a new copy are.

    Example: `with states_kept(model): forget(model)`
    """
    for variable in _states(model):
        variable.assign(ops.zeros_like(variable.value))


def _states(model: keras.Model) -> list[keras.Variable]:
    # Keras does not list the states among the variables of a layer.
    held = [getattr(at_a_step(layer), "states", None) for layer in leaves(model)]
    return [v for v in tree.flatten(held) or [] if isinstance(v, keras.Variable)]


def inputs_of(layer: Any, model: keras.Model, batch: Batch) -> Iterator[np.ndarray]:
    """Yield what flows into a layer of a model, at each of its calls; the rest is not run.

    Half-precision inputs come as float32.
    """
    calls = sum(1 for one in operations(model) if one is layer)
    for operation, read in visits(model, tensors(model, batch)):
        if operation is layer:
            yield np.asarray(ops.convert_to_numpy(ops.cast(read[0], "float32")))
            calls -= 1
            if not calls:
                return


def require_graph(model: Any, caller: str) -> None:
    """Raise unless a model of Keras 3 can be run layer by layer.

    Args:
        model: what the user passed.
        caller: the function, for messages.

    Raises:
        ValueError: no Keras 3 model, a subclassed one, not built, or with weights that are not
            finite.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`{caller}` takes a model of Keras 3 (`import keras`). "
            f"Received: {model!r} (of type {type(model).__module__}.{type(model).__name__})"
        )
    if not is_graph(model):
        raise ValueError(
            f"`{caller}` runs a model layer by layer, and only its class knows how the layers of a "
            "subclassed one are put together. Write it with the Functional API: "
            f"`keras.Model(inputs, outputs)`. Received: {type(model).__name__} '{model.name}'"
        )
    if not model.built or not model.layers:
        raise ValueError(
            f"The model '{model.name}' has no layers or is not built yet. Add layers, and a "
            "`keras.Input(shape)` in front. "
            f"Received: {len(model.layers)} layers, built={model.built}"
        )
    for variable in model.variables:
        value = np.asarray(ops.convert_to_numpy(variable.value))
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(
                f"The weight {variable.path} holds NaN or infinite values: training has diverged. "
                "Take a checkpoint from before. Received: "
                f"{np.count_nonzero(~np.isfinite(value))} of {value.size} values"
            )
