"""Measure weights and levels in several processes, each with a copy of the model."""

from __future__ import annotations

import concurrent.futures
import os
import pathlib
import pickle
import queue
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfprune.channels.batches import Batch
from tfprune.child import Child, ChildFailure, ChildRefusal
from tfprune.cloning import leaves
from tfprune.metrics import Metric
from tfprune.patterns import Pattern
from tfprune.sensitivity.bench import Trial
from tfprune.sensitivity.worker import ARGUMENTS, MODEL, OBJECTS

_SECONDS = 3600.0  # for one level on one batch: nobody waits so long for a model that works
_DEATHS = 3  # of a process at the same level, before the level is taken for the cause

Unit = tuple[int | None, float]
"""A weight and a level; None is the model as it is."""


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
        objects = pickled(_own_objects(model), "a class or loss of the model")
        arguments = pickled((metric, pattern, layers), "the metric")
        self._folder = tempfile.TemporaryDirectory(prefix="tfprune-")
        folder = pathlib.Path(self._folder.name)
        (folder / OBJECTS).write_bytes(objects)
        (folder / ARGUMENTS).write_bytes(arguments)
        try:
            model.save(folder / MODEL)
        except (NotImplementedError, TypeError, ValueError) as error:
            self._folder.cleanup()
            raise ValueError(
                f"The model '{model.name}' cannot be saved, and other processes need a copy of it "
                f"({str(error).strip().splitlines()[0]}). Measure with processes=1. "
                f"Received: processes={count}"
            ) from error
        threads = max(1, (os.cpu_count() or 1) // count)
        backend = keras.backend.backend()
        self._code = (
            f"import os; os.environ['KERAS_BACKEND'] = {backend!r}; "
            f"from tfprune.sensitivity import worker; worker.answer({threads})"
        )
        self._closed, self._lock = False, threading.Lock()
        self._reports: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._deaths: dict[Unit, int] = {}
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

    def measure(
        self, number: int, batch: Batch, levels: Sequence[float], say: Callable[[str], None]
    ) -> tuple[float, list[list[float]]]:
        """Return the dense model's value on a batch, and that for each weight at each level."""
        path = pathlib.Path(self._folder.name) / f"batch{number}.pickle"
        path.write_bytes(pickle.dumps(batch))
        units: list[Unit] = [(None, 0.0)]
        units += [(trial, level) for trial in range(len(self._trials)) for level in levels]
        self._deaths = dict.fromkeys(units, 0)
        waiting = {self._threads.submit(self._value, unit, str(path)): unit for unit in units}
        values: dict[Unit, float] = {}
        total = len(self._trials) * len(levels)
        say(f"Batch {number + 1}: {total} levels in {self._count} processes")
        for done in concurrent.futures.as_completed(waiting):
            while not self._reports.empty():
                say(self._reports.get())
            values[waiting[done]] = done.result()
            say(f"Batch {number + 1}: {len(values) - ((None, 0.0) in values)} of {total} levels")
        path.unlink()
        rows = range(len(self._trials))
        return values[None, 0.0], [[values[trial, level] for level in levels] for trial in rows]

    def _value(self, unit: Unit, batch: str) -> float:
        """Ask whichever process is idle; one that dies is replaced, and its level asked again."""
        while True:
            one = self._idle.get()
            try:
                return self._ask(one, unit, batch)
            except ChildRefusal as error:
                raise ValueError(f"{self._named(unit)} {error}") from None
            except ChildFailure as error:
                one = self._replaced(one)
                self._tell_of_death(unit, error)
            finally:  # or a thread would wait for ever for one that is idle
                self._idle.put(one)

    def _ask(self, one: Child, unit: Unit, batch: str) -> float:
        trial, level = unit
        if not one.asked:
            one.ask({"folder": self._folder.name}, _SECONDS)
        return one.ask({"batch": batch, "trial": trial, "level": level}, _SECONDS)["value"]

    def _tell_of_death(self, unit: Unit, error: ChildFailure) -> None:
        """Report that a process died, and raise if it was not the first at this level."""
        self._deaths[unit] += 1
        if self._deaths[unit] == _DEATHS:
            raise RuntimeError(
                f"{self._named(unit)} ended its process {_DEATHS} times, the last one {error}. "
                "Batches that are finished are in `record`, if one was asked for. Use fewer "
                "processes if the machine runs out of memory, or processes=1 to see the error "
                f"itself. Received: processes={self._count}"
            )
        self._reports.put(f"{self._named(unit)}: the process {error}; it is run again")

    def _named(self, unit: Unit) -> str:
        trial, level = unit
        if trial is None:
            return "The dense model"
        one = self._trials[trial]
        return f"'{one.path}/{one.weight.name}' at {level:.1%}"

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


def pickled(value: Any, what: str) -> bytes:
    """Return what another process can read.

    Raises:
        ValueError: it could not, as something is a lambda, or defined in a function or script.
    """
    parts = value if isinstance(value, tuple) else tuple(value.values())
    try:
        content = pickle.dumps(value)
        there = all(getattr(one, "__module__", "") != "__main__" for one in parts)
    except (pickle.PicklingError, AttributeError, TypeError):
        there, content = False, b""
    if not there:
        raise ValueError(
            f"Other processes cannot find {what}: functions and classes have to stand at the top "
            "of a module (a .py file that is imported), not in a script, a notebook or a function. "
            f"Move it there, or measure with processes=1. Received: {parts!r}"
        )
    return content


def _own_objects(model: keras.Model) -> dict[str, Any]:
    """Return the classes and functions that the model needs and Keras does not bring."""
    found = [type(one) for one in leaves(model)]
    loss = getattr(model, "loss", None) if model.compiled else None
    found += [loss] if callable(loss) and hasattr(loss, "__name__") else [type(loss)]
    own = [one for one in found if one.__module__.split(".")[0] not in ("keras", "builtins")]
    return {one.__name__: one for one in own}
