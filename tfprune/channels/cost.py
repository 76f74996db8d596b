"""Parameters and multiplications of a model, before and after removal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfprune.channels.atoms import Atoms, axis_key, index_of_axes


class Cost:
    """Counts parameters and MACs for any set of removed atoms, without building a model.

    Args:
        variables: the weights of the model.
        atoms: of the model.
    """

    def __init__(self, variables: list[Any], atoms: Atoms) -> None:
        self._atoms = atoms
        places = index_of_axes(atoms.places)
        self._products = [
            _Product(1, [(v, a) for a in range(len(v.shape))], places) for v in variables
        ]
        self._terms = [_Product(t.factor, list(t.axes), places) for t in atoms.terms]

    def params(self, removed: np.ndarray) -> int:
        """Return the number of parameters, statistics of norms included as Keras counts them."""
        lengths = self._atoms.lengths(removed)
        return sum(one.value(lengths) for one in self._products)

    def macs(self, removed: np.ndarray) -> int:
        """Return the number of multiply-accumulates for one sample."""
        lengths = self._atoms.lengths(removed)
        return sum(one.value(lengths) for one in self._terms)

    def macs_by_layer(self, removed: np.ndarray) -> dict[str, int]:
        """Return the multiply-accumulates of each layer, by its path."""
        lengths = self._atoms.lengths(removed)
        found: dict[str, int] = {}
        for term, product in zip(self._atoms.terms, self._terms, strict=True):
            found[term.layer] = found.get(term.layer, 0) + product.value(lengths)
        return found


class _Product:
    """A number times the lengths of places."""

    def __init__(self, factor: int, axes: list, places: dict[tuple[int, int], int]) -> None:
        inside = [a for a in axes if axis_key(a) in places]
        outside = [int(v.shape[a]) for v, a in axes if axis_key((v, a)) not in places]
        self.factor = factor * math.prod(outside)
        self.places = [places[axis_key(a)] for a in inside]

    def value(self, lengths: np.ndarray) -> int:
        return self.factor * math.prod(int(lengths[p]) for p in self.places)
