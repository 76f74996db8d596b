"""What workers tell each other while they train: short texts, through the service they started by.

Not through the collectives of training. A worker that compares would meet another there that makes
variables or trains already, which ends both processes, and who waits there cannot be called back.
"""

from __future__ import annotations

import itertools
import time
from typing import Any, Protocol

_numbers = itertools.count()  # all workers compare equally often, or find out that they do not


class _Service(Protocol):
    """Keeps texts by key, for all workers."""

    def post(self, key: str, text: str) -> None: ...

    def read(self, key: str, seconds: float) -> str: ...

    def withdraw(self, key: str) -> None: ...


def exchange(under_tensorflow: bool, index: int, count: int, text: str, seconds: float) -> list:
    """Return what each worker says at this point of its script, by its index.

    Args:
        under_tensorflow: whether `MultiWorkerMirroredStrategy` started the workers, or else
            `jax.distributed`.
        index: which worker this is; the first is 0.
        count: how many there are.
        text: what this one says.
        seconds: how long to wait for the others, all together.

    Raises:
        TimeoutError: another did not come; the message is that of the service.
    """
    service: _Service = _TensorFlow() if under_tensorflow else _Jax()
    place = f"tfprune/{next(_numbers)}"
    service.post(f"{place}/{index}", text)
    deadline = time.monotonic() + seconds
    try:
        return [
            text
            if other == index
            else service.read(f"{place}/{other}", max(0.001, deadline - time.monotonic()))
            for other in range(count)
        ]
    except TimeoutError:
        service.withdraw(f"{place}/{index}")  # who comes later must not go on alone
        raise


class _TensorFlow:
    """The coordination service of a strategy; TensorFlow has no public name for it."""

    def __init__(self) -> None:
        import tensorflow as tf
        from tensorflow.python.eager import context

        self._context: Any = context.context()
        self._errors = (tf.errors.DeadlineExceededError, tf.errors.UnavailableError)

    def post(self, key: str, text: str) -> None:
        self._context.set_config_key_value(key, text)

    def read(self, key: str, seconds: float) -> str:
        try:
            return self._context.get_config_key_value(key, max(1, round(1000 * seconds)))
        except self._errors as error:
            raise TimeoutError(str(error).splitlines()[0]) from None

    def withdraw(self, key: str) -> None:
        self._context.delete_config_key_value(key)


class _Jax:
    """The coordination service of `jax.distributed`; JAX has no public name for it."""

    def __init__(self) -> None:
        import jax
        from jax._src import distributed

        self._client: Any = distributed.global_state.client
        self._error = jax.errors.JaxRuntimeError

    def post(self, key: str, text: str) -> None:
        self._client.key_value_set(key, text)

    def read(self, key: str, seconds: float) -> str:
        try:
            return self._client.blocking_key_value_get(key, max(1, round(1000 * seconds)))
        except self._error as error:
            raise TimeoutError(str(error).splitlines()[0]) from None

    def withdraw(self, key: str) -> None:
        self._client.key_value_delete(key)
