"""Which weights of a product stay, by any pattern, chosen as the weights are refitted."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tfprune.layouts import Layout, of_kernel
from tfprune.patterns import NM, Block, Pattern
from tfprune.reconstruction.products import Product

_BLOCK = 64  # inputs between two choices of a pattern that ranks the whole weight
_LAZY = 128  # inputs after which all later weights are brought up to date


class Ranking:
    """Ranks the whole weight, decided parts included, as unstructured masks and blocks do.

    Args:
        product: how the weight is seen as matrices.
        pattern: where zeros may stand.
        layout: of the kernel.
        sparsity: fraction of zeros.
        alive: which weights are not zero to begin with, (groups, depth, width).
    """

    def __init__(
        self,
        product: Product,
        pattern: Pattern,
        layout: Layout | None,
        sparsity: float,
        alive: np.ndarray,
    ) -> None:
        self._product, self._pattern, self._layout = product, pattern, layout
        self._sparsity, self._alive = sparsity, alive
        self._kept = np.zeros(alive.shape, bool)

    def blocks(self) -> Iterator[list[tuple[int, int]]]:
        """Yield runs of inputs; those in one block of a `Block` pattern stay together."""
        # Inputs may lie along either side of a block: a matrix is taken as it is stored.
        whole = math.lcm(*self._pattern.size) if isinstance(self._pattern, Block) else 1
        step, depth = whole * -(-_BLOCK // whole), self._alive.shape[1]
        for start in range(0, depth, step):
            yield [(start, min(start + step, depth))]

    def mask(self, weights: np.ndarray, scale: np.ndarray, start: int, end: int) -> np.ndarray:
        """Return which weights of the inputs [start, end) stay."""
        scores = (weights / scale) ** 2 * self._alive
        # What was decided is beyond dispute: above all others, or nothing at all.
        scores[:, :start] = self._kept[:, :start] * (2.0 * scores.max() + 1.0)
        mask, _ = self._pattern.mask(
            self._product.kernel(scores), self._layout, self._sparsity, self._sparsity
        )
        self._kept[:, start:end] = self._product.matrices(mask)[:, start:end]
        return self._kept[:, start:end]


class Groups:
    """Chooses in each N:M group of inputs when its turn comes.

    Args:
        pattern: N:M.
        channels: inputs in a row; groups do not reach beyond.
        alive: which weights are not zero to begin with, (groups, depth, width).
    """

    def __init__(self, pattern: NM, channels: int, alive: np.ndarray) -> None:
        self._pattern, self._channels, self._alive = pattern, channels, alive

    def blocks(self) -> Iterator[list[tuple[int, int]]]:
        """Yield runs of groups."""
        depth = self._alive.shape[1]
        groups = [
            (start, min(start + self._pattern.group, row + self._channels))
            for row in range(0, depth, self._channels)
            for start in range(row, row + self._channels, self._pattern.group)
        ]
        size = max(1, _LAZY // self._pattern.group)
        for first in range(0, len(groups), size):
            yield groups[first : first + size]

    def mask(self, weights: np.ndarray, scale: np.ndarray, start: int, end: int) -> np.ndarray:
        """Return which weights of the inputs [start, end) stay."""
        part = slice(start, end)
        scores = (weights[:, part] / scale[:, part]) ** 2 * self._alive[:, part]
        flat = scores.transpose(1, 0, 2).reshape(end - start, -1)
        goal = self._pattern.zeros / self._pattern.group
        mask, _ = self._pattern.mask(flat, of_kernel(2), goal, goal)
        return mask.reshape(end - start, *scores.shape[::2]).transpose(1, 0, 2)
