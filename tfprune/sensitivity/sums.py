"""Sums over the batches that are done, and what is found of the one at work, before it is done.

In memory, and in a file if one is asked for.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import tree

from tfprune.channels.batches import Batch
from tfprune.evaluation import mean
from tfprune.resumption import Record, of_arrays
from tfprune.saved import restored
from tfprune.sensitivity.units import Unit

_ELSEWHERE = "Choose another path for `record`"
_CLOSE = 1e-4  # relative: rounding differs a little with the number of threads
_SECONDS = 1.0  # between two writes within a batch: small models take milliseconds for a level


@dataclasses.dataclass(frozen=True)
class _Begun:
    """A batch that is not done: its digest, and values by weight and level, None if not found."""

    digest: str
    dense: float
    values: tuple[tuple[float | None, ...], ...]


@dataclasses.dataclass(frozen=True)
class _Finished:
    """What the file holds."""

    digests: tuple[str, ...]
    first: float
    samples: int
    dense: float
    sums: tuple[tuple[float, ...], ...]
    begun: _Begun | None = None
    counted: float | None = None  # as many as there are samples


class Sums:
    """What was measured so far; a record of it lets an interrupted measurement go on.

    Args:
        path: of the record, None for none.
        identity: what tells one measurement from another.

    Attributes:
        samples: in the batches that are done.
        known: what is found of the batch at work, or of that which an earlier run stopped in.

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
        self._counted = float(earlier.samples if earlier.counted is None else earlier.counted)
        self._sums = np.array(earlier.sums) if earlier.sums else np.zeros(())
        self._levels, self._weights = list(identity["levels"]), len(identity["weights"])
        self._digest: str | None = None
        self.known: dict[Unit, float] = {}
        if earlier.begun is not None:
            self._resume(earlier.begun)
        self._unsaved, self._saved = False, time.monotonic()

    def _resume(self, begun: _Begun) -> None:
        self._digest, self.known = begun.digest, {(None, 0.0): begun.dense}
        for trial, row in enumerate(begun.values):
            found = zip(self._levels, row, strict=True)
            self.known |= {(trial, level): value for level, value in found if value is not None}
        if not self._digests:
            self._first = begun.dense

    @property
    def batches(self) -> int:
        """How many are done."""
        return len(self._digests)

    def begin(self, batch: Batch) -> None:
        """Begin a batch, or go on with it if it is the one that an earlier run stopped in."""
        digest = _digest(batch)
        if digest != self._digest:
            self._digest, self.known = digest, {}

    def keep(self, unit: Unit, value: float) -> None:
        """Keep one value of the batch that was begun."""
        self.known[unit] = value
        self._unsaved = True
        if time.monotonic() - self._saved >= _SECONDS:
            self.save()

    def add(
        self, batch: Batch, counts: float, dense: float, found: Sequence[Sequence[float]]
    ) -> None:
        """Add what one batch gave: the dense model's value, and one for each weight and level.

        Args:
            batch: that is done.
            counts: how much it counts in the means.
            dense, found: the values.
        """
        if not self._digests:
            self._first = dense
        self._digests.append(_digest(batch))
        self.samples += batch.size
        self._counted += counts
        self._dense += dense * counts
        self._sums = self._sums + np.array(found) * counts
        self._digest, self.known = None, {}
        self._unsaved = True
        self.save()

    def save(self) -> None:
        """Write what the file does not hold yet."""
        # Without the dense value nobody could tell later whether the metric is the same.
        begun = self._begun() if (None, 0.0) in self.known else None
        if not self._unsaved or not (self._digests or begun):
            return
        content = {"digests": self._digests, "first": self._first, "samples": self.samples}
        content["counted"] = self._counted
        sums = self._sums.tolist() if self._digests else []
        self._record.write({**content, "dense": self._dense, "sums": sums, "begun": begun})
        self._unsaved, self._saved = False, time.monotonic()

    def _begun(self) -> dict[str, Any]:
        rows = range(self._weights)
        values = [[self.known.get((trial, level)) for level in self._levels] for trial in rows]
        return {"digest": self._digest, "dense": self.known[None, 0.0], "values": values}

    def require_batch(self, number: int, batch: Batch | None) -> None:
        """Raise unless a batch is the one that was measured as number `number`.

        Args:
            number: of a batch that is done or begun, from 0.
            batch: of the data now; None if they end before it.
        """
        kept = [*self._digests, self._digest]
        if batch is None or _digest(batch) != kept[number]:
            now = (
                "none of that number" if batch is None else f"{batch.size} other samples or labels"
            )
            raise ValueError(
                f"{str(self._path)!r} is of other data, or of the same in another order, and is "
                f"left as it is. Pass the same (not shuffled anew). {_ELSEWHERE}, or delete it. "
                f"Received: {now} for batch {number + 1} of {sum(map(bool, kept))} in the record"
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
        dense = mean(self._dense, self._counted)
        return dense, dense - np.asarray(self._sums) / self._counted


def _finished(content: dict[str, Any], identity: dict[str, Any]) -> _Finished:
    found = restored(_Finished, {k: v for k, v in content.items() if k != "identity"})
    shape = [len(identity["levels"])] * len(identity["weights"])
    fits = found.begun is None or [len(row) for row in found.begun.values] == shape
    if found.digests:
        fits = fits and [len(row) for row in found.sums] == shape
    else:
        fits = fits and found.begun is not None and not found.sums
    if not fits or len(found.digests) > found.samples:
        raise ValueError("its sums do not fit the weights, the levels and the batches")
    return found


def _digest(batch: Batch) -> str:
    parts = tree.flatten((batch.inputs, batch.labels, batch.weights)) or []
    return of_arrays(part for part in parts if part is not None)
