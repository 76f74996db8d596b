"""Several workers train one model: they meet, agree on the pruning, and the chief keeps the files.

Two ways work. tf_keras trains under `tf.distribute.MultiWorkerMirroredStrategy` (`strategy`), and
Keras 3 on the JAX backend under `keras.distribution` over `jax.distributed` (`connect`). Each
worker computes the masks itself, from the same weights by the same rules, so that no mask travels.
That weights and rules *are* the same is compared before the first step (`agreement`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import keras

from tfprune.family import family
from tfprune.meeting import meet

TIMEOUT = 60.0
"""Seconds that workers wait for each other, where nothing else is said."""
_seconds = TIMEOUT

WAYS = (
    "Two ways work, both with `from tfprune import workers`: tf_keras under "
    "`MultiWorkerMirroredStrategy` (`workers.strategy()`), or Keras 3 on the JAX backend "
    "(KERAS_BACKEND=jax) with `workers.connect(...)` and "
    "`keras.distribution.DataParallel(auto_shard_dataset=False)`."
)


@dataclasses.dataclass(frozen=True)
class Worker:
    """One of the processes that train a model together.

    Attributes:
        index: which one; the chief is 0.
        count: how many there are, 1 if this process trains alone.

    Example: `Worker(0, 2).is_chief` is True.
    """

    index: int = 0
    count: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that keeps files."""
        return self.index == 0


# -- Coming together -----------------------------------------------------------------------------


def strategy(timeout: float = TIMEOUT, seed: int | None = None, **arguments: Any) -> Any:
    """Return `tf.distribute.MultiWorkerMirroredStrategy` for the cluster that TF_CONFIG names.

    Args:
        timeout: seconds to wait for the other workers, here and when rules are compared;
            TensorFlow alone waits for ever.
        seed: what this run is seeded with, which all must say alike; it is compared, not set.
        **arguments: for `MultiWorkerMirroredStrategy`.

    Raises:
        ValueError: TF_CONFIG is missing or names no cluster, or workers have different seeds.
        TimeoutError: a worker did not come in time.
        OSError: the chief cannot listen on its own port.

    Example:

    ```python
    from tfprune import workers

    strategy = workers.strategy(timeout=60)
    with strategy.scope():  # make, wrap and compile in here
        model = tfprune.prune(make_model(), 0.9)
        model.compile("adam", "mse")
    ```
    """
    tasks, own = cluster()
    if not tasks:
        raise ValueError(
            "TF_CONFIG names no cluster. Set it on each machine before TensorFlow starts: "
            '{"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, '
            '"task": {"type": "worker", "index": 0}}. '
            f"Received: TF_CONFIG={os.environ.get('TF_CONFIG')!r}"
        )
    import tensorflow as tf

    _agree_on_seed(meet(tasks[0], own.count, own.index, timeout, str(seed)))
    _wait_for(timeout)
    return tf.distribute.MultiWorkerMirroredStrategy(**arguments)


def connect(
    coordinator: str, processes: int, index: int, seed: int = 0, timeout: float = TIMEOUT
) -> Worker:
    """Join the processes that train a Keras 3 model on the JAX backend.

    Call it first of all: JAX must not have computed anything before. All start from the same seed,
    and so with the same weights.

    Args:
        coordinator: "host:port" of the first process.
        processes: how many there are.
        index: which of them this one is; the first is 0.
        seed: for `keras.utils.set_random_seed`, the same for all.
        timeout: seconds to wait for the other processes.

    Raises:
        RuntimeError: Keras does not run on JAX.
        ValueError: processes with different seeds, or an address or index that is none.
        TimeoutError: a process did not come in time.
        OSError: the first process cannot listen on its port.

    Example:

    ```python
    from tfprune import workers

    worker = workers.connect("10.0.0.1:12345", processes=2, index=0)
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    ```

    Source: `jax.distributed.initialize`, which ends the process when the time is over.
    """
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            f"Keras 3 trains over several processes on the JAX backend only. {WAYS} "
            f"Received: the backend {keras.backend.backend()!r}"
        )
    _agree_on_seed(meet(coordinator, processes, index, timeout, str(seed)))
    _wait_for(timeout)
    import jax

    # CPU processes need it to talk to each other; elsewhere it changes nothing.
    through = os.environ.get("JAX_CPU_COLLECTIVES_IMPLEMENTATION", "gloo")
    jax.config.update("jax_cpu_collectives_implementation", through)
    limits = {"initialization_timeout", "shutdown_timeout_seconds"}  # older ones lack the second
    limits &= inspect.signature(jax.distributed.initialize).parameters.keys()
    limit: dict[str, Any] = dict.fromkeys(limits, max(1, round(timeout)))
    jax.distributed.initialize(coordinator, processes, index, **limit)
    keras.utils.set_random_seed(seed)
    return Worker(index, processes)


def seconds() -> float:
    """Return how long workers wait for each other, as `strategy` or `connect` was told."""
    return _seconds


def _wait_for(timeout: float) -> None:
    global _seconds
    _seconds = timeout


def _agree_on_seed(seeds: list[str]) -> None:
    if len(set(seeds)) > 1:
        raise ValueError(
            "The workers start from different seeds, and so from different weights or different "
            f"data. Give all the same. Received: {by_worker(seeds)}"
        )


def cluster() -> tuple[list[str], Worker]:
    """Return the addresses of the workers that TF_CONFIG names, the chief first, and which is ours.

    No addresses: it names none, or this task is no worker (an evaluator), or parameter servers
    do the work.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {})
        chief = list(cluster.get("chief", []))
        tasks = [*chief, *cluster.get("worker", [])]
        index = int(task.get("index", 0)) + (len(chief) if task.get("type") == "worker" else 0)
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            'TF_CONFIG must be JSON such as {"cluster": {"worker": ["10.0.0.1:12345"]}, "task": '
            f'{{"type": "worker", "index": 0}}}}. Received: TF_CONFIG={text!r}'
        ) from None
    if "ps" in cluster or task.get("type") not in ("chief", "worker") or not tasks:
        return [], Worker()
    return tasks, Worker(index, len(tasks))


# -- Who is who ----------------------------------------------------------------------------------


def worker(model: Any = None) -> Worker:
    """Return which worker this process is, of how many; the only one if it trains alone.

    Args:
        model: a model that tells by the strategy it was made under; else the scope that is open
            tells, or JAX.

    Example: `if workers.worker(model).is_chief: print("done")`.
    """
    over = strategy_of(model)
    if over is not None:
        resolver = over.cluster_resolver
        spec = resolver.cluster_spec().as_dict()
        chiefs = len(spec.get("chief", []))
        count = chiefs + len(spec.get("worker", []))
        return Worker(resolver.task_id + (chiefs if resolver.task_type == "worker" else 0), count)
    if keras.backend.backend() == "jax" and family(model) != "tf_keras":
        import jax

        return Worker(jax.process_index(), jax.process_count())
    return Worker()


def strategy_of(model: Any = None) -> Any:
    """Return the multi-worker strategy of a model, or of the scope that is open; None if none."""
    if "tensorflow" not in sys.modules:
        return None
    import tensorflow as tf

    found = getattr(model, "distribute_strategy", None)
    if found is None or not isinstance(found, tf.distribute.MultiWorkerMirroredStrategy):
        found = tf.distribute.get_strategy()
    return found if isinstance(found, tf.distribute.MultiWorkerMirroredStrategy) else None


def read_by_all(model: Any) -> str | None:
    """Return a weight whose value all workers must read together, None if there is none.

    Such as the moving mean of a BatchNorm of tf_keras, of which each worker holds its own. Models
    that share it, as a stripped one does, may be made outside of the scope.
    """
    for weight in model.weights:
        over = getattr(weight, "distribute_strategy", None)
        each = getattr(getattr(weight, "synchronization", None), "name", "") == "ON_READ"
        if over is not None and each and strategy_of(weight) is over and worker(weight).count > 1:
            return weight.name
    return None


@contextlib.contextmanager
def chief_path(path: str | os.PathLike, model: Any = None) -> Iterator[str]:
    """Give the path on the chief, and on other workers one of the same name that is thrown away.

    All workers must save: reading the weights may need all of them (a BatchNorm under
    `MultiWorkerMirroredStrategy`, sharded weights under JAX), and so one alone would wait for ever.

    Args:
        path: where the chief's file goes.
        model: the model, as `worker` takes it.

    Example:

    ```python
    with workers.chief_path("small.keras", model) as path:
        tfprune.strip_pruning(model).save(path)
    ```
    """
    if worker(model).is_chief:
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield os.path.join(folder, pathlib.Path(path).name)


def by_worker(texts: list[str]) -> str:
    """Return what each worker said, for a message."""
    return ", ".join(f"{text} on worker {index}" for index, text in enumerate(texts))
