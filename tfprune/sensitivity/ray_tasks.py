"""Measure weights and levels on a Ray cluster, each of them a task of its own."""

from __future__ import annotations

import collections
import pickle
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfprune import parcels
from tfprune.cluster import Cluster
from tfprune.metrics import Metric
from tfprune.patterns import Pattern
from tfprune.sensitivity.bench import Bench
from tfprune.sensitivity.units import Deaths, Trial, Unit, Work, named, together, units

_ALONE = "Measure without engine='ray'"


class RayTasks:
    """A model on the nodes of a cluster, which measure one level of one weight at a time.

    A worker or node that is lost costs the levels that it was at; they are run again elsewhere.

    Args:
        cluster: that is connected.
        model: a built model of Keras 3, which is sent there once.
        metric, pattern, layers: as for `Bench`.
        trials: the weights that each worker finds.

    Raises:
        ValueError: the model cannot be saved, or something cannot be pickled.
    """

    def __init__(
        self,
        cluster: Cluster,
        model: keras.Model,
        metric: str | Metric,
        pattern: Pattern,
        layers: Sequence[str] | None,
        trials: Sequence[Trial],
    ) -> None:
        self._cluster, self._ray, self._trials = cluster, cluster.ray, trials
        values = {"the metric": metric, "the pattern": pattern, "the layers": layers}
        dumps = cluster.ray.cloudpickle.dumps
        files = parcels.sent(model, values, metric == "loss", _ALONE, dumps=dumps)
        self._name = uuid.uuid4().hex
        self._parcel = self._ray.put(files)
        self._task = cluster.remote(__name__, "value", keras.backend.backend())
        self._deaths = Deaths(trials, "engine='ray'")

    def measure(self, work: Work) -> tuple[float, list[list[float]]]:
        """Return the dense model's value on a batch, and that for each weight at each level."""
        self._deaths.forget()
        sent = self._ray.put(pickle.dumps(work.batch))
        values: dict[Unit, float] = dict(work.known)
        every = units(self._trials, work.levels)
        waiting = collections.deque(unit for unit in every if unit not in values)
        total, name = len(every) - 1, f"Batch {work.number + 1}"
        work.say(f"{name}: {total} levels, {self._cluster.places} at a time")
        if self._cluster.lack:
            work.say(self._cluster.lack)
        running: dict[Any, Unit] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._cluster.places:
                    unit = waiting.popleft()
                    task = self._task.remote(self._name, work.number, self._parcel, sent, unit)
                    running[task] = unit
                (done,), _ = self._ray.wait(list(running), num_returns=1)
                unit = running.pop(done)
                value = self._value(done, unit, work.say)
                if value is None:
                    waiting.appendleft(unit)
                    continue
                values[unit] = value
                work.keep(unit, value)
                work.say(f"{name}: {len(values) - ((None, 0.0) in values)} of {total} levels")
        finally:  # an interrupt, or a metric that fails: the others are not wanted any more
            for task in running:
                self._ray.cancel(task, force=True)
        return together(values, self._trials, work.levels)

    def _value(self, task: Any, unit: Unit, say: Callable[[str], None]) -> float | None:
        """Return what a task found, None if its worker was lost."""
        errors = self._ray.exceptions
        try:
            found = self._ray.get(task)
        except errors.RayTaskError as error:  # nothing that the metric raised
            raise RuntimeError(
                f"{named(self._trials, unit)} could not be measured on the cluster: "
                f"{str(error).strip().splitlines()[-1]}. Each machine needs the same tfprune and "
                "Keras, and the modules of your own. Received: engine='ray'"
            ) from error
        except errors.RayError as error:
            lost = f"its worker was lost ({type(error).__name__})"
            say(self._deaths.told(unit, lost))
            return None
        if isinstance(found, str):
            raise ValueError(f"{named(self._trials, unit)} failed: {found}")
        return found


_held: dict[str, Any] = {}  # of a worker: the model and batch that it was asked about last


def value(name: str, number: int, files: dict[str, bytes], sent: bytes, unit: Unit) -> float | str:
    """Return the value of a model with one weight pruned, or what went wrong; run by workers."""
    if _held.get("name") != name:
        model, values = parcels.received(files)
        _held.update(name=name, bench=Bench(model, *values), number=None)
    bench: Bench = _held["bench"]
    try:
        if _held["number"] != number:
            _held["number"] = None
            bench.take(pickle.loads(sent))
            _held["number"] = number
        trial, level = unit
        return bench.dense if trial is None else bench.pruned(trial, level)
    except Exception as error:  # noqa: BLE001 -- whatever a user's metric raises is an answer
        return str(error) or type(error).__name__
