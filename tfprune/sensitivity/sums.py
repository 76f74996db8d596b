"""Sums over the batches that are done, in memory and in a file if one is asked for."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import tree

from tfprune.channels.batches import Batch
from tfprune.resumption import Record, of_arrays
from tfprune.saved import restored

_ELSEWHERE = "Choose another path for `record`"
_CLOSE = 1e-4  # relative: rounding differs a little with the number of threads


@dataclasses.dataclass(frozen=True)
class _Finished:
    """What the file holds."""

    digests: tuple[str, ...]
    first: float
    samples: int
    dense: float
    sums: tuple[tuple[float, ...], ...]


class Sums:
    """What was measured so far; a record of it lets an interrupted measurement go on.

    Args:
        path: of the record, None for none.
        identity: what tells one measurement from another.

    Attributes:
        samples: in the batches that are done.

    Raises:
        ValueError: the record is of something else.
    """

    def __init__(self, path: str | os.PathLike | None, identity: dict[str, Any]) -> None:
        self._record = Record(
            path,
            identity,
            lambda content: _finished(content, identity),
            kind="a sensitivity",
            other="another measurement (another model, other levels, another metric or pattern)",
            elsewhere=_ELSEWHERE,
        )
        self._path = path
        earlier = self._record.earlier or _Finished((), 0.0, 0, 0.0, ())
        self._digests = list(earlier.digests)
        self._first, self.samples, self._dense = earlier.first, earlier.samples, earlier.dense
        self._sums = np.array(earlier.sums) if earlier.sums else np.zeros(())

    @property
    def batches(self) -> int:
        """How many are done."""
        return len(self._digests)

    def add(self, batch: Batch, dense: float, found: Sequence[Sequence[float]]) -> None:
        """Add what one batch gave: the dense model's value, and one for each weight and level."""
        if not self._digests:
            self._first = dense
        self._digests.append(_digest(batch))
        self.samples += batch.size
        self._dense += dense * batch.size
        self._sums = self._sums + np.array(found) * batch.size
        content = {"digests": self._digests, "first": self._first, "samples": self.samples}
        self._record.write({**content, "dense": self._dense, "sums": self._sums.tolist()})

    def require_batch(self, number: int, batch: Batch | None) -> None:
        """Raise unless a batch is the one that was measured as number `number`.

        Args:
            number: of a batch that is done, from 0.
            batch: of the data now; None if they end before it.
        """
        if batch is None or _digest(batch) != self._digests[number]:
            now = (
                "none of that number" if batch is None else f"{batch.size} other samples or labels"
            )
            raise ValueError(
                f"{str(self._path)!r} is of other data, or of the same in another order, and is "
                f"left as it is. Pass the same (not shuffled anew). {_ELSEWHERE}, or delete it. "
                f"Received: {now} for batch {number + 1} of {self.batches} in the record"
            )

    def require_first(self, dense: float) -> None:
        """Raise unless the dense model has the value on the first batch that it had then."""
        if not math.isclose(dense, self._first, rel_tol=_CLOSE, abs_tol=_CLOSE**2):
            raise ValueError(
                f"{str(self._path)!r} is of another metric of that name, or the model has changed; "
                f"it is left as it is. {_ELSEWHERE}, or delete it. Received: {dense:g} for the "
                f"dense model on the first batch, where the record has {self._first:g}"
            )

    def means(self) -> tuple[float, np.ndarray]:
        """Return the dense model's mean and the drops, shape (weights, levels)."""
        dense = self._dense / self.samples
        return dense, dense - np.asarray(self._sums) / self.samples


def _finished(content: dict[str, Any], identity: dict[str, Any]) -> _Finished:
    found = restored(_Finished, {k: v for k, v in content.items() if k != "identity"})
    shape = [len(identity["levels"])] * len(identity["weights"])
    if [len(row) for row in found.sums] != shape or not 0 < len(found.digests) <= found.samples:
        raise ValueError("its sums do not fit the weights, the levels and the batches")
    return found


def _digest(batch: Batch) -> str:
    parts = tree.flatten((batch.inputs, batch.labels, batch.weights)) or []
    return of_arrays(part for part in parts if part is not None)
