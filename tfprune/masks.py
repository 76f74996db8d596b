"""Scores and a sparsity in, a boolean mask out: the arithmetic of pruning, in plain numpy.

A mask is True where a weight is kept. Scores are magnitudes: not negative, and zero where nothing
is left to keep. Two rules hold for every function here:

- **Exactly k.** The kept count is exact; among equal scores the lower index is kept.
- **Sparsity is never lost.** A score of zero is not kept, so a weight that is already sparser than
  the target stays that sparse. Only where *all* scores are zero (a kernel that starts at zero) are
  the first k kept, since nothing can be ranked and an empty mask could never train.
"""

from __future__ import annotations

import numpy as np

# Ranking a group pairwise costs group**2 passes over the weights, sorting it log(group) slow ones.
_PAIRWISE_GROUP_LIMIT = 16


def magnitudes(weights: np.ndarray) -> np.ndarray:
    """Return abs(weights) as float32 (float64 stays), or raise if any is NaN or infinite."""
    dtype = np.float64 if weights.dtype == np.float64 else np.float32
    scores = np.abs(weights.astype(dtype, copy=False))
    if scores.size and not np.isfinite(scores.max()):
        bad = int(scores.size - np.isfinite(scores).sum())
        raise ValueError(
            "Cannot rank weights that are NaN or infinite: training has diverged. Lower the "
            "learning rate or clip gradients, and go on from a checkpoint with finite weights. "
            f"Received: {bad} of {scores.size} weights not finite"
        )
    return scores


def kept_count(size: int, sparsity: float) -> int:
    """Return how many of `size` weights are kept: `max(1, round_half_even(size * (1 - sparsity)))`.

    Computed in double precision and cleaned of its last digits, so that 15 weights at 0.7 keep
    4 (half of 4.5 goes to the even number), not the 5 that 4.500000000000001 would give.

    Example: `kept_count(10, 0.75)` is 2. Source: tfmot's `pruning_impl`, which computes in single
    precision and is off above 16.7 million weights.
    """
    return max(1, round(round(size * (1.0 - sparsity), 6)))


def top_k(scores: np.ndarray, keep: int) -> tuple[np.ndarray, float]:
    """Return the mask of the `keep` largest scores, of any shape, and the smallest kept score.

    Example: `top_k(np.array([3.0, 1.0, 2.0]), 2)` is `([True, False, True], 2.0)`.
    """
    flat = np.ascontiguousarray(scores).reshape(-1)
    alive = int(np.count_nonzero(flat))
    if alive == 0:
        mask = np.zeros(flat.shape, bool)
        mask[:keep] = True
        return mask.reshape(scores.shape), 0.0
    if keep >= alive:
        return (flat > 0).reshape(scores.shape), float(flat[flat > 0].min())
    # Partitioning an array full of equal zeros is slow, so only the rest takes part.
    candidates = flat[flat > 0] if alive < flat.size else flat.copy()
    nth = candidates.size - keep
    candidates.partition(nth)
    threshold = candidates[nth]
    mask = flat > threshold
    missing = keep - int(np.count_nonzero(mask))
    mask[np.flatnonzero(flat == threshold)[:missing]] = True
    return mask.reshape(scores.shape), float(threshold)


def pool_blocks(matrix: np.ndarray, block: tuple[int, int], pooling: str) -> np.ndarray:
    """Return the mean ("AVG") or the largest ("MAX") score of each block of a matrix.

    Blocks start at the first row and column; one that sticks out at the far edge is pooled over
    the weights it really has (tfmot centres its padding, which shifts ragged blocks).
    """
    height, width = block
    row_starts = np.arange(0, matrix.shape[0], height)
    column_starts = np.arange(0, matrix.shape[1], width)
    reduce = np.maximum.reduceat if pooling == "MAX" else np.add.reduceat
    pooled = reduce(reduce(matrix, row_starts, axis=0), column_starts, axis=1)
    if pooling == "AVG":
        rows = np.diff([*row_starts, matrix.shape[0]])
        columns = np.diff([*column_starts, matrix.shape[1]])
        pooled = pooled / np.outer(rows, columns).astype(matrix.dtype)
    return pooled


def expand_blocks(kept: np.ndarray, block: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Return the mask of a matrix of this shape from the mask of its blocks."""
    wide = kept.repeat(block[0], axis=0).repeat(block[1], axis=1)
    return wide[: shape[0], : shape[1]]


def n_of_m(rows: np.ndarray, zeros: int, group: int, fraction: float) -> tuple[np.ndarray, float]:
    """Mask the `zeros` smallest of every `group` neighbours along each row.

    A row that is not a multiple of `group` long ends in a shorter group, which keeps up to
    `group - zeros` weights. With `fraction < 1` only that fraction of the groups is pruned, those
    first where it removes the least magnitude: this is how N:M grows under a schedule.

    Args:
        rows: scores, shape (rows, input channels).
        zeros: zeros in each group.
        group: neighbours in a group, more than `zeros`.
        fraction: of the groups to prune, in [0, 1].

    Returns:
        The mask, of the shape of `rows`, and the largest magnitude removed from any one group (the
        price of the last group pruned; it plays the part of a threshold).
    """
    count, width = rows.shape
    groups = -(-width // group)
    padded = np.zeros((count, groups * group), rows.dtype)
    padded[:, :width] = rows
    # (group, number of groups): each rank below is then one pass over contiguous memory.
    lanes = np.ascontiguousarray(padded.reshape(-1, group).T)
    dropped = _ranks(lanes) >= group - zeros
    price = np.where(dropped, lanes, 0).sum(axis=0)
    if fraction < 1.0:
        dropped &= _cheapest(price, round(fraction * price.size))
    mask = ~np.ascontiguousarray(dropped.T).reshape(count, -1)[:, :width]
    pruned = dropped.any(axis=0)
    return mask, float(price[pruned].max()) if pruned.any() else 0.0


def _ranks(lanes: np.ndarray) -> np.ndarray:
    """Return each score's place within its column, 0 for the largest, ties to the lower index."""
    size = lanes.shape[0]
    if size > _PAIRWISE_GROUP_LIMIT:
        order = np.argsort(-lanes, axis=0, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(size)[:, None], axis=0)
        return ranks
    ranks = np.zeros(lanes.shape, np.uint8)
    for i in range(size):
        for j in range(i):
            loses = lanes[i] <= lanes[j]
            ranks[i] += loses
            ranks[j] += ~loses
    return ranks


def _cheapest(price: np.ndarray, count: int) -> np.ndarray:
    chosen = np.zeros(price.shape, bool)
    if count >= price.size:
        chosen[:] = True
    elif count > 0:
        limit = np.partition(price, count - 1)[count - 1]
        chosen = price < limit
        ties = np.flatnonzero(price == limit)
        chosen[ties[: count - int(np.count_nonzero(chosen))]] = True
    return chosen
