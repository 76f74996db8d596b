"""The training step that Keras keeps compiled: made anew when masks come or go, and guarded.

A wrapper speaks only while it is traced. What it has to say later (that its callback is missing,
that its forward pass needs the masks again) must be said by or to the compiled function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def calls(model: Any) -> int:
    """Return how many calls of a model's training function came to their end since `refresh`."""
    function = getattr(model, "train_function", None)
    return function.calls if isinstance(function, _Guarded) else 0


def refresh(model: Any, layers: list[Any]) -> None:
    """Have a model's training function traced again if it is not what its wrapped layers need.

    That is one that leaves out masks which must be applied from now on, or one whose first trace a
    wrapper refused for want of a callback: TensorFlow would go on with the half of it. Whatever
    function there is asks for the callback from then on.
    """
    stale = [
        layer
        for layer in layers
        if layer.refused_training or (layer.traced_unmasked and not layer.zeros_hold)
    ]
    for layer in stale:
        layer.refused_training = layer.traced_unmasked = False
    function = getattr(model, "train_function", None)
    if function is None:
        return
    if stale:
        model.make_train_function(force=True)
        function = model.train_function
    if not isinstance(function, _Guarded):
        model.train_function = _Guarded(function, layers)


class _Guarded:
    """A compiled training function that refuses to train wrapped layers without their callback.

    Attributes:
        calls: that came to their end.
    """

    def __init__(self, function: Callable, layers: list[Any]):
        self._function = function
        self._layers = layers
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        for layer in self._layers:
            layer.confirm_finished()
            if not layer.may_train():
                layer.refuse_training()
        result = self._function(*args)
        self.calls += 1
        return result
