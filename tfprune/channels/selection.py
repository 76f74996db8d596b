"""Choose which atoms to remove: in what order, and how many.

All atoms that may go are put in one order, of which every beginning keeps the promises: no family
loses more than its cap, and each keeps a multiple of what was asked. The smallest beginning that
meets the target is removed, found by bisection, since more removed never costs more.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from tfprune.channels.atoms import Atoms

Scope = Literal["global", "local"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a family of channels must keep.

    Attributes:
        max_ratio: largest fraction of a family that may go.
        min_channels: of a layer, that stay.
        round_to: what stays is a multiple of this (or all of it).
    """

    max_ratio: float = 0.9
    min_channels: int = 1
    round_to: int = 1


@dataclasses.dataclass(frozen=True)
class Order:
    """Atoms in the order in which they would be removed.

    Attributes:
        atoms: their numbers.
        stops: lengths of beginnings that keep all promises; the first is 0.
        marks: what the last atoms before each stop were ordered by: their score, or the fraction
            of their family that has gone with them.
    """

    atoms: np.ndarray
    stops: np.ndarray
    marks: np.ndarray

    def first(self, meets: Callable[[np.ndarray], bool]) -> np.ndarray | None:
        """Return the shortest beginning that meets a target, None if none does.

        Args:
            meets: tells whether removing these atoms is enough; once it is, more is too.
        """
        low, high = 0, self.stops.size - 1
        if not meets(self.atoms[: self.stops[high]]):
            return None
        while low < high:
            middle = (low + high) // 2
            if meets(self.atoms[: self.stops[middle]]):
                high = middle
            else:
                low = middle + 1
        return self.atoms[: self.stops[low]]

    def up_to(self, mark: float) -> np.ndarray:
        """Return the longest beginning whose marks are at most this."""
        return self.atoms[: self.stops[np.searchsorted(self.marks, mark + 1e-9, "right") - 1]]


def order(
    atoms: Atoms, scores: np.ndarray, candidate: np.ndarray, scope: Scope, limits: Limits
) -> Order:
    """Put the atoms that may go in order, the least important first; ties go by number.

    Args:
        atoms: of the model.
        scores: importance of each atom; infinite for those that have none and must stay, and
            minus infinity for those that are gone already.
        candidate: whether each atom may go at all.
        scope: "global" compares scores of all families, "local" removes the same fraction of each.
        limits: what families keep.
    """
    widths = multiplicity(atoms)
    rows: list[tuple[float, int, int]] = []
    lumps: list[np.ndarray] = []
    for family, (members, size) in enumerate(_families(atoms, scores, candidate)):
        unit = limits.round_to // math.gcd(limits.round_to, int(widths[family]))
        keep = math.ceil(limits.min_channels / widths[family])
        cap = min(int(limits.max_ratio * size + 1e-9), size - keep, members.size)
        ends = list(range(size % unit or unit, cap + 1, unit))
        worst = -math.inf
        for start, end in zip([0, *ends], ends, strict=False):
            lump = members[start:end]
            worst = max(worst, float(scores[lump].mean()))
            rows.append((end / size if scope == "local" else worst, family, len(lumps)))
            lumps.append(lump)
    rows.sort()
    chosen = [lumps[number] for _, _, number in rows]
    stops = np.cumsum([0, *(lump.size for lump in chosen)])
    marks = np.array([-math.inf, *(mark for mark, _, _ in rows)])
    return Order(np.concatenate([np.empty(0, int), *chosen]), stops, marks)


def _families(atoms: Atoms, scores: np.ndarray, candidate: np.ndarray):
    """Yield, for each family, those of its atoms that may go, by score, and its size."""
    may_go = candidate & (scores < np.inf)
    by_family = np.lexsort((np.arange(atoms.count), scores, atoms.family))
    bounds = np.searchsorted(atoms.family[by_family], np.arange(atoms.sizes().size + 1))
    for start, end in itertools.pairwise(bounds):
        members = by_family[start:end]
        yield members[may_go[members]], end - start


def multiplicity(atoms: Atoms) -> np.ndarray:
    """Return, for each family, how many channels of a layer an atom takes.

    More than 1 for groups, which lose the same position each; the fewest where several layers make
    its channels. The gates of a recurrent unit are one.
    """
    found = np.full(atoms.sizes().size, np.iinfo(int).max)
    blocks = np.array([p.blocks if p.role == "out" else 0 for p in atoms.places], int)
    own = blocks[atoms.place] if atoms.place.size else np.zeros(0, int)
    times = atoms.times[own > 0] // own[own > 0]
    np.minimum.at(found, atoms.family[atoms.atom[own > 0]], times)
    return np.where(found == np.iinfo(int).max, 1, found)
