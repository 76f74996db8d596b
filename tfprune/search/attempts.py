"""One trial: pruned and trained, then judged. What fails is told in it, and costs no other."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfprune import registry
from tfprune.allocate import Allocation
from tfprune.benchmarking import benchmark
from tfprune.channels.batches import Batches
from tfprune.evaluation import Judge, each_model_once, evaluate
from tfprune.export import export_tflite
from tfprune.prune import prune
from tfprune.search.engines import Choice
from tfprune.search.failures import text_of
from tfprune.search.result import UNMEASURED, Trial
from tfprune.search.untouched import left_as_it_was
from tfprune.strip import TOLERANCE, least_sparsity, strip_pruning

Train = Callable[[keras.Model], Any]


@dataclasses.dataclass(frozen=True)
class Attempts:
    """Makes trials of one model.

    Attributes:
        model: the dense one.
        train: the user's function.
        batches: that the budget is measured on.
        judge: measures it, for every trial by the same rule as for the dense model.
        objective: what a trial costs.
        least: value that is still inside the budget.
    """

    model: keras.Model
    train: Train
    batches: Batches
    judge: Judge
    objective: str
    least: float

    def trained(self, choice: Choice) -> tuple[Trial, keras.Model | None]:
        """Prune and train a model, and return it stripped; None if that failed."""
        return trained(self.model, self.train, choice)

    def judged(self, trial: Trial, made: keras.Model, spread: Allocation) -> Trial:
        """Measure a trained model: its value, its zeros and what it costs."""
        try:
            value = evaluate(made, self.batches, self.judge)
            reached, asked = _zeros(made, spread)
            cost = _cost(self.objective, made, reached)
        except Exception as error:  # noqa: BLE001 -- a metric is the user's own, as `train` is
            return failed(trial, error)
        return dataclasses.replace(
            trial,
            reached=reached,
            value=value,
            cost=cost,
            within=value >= self.least - 1e-9,
            failure="",
            short=reached < asked - TOLERANCE,
        )


def trained(model: keras.Model, train: Train, choice: Choice) -> tuple[Trial, keras.Model | None]:
    """Prune and train a copy of a model, and return it stripped; None if that failed."""
    trial = untried(choice)
    pruned = prune(model, choice.spread)
    try:
        with each_model_once(), left_as_it_was(model):
            returned = train(pruned)
    except Exception as error:  # noqa: BLE001 -- whatever training raises must not end the search
        return failed(trial, error), None
    # `return model.fit(...)` gives a History
    made = returned if isinstance(returned, keras.Model) else pruned
    try:
        return trial, strip_pruning(made)
    except Exception as error:  # noqa: BLE001 -- it may be a model of the user's own layers
        return failed(trial, error), None


def untried(choice: Choice) -> Trial:
    """Return a trial of which only its settings are known."""
    return Trial(
        choice.spread.sparsity, None, None, None, False, UNMEASURED, settings=choice.settings
    )


def failed(trial: Trial, error: Exception) -> Trial:
    """Return a trial that says why it has no value."""
    return dataclasses.replace(trial, failure=text_of(error))


def _zeros(model: keras.Model, spread: Allocation) -> tuple[float, float]:
    """Return the fraction of zeros in the weights that took part, and what was asked for there."""
    found = total = 0
    asked = 0.0
    for row in spread.layers:
        if not row.chosen:
            continue
        layer: Any = model
        for name in row.layer.split("/"):
            layer = layer.get_layer(name)
        for weight in registry.prunable_weights(layer):
            kernel = weight.variable.numpy()
            found += int(np.count_nonzero(kernel == 0))
            if row.sparsity > 0.0:
                shape = tuple(kernel.shape)
                least = least_sparsity(spread.pattern, shape, weight.layout, row.sparsity)
                asked += kernel.size * least
        total += row.size
    return found / total, asked / total


def _cost(objective: str, model: keras.Model, reached: float) -> float:
    if objective == "sparsity":
        return 1.0 - reached
    with tempfile.TemporaryDirectory(prefix="tfprune-") as name:
        path = pathlib.Path(name) / "model.tflite"
        exported = export_tflite(model, path)
        if objective == "size":
            return float(exported.file_bytes)
        (file,) = benchmark(path).files
    assert file.median_ms is not None  # a file that fails raises
    return file.median_ms
