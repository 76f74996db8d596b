"""Prune the weights of a product and change those that stay, so that its outputs change least.

The error of weights W is `tr((W - W0)' H (W - W0))`, H being the Gram matrix of the inputs. Inputs
are taken in order: what a weight's removal costs is shared out, in the best way, among the weights
of later inputs, and which weights go is chosen anew as the others move. That never looks back: in
the end all that stay are moved together, by conjugate gradients, to where the error is least.

Source: Frantar & Alistarh 2023, "SparseGPT"; Frantar, Singh & Alistarh 2022, "Optimal Brain
Compression"; Hassibi & Stork 1993, "Optimal Brain Surgeon"; the last step is that of Meng et al.
2024, "ALPS". Unlike SparseGPT, an unstructured mask
is not held to the same sparsity in every block of inputs, only over the whole weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

DAMPING = 0.01
"""Of the mean of H's diagonal, added to it: SparseGPT's default."""
_FLOOR = 1e-8  # of the squares about 0, for what is left about the means: rounding is less
_STEPS, _ENOUGH = 50, 0.002  # conjugate gradients: at most, or until they gain less of the error
_SMALL = 64  # triangles that are inverted as any matrix


class Choice(Protocol):
    """Which weights stay: asked about some inputs at a time, in order."""

    def blocks(self) -> Iterator[list[tuple[int, int]]]:
        """Yield runs of (start, end) of inputs; between runs all weights are up to date."""
        ...

    def mask(self, weights: np.ndarray, scale: np.ndarray, start: int, end: int) -> np.ndarray:
        """Return which weights of the inputs [start, end) stay, (groups, end - start, width).

        Args:
            weights: as they are now, (groups, depth, width); before `start` they are final.
            scale: `(weights / scale) ** 2` is what the removal of each would cost.
            start: first of the inputs.
            end: of the inputs.
        """
        ...


def damped(gram: np.ndarray, damping: float = DAMPING, raw: np.ndarray | float = 0.0) -> np.ndarray:
    """Return H with a little on its diagonal, without which unused inputs make it singular.

    Args:
        gram: H, (groups, depth, depth).
        damping: of the mean of H's diagonal.
        raw: squares of an input about 0, (groups,). Where inputs hardly vary about their means, H
            is the rounding of these.
    """
    size = gram.shape[-1]
    mean = np.maximum(np.trace(gram, axis1=1, axis2=2) / size, _FLOOR * np.asarray(raw))
    mean = np.where(mean > 0, mean, 1.0)  # all inputs are zero: every weight costs the same
    return gram + damping * mean[:, None, None] * np.eye(size)


def factor(hessian: np.ndarray) -> np.ndarray:
    """Return the upper triangular U for which `U' U` is the inverse of H.

    `U[j, j] ** 2` is the j-th diagonal element of the inverse once the inputs before j are fixed.
    """
    turned = np.linalg.cholesky(hessian[:, ::-1, ::-1])[:, ::-1, ::-1]
    return _inverse(turned)


def _inverse(upper: np.ndarray) -> np.ndarray:
    """Return the inverse of upper triangular matrices, by halves: a sixth of the work of any."""
    size = upper.shape[-1]
    if size <= _SMALL:
        return np.triu(np.linalg.inv(upper))
    half = size // 2
    found = np.zeros_like(upper)
    found[:, :half, :half] = first = _inverse(upper[:, :half, :half])
    found[:, half:, half:] = second = _inverse(upper[:, half:, half:])
    found[:, :half, half:] = -(first @ (upper[:, :half, half:] @ second))
    return found


def nearest(
    upper: np.ndarray, gram: np.ndarray, cross: np.ndarray, dense: np.ndarray
) -> np.ndarray:
    """Return the weights, not pruned yet, whose outputs are nearest to those wanted.

    They differ from the dense ones where inputs do: earlier layers are pruned already.
    """
    return dense + upper.transpose(0, 2, 1) @ (upper @ (cross - gram @ dense))


def refit(weights: np.ndarray, upper: np.ndarray, choice: Choice) -> np.ndarray:
    """Return pruned weights; what is pruned is exactly zero.

    Args:
        weights: (groups, depth, width).
        upper: of `factor`, (groups, depth, depth).
        choice: says which weights stay.
    """
    left = weights.copy()
    diagonal = np.diagonal(upper, axis1=1, axis2=2)[:, :, None]
    for block in choice.blocks():
        first, last = block[0][0], block[-1][1]
        errors = np.zeros((left.shape[0], last - first, left.shape[2]))
        for begin, end in block:
            mask = choice.mask(left, diagonal, begin, end)
            for j in range(begin, end):
                kept = np.where(mask[:, j - begin], left[:, j], 0.0)
                error = (left[:, j] - kept) / diagonal[:, j]
                left[:, j] = kept
                rest = upper[:, j, j + 1 : last, None]
                left[:, j + 1 : last] -= rest * error[:, None]
                errors[:, j - first] = error
        rest = upper[:, first:last, last:]
        left[:, last:] -= rest.transpose(0, 2, 1) @ errors
    return left


def settled(weights: np.ndarray, hessian: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return pruned weights moved to where their error is least; zeros stay.

    Args:
        weights: (groups, depth, width).
        hessian: H, of `damped`, (groups, depth, depth).
        wanted: the weights that have no error, of `nearest`.
    """
    alive, scale = weights != 0, 1.0 / np.diagonal(hessian, axis1=1, axis2=2)[:, :, None]
    found = weights.copy()
    lack = hessian @ (wanted - found)
    error = float(np.sum((wanted - found) * lack))
    lack = np.where(alive, lack, 0.0)
    ahead = scale * lack
    slope = np.sum(lack * ahead, axis=1, keepdims=True)
    for _ in range(_STEPS):
        bent = np.where(alive, hessian @ ahead, 0.0)
        curve = np.sum(ahead * bent, axis=1, keepdims=True)
        step = np.divide(slope, curve, out=np.zeros_like(slope), where=curve > 0)
        found += step * ahead
        gained = float(np.sum(step * slope))
        error -= gained
        if gained <= _ENOUGH * max(error, 0.0):
            break
        lack -= step * bent
        turned = scale * lack
        before, slope = slope, np.sum(lack * turned, axis=1, keepdims=True)
        ahead = turned + ahead * np.divide(
            slope, before, out=np.zeros_like(slope), where=before > 0
        )
    return found
