"""Where zeros may stand in a weight: anywhere, in blocks, or N in every group of M.

A pattern is a frozen object that answers three questions about a kernel of a shape and a layout:
can it be pruned so (`reason_against`), what mask does a sparsity give (`mask`), and what sparsity
will that be (`expected_sparsity`; an N:M pattern fixes its own).

Everywhere a pattern is asked for, its name does too: "unstructured", "2:4" (two zeros in every
four, tfmot's order), "1x16" (blocks of 1 by 16).
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from typing import Any

import numpy as np

from tfprune import masks
from tfprune.layouts import Layout


@dataclasses.dataclass(frozen=True)
class Unstructured:
    """Zeros anywhere: the smallest magnitudes of the whole weight go.

    Example: `Unstructured()`, or "unstructured".

    Source: magnitude pruning of Han et al. 2015 (arXiv:1506.02626), tfmot's default.
    """

    def __str__(self) -> str:
        return "unstructured"

    def reason_against(self, shape: tuple[int, ...], layout: Layout | None) -> str | None:
        """Return why a weight cannot be pruned so, None if it can."""
        del layout
        return _ONLY.format("weight") if math.prod(shape) == 1 else None

    def mask(
        self, scores: np.ndarray, layout: Layout | None, sparsity: float, final: float | None
    ) -> tuple[np.ndarray, float]:
        """Return the mask and its threshold for scores of a kernel."""
        del layout, final
        return masks.top_k(scores, masks.kept_count(scores.size, sparsity))

    def expected_sparsity(
        self, shape: tuple[int, ...], layout: Layout | None, sparsity: float, final: float | None
    ) -> float:
        """Return the exact fraction of zeros that `mask` gives to a weight without zeros."""
        del layout, final
        size = math.prod(shape)
        return 1.0 - masks.kept_count(size, sparsity) / size


@dataclasses.dataclass(frozen=True)
class Block:
    """Zeros in whole blocks of a kernel seen as a matrix (spatial and inputs, outputs).

    A Dense kernel is that matrix as it stands, (in, out); a convolution kernel (h, w, in, out) is
    seen as (h * w * in, out). Ragged blocks at the far edges count as one block each.

    Args:
        size: (height, width) of a block.
        pooling: "AVG" or "MAX", how the magnitudes of a block become its score.

    Raises:
        ValueError: for a size that is not two positive integers, or another pooling.

    Example: `Block((1, 16))`, or "1x16".

    Source: tfmot's `block_size` and `block_pooling_type`.
    """

    size: tuple[int, int]
    pooling: str = "AVG"

    def __post_init__(self):
        object.__setattr__(self, "size", _two_integers(self.size, "block_size", least=1))
        if self.pooling not in ("AVG", "MAX"):
            raise ValueError(
                "`block_pooling_type` must be 'AVG' or 'MAX'. "
                f"Received: block_pooling_type={self.pooling!r}"
            )

    def __str__(self) -> str:
        return f"{self.size[0]}x{self.size[1]}" + (" MAX" if self.pooling == "MAX" else "")

    def reason_against(self, shape: tuple[int, ...], layout: Layout | None) -> str | None:
        """Return why a weight cannot be pruned so, None if it can."""
        if layout is None:
            return f"blocks need a matrix, this weight has shape {shape}"
        height, width = layout.matrix_shape(shape)
        if self.size[0] > height or self.size[1] > width:
            return (
                f"the block {self.size[0]}x{self.size[1]} is larger than the weight, "
                f"{height}x{width} seen as a matrix (inputs, outputs)"
            )
        return _ONLY.format(f"block of {self}") if self.size == (height, width) else None

    def mask(
        self, scores: np.ndarray, layout: Layout | None, sparsity: float, final: float | None
    ) -> tuple[np.ndarray, float]:
        """Return the mask and the score of the smallest kept block."""
        del final
        assert layout is not None  # `reason_against` came first
        matrix = layout.matrix(scores)
        pooled = masks.pool_blocks(matrix, self.size, self.pooling)
        kept, threshold = masks.top_k(pooled, masks.kept_count(pooled.size, sparsity))
        wide = masks.expand_blocks(kept, self.size, (matrix.shape[0], matrix.shape[1]))
        return layout.from_matrix(wide, scores.shape), threshold

    def expected_sparsity(
        self, shape: tuple[int, ...], layout: Layout | None, sparsity: float, final: float | None
    ) -> float:
        """Return the fraction of blocks removed (of weights too, but for ragged edges)."""
        del final
        assert layout is not None
        height, width = layout.matrix_shape(shape)
        blocks = -(-height // self.size[0]) * -(-width // self.size[1])
        return 1.0 - masks.kept_count(blocks, sparsity) / blocks

    def least_sparsity(self, shape: tuple[int, ...], layout: Layout, sparsity: float) -> float:
        """Return the fraction of zeros if the smallest blocks go, those at ragged edges."""
        height, width = layout.matrix_shape(shape)
        sizes = np.sort(np.outer(_parts(height, self.size[0]), _parts(width, self.size[1])).ravel())
        removed = sizes.size - masks.kept_count(sizes.size, sparsity)
        return float(sizes[:removed].sum()) / (height * width)


@dataclasses.dataclass(frozen=True)
class NM:
    """`zeros` zeros in every `group` neighbouring input channels, in TFLite's order of weights.

    The pattern fixes the sparsity; a schedule says how fast it is reached: at sparsity `s` the
    fraction `s / min(zeros / group, final sparsity)` of the groups is pruned (all of them from 1
    on), the cheapest first. A constant schedule prunes all groups at once, as tfmot does.

    Args:
        zeros: zeros in each group, at least 1.
        group: neighbours in a group, more than `zeros`.

    Raises:
        ValueError: unless `1 <= zeros < group`.

    Example: `NM(2, 4)`, or "2:4": two zeros in every four, 50 % sparsity, as
    `sparsity_m_by_n=(2, 4)` means in tfmot.

    Source: N:M sparsity of Mishra et al. 2021 (arXiv:2104.08378) and tfmot's `sparsity_m_by_n`;
    growing with the schedule is tfprune's own.
    """

    zeros: int
    group: int

    def __post_init__(self):
        zeros, group = _two_integers((self.zeros, self.group), "sparsity_m_by_n", least=1)
        if zeros >= group:
            raise ValueError(
                "An N:M pattern (m zeros in every n) needs fewer zeros than the group has "
                "weights: (2, 4) means 2 zeros in every 4. "
                f"Received: sparsity_m_by_n=({self.zeros}, {self.group})"
            )
        object.__setattr__(self, "zeros", zeros)  # plain integers, whatever came in
        object.__setattr__(self, "group", group)

    def __str__(self) -> str:
        return f"{self.zeros}:{self.group}"

    def reason_against(self, shape: tuple[int, ...], layout: Layout | None) -> str | None:
        """Return why a weight cannot be pruned so, None if it can."""
        if layout is None:
            return f"{self} groups input channels, and a weight of shape {shape} has none"
        channels = layout.input_size(shape)
        if channels < self.group:
            return f"too few input channels for {self}: {channels}"
        return None

    def mask(
        self, scores: np.ndarray, layout: Layout | None, sparsity: float, final: float | None
    ) -> tuple[np.ndarray, float]:
        """Return the mask and the magnitude removed from the dearest group that was pruned."""
        assert layout is not None  # `reason_against` came first
        fraction = self._fraction(sparsity, final)
        kept, price = masks.n_of_m(layout.rows(scores), self.zeros, self.group, fraction)
        mask = layout.from_rows(kept, scores.shape)
        alive = scores > 0
        return (mask & alive if alive.any() else mask), price

    def expected_sparsity(
        self, shape: tuple[int, ...], layout: Layout | None, sparsity: float, final: float | None
    ) -> float:
        """Return the fraction of zeros, short groups at the end of a row included.

        Exact, but for a pattern not fully grown on rows that end in a short group which loses
        fewer weights than the others: then it depends on which groups come first.
        """
        assert layout is not None
        channels = layout.input_size(shape)
        full, left = divmod(channels, self.group)
        zeros = full * self.zeros + max(0, left - (self.group - self.zeros))
        groups = (
            math.prod(shape) // channels * masks.losing_groups(channels, self.zeros, self.group)
        )
        pruned = round(self._fraction(sparsity, final) * groups) / groups
        return pruned * zeros / channels

    def _fraction(self, sparsity: float, final: float | None) -> float:
        goal = self.zeros / self.group if final is None else min(final, self.zeros / self.group)
        # A target of 0.4999999 (0.1 + 0.4 in floating point) is meant to be the whole pattern.
        return min(1.0, round(sparsity / goal, 9)) if goal > 0 else 0.0


Pattern = Unstructured | Block | NM

_ONLY = "it has a single {}, and at least one always stays"


def get(pattern: Any) -> Pattern:
    """Turn a pattern or its name into a pattern.

    Example: `get("2:4")` is `NM(2, 4)`; `get("1x16")` is `Block((1, 16))`;
    `get("unstructured")` is `Unstructured()`.

    Raises:
        ValueError: for anything else; the message lists the forms.
    """
    if isinstance(pattern, (Unstructured, Block, NM)):
        return pattern
    if isinstance(pattern, str):
        name = pattern.strip().lower()
        if name == "unstructured":
            return Unstructured()
        if found := re.fullmatch(r"(\d+):(\d+)", name):
            return NM(int(found[1]), int(found[2]))
        if found := re.fullmatch(r"(\d+)x(\d+)(?: (avg|max))?", name):
            return Block((int(found[1]), int(found[2])), (found[3] or "avg").upper())
    raise ValueError(
        "Unknown pattern. Expected 'unstructured', zeros:group such as '2:4' (2 zeros in every 4), "
        "height x width of a block such as '1x16', or an object: `Unstructured()`, `NM(2, 4)`, "
        f"`Block((1, 16))`. Received: {pattern!r}"
    )


def from_tfmot(block_size, block_pooling_type, sparsity_m_by_n) -> Pattern:
    """Turn tfmot's three arguments into a pattern, refusing a block and an N:M at once."""
    block = Block(block_size, block_pooling_type)
    if sparsity_m_by_n is None:
        return Unstructured() if block.size == (1, 1) else block
    if block.size != (1, 1):
        raise ValueError(
            "A weight can have one pattern: pass either `block_size` or `sparsity_m_by_n`. "
            f"Received: block_size={block_size!r}, sparsity_m_by_n={sparsity_m_by_n!r}"
        )
    return NM(*_two_integers(sparsity_m_by_n, "sparsity_m_by_n", least=1))


def _parts(length: int, step: int) -> np.ndarray:
    """Return the lengths of the parts that steps cut a length into, the last one ragged."""
    return np.diff(np.append(np.arange(0, length, step), length))


def _two_integers(value, name: str, least: int) -> tuple[int, int]:
    items = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else ()
    whole = [isinstance(v, numbers.Integral) and not isinstance(v, bool) for v in items]
    if len(items) != 2 or not all(whole) or min(int(v) for v in items) < least:
        raise ValueError(
            f"`{name}` must be two whole numbers, each at least {least}. Received: {name}={value!r}"
        )
    return int(items[0]), int(items[1])
