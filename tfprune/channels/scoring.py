"""Scores of a model's atoms by the name of an importance, or by a function of the user's."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfprune.channels import activations, gradients, running
from tfprune.channels import importance as importance_
from tfprune.channels.batches import Batches
from tfprune.channels.structure import Structure

Importance = str | Callable[[np.ndarray], np.ndarray]

NAMES = ("l1", "l2", "fpgm", "gamma", "random", "activation", "apoz", "taylor")
NEED_DATA = ("activation", "apoz", "taylor")


class Scorer:
    """Scores models by one importance: a model, and what is left of it after each round.

    Args:
        importance: a name, or a function (channels, values of each) -> a score for each channel.
        model: the whole one, whose loss "taylor" follows.
        data: see `batches`; read only by importances that look at the model at work.
        seed: of "random".

    Attributes:
        name: of the importance.

    Example: `Scorer("activation", model, x).scores(read(model))`

    Raises:
        ValueError: no such importance, or data, labels or a loss are missing, or data do not fit.
        TypeError: neither a name nor a function, or data of the wrong type.
        RuntimeError: no gradients on this backend.
    """

    def __init__(
        self, importance: Importance, model: keras.Model, data: Any = None, seed: int = 0
    ) -> None:
        check(importance, data)
        if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
            raise ValueError(
                "`seed` is a whole number, 0 or more, from which `importance='random'` starts. "
                f"Received: seed={seed!r}"
            )
        self._importance, self._model, self._seed = importance, model, int(seed)
        self.name = (
            importance
            if isinstance(importance, str)
            else getattr(importance, "__name__", type(importance).__name__)
        )
        if importance == "taylor":
            gradients.require_loss(model)
        self._data = None
        if importance in NEED_DATA:
            self._data = Batches(model, data, labels=importance == "taylor")

    def scores(self, structure: Structure) -> np.ndarray:
        """Return the importance of each atom; infinite where it has none, so that it stays.

        Raises:
            ValueError: a score is not finite, or there is nothing to score.
        """
        atoms, importance = structure.atoms, self._importance
        if callable(importance):
            return importance_.of_kernels(atoms, importance)
        if importance in importance_.WEIGHT_SCORES:
            return importance_.of_kernels(atoms, importance_.WEIGHT_SCORES[importance])
        if importance == "random":
            return importance_.random(atoms, self._seed)
        if importance == "gamma":
            found = importance_.of_gammas(atoms)
            if atoms.count and np.isinf(found).all():
                raise ValueError(
                    "`importance='gamma'` ranks channels by the scales of the BatchNormalization "
                    "behind them, and no channel that could be removed has one (with "
                    "`scale=True`). Use another importance, such as 'l2'. "
                    f"Received: the model '{structure.model.name}'"
                )
            return found
        with running.states_kept(structure.model):
            return self._at_work(structure)

    def _at_work(self, structure: Structure) -> np.ndarray:
        """Return the scores for which the model is run."""
        assert self._data is not None
        atoms, importance = structure.atoms, self._importance
        if importance == "taylor":
            shares = gradients.measure(structure, self._data, self._model)
            for number, found in shares.items():
                place = atoms.places[number]
                _require_finite(found, f"'{place.layer}/{place.name}'")
            return importance_.add(atoms, shares)
        statistic = activations.STATISTICS[str(importance)]
        measured = activations.measure(structure, self._data, statistic)
        for one in measured:
            _require_finite(one.values(), f"what '{one.reader}' reads")
        # A fraction of zeros means the same in every layer, an activation's size does not.
        pairs = [(one.ids, one.values()) for one in measured]
        return importance_.mean(atoms, pairs, relative=importance == "activation")


def check(importance: Any, data: Any) -> None:
    """Raise unless an importance is known and has data if it needs them.

    Raises:
        ValueError: no such importance, or data are missing.
        TypeError: neither a name nor a function.
    """
    if callable(importance):
        return
    if not isinstance(importance, str):
        raise TypeError(
            "`importance` is a name or a function of the weights of a layer's channels. "
            f"Received: importance={importance!r} (of type {type(importance).__name__})"
        )
    if importance not in NAMES:
        raise ValueError(
            f"`importance` must be one of {', '.join(NAMES)}, or a function. "
            f"Received: importance={importance!r}"
        )
    if importance in NEED_DATA and data is None:
        raise ValueError(
            f"`importance={importance!r}` looks at the model at work: pass some of the training "
            "inputs as `data`, a few hundred are enough. Received: data=None"
        )


def _require_finite(found: np.ndarray, what: str) -> None:
    if not np.isfinite(found).all():
        raise ValueError(
            f"The importance of {what} is not finite: the weights are NaN or so large that the "
            "model overflows, or the loss is. Look at what the model predicts for `data`. "
            f"Received: {found[~np.isfinite(found)][:3]}"
        )
