"""Run a model again and again on one batch, each time from the layer that changed.

Sensitivity tries every weight at many levels. What comes before a layer does not depend on it, so
that on average half of each run can be spared: the tensors of one run of the dense model are kept,
and only what depends on the changed layer is computed anew, as a graph of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from tfprune.channels import graph, running
from tfprune.cloning import is_graph, leaves
from tfprune.evaluation import each_model_once


class Reruns:
    """The calls of a Sequential or Functional model, to be run in parts.

    Args:
        model: a built model of Keras 3; nested models are run as one call each.
    """

    def __init__(self, model: keras.Model) -> None:
        self._calls = graph.calls(model)
        self._heads = list(tree.flatten(graph.inputs(model)) or [])
        self._ends = graph.outputs(model)
        self._owns = [_layers_in(call.operation) for call in self._calls]
        self._rests: dict[int, tuple[Callable[[list], list], list[int], list[int]]] = {}

    def first(self, inputs: list[Any]) -> dict[int, Any]:
        """Run the whole model; return the value of every symbolic tensor, by its id.

        Args:
            inputs: an array for each input, in the order of `tree.flatten`.
        """
        values = {
            id(head): ops.convert_to_tensor(array, dtype=head.dtype)
            for head, array in zip(self._heads, inputs, strict=True)
        }
        with each_model_once():  # Keras compiles a grouped convolution for itself, even here
            for call in self._calls:
                _run(call, values)
        return values

    def outputs(self, values: dict[int, Any]) -> Any:
        """Return the outputs among the values, structured as the model gives them."""
        return tree.map_structure(lambda x: values[id(x)], self._ends)

    def again(self, layer: Any, values: dict[int, Any]) -> Any:
        """Run what depends on a layer whose weights were changed; return the outputs.

        Args:
            layer: one of the model, or of a model nested in it.
            values: of the first run; they stay as they are.
        """
        if id(layer) not in self._rests:
            self._rests[id(layer)] = self._rest(layer)
        run, needed, given = self._rests[id(layer)]
        with each_model_once():  # the last batch has another size, and is traced anew
            results = run([values[one] for one in needed])
        return self.outputs(values | dict(zip(given, results, strict=True)))

    def _rest(self, layer: Any) -> tuple[Callable[[list], list], list[int], list[int]]:
        """Return a function that runs what depends on a layer, what it takes and what it gives.

        Both are ids of symbolic tensors: those computed before the layer, and outputs of the model.
        """
        calls, changed, needed = [], set(), {}
        for call, owned in zip(self._calls, self._owns, strict=True):
            if id(layer) in owned or any(id(x) in changed for x in call.tensors):
                calls.append(call)
                needed.update({id(x): None for x in call.tensors if id(x) not in changed})
                changed.update(id(x) for x in call.outputs)
        ends = list(tree.flatten(self._ends) or [])
        given = list(dict.fromkeys(id(x) for x in ends if id(x) in changed))

        def run(tensors: list) -> list:
            found = dict(zip(needed, tensors, strict=True))
            for call in calls:
                _run(call, found)
            return [found[one] for one in given]

        return _compiled(run), list(needed), given


def _run(call: graph.Call, values: dict[int, Any]) -> None:
    """Run one call in inference mode and put its outputs among the values."""
    results = running.in_inference(call, values)
    values.update({id(x): r for x, r in zip(call.outputs, results, strict=True)})


def _layers_in(operation: Any) -> set[int]:
    """Return the ids of a layer and, if it is a model, of the layers inside."""
    inside = leaves(operation) if is_graph(operation) else []
    return {id(operation), *(id(layer) for layer in inside)}


def _compiled(run: Callable[[list], list]) -> Callable[[list], list]:
    """Return a function as a TensorFlow graph, which reads variables as they are when it runs.

    Elsewhere as it is: JAX would take the weights for constants.
    """
    if keras.backend.backend() != "tensorflow":
        return run
    import tensorflow as tf

    return tf.function(run, reduce_retracing=True)
