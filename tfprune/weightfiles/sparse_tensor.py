"""TFLite's sparse encoding of one weight: numpy in, numpy out.

A weight is stored level by level, one level for each axis in a chosen order, and one more for each
axis that is cut in blocks. A level is dense, or compressed as the rows of a CSR matrix are.
`decode` reads all of it. `encode` writes what every runtime and the converter itself use, the last
axis compressed, with one choice that the converter leaves out: *which* axis is the last.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Level:
    """One level of the encoding.

    Attributes:
        size: number of positions along a dense level; 0 for a compressed one.
        segments: of a compressed level: where the row of each position of the levels before it
            starts in `indices`, and the end.
        indices: positions along a compressed level.
    """

    size: int = 0
    segments: np.ndarray | None = None
    indices: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of segments and indices."""
        return sum(part.nbytes for part in (self.segments, self.indices) if part is not None)


@dataclasses.dataclass(frozen=True)
class SparseTensor:
    """A weight in sparse encoding.

    Attributes:
        shape: of the dense weight.
        order: its axes, slowest first; numbers from the rank on are blocks.
        blocks: the axis that each block is cut out of.
        levels: one for each entry of `order`.
        values: those that are stored.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    blocks: tuple[int, ...]
    levels: tuple[Level, ...]
    values: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes of segments, indices and values."""
        return self.values.nbytes + sum(level.nbytes for level in self.levels)


def encode(dense: np.ndarray) -> SparseTensor:
    """Return a weight in the encoding that takes the fewest bytes.

    Example: `encode(np.array([[0, 0, 7], [0, 5, 0]], "int8")).levels[1].indices` is `[2, 1]`.

    Args:
        dense: at least one axis; zeros are left out, -0.0 too. Of a weight that is all zeros, the
            first one stays: runtimes take a constant without any data for something to compute.

    Source: `dense_to_sparse_pass.cc` and `sparsity_format_converter.cc` of LiteRT.
    """
    return min((_encode(dense, order) for order in _orders(dense.ndim)), key=lambda s: s.nbytes)


def decode(sparse: SparseTensor) -> np.ndarray:
    """Return the dense weight.

    Raises:
        ValueError: shape, levels and values contradict each other.
    """
    rank, size = len(sparse.shape), math.prod(sparse.shape)
    rows = 1  # number of positions along the levels so far
    places: list[np.ndarray] = []  # of each of those, along each level
    for level in sparse.levels:
        if level.segments is None or level.indices is None:
            if not 0 < level.size <= size // max(rows, 1):
                raise _contradiction(sparse)
            counts: Any = level.size
            place = np.tile(np.arange(level.size), rows)
        else:
            counts = np.diff(level.segments.astype("int64"))
            first, fits = level.segments[:1].tolist(), len(counts) == rows
            if not fits or first != [0] or (counts < 0).any() or counts.sum() != len(level.indices):
                raise _contradiction(sparse)
            place = level.indices.astype("int64")
        places = [*(np.repeat(before, counts) for before in places), place]
        rows = len(place)
    if rows != len(sparse.values):
        raise _contradiction(sparse)
    dense = np.zeros(sparse.shape, sparse.values.dtype)
    if rows:
        axes = dict(zip(sparse.order, places, strict=True))
        where = [axes[axis] for axis in range(rank)]
        sizes = dict(zip(sparse.order, sparse.levels, strict=True))
        for number, axis in enumerate(sparse.blocks):
            where[axis] = where[axis] * sizes[rank + number].size + axes[rank + number]
        if any(w.min() < 0 or w.max() >= n for w, n in zip(where, sparse.shape, strict=True)):
            raise _contradiction(sparse)
        dense[tuple(where)] = sparse.values
    return dense


def encoded_bytes(dense: np.ndarray) -> int:
    """Return what `encode` would take, by counting alone."""
    best = []
    nonzero = dense != 0
    total = max(1, int(np.count_nonzero(nonzero)))
    for order in _orders(dense.ndim):
        last = order[-1]
        used = np.flatnonzero(nonzero.any(axis=tuple(a for a in range(dense.ndim) if a != last)))
        widest = int(used[-1]) if used.size else 0
        rows = dense.size // dense.shape[last]
        index, segment = (np.dtype(_unsigned(n)).itemsize for n in (widest, total))
        best.append(total * (dense.itemsize + index) + (rows + 1) * segment)
    return min(best)


def _contradiction(sparse: SparseTensor) -> ValueError:
    return ValueError(
        f"a sparse tensor of shape {sparse.shape} holds {len(sparse.values)} values, which do not "
        "fit its segments and indices"
    )


def _orders(rank: int) -> list[tuple[int, ...]]:
    """Return the orders tried: input channels compressed, as the converter does, or output ones.

    A weight of 64 outputs and 576 inputs takes one byte an index along its outputs, two along its
    inputs.
    """
    straight = tuple(range(rank))
    return [straight] if rank < 2 else [straight, (*straight[1:], 0)]


def _encode(dense: np.ndarray, order: tuple[int, ...]) -> SparseTensor:
    rows = np.ascontiguousarray(dense.transpose(order)).reshape(-1, dense.shape[order[-1]])
    row, column = np.nonzero(rows)
    if not row.size:
        row, column = np.zeros(1, "int64"), np.zeros(1, "int64")
    segments = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rows)))])
    compressed = Level(
        segments=segments.astype(_unsigned(len(row))),
        indices=column.astype(_unsigned(int(column.max()))),
    )
    return SparseTensor(
        shape=dense.shape,
        order=order,
        blocks=(),
        levels=(*(Level(size=dense.shape[axis]) for axis in order[:-1]), compressed),
        values=rows[row, column],
    )


def _unsigned(largest: int) -> str:
    """Return the narrowest index type of the schema that holds a number."""
    return "uint8" if largest < 2**8 else "uint16" if largest < 2**16 else "int32"
