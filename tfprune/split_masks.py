"""The mask of a weight of which each process holds a part, chosen without putting it together.

Each process looks at its own parts, and they tell each other how many scores begin with each of
the 65,536 halves of their bits: a radix selection, two rounds for float32. So the mask is that of
`masks.top_k`, to the bit, however the weight is split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from tfprune import masks

_DIGIT = 16  # bits looked at in a round
_CHUNK = 1 << 20  # numbers counted together

Total = Callable[[np.ndarray], np.ndarray]  # sums counts over all processes, which all must call it


class Part(NamedTuple):
    """What a process holds of an array.

    Attributes:
        start: where it begins in the whole, along each axis.
        values: of the part.
        counts: whether it counts here; of several copies one does.
    """

    start: tuple[int, ...]
    values: np.ndarray
    counts: bool = True


def top_k(
    scores: list[Part], shape: tuple[int, ...], keep: int, total: Total
) -> tuple[list[np.ndarray], float]:
    """Return what `masks.top_k` of the whole would be, for each part, and the smallest kept score.

    Args:
        scores: what this process holds of them; not negative.
        shape: of the whole.
        keep: how many of the whole are kept.
        total: sums over the processes.

    Example: with `Part((0,), [3.0, 1.0])` in one process and `Part((2,), [2.0])` in another, and
    two to keep, it is `[[True, False]], 2.0` there and `[[True]], 2.0` here.
    """
    own = [part.values.reshape(-1) for part in scores if part.counts]
    alive = _count(own, lambda one: one > 0, total)
    if alive == 0:  # nothing can be ranked
        return [_first(part, shape, keep) for part in scores], 0.0
    keep = min(keep, alive)
    unsigned = np.dtype(f"u{scores[0].values.itemsize}")  # their order is that of the scores
    bits = _kth_largest([one.view(unsigned) for one in own], keep, total, unsigned)
    threshold = np.array(bits, unsigned).view(scores[0].values.dtype)[()]
    kept = [part.values >= threshold for part in scores]
    surplus = _count(own, lambda one: one >= threshold, total) - keep
    if surplus > 0:
        ties = [(part, part.values == threshold) for part in scores]
        counted = [_positions(part, shape, tie) for part, tie in ties if part.counts]
        last = _kth_largest(counted, surplus + 1, total, np.dtype(np.uint64))
        for mask, (part, tie) in zip(kept, ties, strict=True):
            mask[tie] = _positions(part, shape, tie) <= last
    return kept, float(threshold)


def _first(part: Part, shape: tuple[int, ...], keep: int) -> np.ndarray:
    """Return the mask of a part whose numbers are among the first of the whole."""
    everywhere = np.ones(part.values.shape, bool)
    return (_positions(part, shape, everywhere) < keep).reshape(part.values.shape)


def _count(own: list[np.ndarray], which: Callable[[np.ndarray], np.ndarray], total: Total) -> int:
    """Return how many numbers of all processes fulfil a condition."""

    def look(values: np.ndarray) -> int:
        found = masks.over_cores(lambda span: np.count_nonzero(which(values[span])), values.size)
        return sum(found)

    return int(total(np.array([sum(map(look, own))]))[0])


def _positions(part: Part, shape: tuple[int, ...], which: np.ndarray) -> np.ndarray:
    """Return where some numbers of a part stand in the whole, flattened."""
    found = np.zeros(np.count_nonzero(which), np.uint64)
    for axis, along in enumerate(np.nonzero(which)):
        found += (along + part.start[axis]).astype(np.uint64) * math.prod(shape[axis + 1 :])
    return found


def _kth_largest(own: list[np.ndarray], k: int, total: Total, dtype: np.dtype) -> int:
    """Return the k-th largest of numbers of an unsigned type, of all processes together."""
    prefix, rest = 0, k
    for low in range(dtype.itemsize * 8 - _DIGIT, -1, -_DIGIT):
        counts = total(_sum(_digits(one, prefix, low) for one in own))
        from_the_top = np.cumsum(counts[::-1])
        place = int(np.searchsorted(from_the_top, rest))
        rest -= int(from_the_top[place - 1]) if place else 0
        prefix = prefix << _DIGIT | (len(counts) - 1 - place)
    return prefix


def _digits(values: np.ndarray, prefix: int, low: int) -> np.ndarray:
    """Return how often each digit at bit `low` comes in numbers that begin with `prefix`."""

    def look(span: slice) -> np.ndarray:
        found = _no_digits()
        for start in range(span.start, span.stop, _CHUNK):
            high = values[start : min(start + _CHUNK, span.stop)] >> values.dtype.type(low)
            if low + _DIGIT < values.itemsize * 8:
                high = high[high >> values.dtype.type(_DIGIT) == prefix]
            digit = (high & values.dtype.type((1 << _DIGIT) - 1)).astype(np.intp)
            found += np.bincount(digit, minlength=found.size)
        return found

    return _sum(masks.over_cores(look, values.size))


def _sum(counts: Iterable[np.ndarray]) -> np.ndarray:
    return sum(counts, _no_digits())


def _no_digits() -> np.ndarray:
    return np.zeros(1 << _DIGIT, np.int64)
