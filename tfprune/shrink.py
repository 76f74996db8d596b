"""`shrink`: remove whole channels from a Keras 3 model until it is as small as asked for."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np

from tfprune import latency_target
from tfprune.channels import scoring, structure, targets
from tfprune.channels.admission import admit
from tfprune.channels.atoms import index_of_axes
from tfprune.channels.choice import Choice
from tfprune.channels.compilation import compile_like
from tfprune.channels.report import ShrinkReport, report
from tfprune.channels.scoring import Importance, Scorer
from tfprune.channels.selection import Limits, Scope
from tfprune.channels.structure import NOTHING, Structure
from tfprune.channels.targets import ImpossibleTarget
from tfprune.latency_target import LatencySearch

__all__ = ["ImpossibleTarget", "shrink"]


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
        model: a Sequential or Functional model of Keras 3, nested ones and shared layers included;
            or of tf_keras, which is taken over into Keras 3 first, uncompiled.
        channels: fraction of all channels to remove, or {layer name: fraction} for chosen layers.
        macs: fraction of the multiply-accumulates to keep, such as 0.5. Where the model leaves
            lengths open they count as 1, and a note in the report says how to do better.
        params: fraction of the parameters to keep.
        latency_ms: milliseconds that the exported float32 `.tflite` may take on this machine, the
            median of some runs. Up to six files are exported and measured meanwhile.
        importance: "l1", "l2", "gamma" (BatchNorm scales), "fpgm" (geometric median), "activation"
            (mean), "apoz" (average fraction of zeros), "taylor" (gradients; wants labels),
            "random", or a function (channels, values of each) -> a score for each channel.
        scope: "global" ranks the channels of all layers together, "local" removes the same
            fraction of each.
        round_to: what a layer keeps is a multiple of this (or all of it).
        ignore: names of layers whose channels all stay.
        layers: names of the only layers whose channels may go.
        max_ratio: largest fraction of a layer's channels to remove; to ask more of a layer by its
            name, or of each by `scope="local"`, is an error.
        min_channels: that every layer keeps, those that are named too.
        steps: remove in so many rounds, scoring what is left anew before each.
        data: for importances that look at the model at work: an array (samples, ...), a list or
            dict of arrays for several inputs, (inputs, labels), or batches of those from a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator (2,048 samples at most of
            what does not tell its length). A few hundred samples are enough.
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
        ValueError, TypeError: an argument is out of range, a layer is unknown, data are missing or
            do not fit, a score is not finite; or the model is wrapped for pruning, quantized,
            has LoRA enabled, is not built, or is not a Sequential or Functional one.
        RuntimeError: "taylor" on a backend that cannot.

    Source: dependency groups as in DepGraph (Fang et al. 2023); importances are named in
    `tfprune.channels.importance`.
    """
    goal = targets.target(channels=channels, macs=macs, params=params, latency_ms=latency_ms)
    limits = _limits(max_ratio, min_channels, round_to)
    _require("scope", scope, ("global", "local"))
    steps = _whole("steps", steps)
    scoring.check(importance, data)
    if tell is not None and not callable(tell):
        raise TypeError(
            "`tell` is a function that is called with a line of text, such as `print`. "
            f"Received: tell={tell!r} (of type {type(tell).__name__})"
        )
    model = admit(model)
    if goal.kind == "latency_ms":
        latency_target.require_fixed(model)
    scorer = Scorer(importance, model, data, seed)
    read = structure.read(model)
    choice = Choice(read, targets.candidates(read, layers, ignore), scope, limits)
    say = tell or (lambda text: None)

    removed, search = NOTHING, None
    for step in range(1, steps + 1):
        say(f"Scoring {read.atoms.count:,} channels ({step} of {steps})")
        scores = _scores_left(read, removed, scorer)
        if goal.kind == "latency_ms":
            search = search or LatencySearch(choice, goal.value, say)
            removed = search.removed(scores, step / steps)
        else:
            removed = choice.removed(goal, step / steps, scores)
    say(f"Removing {removed.size:,} channels")
    small, surgeon = read.without(removed)
    compile_like(model, small, surgeon.pairs, surgeon)
    latency = (search.before, search.after) if search else (None, None)
    return small, report(read, removed, goal, scorer.name, latency)


def _limits(max_ratio: Any, min_channels: Any, round_to: Any) -> Limits:
    least, multiple = _whole("min_channels", min_channels), _whole("round_to", round_to)
    number = isinstance(max_ratio, numbers.Real) and not isinstance(max_ratio, bool)
    if not number or not 0 < float(max_ratio) <= 1:
        raise (ValueError if number else TypeError)(
            "`max_ratio` is the largest fraction of a layer's channels to remove, a number above 0 "
            f"and at most 1. Received: max_ratio={max_ratio!r} (of type {type(max_ratio).__name__})"
        )
    return Limits(float(max_ratio), least, multiple)


def _whole(name: str, value: Any) -> int:
    """Return a number as an int, one of numpy too."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"`{name}` is a whole number, 1 or more. Received: {name}={value!r}")
    return int(value)


def _require(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        choices = " or ".join(map(repr, known))
        raise ValueError(f"`{name}` must be {choices}. Received: {name}={value!r}")


def _scores_left(read: Structure, removed: np.ndarray, scorer: Scorer) -> np.ndarray:
    """Return scores in the numbers of the whole model; what is gone already comes first."""
    if not removed.size:
        return scorer.scores(read)
    small, surgeon = read.without(removed)
    rest = structure.read(small)
    scored = scorer.scores(rest)
    found = np.full(read.atoms.count, np.inf)
    # By the variables themselves: names that Keras gives are others in a copy.
    made = {id(before): id(after) for before, after in surgeon.pairs}
    numbers_ = index_of_axes(rest.atoms.places)
    for place in read.atoms.places:
        key = made.get(id(place.variable), id(place.variable)), place.axis
        if key not in numbers_:
            continue
        other = rest.atoms.places[numbers_[key]]
        left = surgeon.positions(place.variable, place.axis)
        ids = place.ids if left is None else place.ids[left]
        old = np.where(ids < 0, -1, read.atoms.of[ids])
        new = np.where(other.ids < 0, -1, rest.atoms.of[other.ids])
        both = (old >= 0) & (new >= 0)
        found[old[both]] = scored[new[both]]
    found[removed] = -np.inf
    return found
