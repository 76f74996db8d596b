"""Swap channels until no swap of two lets N:M groups keep more magnitude: plain numpy.

A *slot* is a place for a channel; it lies in one column of a weight, or in several (a flattened
feature map has one for each pixel). Two channels that change slots change places in every weight
that reads them.

Of a group with one column taken out, an N:M pattern that keeps k keeps the k - 1 largest of the
rest, and the larger of the k-th and what is put in. So what a swap gains is a sum of maxima of two
vectors, for all pairs of slots at once.

Source: Pool and Yu 2021, "Channel Permutations for N:M Sparsity" (their search by channel swaps).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SAMPLE = 1024  # rows that swaps are ranked by; what a swap brings is counted on all of them
_LEAST = 1e-9  # of the magnitude of a weight: less is rounding


class Grouped:
    """A weight as N:M groups: its scores, in the order in which its columns stand now.

    Args:
        rows: scores, not negative, shape (rows, input channels).
        zeros: zeros in each group.
        group: neighbours in a group, more than `zeros`.

    Example: `Grouped(np.array([[4.0, 3.0, 2.0, 1.0]]), 2, 4).kept` is 7.0.
    """

    def __init__(self, rows: np.ndarray, zeros: int, group: int) -> None:
        self.group, self._keep = group, group - zeros
        # A short last group keeps as much as if it were filled up with zeros.
        self._columns = np.pad(rows.T, ((0, -rows.shape[1] % group), (0, 0)))
        self._sampled = slice(None, None, max(1, -(-rows.shape[0] // _SAMPLE)))
        self.total = float(rows.sum(dtype=np.float64)) or 1.0
        self._by_group = self._count(np.arange(len(self._columns) // group))
        self.least = self.kept

    @property
    def kept(self) -> float:
        """Magnitude that the pattern keeps."""
        return float(self._by_group.sum())

    def gain(self, first: np.ndarray, second: np.ndarray) -> float:
        """Return by how much more is kept if columns change places; they stay where they are."""
        groups = self._groups(first, second)
        self._exchange(first, second)
        after = self._count(groups)
        self._exchange(first, second)
        return float((after - self._by_group[groups]).sum())

    def swap(self, first: np.ndarray, second: np.ndarray) -> None:
        """Let columns change places, the first of one list with the first of the other."""
        groups = self._groups(first, second)
        self._exchange(first, second)
        self._by_group[groups] = self._count(groups)

    def changes(self, slots: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return what the group of each slot would keep more with the channel of any other in it.

        Args:
            slots: numbers of slots.
            columns: of all slots, shape (slots, columns of each).

        Returns:
            Fractions of the total, shape (slots asked for, all slots). 0 within a group.
        """
        sampled = self._columns[:, self._sampled]
        scale = self._columns.shape[1] / sampled.shape[1] / self.total
        found = np.zeros((len(slots), len(columns)))
        for lane in columns.T:
            own, offered = lane[slots], sampled[lane]
            place = np.arange(self.group - 1) + (
                np.arange(self.group - 1) >= own[:, None] % self.group
            )
            rest = np.sort(sampled[own[:, None] // self.group * self.group + place], axis=1)
            floor = rest[:, self.group - 1 - self._keep]
            above = rest[:, self.group - self._keep :].sum(axis=(1, 2))
            now = above + np.maximum(floor, sampled[own]).sum(axis=1)
            for number in range(len(slots)):
                new = above[number] + np.maximum(floor[number], offered).sum(axis=1)
                apart = lane // self.group != own[number] // self.group
                found[number] += np.where(apart, new - now[number], 0.0)
        return found * scale

    def beside(self, slots: Sequence[int], columns: np.ndarray) -> np.ndarray:
        """Return the slots that share a group with one of these, in any of their columns."""
        groups = np.unique(columns[list(slots)] // self.group)
        return np.flatnonzero(np.isin(columns // self.group, groups).any(axis=1))

    def _exchange(self, first: np.ndarray, second: np.ndarray) -> None:
        one = np.concatenate([first, second])
        self._columns[one] = self._columns[np.concatenate([second, first])]

    def _groups(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.unique(np.concatenate([first, second]) // self.group)

    def _count(self, groups: np.ndarray) -> np.ndarray:
        """Return what each group keeps, all rows together."""
        size = self.group
        columns = self._columns.reshape(-1, size, self._columns.shape[1])[groups]
        kept = np.partition(columns, size - self._keep, axis=1)[:, size - self._keep :]
        return kept.sum(axis=(1, 2), dtype=np.float64)


def climb(weights: Sequence[Grouped], columns: Sequence[np.ndarray]) -> np.ndarray:
    """Swap channels, the swap that gains most first, until none gains; return what stands where.

    What is gained is the sum, over the weights, of the fraction of its magnitude that each keeps;
    no weight ends below what it kept when it was made.

    Args:
        weights: that read the channels; they are changed.
        columns: for each weight, those of every slot, shape (slots, columns of each).

    Returns:
        For each slot, the slot whose channel it has now.

    Example:

    ```python
    weight = Grouped(np.array([[4.0, 3.0, 0.0, 0.0]]), zeros=1, group=2)
    order = climb([weight], [np.arange(4)[:, None]])  # 4 and 3 part: 7 is kept, not 4
    ```
    """
    count = len(columns[0])
    order = np.arange(count)
    every = np.arange(count)
    pairs = list(zip(weights, columns, strict=True))
    changes = _changes(pairs, every)
    gains = changes + changes.T
    np.fill_diagonal(gains, -np.inf)
    while count > 1:
        one, two = divmod(int(np.argmax(gains)), count)
        if gains[one, two] <= _LEAST:
            return order
        if not _swap(pairs, one, two):
            gains[one, two] = gains[two, one] = -np.inf
            continue
        order[[one, two]] = order[[two, one]]
        changes[:, [one, two]] = changes[:, [two, one]]
        near = np.unique(np.concatenate([w.beside((one, two), c) for w, c in pairs]))
        changes[near] = _changes(pairs, near)
        gains[near] = changes[near] + changes[:, near].T
        gains[:, near] = gains[near].T
        gains[near, near] = -np.inf
    return order


def _changes(pairs: Sequence[tuple[Grouped, np.ndarray]], slots: np.ndarray) -> np.ndarray:
    return np.sum([weight.changes(slots, columns) for weight, columns in pairs], axis=0)


def _swap(pairs: Sequence[tuple[Grouped, np.ndarray]], one: int, two: int) -> bool:
    """Swap two channels if that gains, counted on all rows, and costs no weight too much."""
    gains = [weight.gain(columns[one], columns[two]) for weight, columns in pairs]
    worth = sum(gain / w.total for gain, (w, _) in zip(gains, pairs, strict=True))
    poorer = any(w.kept + gain < w.least for gain, (w, _) in zip(gains, pairs, strict=True))
    if poorer or worth <= _LEAST:
        return False
    for weight, columns in pairs:
        weight.swap(columns[one], columns[two])
    return True
