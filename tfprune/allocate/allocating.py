"""`allocate`: rules that spread one sparsity well over the layers of a model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import numpy as np

from tfprune import allocation, masks, patterns, schedules, shares
from tfprune.allocate import savings
from tfprune.allocate.result import AllocatedLayer, Allocation
from tfprune.allocate.savings import Savings
from tfprune.family import family, require_family, room
from tfprune.paths import listed, walk
from tfprune.patterns import NM, Pattern
from tfprune.schedules import PruningSchedule, check_sparsity
from tfprune.sensitivity import Sensitivity, load

Method = Literal["uniform", "erk", "global", "lamp", "sensitivity", "size", "latency"]
METHODS: tuple[str, ...] = get_args(Method)
_PAYING = {"size": savings.SmallerFile, "latency": savings.FasterKernels}
_ELSEWHERE = "zeros cost less elsewhere for what they save"


def allocate(
    model: Any,
    sparsity: float = 0.9,
    method: Method = "global",
    *,
    schedule: PruningSchedule | float | None = None,
    pattern: Any = "unstructured",
    sensitivity: Sensitivity | str | os.PathLike | None = None,
    layers: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] = (),
    floor: float | Mapping[str, float] = 0.0,
    ceiling: float | Mapping[str, float] = allocation.WHOLE,
) -> Allocation:
    """Spread a sparsity over the layers of a trained model, denser where it costs more.

    Args:
        model: a built Sequential or Functional model, Keras 3 or tf_keras, trained.
        sparsity: fraction of zeros over all layers that take part; by "size" and "latency" over
            those of them in which zeros save something, while the others stay dense.
        method: "uniform" (the same for each, as tfmot does), "erk" (Erdos-Renyi-Kernel: small
            kernels stay denser), "global" (one threshold of magnitude over all layers, as the
            weights are now: each layer keeps the sparsity that this gives it while they train),
            "lamp" (one threshold over all layers of each weight's part in what its layer keeps,
            as they are now too),
            "sensitivity" (the next zero costs every layer the same, as measured), "size" (the
            next byte saved in the sparse float32 `.tflite` costs every layer the same part of the
            squared magnitude that it has left; layers too small for sparse encoding or without
            kernels for it stay dense), "latency" (the same for multiplications that XNNPACK's
            sparse kernels are spared, in the 1x1 convolutions that they run; all others stay
            dense).
        schedule: how each layer gets to its own sparsity: a schedule whose final sparsity is
            replaced (a number: at once); if None, gradually over the run (see `tfprune.Gradual`;
            tf_keras: at once).
        pattern: where zeros may stand; N:M patterns fix their own sparsity and are refused.
        sensitivity: what `tfprune.sensitivity` measured, for the method of that name; or the path
            of the JSON that it was saved to (`to_json`, or `tfprune sensitivity --json`).
        layers: paths of the only layers that take part.
        ignore: paths of layers that stay dense.
        floor: least sparsity of every layer, or of the named ones.
        ceiling: greatest sparsity of every layer, or of the named ones.

    Returns:
        An `Allocation`: print it, or pass it to `tfprune.prune`.

    Example:

    ```python
    schedule = tfprune.PolynomialDecay(0.0, 0.95, begin_step=0, end_step=1400)
    spread = tfprune.allocate(model, 0.95, "global", schedule=schedule, ignore=["logits"])
    pruned = tfprune.prune(model, spread)
    ```

    Raises:
        ValueError: no such method, schedule or layer, a sparsity out of range, a floor above its
            ceiling, or floors and ceilings that leave no room; a sensitivity of a model with other
            layers, or a file that holds none; by "size" and "latency" a model in which zeros save
            nothing, with the reason and what to change.
        FileNotFoundError: there is no file of a sensitivity at that path.

    Source: the methods' papers are named in `tfprune.allocation`.
    """
    sparsity = check_sparsity(sparsity, "sparsity")
    if method not in METHODS:
        raise ValueError(
            f"`method` must be one of {', '.join(METHODS)}. Received: method={method!r}"
        )
    pattern = patterns.get(pattern)
    if isinstance(pattern, NM):
        raise ValueError(
            f"The pattern {pattern} fixes the sparsity of every layer, so there is nothing to "
            f"spread. Pass it to `tfprune.prune` in a `Rule`. Received: pattern='{pattern}'"
        )
    if method == "sensitivity" and isinstance(sensitivity, (str, os.PathLike)):
        sensitivity = load(sensitivity)
    measured = sensitivity if isinstance(sensitivity, Sensitivity) else None
    if measured is not sensitivity or (method == "sensitivity") != (measured is not None):
        raise ValueError(
            "`method='sensitivity'` and `sensitivity=` go together: measure first, with "
            "`tfprune.sensitivity(model, data)`, and pass the result or the path of its JSON. "
            f"Received: method={method!r}, sensitivity={type(sensitivity).__name__}"
        )
    schedule = usual(model, schedule)
    weights = prunable(model, schedule, pattern)
    taking_part = _chosen(list(weights), layers, ignore)
    weights = {path: weights[path] for path in taking_part}
    sizes = {path: sum(a.size for a in arrays) for path, arrays in weights.items()}
    floors = _limits("floor", floor, list(weights), 0.0)
    ceilings = _limits("ceiling", ceiling, list(weights), allocation.WHOLE)
    for path in weights:
        if floors[path] > ceilings[path]:
            raise ValueError(
                f"The floor of '{path}' is above its ceiling, so that no sparsity is left for it. "
                f"Move one of them. Received: floor={floors[path]:g}, ceiling={ceilings[path]:g}"
            )
    if method in _PAYING:
        paying = _PAYING[method](model, list(weights), pattern)
        rows = _where_it_pays(paying, method, sizes, sparsity, floors, ceilings)
    else:
        curves = _curves(method, weights, measured)
        limits = list(floors.values()), list(ceilings.values())
        found = allocation.spread(curves, list(sizes.values()), sparsity, *limits)
        pairs = zip(sizes.items(), found, strict=True)
        rows = [AllocatedLayer(path, size, round(s, 9)) for (path, size), s in pairs]
    return Allocation(method, sparsity, tuple(rows), schedule, pattern)


def _where_it_pays(
    paying: Savings,
    method: str,
    sizes: dict[str, int],
    sparsity: float,
    floors: dict[str, float],
    ceilings: dict[str, float],
) -> list[AllocatedLayer]:
    """Spread zeros over the layers in which they save something."""
    refusals = {path: paying.refusal(path) for path in sizes}
    chosen = [path for path in sizes if not refusals[path]]
    if not chosen:
        reasons = "; ".join(f"'{path}': {reason}" for path, reason in refusals.items())
        raise ValueError(
            f"No zeros would pay by {method}. Choose another method, such as 'global'. "
            f"Received: method={method!r}, for layers of which none qualifies ({reasons})"
        )
    levels = savings.LEVELS
    curves = allocation.cheapest(
        levels,
        [[paying.lost(path, s) for s in levels] for path in chosen],
        [[paying.saved(path, s) for s in levels] for path in chosen],
    )
    counts = [sizes[path] for path in chosen]
    low, high = [floors[path] for path in chosen], [ceilings[path] for path in chosen]
    while True:
        found = allocation.spread(curves, counts, sparsity, low, high)
        # A layer that gets too few zeros to save anything leaves them to the others.
        idle = [n for n, s in enumerate(found) if s > low[n] and not paying.saved(chosen[n], s) > 0]
        less = [low[n] if n in idle else top for n, top in enumerate(high)]
        if not idle or sum(n * top for n, top in zip(counts, less, strict=True)) < sparsity * sum(
            counts
        ):
            break
        high = less
    given = {path: floors[path] for path in sizes} | dict(zip(chosen, found, strict=True))
    given = {path: round(s, 9) for path, s in given.items()}
    paying.check(given)
    rows = []
    for path, size in sizes.items():
        reason = refusals[path]
        if not reason:
            reason = paying.words(path, given[path]) if given[path] > 0 else _ELSEWHERE
        rows.append(AllocatedLayer(path, size, given[path], path in chosen, reason))
    return rows


def _curves(
    method: str, weights: dict[str, list[np.ndarray]], measured: Sensitivity | None
) -> list[allocation.Curve]:
    if method == "uniform":
        return allocation.uniform(len(weights))
    if method == "erk":
        return allocation.erk([[a.shape for a in arrays] for arrays in weights.values()])
    if measured is not None:
        return _by_cost(weights, measured)
    score = allocation.lamp if method == "lamp" else masks.magnitudes
    kernels = (np.concatenate([a.ravel() for a in arrays]) for arrays in weights.values())
    return allocation.ranked([score(kernel) for kernel in kernels])


def _by_cost(weights: dict[str, list[np.ndarray]], measured: Sensitivity) -> list[allocation.Curve]:
    by_layer = measured.by_layer()
    missing = [path for path in weights if path not in by_layer]
    if missing:
        raise ValueError(
            "The sensitivity was not measured for every layer that takes part: measure it on this "
            f"very model, or leave them out by `ignore`. Received: none for {missing}"
        )
    for path, arrays in weights.items():
        # Of a layer's weights a pattern may fit some only, and only those were measured.
        then = [row.size for row in measured.weights if row.layer == path]
        now = [int(array.size) for array in arrays]
        if not Counter(then) <= Counter(now):
            raise ValueError(
                "The sensitivity was measured on another model: the sizes of the weights differ. "
                f"Measure it on this very model. Received: weights of {now} values in '{path}', "
                f"measured with {then}"
            )
    losses = [[drop / by_layer[path][0] for drop in by_layer[path][1]] for path in weights]
    return allocation.cheapest(measured.sparsities, losses)


def usual(model: Any, schedule: PruningSchedule | float | None) -> PruningSchedule:
    """Return the schedule that was asked for, the usual one of the model's family if none was."""
    if schedule is None:
        schedule = shares.usual_schedule(family(model) or "keras", 0.5)
    return schedules.get(schedule)


def prunable(model: Any, schedule: PruningSchedule, pattern: Pattern) -> dict[str, list]:
    """Return the kernels of each layer that can be pruned, by its path, shared layers once."""
    keras_ = room(require_family(model, "a model"))
    if not keras_.is_graph(model) or not model.built:
        raise ValueError(
            "`allocate` takes a built Sequential or Functional model, whose layers it can name. "
            f"Received: {type(model).__name__} {model.name!r}"
        )
    found: dict[str, list] = {}
    seen: set[int] = set()
    for path, layer in walk(model, keras_):
        if keras_.is_wrapped(layer):
            raise ValueError(
                "The model is wrapped for pruning already. Strip it first "
                f"(`tfprune.strip_pruning`). Received: the wrapped layer '{path}'"
            )
        if id(layer) not in seen and keras_.reason_against(layer, schedule, pattern) is None:
            found[path] = keras_.prunable_arrays(layer)
        seen.add(id(layer))
    if not found:
        raise ValueError(f"Nothing in the model '{model.name}' can be pruned so.")
    return found


def _chosen(
    paths: list[str], layers: str | Iterable[str] | None, ignore: str | Iterable[str]
) -> list[str]:
    wanted = list(paths) if layers is None else listed(layers)
    ignored = listed(ignore)
    for name in [*wanted, *ignored]:
        if name not in paths:
            raise ValueError(
                "No layer of that path can be pruned. Those that can are "
                f"{', '.join(map(repr, paths))}. Received: {name!r}"
            )
    left = [path for path in paths if path in wanted and path not in ignored]
    if not left:
        raise ValueError(
            "`layers` and `ignore` leave no layer to prune; leave one of them out. "
            f"Received: layers={layers!r}, ignore={ignore!r}"
        )
    return left


def _limits(name: str, given: Any, paths: list[str], otherwise: float) -> dict[str, float]:
    by_path = dict(given) if isinstance(given, Mapping) else dict.fromkeys(paths, given)
    unknown = [path for path in by_path if path not in paths]
    if unknown:
        raise ValueError(
            f"`{name}` names a layer that takes no part; those that do are "
            f"{', '.join(map(repr, paths))}. Received: {unknown[0]!r}"
        )
    return {path: check_sparsity(by_path.get(path, otherwise), name) for path in paths}
