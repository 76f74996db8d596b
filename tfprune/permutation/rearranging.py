"""Give channels new places in every weight on which they lie."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfprune.channels.atoms import Atoms, index_of_axes
from tfprune.channels.facts import Place


def positions(atoms: Atoms, place: Place, members: np.ndarray) -> np.ndarray:
    """Return where some atoms lie along an axis, shape (atoms, times of each).

    Args:
        atoms: of the model.
        place: the axis.
        members: numbers of atoms that lie there equally often, rising.
    """
    lying = np.where(place.ids < 0, -1, atoms.of[place.ids])
    where = np.flatnonzero(np.isin(lying, members))
    return where[np.argsort(lying[where], kind="stable")].reshape(len(members), -1)


class Rearrangement:
    """Which atom goes where; weights, and what an optimizer holds for them, are reordered by it.

    Args:
        atoms: of the model.
        source: for each atom, the one that takes its places; both of one family.
    """

    def __init__(self, atoms: Atoms, source: np.ndarray) -> None:
        self._atoms, self._source = atoms, source
        self._index = index_of_axes(atoms.places)
        self._moved = np.flatnonzero(source != np.arange(source.size))

    def cut(self, variable: Any, value: np.ndarray) -> np.ndarray:
        """Return a value of a variable's shape in the new order; nothing is left out."""
        for axis in range(value.ndim):
            number = self._index.get((id(variable), axis))
            if number is not None:
                value = np.take(value, self._order(self._atoms.places[number]), axis)
        return value

    def _order(self, place: Place) -> np.ndarray:
        """Return, for each position along an axis, that of the channel which comes there."""
        order = np.arange(place.ids.size)
        lying = np.where(place.ids < 0, -1, self._atoms.of[place.ids])
        here = self._moved[np.isin(self._moved, lying)]
        for family in np.unique(self._atoms.family[here]):
            members = here[self._atoms.family[here] == family]
            old = positions(self._atoms, place, members)
            rank = np.searchsorted(members, self._source[members])
            order[old] = old[rank]
        return order
