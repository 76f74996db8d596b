"""`shrink`: remove whole channels from a Keras 3 model until it is as small as asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from tfprune.channels import scoring, selection, structure, targets
from tfprune.channels.compilation import compile_like
from tfprune.channels.report import ShrinkReport, reasons, report
from tfprune.channels.scoring import Importance
from tfprune.channels.selection import Limits, Scope
from tfprune.channels.structure import NOTHING, Structure
from tfprune.channels.targets import Target


class ImpossibleTarget(ValueError):
    """The target of `shrink` cannot be met; the message says what can be, and what is in the way.

    Example: `tfprune.shrink(model, macs=0.001)` raises it where 2 % of the MACs must stay.
    """


def shrink(
    model: keras.Model,
    channels: float | Mapping[str, float] | None = None,
    macs: float | None = None,
    params: float | None = None,
    latency_ms: float | None = None,
    importance: Importance = "l2",
    scope: Scope = "global",
    round_to: int = 1,
    ignore: Iterable[str] = (),
    layers: Iterable[str] | None = None,
    max_ratio: float = 0.9,
    min_channels: int = 1,
    steps: int = 1,
    data: Any = None,
    *,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
) -> tuple[keras.Model, ShrinkReport]:
    """Remove the least important channels of a model; return a smaller one and a report.

    The result is an ordinary Keras model with the same names, weights, dtype policies and
    trainable flags, compiled if the model was; it computes exactly what the model would if nothing
    read the removed channels. The model itself is not changed. Train the result on: it has lost
    accuracy until you do.

    Args:
        model: a Sequential or Functional model of Keras 3, nested ones and shared layers included.
        channels: fraction of all channels to remove, or {layer name: fraction} for chosen layers.
        macs: fraction of the multiply-accumulates to keep, such as 0.5.
        params: fraction of the parameters to keep.
        latency_ms: milliseconds that the exported float32 `.tflite` may take on this machine.
        importance: "l1", "l2", "gamma" (BatchNorm scales), "fpgm" (geometric median), "activation"
            (mean), "apoz" (average fraction of zeros), "taylor" (gradients; wants labels),
            "random", or a function (channels, values of each) -> a score for each channel.
        scope: "global" ranks the channels of all layers together, "local" removes the same
            fraction of each.
        round_to: what a layer keeps is a multiple of this (or all of it).
        ignore: names of layers whose channels all stay.
        layers: names of the only layers whose channels may go.
        max_ratio: largest fraction of a layer's channels to remove.
        min_channels: that every layer keeps.
        steps: remove in so many rounds, scoring what is left anew before each.
        data: inputs for importances that look at the model at work, or (inputs, labels).
        seed: of "random".
        tell: called with a line of text as the work goes on.

    Returns:
        The smaller model, and a `ShrinkReport`.

    Example:

    ```python
    small, report = tfprune.shrink(model, macs=0.5)
    print(report)
    small.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    small.fit(x, y, epochs=5)
    ```

    Raises:
        ImpossibleTarget: so much cannot be removed.
        ValueError, TypeError: an argument is out of range, a layer is unknown, data are missing.

    Source: dependency groups as in DepGraph (Fang et al. 2023); importances are named in
    `tfprune.channels.importance`.
    """
    goal = targets.target(channels=channels, macs=macs, params=params, latency_ms=latency_ms)
    limits = _limits(max_ratio, min_channels, round_to)
    _require("scope", scope, ("global", "local"))
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"`steps` is a whole number, 1 or more. Received: steps={steps!r}")
    scoring.check(importance, data)
    read = structure.read(model)
    may_go = targets.candidates(read, layers, ignore)
    say = tell or (lambda text: None)

    removed = NOTHING
    for step in range(1, steps + 1):
        say(f"Scoring {read.atoms.count:,} channels ({step} of {steps})")
        scores = _scores_left(read, removed, importance, data, seed)
        removed = _choose(read, goal, step / steps, scores, may_go, scope, limits)
    say(f"Removing {removed.size:,} channels")
    small, surgeon = read.without(removed)
    compile_like(model, small, surgeon)
    name = (
        importance if isinstance(importance, str) else getattr(importance, "__name__", "function")
    )
    return small, report(read, removed, _words(goal), name)


def _limits(max_ratio: Any, min_channels: Any, round_to: Any) -> Limits:
    for name, value in (("min_channels", min_channels), ("round_to", round_to)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` is a whole number, 1 or more. Received: {name}={value!r}")
    if isinstance(max_ratio, bool) or not 0 < max_ratio <= 1:
        raise ValueError(
            "`max_ratio` is the largest fraction of a layer's channels to remove, above 0 and at "
            f"most 1. Received: max_ratio={max_ratio!r}"
        )
    return Limits(float(max_ratio), min_channels, round_to)


def _require(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        choices = " or ".join(map(repr, known))
        raise ValueError(f"`{name}` must be {choices}. Received: {name}={value!r}")


def _scores_left(
    read: Structure, removed: np.ndarray, importance: Importance, data: Any, seed: int
) -> np.ndarray:
    """Return scores in the numbers of the whole model; what is gone already comes first."""
    if not removed.size:
        return scoring.scores(read, importance, data, seed)
    small, surgeon = read.without(removed)
    compile_like(read.model, small, surgeon)
    rest = structure.read(small)
    scored = scoring.scores(rest, importance, data, seed)
    found = np.full(read.atoms.count, np.inf)
    by_name = {(p.layer, p.name, p.axis): p for p in rest.atoms.places}
    for place in read.atoms.places:
        other = by_name.get((place.layer, place.name, place.axis))
        if other is None:
            continue
        left = surgeon.positions(place.variable, place.axis)
        ids = place.ids if left is None else place.ids[left]
        old = np.where(ids < 0, -1, read.atoms.of[ids])
        new = np.where(other.ids < 0, -1, rest.atoms.of[other.ids])
        both = (old >= 0) & (new >= 0)
        found[old[both]] = scored[new[both]]
    found[removed] = -np.inf
    return found


def _choose(
    read: Structure,
    goal: Target,
    part: float,
    scores: np.ndarray,
    may_go: np.ndarray,
    scope: Scope,
    limits: Limits,
) -> np.ndarray:
    """Return the atoms to remove once this part of the way is gone."""
    if goal.by_layer is not None:
        return _by_layer(read, goal.by_layer, part, scores, may_go, limits)
    order = selection.order(read.atoms, scores, may_go, scope, limits)
    if goal.kind == "channels" and scope == "local":
        return order.up_to(goal.value * part)
    meets = _meets(read, goal, part)
    found = order.first(meets)
    if found is None:
        raise ImpossibleTarget(_cannot(read, goal, order.atoms, limits))
    return found


def _meets(read: Structure, goal: Target, part: float) -> Callable[[np.ndarray], bool]:
    cost = read.cost
    if goal.kind == "channels":
        wanted = int(goal.value * part * read.atoms.count + 1e-9)
        return lambda removed: removed.size >= wanted
    count = cost.macs if goal.kind == "macs" else cost.params
    most = count(NOTHING) * (1 - (1 - goal.value) * part)
    return lambda removed: count(removed) <= most


def _by_layer(
    read: Structure,
    ratios: Mapping[str, float],
    part: float,
    scores: np.ndarray,
    may_go: np.ndarray,
    limits: Limits,
) -> np.ndarray:
    """Return the least important atoms of each named layer, as many as its ratio says."""
    atoms = read.atoms
    gone = np.zeros(atoms.count, bool)
    for name, numbers in targets.layer_places(read, ratios).items():
        for number in numbers:
            place = atoms.places[number]
            size = place.ids.size
            keep = size - int(ratios[name] * part * size + 1e-9)
            keep = max(-(-keep // limits.round_to) * limits.round_to, limits.min_channels)
            atom = np.where(place.ids < 0, -1, atoms.of[place.ids])
            inside, times = np.unique(atom[atom >= 0], return_counts=True)
            ranked = np.lexsort((inside, scores[inside], ~gone[inside]))
            ranked = ranked[
                gone[inside][ranked] | (may_go[inside] & (scores[inside] < np.inf))[ranked]
            ]
            left = size - np.cumsum(times[ranked])
            enough = np.flatnonzero(left >= keep)
            if size > keep and (not enough.size or left[enough[-1]] > keep + times.max() - 1):
                reason = atoms.reason(place.ids) or "other arguments keep them"
                raise ImpossibleTarget(
                    f"Of the {size} channels of '{name}' only {int(times[ranked].sum())} can be "
                    f"removed, and {size - keep} were asked for. The others stay because {reason}."
                )
            gone[inside[ranked[: enough[-1] + 1]] if enough.size else NOTHING] = True
    return np.flatnonzero(gone)


def _cannot(read: Structure, goal: Target, removable: np.ndarray, limits: Limits) -> str:
    """Say what can be reached, and what stands against more."""
    cost = read.cost
    reached = {
        "channels": removable.size / max(read.atoms.count, 1),
        "macs": cost.macs(removable) / max(cost.macs(NOTHING), 1),
        "params": cost.params(removable) / max(cost.params(NOTHING), 1),
    }
    against = sorted(reasons(read).items(), key=lambda item: -item[1])[:3]
    frozen = "; ".join(f"{count} channels: {reason}" for reason, count in against)
    return (
        f"`{_words(goal)}` cannot be met: with max_ratio={limits.max_ratio:g}, "
        f"min_channels={limits.min_channels} and round_to={limits.round_to} at the most "
        f"{reached['channels']:.1%} of the channels can be removed, which leaves "
        f"{reached['macs']:.1%} of the MACs and {reached['params']:.1%} of the parameters. "
        f"What must stay: {frozen or 'nothing'}. Raise `max_ratio`, or ask for less."
    )


def _words(goal: Target) -> str:
    if goal.by_layer is not None:
        return "channels=" + str(dict(goal.by_layer))
    return f"{goal.kind}={goal.value:g}"
