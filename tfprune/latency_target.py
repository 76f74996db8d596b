"""Shrink to a latency: measure exported files on this machine while looking for the size.

Few measurements are made, since each takes an export: of the whole model, of the smallest that is
allowed, and by bisection of some of the sizes between, which lie at equal steps of MACs.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np

from tfprune.benchmarking import benchmark
from tfprune.channels.choice import Choice
from tfprune.channels.selection import Order
from tfprune.channels.structure import NOTHING
from tfprune.channels.targets import ImpossibleTarget, Target
from tfprune.export import export_tflite

SIZES = 16
"""Steps between the whole model and the smallest; four measurements tell them apart."""
RUNS = 50


def require_fixed(model: keras.Model) -> None:
    """Raise unless the inputs have one size, for which a file can be measured.

    Raises:
        ValueError: a length besides the batch is open.
    """
    for tensor in model.inputs:
        if None in tensor.shape[1:]:
            raise ValueError(
                "`latency_ms` measures files for one size of the inputs, and the model leaves it "
                f"open. Build it with a fixed `keras.Input`, shrink that, and cut this one in the "
                "same way by `tfprune.replay(model, report.history)`; or use `macs=`. "
                f"Received: input '{tensor.name}' {tuple(tensor.shape)}"
            )


def measure(model: keras.Model) -> float:
    """Return the milliseconds of one run of the model's float32 file here: half are faster."""
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        path = pathlib.Path(folder) / "model.tflite"
        export_tflite(model, path)
        (file,) = benchmark(path, runs=RUNS).files
    assert file.median_ms is not None  # a file that fails raises
    return file.median_ms


class LatencySearch:
    """Looks for the largest model that is fast enough, in rounds.

    Args:
        choice: what may be removed.
        limit: milliseconds.
        say: told about every measurement.

    Attributes:
        before: milliseconds of the model as it is.
        after: milliseconds of what is left after the last round.

    Example: `LatencySearch(choice, 2.0, print).removed(scores, 1.0)`
    """

    def __init__(self, choice: Choice, limit: float, say: Callable[[str], None]) -> None:
        self._choice, self._limit, self._say = choice, limit, say
        self._size = 0
        self._known: dict[bytes, float] = {}
        self.before = self.after = self._measured(NOTHING)

    def removed(self, scores: np.ndarray, part: float) -> np.ndarray:
        """Return the atoms to remove once this part of the way is gone.

        The first round finds the size; those after it remove to the same size, by their own scores,
        and the last measures again.

        Raises:
            ImpossibleTarget: even the smallest model that is allowed takes longer.
        """
        if self.before <= self._limit:
            self._say(f"The model takes {self.before:.3f} ms already: nothing is removed")
            return NOTHING
        order = self._choice.order(scores)
        first = self._size == 0
        if first:
            self._search(order)
        if part < 1:
            whole = self._choice.read.cost.macs(NOTHING)
            fraction = self._target(order, self._size) / whole
            return self._choice.removed(Target("macs", fraction), part, scores)
        if not first:
            self._settle(order)
        return self._at(order, self._size)

    def _search(self, order: Order) -> None:
        fastest = self._measured(self._at(order, SIZES))
        if fastest > self._limit:
            raise ImpossibleTarget(
                f"`latency_ms={self._limit:g}` cannot be met: the fastest reached is "
                f"{fastest:.3f} ms, and the model as it is takes {self.before:.3f} ms on this "
                f"machine; {self._choice.most(order)} {self._choice.advice()}"
            )
        slow, self._size, self.after = 0, SIZES, fastest
        while self._size - slow > 1:
            middle = (slow + self._size) // 2
            taken = self._measured(self._at(order, middle))
            if taken <= self._limit:
                self._size, self.after = middle, taken
            else:
                slow = middle

    def _settle(self, order: Order) -> None:
        """Measure what is left after several rounds; go on until it is fast enough."""
        self.after = self._measured(self._at(order, self._size))
        while self.after > self._limit and self._size < SIZES:
            self._size += 1
            self.after = self._measured(self._at(order, self._size))
        if self.after > self._limit:
            raise ImpossibleTarget(
                f"`latency_ms={self._limit:g}` cannot be met in several steps: the fastest reached "
                f"is {self.after:.3f} ms. Ask for less, or leave `steps` out."
            )

    def _target(self, order: Order, size: int) -> float:
        """Return the MACs of a size, 0 being the whole model."""
        macs = self._choice.read.cost.macs
        whole = macs(NOTHING)
        return whole - (whole - macs(order.atoms)) * size / SIZES

    def _at(self, order: Order, size: int) -> np.ndarray:
        most = self._target(order, size)
        found = order.first(lambda removed: self._choice.read.cost.macs(removed) <= most)
        return order.atoms if found is None else found

    def _measured(self, removed: np.ndarray) -> float:
        # Sizes of a small model may be the same: they are measured once.
        key = np.sort(removed).tobytes()
        if key not in self._known:
            read = self._choice.read
            left = read.cost.macs(removed) / max(read.cost.macs(NOTHING), 1)
            self._known[key] = measure(read.without(removed)[0])
            self._say(f"{left:.0%} of the MACs take {self._known[key]:.3f} ms")
        return self._known[key]
