"""Scores and a sparsity in, a boolean mask out: the arithmetic of pruning, in plain numpy.

A mask is True where a weight is kept. Scores are magnitudes: not negative, and zero where nothing
is left to keep. Two rules hold for every function here:

- **Exactly k.** The kept count is exact; among equal scores the lower index is kept.
- **Sparsity is never lost.** A score of zero is not kept, so a weight that is already sparser than
  the target stays that sparse. Only where *all* scores are zero (a kernel that starts at zero) are
  the first k kept, since nothing can be ranked and an empty mask could never train.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

# Ranking a group pairwise costs group**2 passes over the weights, sorting it log(group) slow ones.
_PAIRWISE_GROUP_LIMIT = 16

# From this size on, all cores are used, and the k-th score is looked for among the few near it,
# found by a sample.
_LONG = 1 << 20
_SAMPLE = 1 << 17
_cores: int | None = None  # None: all there are
_CHUNK = 1 << 16  # scores looked at together: they stay in the processor's cache


def magnitudes(weights: np.ndarray) -> np.ndarray:
    """Return abs(weights) as float32 (float64 stays), or raise if any is NaN or infinite."""
    dtype = np.float64 if weights.dtype == np.float64 else np.float32
    weights = np.ascontiguousarray(weights.astype(dtype, copy=False))
    scores = np.empty_like(weights)
    whole, out = weights.reshape(-1), scores.reshape(-1)
    largest = over_cores(lambda part: np.abs(whole[part], out=out[part]).max(), out.size)
    if not all(np.isfinite(one) for one in largest):
        bad = int(scores.size - np.isfinite(scores).sum())
        raise ValueError(
            "Cannot rank weights that are NaN or infinite: training has diverged. Lower the "
            "learning rate or clip gradients, and go on from a checkpoint with finite weights. "
            f"Received: {bad} of {scores.size} weights not finite"
        )
    return scores


def limit_cores(count: int) -> None:
    """Let functions here use that many cores at most, in a process that is one of several."""
    global _cores
    _cores = count


def over_cores(work: Callable[[slice], Any], size: int) -> list[Any]:
    """Return what `work` returns for each part of a vector, on all cores if it is a long one.

    numpy lets other threads run while it computes.

    Args:
        work: called with slices that follow each other, of the whole vector together.
        size: of the vector; an empty one has no parts.
    """
    cores = (_cores or _available()) if size >= _LONG else 1
    ends = [size * i // cores for i in range(cores + 1)]
    parts = [slice(*ends[i : i + 2]) for i in range(cores) if ends[i] < ends[i + 1]]
    if len(parts) < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(len(parts)) as threads:
        return list(threads.map(work, parts))


def _available() -> int:
    """Return how many cores this process may run on."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def kept_count(size: int, sparsity: float) -> int:
    """Return how many of `size` weights are kept: `max(1, round_half_even(size * (1 - sparsity)))`.

    Computed in double precision and cleaned of its last digits, so that 15 weights at 0.7 keep
    4 (half of 4.5 goes to the even number), not the 5 that 4.500000000000001 would give.

    Example: `kept_count(10, 0.75)` is 2. Source: tfmot's `pruning_impl`, which computes in single
    precision: it is one off where rounding makes or breaks a half (25 weights at 0.9: 3, not 2),
    and by more above 16.7 million weights.
    """
    return max(1, round(round(size * (1.0 - sparsity), 6)))


def cut(scores: np.ndarray, mask: np.ndarray) -> None:
    """Set scores to zero where their mask is, in place."""
    flat, kept = scores.reshape(-1), np.ascontiguousarray(mask).reshape(-1)
    over_cores(lambda part: np.multiply(flat[part], kept[part], out=flat[part]), flat.size)


def top_k(scores: np.ndarray, keep: int) -> tuple[np.ndarray, float]:
    """Return the mask of the `keep` largest scores, of any shape, and the smallest kept score.

    Example: `top_k(np.array([3.0, 1.0, 2.0]), 2)` is `([True, False, True], 2.0)`.
    """
    flat = np.ascontiguousarray(scores).reshape(-1)
    threshold = _kth_largest(flat, keep)
    if threshold is None:
        alive = flat > 0
        if alive.any():
            return alive.reshape(scores.shape), float(flat.min(where=alive, initial=np.inf))
        alive[:keep] = True
        return alive.reshape(scores.shape), 0.0
    mask = np.empty(flat.shape, bool)

    def compare(part: slice) -> int:
        return int(np.count_nonzero(np.greater_equal(flat[part], threshold, out=mask[part])))

    surplus = sum(over_cores(compare, flat.size)) - keep
    if surplus > 0:
        mask[np.flatnonzero(flat == threshold)[-surplus:]] = False
    return mask.reshape(scores.shape), float(threshold)


def _kth_largest(flat: np.ndarray, k: int) -> np.floating | None:
    """Return the k-th largest of a vector of scores, None if fewer than k are above zero."""
    rest = k
    candidates = None
    if flat.size >= _LONG:
        above, candidates = _near_kth(flat, k)
        rest = k - above
    # A sample can miss; then everything takes part. Zeros never do: partitioning equals is slow.
    if candidates is None or not 0 < rest <= candidates.size:
        rest, candidates = k, flat[flat > 0]
    if rest > candidates.size:
        return None
    nth = candidates.size - rest
    candidates.partition(nth)
    return candidates[nth]


def _near_kth(flat: np.ndarray, k: int) -> tuple[int, np.ndarray]:
    """Return how many scores lie above a narrow bracket around the k-th largest, and those in it.

    The bracket comes from a random sample and is six standard errors wide to each side.
    """
    sample = flat[np.random.default_rng(0).integers(flat.size, size=_SAMPLE)]
    sample.sort()
    rank, margin = _SAMPLE * (1.0 - k / flat.size), 3 * _SAMPLE**0.5
    low = sample[max(0, int(rank - margin))]
    low = max(low, np.finfo(flat.dtype).smallest_subnormal)
    high = sample[min(_SAMPLE - 1, int(rank + margin))]

    def look(span: slice) -> tuple[int, list[np.ndarray]]:
        above, near = 0, []
        for start in range(span.start, span.stop, _CHUNK):
            part = flat[start : min(start + _CHUNK, span.stop)]
            over = part > high
            above += int(np.count_nonzero(over))
            near.append(part[np.flatnonzero((part >= low) > over)])
        return above, near

    found = over_cores(look, flat.size)
    near = [part for _, parts in found for part in parts]
    return sum(above for above, _ in found), np.concatenate(near)


def packed(mask: np.ndarray) -> np.ndarray:
    """Return a mask with eight weights in a byte, the first in its highest bit; a vector of uint8.

    Example: `packed(np.array([True, False, True]))` is `[160]`.
    """
    return np.packbits(mask)


def unpacked(bits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the mask of a shape from what `packed` made of it.

    Raises:
        ValueError: it was another shape's.
    """
    size = math.prod(shape)
    whole = bits.dtype == np.uint8 and bits.shape == (-(-size // 8),)
    if not whole or np.unpackbits(bits[-1:])[size % 8 or 8 :].any():
        raise ValueError(
            f"The packed mask of a weight of shape {shape} has {-(-size // 8)} bytes, and zeros "
            f"after the last weight. Received: {bits.dtype} of shape {bits.shape}"
        )
    return np.unpackbits(bits, count=size).view(bool).reshape(shape)


def pool_blocks(matrix: np.ndarray, block: tuple[int, int], pooling: str) -> np.ndarray:
    """Return the mean ("AVG") or the largest ("MAX") score of each block of a matrix.

    Blocks start at the first row and column; one that sticks out at the far edge is pooled over
    the weights it really has (tfmot centres its padding, which shifts ragged blocks).
    """
    height, width = block
    row_starts = np.arange(0, matrix.shape[0], height)
    column_starts = np.arange(0, matrix.shape[1], width)
    reduce = np.maximum.reduceat if pooling == "MAX" else np.add.reduceat
    pooled = matrix if height == 1 else reduce(matrix, row_starts, axis=0)
    pooled = pooled if width == 1 else reduce(pooled, column_starts, axis=1)
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
    `group - zeros` weights. With `fraction < 1` only that fraction of the groups (of those that
    lose anything) is pruned, those first where it removes the least magnitude: this is how N:M
    grows under a schedule.

    Args:
        rows: scores, shape (rows, input channels).
        zeros: zeros in each group.
        group: neighbours in a group, more than `zeros`.
        fraction: of the groups to prune, in [0, 1].

    Returns:
        The mask, of the shape of `rows`, and the largest magnitude removed from any one group (the
        price of the last group pruned; it plays the part of a threshold).
    """
    width = rows.shape[1]
    groups = losing_groups(width, zeros, group)
    reach = min(width, groups * group)
    whole = rows[:, : groups * group]
    if reach < groups * group:
        whole = np.pad(whole, ((0, 0), (0, groups * group - reach)))
    # One array for each place in a group, in the memory order of `rows` (a Dense kernel comes
    # transposed): each comparison below is then one pass over contiguous memory.
    lanes = [np.copy(whole[:, place::group], order="K") for place in range(group)]
    dropped = [rank >= group - zeros for rank in _ranks(lanes)]
    price = np.zeros_like(lanes[0])
    for lane, drop in zip(lanes, dropped, strict=True):
        price += lane * drop
    if fraction < 1.0:
        chosen = _cheapest(price, round(fraction * price.size))
        for drop in dropped:
            drop &= chosen
    mask = np.ones_like(rows, bool)
    for place, drop in enumerate(dropped):
        lane = mask[:, place:reach:group]
        np.logical_not(drop[:, : lane.shape[1]], out=lane)
    pruned = np.logical_or.reduce(dropped)
    return mask, float(price.max(where=pruned, initial=0.0))


def losing_groups(width: int, zeros: int, group: int) -> int:
    """Return how many groups of a row lose weights: a short last group may be too short to."""
    full, left = divmod(width, group)
    return full + (left > group - zeros)


def _ranks(lanes: list[np.ndarray]) -> list[np.ndarray]:
    """Return each score's place within its group, 0 for the largest, ties to the lower index."""
    size = len(lanes)
    if size > _PAIRWISE_GROUP_LIMIT:
        order = np.argsort(-np.stack(lanes), axis=0, kind="stable")
        return list(np.argsort(order, axis=0, kind="stable"))
    # Each starts at its own index, behind all before it, and moves up past those it exceeds.
    places = [np.full_like(lane, index, np.uint8) for index, lane in enumerate(lanes)]
    for i in range(size):
        for j in range(i):
            wins = (lanes[i] > lanes[j]).view(np.uint8)
            places[i] -= wins
            places[j] += wins
    return places


def _cheapest(price: np.ndarray, count: int) -> np.ndarray:
    if count <= 0:
        return np.zeros_like(price, bool)
    if count >= price.size:
        return np.ones_like(price, bool)
    limit = np.partition(price.ravel(order="K"), count - 1)[count - 1]
    chosen = price <= limit
    surplus = int(np.count_nonzero(chosen)) - count
    if surplus > 0:
        ties = np.flatnonzero(price == limit)[-surplus:]
        chosen[np.unravel_index(ties, price.shape)] = False
    return chosen
