"""Which channel each element of a tensor belongs to, and what moving data does to that.

A channel is a number. A `Track` holds one for every element of a tensor, kept small: an axis along
which the numbers do not change has length 1. Reshapes, transposes, concatenations and slices are
then done on the numbers themselves, so that a channel shuffle or a flattened feature map needs no
rule of its own.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

Shape = Sequence[int | None]

NONE = -1
"""The number of what belongs to no channel that could be removed."""


@dataclasses.dataclass(frozen=True)
class Track:
    """The channels of a tensor.

    Attributes:
        shape: of the tensor, batch axis first, None where unknown.
        ids: channel numbers, of the same rank; each axis has its full length or 1.
        share: how many of its values one sample has, for each that the known lengths tell: 1 for
            what has the batch as its one unknown length, more where axes are folded into it, and
            a part of 1 where the batch has a known length.
    """

    shape: tuple[int | None, ...]
    ids: np.ndarray
    share: Fraction = Fraction(1)

    def __post_init__(self):
        if len(self.shape) != self.ids.ndim:
            raise ValueError(f"shape {self.shape} and ids of rank {self.ids.ndim} do not fit")

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes along which the channel changes."""
        return tuple(axis for axis, n in enumerate(self.ids.shape) if n > 1)

    @property
    def tracked(self) -> bool:
        """Whether any element belongs to a channel that could be removed."""
        return bool((self.ids >= 0).any())


def untracked(shape: Sequence[int | None]) -> Track:
    """Return the track of a tensor without channels that could be removed."""
    return Track(tuple(shape), np.full((1,) * len(shape), NONE))


def along(shape: Sequence[int | None], axis: int, ids: np.ndarray) -> Track:
    """Return the track of a tensor whose channels lie along one axis.

    Example: `along((None, 8, 8, 3), -1, np.arange(3))`
    """
    wanted = [1] * len(shape)
    wanted[axis] = -1
    return Track(tuple(shape), np.asarray(ids).reshape(wanted))


def known(shape: Sequence[int | None]) -> tuple[int, ...]:
    """Return a shape with 1 for each unknown length, the batch axis among them."""
    return tuple(1 if n is None else n for n in shape)


def full(track: Track) -> np.ndarray:
    """Return the channel of every element, one for each axis of unknown length."""
    return np.broadcast_to(track.ids, known(track.shape))


def compress(ids: np.ndarray) -> np.ndarray:
    """Keep one of the numbers along each axis on which they do not change."""
    for axis in range(ids.ndim):
        first = ids.take([0], axis) if ids.shape[axis] else ids
        if ids.shape[axis] > 1 and (ids == first).all():
            ids = first
    return ids


def reshape(track: Track, shape: Sequence[int | None]) -> Track | None:
    """Return the track after a reshape; None if lengths are unknown where that matters.

    Unknown lengths are tried out with primes that divide no known one: if the channels then change
    along an axis of unknown length, no number could be given to them.
    """
    if not track.tracked:
        return untracked(shape)
    before = _tried(track.shape, _other_primes(track.shape, shape))
    after = _tried(shape, _other_primes(track.shape, shape))
    free = [axis for axis, n in enumerate(shape) if n is None]
    total = math.prod(before)
    if free:  # those before the last are as they were: the batch, most of the time
        rest = math.prod(n for axis, n in enumerate(after) if axis != free[-1])
        after[free[-1]] = total // rest if rest else 0
    if math.prod(after) != total:
        return None
    ids = compress(np.broadcast_to(track.ids, before).reshape(after))
    return None if any(ids.shape[axis] > 1 for axis in free) else Track(tuple(shape), ids)


def _other_primes(*shapes: Sequence[int | None]) -> list[int]:
    """Return primes, one for each axis, that divide none of the known lengths."""
    lengths = math.prod(n for shape in shapes for n in shape if n)
    primes = (n for n in itertools.count(2) if all(n % d for d in range(2, math.isqrt(n) + 1)))
    return list(itertools.islice((p for p in primes if lengths % p), max(map(len, shapes))))


def _tried(shape: Sequence[int | None], primes: list[int]) -> list[int]:
    trial = iter(primes)
    return [next(trial) if n is None else n for n in shape]


def transpose(track: Track, axes: Sequence[int]) -> Track:
    """Return the track with its axes in another order."""
    return Track(tuple(track.shape[a] for a in axes), track.ids.transpose(axes))


def concatenate(tracks: Sequence[Track], axis: int, shape: Sequence[int | None]) -> Track:
    """Return the track of tensors put together along the axis on which their channels lie."""
    parts = []
    for track in tracks:
        wanted = list(track.ids.shape)
        wanted[axis] = known(track.shape)[axis]
        parts.append(np.broadcast_to(track.ids, wanted))
    rest = [np.broadcast_shapes(*(p.shape[:axis] + p.shape[axis + 1 :] for p in parts))]
    wide = [np.broadcast_to(p, (*rest[0][:axis], p.shape[axis], *rest[0][axis:])) for p in parts]
    return Track(tuple(shape), np.concatenate(wide, axis))


def kept_shape(track: Track, keep: np.ndarray) -> tuple[int | None, ...]:
    """Return the shape of a tensor after removal.

    Args:
        track: of the tensor.
        keep: True for each channel number that stays.

    Raises:
        ValueError: what is left is not a grid, as rows lose different numbers of elements.
    """
    left = np.where(track.ids < 0, True, keep[track.ids])
    shape = list(track.shape)
    for axis in track.axes:
        lines = left.any(axis=tuple(a for a in range(left.ndim) if a != axis))
        shape[axis] = int(lines.sum())
        left = left.compress(lines, axis)
    if not left.all():
        raise ValueError(f"what is left of a tensor of shape {track.shape} is no grid")
    return tuple(shape)
