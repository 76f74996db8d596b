"""Measure weights and levels in several processes, each with a copy of the model."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import pickle
import queue
import tempfile
import threading
from collections.abc import Sequence

import keras

from tfprune import parcels
from tfprune.child import Child, ChildFailure, ChildRefusal
from tfprune.metrics import Metric
from tfprune.patterns import Pattern
from tfprune.sensitivity.units import Deaths, Trial, Unit, Work, named, together, units

_SECONDS = 3600.0  # for one level on one batch: nobody waits so long for a model that works


class Processes:
    """So many copies of a model at work; a context manager, which ends them.

    Args:
        count: of processes.
        model: a built model of Keras 3, which is saved for them.
        metric, pattern, layers: as for `Bench`.
        trials: the weights that each of them finds.

    Raises:
        ValueError: the model cannot be saved, or the metric or a class of the model's layers cannot
            be found by another process.
    """

    def __init__(
        self,
        count: int,
        model: keras.Model,
        metric: str | Metric,
        pattern: Pattern,
        layers: Sequence[str] | None,
        trials: Sequence[Trial],
    ) -> None:
        self._trials, self._count = trials, count
        self._folder = tempfile.TemporaryDirectory(prefix="tfprune-")
        values = {"the metric": metric, "the pattern": pattern, "the layers": layers}
        try:
            parcels.pack(
                self._folder.name, model, values, metric == "loss", "Measure with processes=1"
            )
        except ValueError:
            self._folder.cleanup()
            raise
        threads = max(1, (os.cpu_count() or 1) // count)
        backend = keras.backend.backend()
        self._code = (
            f"import os; os.environ['KERAS_BACKEND'] = {backend!r}; "
            f"from tfprune.sensitivity import worker; worker.answer({threads})"
        )
        self._closed, self._lock = False, threading.Lock()
        self._reports: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._deaths = Deaths(trials, f"processes={count}")
        self._alive: list[Child] = []
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._threads = concurrent.futures.ThreadPoolExecutor(count)
        for _ in range(count):
            self._idle.put(self._started())

    def __enter__(self) -> Processes:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the processes, in the middle of a level too."""
        with self._lock:
            self._closed = True
        for one in self._alive:
            one.close()
        self._threads.shutdown(cancel_futures=True)
        self._folder.cleanup()

    def measure(self, work: Work) -> tuple[float, list[list[float]]]:
        """Return the dense model's value on a batch, and that for each weight at each level."""
        name = f"Batch {work.number + 1}"
        path = pathlib.Path(self._folder.name) / f"batch{work.number}.pickle"
        path.write_bytes(pickle.dumps(work.batch))
        self._deaths.forget()
        values: dict[Unit, float] = dict(work.known)
        asked = [unit for unit in units(self._trials, work.levels) if unit not in values]
        waiting = {self._threads.submit(self._value, unit, str(path)): unit for unit in asked}
        total = len(self._trials) * len(work.levels)
        work.say(f"{name}: {total} levels in {self._count} processes")
        for done in concurrent.futures.as_completed(waiting):
            while not self._reports.empty():
                work.say(self._reports.get())
            unit, value = waiting[done], done.result()
            values[unit] = value
            work.keep(unit, value)
            work.say(f"{name}: {len(values) - ((None, 0.0) in values)} of {total} levels")
        path.unlink()
        return together(values, self._trials, work.levels)

    def _value(self, unit: Unit, batch: str) -> float:
        """Ask whichever process is idle; one that dies is replaced, and its level asked again."""
        while True:
            one = self._idle.get()
            try:
                return self._ask(one, unit, batch)
            except ChildRefusal as error:
                raise ValueError(f"{named(self._trials, unit)} {error}") from None
            except ChildFailure as error:
                one = self._replaced(one)
                self._reports.put(self._deaths.told(unit, f"the process {error}"))
            finally:  # or a thread would wait for ever for one that is idle
                self._idle.put(one)

    def _ask(self, one: Child, unit: Unit, batch: str) -> float:
        trial, level = unit
        if not one.asked:
            one.ask({"folder": self._folder.name}, _SECONDS)
        return one.ask({"batch": batch, "trial": trial, "level": level}, _SECONDS)["value"]

    def _started(self) -> Child:
        one = Child(self._code, keras.backend.backend())
        self._alive.append(one)
        return one

    def _replaced(self, dead: Child) -> Child:
        """Return a new process for one that died, or the same if all are to end."""
        with self._lock:
            if self._closed:
                return dead
            self._alive.remove(dead)
            dead.close()
            return self._started()
