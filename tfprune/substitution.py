"""Run a Keras 3 layer with other values in the place of its variables, on any backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def run_with(layer: Any, values: dict[int, Any], args: tuple, kwargs: dict) -> tuple[Any, list]:
    """Call a layer with a value for each of its variables; return its outputs and its losses.

    What the layer assigns while it runs (statistics, seeds, the states of an RNN, metrics) is
    assigned for real afterwards.

    Args:
        layer: a built layer.
        values: the value of each variable of the layer, by the variable's id.
        args: positional arguments of the call.
        kwargs: keyword arguments of the call.
    """
    mapping = [(v, values[id(v)]) for v in layer.variables]
    with _UpdateScope(mapping, collect_losses=True) as scope:
        outputs = layer(*args, **kwargs)
    for variable, value in scope.updates.values():
        variable.assign(value)
    # Keras knows a loss by its identity: the same one would count for the layer and its caller.
    return outputs, [loss + 0 for loss in scope.losses]


def with_gradient(
    value: Any, forward: Callable[[Any], Any], backward: Callable[[Any, Any], Any]
) -> Any:
    """Return `forward(value)` with a gradient of one's own.

    Args:
        value: a variable's.
        forward: of the value.
        backward: of the value and the gradient by the result; its result has the value's shape.

    Example: `with_gradient(w, lambda w: w, lambda w, g: ops.where(mask, g, 0))` is `w` as it is,
    with a gradient that is zero where the mask is.
    """

    @ops.custom_gradient
    def run(value):
        def gradient(*args, upstream=None):
            if upstream is None:
                (upstream,) = args
            # That of a table comes sparse from TensorFlow; a reshape makes it whole.
            return backward(value, ops.reshape(upstream, value.shape))

        return forward(value), gradient

    return run(ops.convert_to_tensor(value))


def cut_gradient(gradient: Any, mask: Any) -> Any:
    """Return a gradient that is zero where a mask is False; both are tensors of one shape."""
    if keras.backend.backend() == "torch":
        # Selecting takes three times as long there as multiplying by bytes.
        import torch

        return gradient * mask.view(torch.uint8)
    return ops.where(mask, gradient, 0)


class _UpdateScope(keras.StatelessScope):
    """Remembers what was assigned inside it, variables and values."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.updates: dict[int, tuple[Any, Any]] = {}

    def add_update(self, update):
        """Keep an assignment: a pair of the variable and its value."""
        super().add_update(update)
        self.updates[id(update[0])] = update
