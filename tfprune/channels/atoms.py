"""The smallest sets of channels that can be removed, and which of them are alike.

A residual connection ties a channel of one convolution to one of another, a concatenation does not.
What is tied, however far apart, is one *atom*: it goes as a whole or stays. Atoms that lie in the
same places the same number of times are a *family*, such as the channels of one layer: they are
interchangeable, and compete.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tfprune.channels.facts import Axis, Place, Term, Trace

FROZEN = -1


@dataclasses.dataclass(frozen=True)
class Atoms:
    """The atoms of a model, numbered from 0.

    Attributes:
        of: atom of each channel number; -1 if it must stay.
        family: family of each atom.
        places: the axes on which channels lie.
        atom, place, times: so often does this atom lie at this place; three arrays of one length.
        reasons: of channel numbers that must stay, the first that was found.
        terms: the multiplications of the model.
        variables: all variables of the model, by id, those without channels too.
    """

    of: np.ndarray
    family: np.ndarray
    places: tuple[Place, ...]
    atom: np.ndarray
    place: np.ndarray
    times: np.ndarray
    reasons: dict[int, str]
    terms: tuple[Term, ...]

    @property
    def count(self) -> int:
        """Number of atoms."""
        return self.family.size

    def sizes(self) -> np.ndarray:
        """Return the number of atoms in each family."""
        return np.bincount(self.family, minlength=int(self.family.max(initial=-1)) + 1)

    def keep(self, removed: np.ndarray) -> np.ndarray:
        """Return, for each channel number, whether it stays if these atoms are removed.

        One more at the end is for `track.NONE`, -1: what belongs to no channel stays.
        """
        gone = np.zeros(self.count + 1, bool)
        gone[removed] = True
        gone[FROZEN] = False
        return np.append(~gone[self.of], True)

    def lengths(self, removed: np.ndarray) -> np.ndarray:
        """Return the length of each place if these atoms are removed."""
        gone = np.zeros(self.count, bool)
        gone[removed] = True
        hit = gone[self.atom]
        lost = np.bincount(self.place[hit], self.times[hit], minlength=len(self.places))
        return np.array([p.ids.size for p in self.places], int) - lost.astype(int)

    def reason(self, ids: np.ndarray) -> str | None:
        """Return why the first of these channels that must stay does."""
        frozen = ids[(ids >= 0)]
        frozen = frozen[self.of[frozen] == FROZEN]
        if frozen.size:
            return self.reasons.get(int(frozen[0]))
        return None


def find(trace: Trace) -> Atoms:
    """Add up the facts of a trace.

    Example: in `y = conv2(x) + conv1(x)` channel 3 of `conv1` and channel 3 of `conv2` are one
    atom, and all channels of the two are one family.
    """
    places = tuple(trace.places.values())
    joined = [np.empty(0, int)]
    first = np.concatenate([*joined, *(a for a, _ in trace.equal)])
    second = np.concatenate([*joined, *(b for _, b in trace.equal)])
    links = coo_matrix((np.ones(first.size, bool), (first, second)), shape=(trace.count,) * 2)
    number, root = connected_components(links, directed=False)

    frozen = np.zeros(number, bool)
    why: dict[int, str] = {}
    for ids, reason in trace.frozen:
        roots = np.unique(root[ids])
        frozen[roots] = True
        for one in roots.tolist():
            why.setdefault(one, reason)
    reasons = {i: why[r] for i, r in enumerate(root.tolist()) if frozen[r]}

    # Numbers that lie in no variable (of a state that is only passed on) are no atoms.
    at, where = _positions(places)
    lying = np.zeros(number, bool)
    lying[root[at]] = True
    atom_of_root = np.full(number, FROZEN)
    free = np.flatnonzero(lying & ~frozen)
    atom_of_root[free] = np.arange(free.size)
    of = atom_of_root[root] if trace.count else np.empty(0, int)

    inside = of[at] >= 0
    pairs, times = np.unique(
        of[at][inside] * max(len(places), 1) + where[inside], return_counts=True
    )
    atom, place = np.divmod(pairs, max(len(places), 1))
    return Atoms(
        of=of,
        family=_families(*_with_pieces(atom, place, times, trace, of), free.size),
        places=places,
        atom=atom,
        place=place,
        times=times,
        reasons=reasons,
        terms=tuple(trace.terms),
    )


def _positions(places: tuple[Place, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the channel number and the place of every position that has one."""
    ids = np.concatenate([np.empty(0, int), *(p.ids for p in places)])
    where = np.repeat(np.arange(len(places)), [p.ids.size for p in places])
    return ids[ids >= 0], where[ids >= 0]


def _with_pieces(
    atom: np.ndarray, place: np.ndarray, times: np.ndarray, trace: Trace, of: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add the pieces that slices cut out to the places.

    What goes through one slice is not interchangeable with what goes through another, even where
    both end in the same kernel; and as each family keeps something, no slice becomes empty.
    """
    if not trace.pieces:
        return atom, place, times
    marks = []
    for number, ids in enumerate(trace.pieces):
        inside = of[ids[ids >= 0]]
        marks.append((number, *np.unique(inside[inside >= 0], return_counts=True)))
    first = len(trace.places)
    atoms = np.concatenate([atom, *(found for _, found, _ in marks)])
    places = np.concatenate([place, *(np.full(f.size, first + n) for n, f, _ in marks)])
    counts = np.concatenate([times, *(c for _, _, c in marks)])
    order = np.lexsort((places, atoms))
    return atoms[order], places[order], counts[order]


def _families(atom: np.ndarray, place: np.ndarray, times: np.ndarray, count: int) -> np.ndarray:
    """Number the atoms by where they lie; families are numbered as they first appear."""
    starts = np.searchsorted(atom, np.arange(count + 1))
    rows = np.stack([place, times], 1)
    numbers: dict[bytes, int] = {}
    found = np.empty(count, int)
    for one in range(count):
        signature = rows[starts[one] : starts[one + 1]].tobytes()
        found[one] = numbers.setdefault(signature, len(numbers))
    return found


def index_of_axes(places: tuple[Place, ...]) -> dict[tuple[int, int], int]:
    """Return the number of each place by the id of its variable and its axis."""
    return {(id(p.variable), p.axis): n for n, p in enumerate(places)}


def axis_key(axis: Axis) -> tuple[int, int]:
    """Return what stands for an axis of a variable in a dictionary."""
    return id(axis[0]), axis[1]
