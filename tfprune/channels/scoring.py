"""Scores of a model's atoms by the name of an importance, or by a function of the user's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfprune.channels import importance as importance_
from tfprune.channels.structure import Structure

Importance = str | Callable[[np.ndarray], np.ndarray]

NAMES = ("l1", "l2", "fpgm", "gamma", "random")
NEED_DATA: tuple[str, ...] = ()


def check(importance: Any, data: Any) -> None:
    """Raise unless an importance is known and has what it needs.

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


def scores(structure: Structure, importance: Importance, data: Any, seed: int) -> np.ndarray:
    """Return the importance of each atom; infinite where it has none, so that the atom stays."""
    atoms = structure.atoms
    if callable(importance):
        return importance_.of_kernels(atoms, importance)
    if importance in importance_.WEIGHT_SCORES:
        return importance_.of_kernels(atoms, importance_.WEIGHT_SCORES[importance])
    if importance == "gamma":
        return importance_.of_gammas(atoms)
    return importance_.random(atoms, seed)
