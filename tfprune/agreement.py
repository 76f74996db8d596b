"""Several workers must train the same model: its place and rules are judged before it is wrapped.

Variables and gradients are made by all workers together. Where they differ, TensorFlow waits for
ever or fails with the number of a collective, JAX ends the process, and a model made outside of the
strategy's scope is trained by each worker alone, without a word.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import keras
import numpy as np

from tfprune.family import family
from tfprune.resumption import of_arrays
from tfprune.workers import WAYS, by_worker, cluster, seconds, strategy_of, worker


def require_place(model: Any, wrapping: bool = False) -> None:
    """Raise unless a model is where several workers can train it as one.

    Args:
        model: a model, or a layer of one.
        wrapping: whether it is about to be wrapped, which makes variables.

    Raises:
        RuntimeError: a Keras 3 model under `MultiWorkerMirroredStrategy`.
        ValueError: a model outside of the strategy's scope, or JAX without a distribution.
    """
    kind, over = family(model), strategy_of(model)
    if over is not None:
        if kind != "tf_keras":
            raise RuntimeError(
                "Keras 3 cannot train under `tf.distribute.MultiWorkerMirroredStrategy`: its `fit` "
                f"fails on the first batch. {WAYS} Received: the Keras 3 model {_name(model)}"
            )
        _require_scope(model, over, wrapping)
    elif kind == "keras" and keras.backend.backend() == "jax":
        _require_distribution(model)
    else:
        _require_no_cluster(model, kind)


def _require_scope(model: Any, over: Any, wrapping: bool) -> None:
    import tensorflow as tf

    outside = [w.name for w in model.weights if getattr(w, "distribute_strategy", None) is not over]
    closed = wrapping and tf.distribute.get_strategy() is not over
    if outside or closed:
        raise ValueError(
            "A model for several workers is made, wrapped and compiled inside of the strategy's "
            "scope: `with strategy.scope(): pruned = tfprune.prune(make_model(), rules); "
            "pruned.compile(...)`. Received: the model "
            f"{_name(model)}, {f'whose weight {outside[0]!r} was made' if outside else 'to wrap'} "
            "outside of it"
        )


def _require_no_cluster(model: Any, kind: str | None) -> None:
    tasks, _ = cluster()
    if len(tasks) > 1:
        way = "" if kind == "tf_keras" else f"{WAYS} "
        raise ValueError(
            f"TF_CONFIG names {len(tasks)} workers, but the model was made outside of "
            "`strategy.scope()`, so that each worker would train one of its own. Make, wrap and "
            "compile it inside: `with workers.strategy().scope(): ...` (`from tfprune import "
            f"workers`). To train on this machine alone, unset TF_CONFIG. {way}"
            f"Received: the model {_name(model)}"
        )


def _require_distribution(model: Any) -> None:
    import jax

    if jax.process_count() == 1:
        return
    spread = [v for v in model.weights if len(v.value.sharding.device_set) < jax.process_count()]
    if keras.distribution.distribution() is None or spread:
        raise ValueError(
            f"JAX runs in {jax.process_count()} processes, but the model was made before they were "
            "told to share it, so that each would train one of its own. First: "
            "`keras.distribution.set_distribution(keras.distribution.DataParallel("
            f"auto_shard_dataset=False))`. Received: the model {_name(model)}"
        )


def require_same_rules(model: Any, lines: list[str]) -> None:
    """Raise unless all workers are about to wrap the same layers in the same way.

    Args:
        model: the model to wrap.
        lines: one for each layer: how it is pruned, or why not.

    Raises:
        ValueError: a worker has other rules; the message says which.
    """
    _compare(model, {"rules": hashlib.sha256("\n".join(lines).encode()).hexdigest()}, lines)


def require_same_state(model: Any, layers: list[Any]) -> None:
    """Raise unless all workers start from the same rules, masks and weights.

    Args:
        model: the wrapped model.
        layers: its wrapped layers.

    Raises:
        ValueError: a worker differs; the message says which, and in what.
    """
    if worker(model).count == 1:
        return
    lines = [
        json.dumps([layer.pruning_schedule.get_config(), str(layer.criterion)], default=str)
        for layer in layers
    ]
    states = [state for layer in layers for state in layer.states()]
    parts = {
        "rules": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "pruning steps": of_arrays([np.array([layer.read_step() for layer in layers])]),
        "masks": of_arrays(state.mask for state in states),
        "weights (their seeds, or what was loaded, may differ)": of_arrays(
            state.weight for state in states
        ),
    }
    _compare(model, parts, lines)


def _compare(model: Any, parts: dict[str, str], lines: list[str]) -> None:
    """Raise if the digests of some part are not the same on all workers."""
    if worker(model).count == 1:
        return
    own = np.array([list(bytes.fromhex(digest)) for digest in parts.values()], np.uint8)
    everybody = _gathered(model, own).astype(np.uint8)
    differing = [
        name for at, name in enumerate(parts) if len(np.unique(everybody[:, at], axis=0)) > 1
    ]
    if differing:
        shown = [bytes(row[list(parts).index(differing[0])]).hex()[:8] for row in everybody]
        raise ValueError(
            f"The workers do not train the same model: {' and '.join(differing)} differ. Run the "
            "same script with the same rules, seed and files on all of them. Received: digests of "
            f"{differing[0].split(' (')[0]} {by_worker(shown)}; on this worker "
            f"{worker(model).index}: {'; '.join(lines)}"
        )


def _gathered(model: Any, own: np.ndarray) -> np.ndarray:
    """Return the arrays of all workers, stacked in the order of their indices."""
    over = strategy_of(model)
    if over is None:
        from jax.experimental import multihost_utils

        return _in_time(lambda: np.asarray(multihost_utils.process_allgather(own)))
    import tensorflow as tf

    options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=seconds())

    @tf.function
    def gather() -> Any:
        def each() -> Any:
            context = tf.distribute.get_replica_context()
            return context.all_gather(tf.constant(own[None].astype(np.int32)), 0, options)

        return over.run(each)

    try:
        found = over.experimental_local_results(gather())[0].numpy()
    except (tf.errors.DeadlineExceededError, tf.errors.UnavailableError) as error:
        raise TimeoutError(_late(str(error).splitlines()[0])) from None
    return found[:: len(found) // worker(model).count]  # of a worker's replicas, the first


def _in_time(work: Callable[[], np.ndarray]) -> np.ndarray:
    """Return what work that other workers take part in gives; JAX would wait for them for ever."""
    answer: Future[np.ndarray] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised by who waits for it
            answer.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # it may never end
    wait([answer], seconds())
    if not answer.done():
        raise TimeoutError(_late("no answer"))
    return answer.result()


def _late(received: str) -> str:
    return (
        f"Another worker did not come to compare its rules within {seconds():g} seconds. Run the "
        "same script on all of them, each with `prune` and `UpdatePruningStep`. "
        f"Received: {received}"
    )


def _name(model: Any) -> str:
    return repr(getattr(model, "name", type(model).__name__))
