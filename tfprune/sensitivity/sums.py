"""Sums over the batches that are done, in memory and in a file if one is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfprune.resumption import Record


class Sums:
    """What was measured so far; a record of it lets an interrupted measurement go on.

    Args:
        path: of the record, None for none.
        identity: what tells one measurement from another.

    Attributes:
        batches: how many are done.
        samples: in those.

    Raises:
        ValueError: the record is of something else.
    """

    def __init__(self, path: str | os.PathLike | None, identity: dict[str, Any]) -> None:
        self._record = Record(
            path,
            identity,
            lambda c: (c["batches"], c["samples"], c["dense"], np.array(c["sums"], float)),
            kind="a sensitivity",
            other="another measurement (another model, other levels, another metric or pattern)",
            elsewhere="Choose another path for `record`",
        )
        self.batches, self.samples, self._dense, self._sums = self._record.earlier or (0, 0, 0.0, 0)

    def add(self, samples: int, dense: float, found: Sequence[Sequence[float]]) -> None:
        """Add what one batch gave: the dense model's value, and one for each weight and level."""
        self.batches += 1
        self.samples += samples
        self._dense += dense * samples
        self._sums = self._sums + np.array(found) * samples
        content = {"batches": self.batches, "samples": self.samples, "dense": self._dense}
        self._record.write({**content, "sums": self._sums.tolist()})

    def means(self) -> tuple[float, np.ndarray]:
        """Return the dense model's mean and the drops, shape (weights, levels)."""
        dense = self._dense / self.samples
        return dense, dense - np.asarray(self._sums) / self.samples
