"""`sensitivity`: prune each weight alone at several levels; how much worse does the model get?"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfprune import masks, patterns, registry
from tfprune.channels import graph
from tfprune.channels.batches import Batches
from tfprune.evaluation import Judge, merged
from tfprune.family import room
from tfprune.files import write_whole
from tfprune.metrics import Metric
from tfprune.patterns import NM, Pattern
from tfprune.prune import walk
from tfprune.registry import PrunableWeight
from tfprune.schedules import check_sparsity
from tfprune.sensitivity.reruns import Reruns
from tfprune.sensitivity.result import Sensitivity, WeightSensitivity

LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """A weight that is tried: its layer, the layer's path, and the weight as it was."""

    path: str
    layer: Any
    weight: PrunableWeight
    dense: np.ndarray


def sensitivity(
    model: keras.Model,
    data: Any,
    sparsities: Sequence[float] = LEVELS,
    metric: str | Metric = "accuracy",
    pattern: Any = "unstructured",
    *,
    layers: Sequence[str] | None = None,
    record: str | os.PathLike | None = None,
    tell: Callable[[str], None] | None = None,
) -> Sensitivity:
    """Measure what each weight of a trained model can lose, without training.

    Each weight is pruned alone at each level; the drop of the metric says what it costs. Of every
    forward pass only the part behind the pruned layer is run, so that a table of 20 weights at 6
    levels takes about the time of 60 evaluations. The model is as it was afterwards.

    Args:
        model: a built Sequential or Functional model of Keras 3.
        data: (inputs, labels), or batches of them (a `tf.data.Dataset`, a generator). A few hundred
            held-out samples are enough to tell weights apart.
        sparsities: levels to try, rising, each in (0, 1).
        metric: "accuracy", "loss" (that the model was compiled with), or a function (labels,
            outputs) -> a number, larger for better models; it is averaged over batches.
        pattern: where zeros may stand; N:M patterns have one level of their own.
        layers: paths of the only layers to try.
        record: path of a JSON file in which finished batches are kept, so that an interrupted
            measurement goes on where it stopped; removed by you, never by tfprune.
        tell: called with a line of text as the work goes on.

    Returns:
        A `Sensitivity`: print it, plot it, or pass it to `tfprune.allocate`.

    Example:

    ```python
    found = tfprune.sensitivity(model, (x_test[:1000], y_test[:1000]))
    print(found)
    found.plot()
    ```

    Raises:
        ValueError: data that are empty, misshaped or without labels; levels out of range; a metric
            that gives no finite number; an unknown layer; a record of another measurement.

    Source: sensitivity analysis of Han et al. 2015 and Li et al. 2017.
    """
    graph.require_graph(model)
    pattern = patterns.get(pattern)
    levels = _levels(sparsities, pattern)
    trials = _trials(model, pattern, layers)
    judge = Judge(model, metric, "tfprune.sensitivity")
    say = tell or (lambda text: None)
    kept = _Record(record, _identity(model, levels, judge.name, pattern, trials))
    reruns = Reruns(model)
    for number, batch in enumerate(merged(Batches(model, data))):
        if number < kept.batches:
            continue
        say(f"Batch {number + 1}: {len(trials)} weights at {len(levels)} levels")
        judge.require_labels(batch)
        values = reruns.first(batch.inputs)
        dense = judge(batch, reruns.outputs(values))
        found = [
            [judge(batch, outputs) for outputs in _tried(trial, levels, pattern, reruns, values)]
            for trial in trials
        ]
        kept.add(batch.size, dense, found)
    return kept.result(model.name, judge.name, levels, trials)


def _tried(
    trial: _Trial, levels: Sequence[float], pattern: Pattern, reruns: Reruns, values: dict
) -> Iterator[Any]:
    """Yield the outputs with a weight pruned at each level; it is as before at the end."""
    variable = trial.weight.variable
    try:
        for level in levels:
            scores = masks.magnitudes(trial.dense)
            mask, _ = pattern.mask(scores, trial.weight.layout, level, level)
            variable.assign(trial.dense * mask)
            yield reruns.again(trial.layer, values)
    finally:
        variable.assign(trial.dense)


class _Record:
    """Sums over the batches that are done, in memory and in a file if one is asked for."""

    def __init__(self, path: str | os.PathLike | None, identity: dict[str, Any]) -> None:
        self._path, self._identity = path, identity
        self.batches, self._samples, self._dense = 0, 0, 0.0
        self._sums: np.ndarray | None = None
        if path is None or not pathlib.Path(path).exists():
            return
        try:
            content = json.loads(pathlib.Path(path).read_text("utf-8"))
            same = content["measured"] == identity
            self._sums = np.array(content["sums"])
            self.batches, self._samples = content["batches"], content["samples"]
            self._dense = content["dense"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(path)!r} is no record of a sensitivity, and is left as it is: {error}. "
                "Choose another path for `record`."
            ) from None
        if not same:
            raise ValueError(
                f"The record {str(path)!r} is of another measurement (another model, other levels, "
                "another metric or pattern), and is left as it is. Choose another path for "
                "`record`, or delete it."
            )

    def add(self, samples: int, dense: float, found: list[list[float]]) -> None:
        """Add what one batch gave."""
        self.batches += 1
        self._samples += samples
        self._dense += dense * samples
        new = np.array(found) * samples
        self._sums = new if self._sums is None else self._sums + new
        if self._path is not None:
            content = {
                "measured": self._identity,
                "batches": self.batches,
                "samples": self._samples,
                "dense": self._dense,
                "sums": self._sums.tolist(),
            }
            write_whole(self._path, json.dumps(content).encode(), overwrite=True)

    def result(
        self, model: str, metric: str, levels: Sequence[float], trials: list[_Trial]
    ) -> Sensitivity:
        """Return the means over all batches."""
        assert self._sums is not None  # there was a first batch, or an error
        dense = self._dense / self._samples
        drops = dense - self._sums / self._samples
        rows = tuple(
            WeightSensitivity(
                trial.path, trial.weight.name, int(trial.dense.size), tuple(map(float, row))
            )
            for trial, row in zip(trials, drops, strict=True)
        )
        sign = "negative loss" if metric == "loss" else metric
        return Sensitivity(model, sign, dense, tuple(levels), rows, self._samples)


def _identity(
    model: keras.Model, levels: Sequence[float], metric: str, pattern: Pattern, trials: list[_Trial]
) -> dict[str, Any]:
    """Return what tells one measurement from another, weights included by their sums."""
    total = float(sum(np.abs(t.dense, dtype=np.float64).sum() for t in trials))
    return {
        "model": model.name,
        "weights": [[t.path, t.weight.name, list(t.dense.shape)] for t in trials],
        "sum": round(total, 3),
        "levels": list(levels),
        "metric": metric,
        "pattern": str(pattern),
    }


def _levels(sparsities: Sequence[float], pattern: Pattern) -> list[float]:
    if isinstance(pattern, NM):
        return [pattern.zeros / pattern.group]
    levels = [check_sparsity(s, "sparsities") for s in sparsities]
    rising = all(a < b for a, b in itertools.pairwise(levels))
    if not levels or not rising or levels[0] == 0.0:
        raise ValueError(
            "`sparsities` must be rising levels, each in (0, 1), such as (0.5, 0.8, 0.9). "
            f"Received: sparsities={sparsities!r}"
        )
    return levels


def _trials(model: keras.Model, pattern: Pattern, layers: Sequence[str] | None) -> list[_Trial]:
    """Return the weights to try, in the order of the model, shared layers once."""
    found: list[_Trial] = []
    seen: set[int] = set()
    for path, layer in walk(model, room("keras")):
        if id(layer) in seen or registry.reason_against(layer) is not None:
            continue
        seen.add(id(layer))
        for weight in registry.prunable_weights(layer):
            shape = tuple(weight.variable.shape)
            if pattern.reason_against(shape, weight.layout) is None:
                found.append(_Trial(path, layer, weight, weight.variable.numpy()))
    known = list(dict.fromkeys(trial.path for trial in found))
    for name in layers or ():
        if name not in known:
            raise ValueError(
                f"No layer of that path has weights to prune. Those that have are "
                f"{', '.join(map(repr, known))}. Received: {name!r}"
            )
    found = [trial for trial in found if layers is None or trial.path in layers]
    if not found:
        raise ValueError(f"Nothing in the model '{model.name}' can be pruned so.")
    return found
