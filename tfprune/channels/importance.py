"""How much each channel matters: a score for every atom, from the weights of all its places.

A score is a function of the weights along one axis. What is coupled is scored as a whole: each
place gives its share, relative to the mean of its layer so that layers of different scale can be
compared, and an atom has the mean of its shares (the group importance of Torch-Pruning, Fang et al.
2023, "DepGraph").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np

from tfprune.channels.atoms import Atoms
from tfprune.channels.facts import Place
from tfprune.cloning import at_a_step

Score = Callable[[np.ndarray], np.ndarray]
"""(channels, values of each) -> a score for each channel."""


def l1(weights: np.ndarray) -> np.ndarray:
    """Return the sum of absolute values of each row (Li et al. 2017)."""
    return np.abs(weights).sum(1)


def l2(weights: np.ndarray) -> np.ndarray:
    """Return the Euclidean norm of each row."""
    return np.sqrt(np.square(weights).sum(1))


def fpgm(weights: np.ndarray) -> np.ndarray:
    """Return the sum of the distances of each row to all others (He et al. 2019, FPGM).

    A channel near the geometric median of its layer can be told by the others.
    """
    squares = np.square(weights).sum(1)
    distances = squares[:, None] + squares - 2.0 * weights @ weights.T
    return np.sqrt(np.maximum(distances, 0.0)).sum(1)


WEIGHT_SCORES: dict[str, Score] = {"l1": l1, "l2": l2, "fpgm": fpgm}


def of_kernels(atoms: Atoms, score: Score, roles: tuple[str, ...] = ("in", "out")) -> np.ndarray:
    """Return the importance of each atom by the kernels that make and read its channels.

    Depthwise kernels count too: they have channels of their own. Norms and biases do not.
    """
    shares = {}
    for number, place in enumerate(atoms.places):
        depthwise = place.role == "each" and len(place.variable.shape) > 2
        if (place.role in roles or depthwise) and _by_atom(atoms, place.ids)[1].any():
            shares[number] = by_position(place, score)
    return combine(atoms, shares, relative=True)


def of_gammas(atoms: Atoms) -> np.ndarray:
    """Return the absolute scale of the BatchNorm behind each atom (Liu et al. 2017, Slimming).

    Not relative to the layer: the method ranks the scales of all layers together. Infinite for an
    atom without a BatchNorm, which therefore stays.
    """
    shares = {}
    for number, place in enumerate(atoms.places):
        owner = at_a_step(place.owner)
        if isinstance(owner, keras.layers.BatchNormalization) and place.variable is owner.gamma:
            shares[number] = require_finite(np.abs(values(place.variable)), place)
    return combine(atoms, shares, relative=False)


def random(atoms: Atoms, seed: int) -> np.ndarray:
    """Return a random number for each atom: the baseline that an importance must beat."""
    return np.random.default_rng(seed).random(atoms.count)


def by_position(place: Place, score: Score) -> np.ndarray:
    """Return the score of each position along a place's axis."""
    weights = np.moveaxis(values(place.variable), place.axis, 0)
    found = np.asarray(score(weights.reshape(weights.shape[0], -1)))
    if found.dtype.kind in "cUS":  # complex, text: numpy would drop a part, or read numbers
        raise TypeError(
            "An importance function returns a real number for each channel. "
            f"Received: an array of {found.dtype} for '{place.layer}/{place.name}'"
        )
    found = found.astype(float)
    if found.shape != (weights.shape[0],):
        raise ValueError(
            "An importance function gets an array (channels, values of each) and returns a score "
            f"for each channel, of shape ({weights.shape[0]},). Received: shape {found.shape} for "
            f"'{place.layer}/{place.name}'"
        )
    return require_finite(found, place)


def require_finite(found: np.ndarray, place: Place) -> np.ndarray:
    """Return the scores of a place, or raise a `ValueError` that names it."""
    if not np.isfinite(found).all():
        raise ValueError(
            f"The importance of '{place.layer}/{place.name}' is not finite: the weights hold NaN "
            "or infinite values, or the importance function divides by zero. "
            f"Received: {found[~np.isfinite(found)][:3]}"
        )
    return found


def combine(atoms: Atoms, shares: dict[int, np.ndarray], relative: bool) -> np.ndarray:
    """Return the mean of the shares of each atom's places; infinite where there are none.

    Args:
        atoms: of the model.
        shares: by the number of a place, a score for each of its positions.
        relative: whether to divide by the mean score of the place.
    """
    named = [(atoms.places[n].ids, found) for n, found in shares.items()]
    return mean(atoms, named, relative)


def mean(
    atoms: Atoms, shares: Iterable[tuple[np.ndarray, np.ndarray]], relative: bool
) -> np.ndarray:
    """Return the mean over shares, each of them (channel numbers, scores), as in `combine`."""
    total, places = np.zeros(atoms.count), np.zeros(atoms.count)
    for ids, found in shares:
        sums, times = _by_atom(atoms, ids, found)
        middle = found.mean() if relative else 1.0
        own = np.divide(sums, times, out=np.zeros_like(sums), where=times > 0)
        total += own / (middle if middle > 0 else 1.0)
        places += times > 0
    return np.divide(total, places, out=np.full(atoms.count, np.inf), where=places > 0)


def add(atoms: Atoms, shares: dict[int, np.ndarray]) -> np.ndarray:
    """Return the sum of the shares of each atom's places; infinite where there are none."""
    total, places = np.zeros(atoms.count), np.zeros(atoms.count)
    for number, found in shares.items():
        sums, times = _by_atom(atoms, atoms.places[number].ids, found)
        total += sums
        places += times
    return np.where(places > 0, total, np.inf)


def _by_atom(
    atoms: Atoms, ids: np.ndarray, found: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of scores for each atom, and how many they are."""
    found = np.ones(ids.size) if found is None else found
    atom = np.where(ids < 0, -1, atoms.of[ids])
    inside = atom >= 0
    sums = np.bincount(atom[inside], found[inside], minlength=atoms.count).astype(float)
    return sums, np.bincount(atom[inside], minlength=atoms.count)


def values(variable: Any) -> np.ndarray:
    """Return a variable in float32: sums in float16 would overflow."""
    return np.asarray(keras.ops.convert_to_numpy(variable.value), np.float32)
