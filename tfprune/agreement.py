"""Several workers must train the same model: its place and rules are judged before it is wrapped.

Variables and gradients are made by all workers together. Where they differ, TensorFlow waits for
ever or fails with the number of a collective, JAX ends the process, and a model made outside of the
strategy's scope is trained by each worker alone, without a word.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import keras
import numpy as np

from tfprune import postings
from tfprune.family import family
from tfprune.placement import are_split_alike, own_parts, whole
from tfprune.resumption import of_arrays
from tfprune.workers import WAYS, by_worker, cluster, seconds, strategy_of, worker

_SHOWN = 3  # rules of each worker in a message
_WEIGHTS = "weights (their seeds, or what was loaded, may differ)"


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


def require_company(model: Any) -> None:
    """Raise unless all workers are about to wrap: looking at weights may take all of them.

    Raises:
        ValueError: a worker trains already, with nothing wrapped.
        TimeoutError: a worker does not come.
    """
    if worker(model).count > 1:
        _compare(model, _Said("wraps layers", {}, []))


def require_same_rules(model: Any, lines: list[str]) -> None:
    """Raise unless all workers are about to wrap the same layers in the same way.

    Args:
        model: the model to wrap.
        lines: one for each layer: how it is pruned, or why not.

    Raises:
        ValueError: a worker has other rules; the message says which.
        TimeoutError: a worker does not come.
    """
    if worker(model).count > 1:
        _compare(model, _Said("compares its rules", {"rules": _digest(lines)}, lines))


def require_same_state(model: Any, layers: list[Any], length: str = "") -> None:
    """Raise unless all workers start from the same rules, masks and weights.

    Args:
        model: the model.
        layers: its wrapped layers; if it has none, no worker's may have.
        length: how long the run is, in words: schedules may depend on it.

    Raises:
        ValueError: a worker differs; the message says which, and in what.
        TimeoutError: a worker does not come.
    """
    if worker(model).count == 1:
        return
    if not layers:
        _compare(model, _Said("trains with nothing wrapped", {}, []))
        return
    lines = [
        f"layer {number}: {_in_words(layer.pruning_schedule.get_config())}, {layer.criterion}"
        for number, layer in enumerate(layers, 1)
    ]
    masks, weights, shared = _digests(layers)
    parts = {
        "rules": _digest(lines),
        "pruning steps": of_arrays([np.array([layer.read_step() for layer in layers])]),
        "masks": masks,
        _WEIGHTS: weights,
    }
    _compare(model, _Said("trains wrapped layers", parts, lines, length, shared))


class _Said(NamedTuple):
    """What a worker says of itself.

    Attributes:
        does: what it is about to do.
        parts: digests of what must be the same on all, by name.
        lines: its rules, in words.
        length: that of its run, in words.
        shared: digests of what it holds of weights that workers share in parts, by place.
    """

    does: str
    parts: dict[str, str]
    lines: list[str]
    length: str = ""
    shared: dict[str, str] = {}  # noqa: RUF012 - never written to


def _digests(layers: list[Any]) -> tuple[str, str, dict[str, str]]:
    """Return one of all masks, one of all weights, and those of parts that others may hold too.

    Weights are looked at one after the other: copies of all might not fit into memory.
    """
    masks, weights, shared = [], [], {}
    for number, layer in enumerate(layers, 1):
        for at, (weight, mask, _) in enumerate(layer.pruning_vars, 1):
            if are_split_alike(weight, mask):
                for part, kept in zip(own_parts(weight), own_parts(mask), strict=True):
                    place = f"weight {at} of layer {number} from {list(part.start)} on"
                    shared[place] = of_arrays([kept.values, np.where(kept.values, part.values, 0)])
                continue
            kept = whole(mask).astype(bool)
            masks.append(of_arrays([kept]))
            weights.append(of_arrays([np.where(kept, whole(weight), 0)]))
    return _digest(masks), _digest(weights), shared


def _in_words(config: dict[str, Any]) -> str:
    """Return what a schedule's configuration says, as one would write it."""
    inside = config.get("config")
    if not isinstance(inside, dict):
        return json.dumps(config, default=str)
    arguments = ", ".join(f"{name}={value!r}" for name, value in inside.items())
    return f"{config.get('class_name')}({arguments})"


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _compare(model: Any, own: _Said) -> None:
    """Raise if the workers are about to do different things, or some part is not the same."""
    everybody = _gathered(model, own)
    does = [one.does for one in everybody]
    if len(set(does)) > 1:
        raise ValueError(
            "The workers do not train the same model: some wrap layers for pruning where others do "
            "not. Run the same script on all of them, with the same files and rules. "
            f"Received: {by_worker(does)}"
        )
    differing = [part for part in own.parts if len({one.parts[part] for one in everybody}) > 1]
    places = _differing_places(everybody)
    if places and _WEIGHTS not in differing:
        differing.append(_WEIGHTS)
    if differing:
        lengths = [one.length for one in everybody]
        longer = "rules" in differing and len(set(lengths)) > 1
        why = f"The runs are of different length: {by_worker(lengths)}. " if longer else ""
        raise ValueError(
            f"The workers do not train the same model: {' and '.join(differing)} differ. {why}Run "
            "the same script with the same rules, seed and files on all of them, for as many "
            f"epochs and batches. Received: {_unlike(everybody, differing[0], places)}"
        )


def _differing_places(everybody: list[_Said]) -> list[str]:
    """Return the parts of weights that several workers hold, with other values or masks."""
    held: dict[str, set[str]] = {}
    for one in everybody:
        for place, digest in one.shared.items():
            held.setdefault(place, set()).add(digest)
    return [place for place, digests in held.items() if len(digests) > 1]


def _unlike(everybody: list[_Said], part: str, places: list[str]) -> str:
    """Return in what the workers differ: the rules that not all have, or digests."""
    if places and len({one.parts[part] for one in everybody}) == 1:
        digests = by_worker([one.shared.get(places[0], "not held")[:8] for one in everybody])
        return f"digests of {places[0]} {digests}"
    if part == "rules":
        common = set.intersection(*(set(one.lines) for one in everybody))
        rest = [[line for line in one.lines if line not in common] for one in everybody]
        shown = ["; ".join(lines[:_SHOWN]) or "only rules of the others" for lines in rest]
        return by_worker(shown)
    digests = by_worker([one.parts[part][:8] for one in everybody])
    return f"digests of {part.split(' (')[0]} {digests}"


def _gathered(model: Any, own: _Said) -> list[_Said]:
    """Return what all workers say, in the order of their indices."""
    me = worker(model)
    started_by_tensorflow = strategy_of(model) is not None
    try:
        texts = postings.exchange(
            started_by_tensorflow, me.index, me.count, json.dumps(own), seconds()
        )
    except TimeoutError as error:
        raise TimeoutError(_late(str(error))) from None
    return [_Said(*json.loads(text)) for text in texts]


def _late(received: str) -> str:
    return (
        f"Another worker did not come to compare its rules within {seconds():g} seconds. Run the "
        "same script on all of them, each with `prune` and `UpdatePruningStep`. "
        f"Received: {received}"
    )


def _name(model: Any) -> str:
    return repr(getattr(model, "name", type(model).__name__))
