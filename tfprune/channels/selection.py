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
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

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
    cuts = _cuts(atoms, scores, candidate, limits)
    rows: list[tuple[float, int, int]] = []
    lumps: list[np.ndarray] = []
    marks_ = np.full(len(cuts), -math.inf)

    def add(lump: np.ndarray, families: list[int], fraction: float) -> None:
        own = fraction if scope == "local" else float(scores[lump].mean())
        marks_[families] = max(own, *marks_[families])
        rows.append((marks_[families[0]], families[0], len(lumps)))
        lumps.append(lump)

    for together in _odd_together(atoms, cuts):
        firsts = [cuts[family].pieces()[0] for family in together]
        fraction = max(cuts[family].ends[0] / cuts[family].size for family in together)
        add(np.concatenate(firsts), together, fraction)
    for family, cut in enumerate(cuts):
        for lump, end in zip(cut.pieces(), cut.ends, strict=True):
            if end > cut.odd:
                add(lump, [family], end / cut.size)
    rows.sort()
    chosen = [lumps[number] for _, _, number in rows]
    stops = np.cumsum([0, *(lump.size for lump in chosen)])
    marks = np.array([-math.inf, *(mark for mark, _, _ in rows)])
    return Order(np.concatenate([np.empty(0, int), *chosen]), stops, marks)


@dataclasses.dataclass
class _Cut:
    """Where a family may be cut.

    Attributes:
        members: those of its atoms that may go, the least important first.
        size: of the family.
        odd: how many must go before it keeps a multiple; 0 if it does already.
        ends: how many may go.
    """

    members: np.ndarray
    size: int
    odd: int
    ends: list[int]

    def pieces(self) -> list[np.ndarray]:
        """Return the members between one end and the next."""
        return [self.members[a:b] for a, b in zip([0, *self.ends], self.ends, strict=False)]


def _cuts(atoms: Atoms, scores: np.ndarray, candidate: np.ndarray, limits: Limits) -> list[_Cut]:
    widths = multiplicity(atoms)
    rests = _rests(atoms, limits.round_to)
    found = []
    for family, (members, size) in enumerate(_families(atoms, scores, candidate)):
        unit = limits.round_to // math.gcd(limits.round_to, int(widths[family]))
        keep = math.ceil(limits.min_channels / widths[family])
        cap = min(int(limits.max_ratio * size + 1e-9), size - keep, members.size)
        rest = rests.get(family, 0)
        if rest is None:
            found.append(_Cut(members, size, 1, []))
            continue
        odd = (size - rest) % unit
        found.append(_Cut(members, size, odd, list(range(odd or unit, cap + 1, unit))))
    return found


def _rests(atoms: Atoms, round_to: int) -> dict[int, int | None]:
    """Return what a family keeps beyond a multiple, so that its layers keep one.

    Only a layer of which some channels must stay needs a rest; the first of its families has it.
    None for a family of which two layers want different rests: it stays whole.
    """
    places = {n: p for n, p in enumerate(atoms.places) if p.role == "out"}
    lying = np.bincount(atoms.place, atoms.times, len(atoms.places)).astype(int)
    missing = {n: -((p.ids.size - lying[n]) // p.blocks) % round_to for n, p in places.items()}
    if not any(missing[n] for n in places if lying[n]):
        return {}
    pairs = np.stack([atoms.place, atoms.family[atoms.atom], atoms.times])
    widths: dict[int, dict[int, int]] = {n: {} for n in places}
    for number, family, times in np.unique(pairs, axis=1).T.tolist():
        if number in places:
            widths[number][family] = times // places[number].blocks
    wanted: dict[int, list[tuple[int, int | None]]] = {}
    for number, families in widths.items():
        for family, width in sorted(families.items()):
            shared = math.gcd(width, round_to)
            unit = round_to // shared
            many, odd = divmod(missing[number], shared)
            rest = None if odd else many * pow(width // shared, -1, unit) % unit
            wanted.setdefault(family, []).append((unit, rest))
            missing[number] = 0  # by the first
    found: dict[int, int | None] = {}
    for family, wishes in wanted.items():
        rest = max(wishes, key=lambda wish: wish[0])[1]
        agree = rest is not None and all(rest % unit == own for unit, own in wishes)
        found[family] = rest if agree else None
    return found


def _odd_together(atoms: Atoms, cuts: list[_Cut]) -> list[list[int]]:
    """Return which families lose their odd channels at the same time.

    Where a layer has channels of several families, it keeps a multiple only if each of them does.
    If one cannot, the others stay whole.
    """
    odd = np.array([cut.odd > 0 for cut in cuts], bool)
    if not odd.any():
        return []
    out = np.array([p.role == "out" for p in atoms.places], bool)[atoms.place]
    lies = coo_matrix(
        (np.ones(out.sum(), int), (atoms.family[atoms.atom[out]], atoms.place[out])),
        shape=(len(cuts), len(atoms.places)),
    ).tocsr()
    shared = (lies @ lies.T).tocoo()
    both = odd[shared.row] & odd[shared.col]
    links = coo_matrix(
        (shared.data[both], (shared.row[both], shared.col[both])), shape=shared.shape
    )
    number, label = connected_components(links, directed=False)
    stuck = np.zeros(number, bool)
    stuck[label[[n for n, cut in enumerate(cuts) if cut.odd and not cut.ends]]] = True
    beside = odd[shared.row] & stuck[label[shared.row]]
    for family in np.unique(shared.col[beside]).tolist():
        cuts[family].ends = []
    free = [n for n, cut in enumerate(cuts) if cut.odd and cut.ends]
    groups: dict[int, list[int]] = {}
    for family in free:
        groups.setdefault(int(label[family]), []).append(family)
    return list(groups.values())


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
