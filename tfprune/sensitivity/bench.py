"""The weights of a model to try, and how good it is on a batch with one of them pruned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfprune import masks
from tfprune.channels import running
from tfprune.channels.batches import Batch
from tfprune.evaluation import Judge
from tfprune.metrics import Metric
from tfprune.paths import weights_for
from tfprune.patterns import Pattern
from tfprune.registry import PrunableWeight
from tfprune.sensitivity.reruns import Reruns


@dataclasses.dataclass(frozen=True)
class Trial:
    """A weight that is tried: its layer, the layer's path, and the weight as it was."""

    path: str
    layer: Any
    weight: PrunableWeight
    dense: np.ndarray


class Bench:
    """One model, tried on one batch at a time; it is as it was after each call.

    Args:
        model: a built Sequential or Functional model of Keras 3.
        metric: see `sensitivity`.
        pattern: where zeros may stand.
        layers: paths of the only layers to try; None for all.

    Attributes:
        trials: the weights, in the order of the model, shared layers once.
        metric: its name.
        dense: the value of the model as it is, on the batch that was taken last.

    Raises:
        ValueError: no such metric or layer, or nothing can be pruned so.
    """

    def __init__(
        self,
        model: keras.Model,
        metric: str | Metric,
        pattern: Pattern,
        layers: Sequence[str] | None,
    ) -> None:
        self._model, self._pattern = model, pattern
        self.trials = _trials(model, pattern, layers)
        self._judge = Judge(model, metric, "tfprune.sensitivity")
        self._reruns = Reruns(model)
        self.metric = self._judge.name
        self.dense = 0.0

    def take(self, batch: Batch) -> None:
        """Run the model as it is on a batch, which stays until the next."""
        self._judge.require_labels(batch)
        # Every run begins with the states that the user's recurrent layers are in.
        with running.states_kept(self._model):
            self._batch, self._values = batch, self._reruns.first(batch.inputs)
        self.dense = self._judge(batch, self._reruns.outputs(self._values))

    def pruned(self, trial: int, level: float) -> float:
        """Return the model's value on the batch with one weight pruned to a sparsity."""
        one = self.trials[trial]
        scores = masks.magnitudes(one.dense)
        mask, _ = self._pattern.mask(scores, one.weight.layout, level, level)
        try:
            one.weight.variable.assign(one.dense * mask)
            with running.states_kept(self._model):
                outputs = self._reruns.again(one.layer, self._values)
            return self._judge(self._batch, outputs)
        finally:
            one.weight.variable.assign(one.dense)

    def measure(
        self, number: int, batch: Batch, levels: Sequence[float], say: Callable[[str], None]
    ) -> tuple[float, list[list[float]]]:
        """Return the dense model's value on a batch, and that for each weight at each level."""
        say(f"Batch {number + 1}: {len(self.trials)} weights at {len(levels)} levels")
        self.take(batch)
        trials = range(len(self.trials))
        return self.dense, [[self.pruned(one, level) for level in levels] for one in trials]


def _trials(model: keras.Model, pattern: Pattern, layers: Sequence[str] | None) -> list[Trial]:
    found = [
        Trial(path, layer, weight, weight.variable.numpy())
        for path, layer, weight in weights_for(model, pattern)
    ]
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
