"""The weights of a model to try, and how good it is on a batch with one of them pruned."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfprune import masks, registry
from tfprune.channels import running
from tfprune.channels.batches import Batch
from tfprune.evaluation import Judge
from tfprune.family import room
from tfprune.metrics import Metric
from tfprune.paths import walk, weights_for
from tfprune.patterns import Pattern
from tfprune.sensitivity.reruns import Reruns
from tfprune.sensitivity.units import Trial, Unit, Work, together, units


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

    def counts(self, batch: Batch) -> float:
        """Return how much a batch counts in the means over all."""
        return self._judge.counts(batch)

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

    def measure(self, work: Work) -> tuple[float, list[list[float]]]:
        """Return the dense model's value on a batch, and that for each weight at each level."""
        weights, levels = len(self.trials), len(work.levels)
        work.say(f"Batch {work.number + 1}: {weights} weights at {levels} levels")
        self.take(work.batch)
        values: dict[Unit, float] = dict(work.known)
        for unit in units(self.trials, work.levels):
            if unit not in values:
                trial, level = unit
                values[unit] = self.dense if trial is None else self.pruned(trial, level)
                work.keep(unit, values[unit])
        return together(values, self.trials, work.levels)


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
    if layers is not None and not layers:
        raise ValueError(
            "`layers` names no layer: pass paths of those to try, or None for all. "
            f"Received: layers={layers!r}"
        )
    found = [trial for trial in found if layers is None or trial.path in layers]
    if not found:
        raise ValueError(
            f"Nothing in the model '{model.name}' can be pruned in the pattern {pattern}: "
            f"{_reasons(model, pattern) or 'it has no layers'}. Choose another pattern, or name "
            f"other layers. Received: pattern='{pattern}', layers={layers!r}"
        )
    return found


def _reasons(model: keras.Model, pattern: Pattern) -> str:
    """Return why each layer has nothing to prune."""
    found: dict[str, str] = {}
    for path, layer in walk(model, room("keras")):
        reason = registry.reason_against(layer)
        if reason is None:
            weights = registry.prunable_weights(layer)
            against = [pattern.reason_against(tuple(w.variable.shape), w.layout) for w in weights]
            reason = next((one for one in against if one is not None), None)
        if reason is not None:
            found[path] = reason
    return "; ".join(f"{path}: {reason}" for path, reason in found.items())
