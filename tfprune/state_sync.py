"""Under JAX weights live outside of the model within an epoch; when they come back, others wait.

`fit` calls the model's `jax_state_sync` after the last step of an epoch, before it validates and
before any callback hears that the epoch is over. Batches may end long before a callback is told, in
another thread: were every callback told at once, each step would wait for the one before it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

_NAME = "jax_state_sync"


def after_each_sync(model: Any, then: Callable[[], None]) -> None:
    """Call a function each time that weights have come back into a model, until `undo`.

    Args:
        model: a Keras 3 model; nothing is done where it needs no such sync, or does it elsewhere.
        then: a method, which may ask for a sync itself. Its object is not kept alive: a callback
            whose run was interrupted, so that nothing calls `undo`, is to be missed.
    """
    undo(model)
    original = getattr(model, _NAME, None)
    if original is None:
        return

    found = weakref.WeakMethod(then)

    def sync() -> None:
        original()
        method = found()
        if method is not None:
            method()

    # Keras keeps track of what is set on a model, and there is nothing to track here.
    object.__setattr__(model, _NAME, sync)


def undo(model: Any) -> None:
    """Let a model sync as its class does."""
    vars(model).pop(_NAME, None)
