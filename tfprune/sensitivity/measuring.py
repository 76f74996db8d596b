"""`sensitivity`: prune each weight alone at several levels; how much worse does the model get?"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfprune import patterns
from tfprune.channels.batches import MEASURED, Batch, Batches
from tfprune.cluster import Cluster, check, require_none
from tfprune.evaluation import merged, require_model
from tfprune.metrics import Metric
from tfprune.paths import listed
from tfprune.patterns import NM, Pattern
from tfprune.schedules.base import is_number
from tfprune.sensitivity.bench import Bench
from tfprune.sensitivity.processes import Processes
from tfprune.sensitivity.ray_tasks import RayTasks
from tfprune.sensitivity.result import NEGATIVE_LOSS, Sensitivity, WeightSensitivity
from tfprune.sensitivity.sums import Sums
from tfprune.sensitivity.units import Trial, Work

PROCESSES, RAY = "processes", "ray"
LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def sensitivity(
    model: keras.Model,
    data: Any,
    sparsities: Sequence[float] = LEVELS,
    metric: str | Metric = "accuracy",
    pattern: Any = "unstructured",
    *,
    layers: str | Iterable[str] | None = None,
    record: str | os.PathLike | None = None,
    processes: int | None = None,
    engine: str = PROCESSES,
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Sensitivity:
    """Measure what each weight of a trained model can lose, without training.

    Each weight is pruned alone at each level; the drop of the metric says what it costs. Of every
    forward pass only the part behind the pruned layer is run, so that a table of 20 weights at 6
    levels takes about the time of 60 evaluations. The model is as it was afterwards.

    Args:
        model: a built Sequential or Functional model of Keras 3.
        data: (inputs, labels), or batches of them (a `tf.data.Dataset`, a generator), to their
            end. A few hundred held-out samples are enough to tell weights apart. With sample
            weights, (inputs, labels, weights), "accuracy" and "loss" are weighted as in Keras's
            `evaluate`, accuracy as its `weighted_metrics`; a metric of your own knows none.
        sparsities: levels to try, rising, each in (0, 1).
        metric: "accuracy", "loss" (that the model was compiled with), or a function (labels,
            outputs) -> a number, larger for better models; it is averaged over batches.
        pattern: where zeros may stand; N:M patterns have one level of their own.
        layers: paths of the only layers to try.
        record: path of a JSON file in which every figure is kept within a second of being found,
            so that a measurement that was interrupted, or whose metric failed, goes on where it
            stopped; removed by you, never by tfprune.
        processes: how many share the work, each with a copy of the model; the figures are the same.
            None is one here, and as many as there is room for on a cluster. Each takes seconds to
            start and memory for a model of its own. A process that dies costs its own level, which
            is run again. A `metric` of your own, and layers of your own, must stand in a module
            that they can import.
        engine: "processes" of this machine, or "ray" (`pip install 'tfprune[ray]'`): a Ray cluster,
            on which each level is a task. A worker or node that is lost costs its own level. What
            stands in a script or notebook travels there; modules of your own have to be there.
        address: of the cluster: "auto" for that which this machine belongs to, "host:port", or None
            to start one here. A program that has called `ray.init` keeps its connection.
        resources: that each process takes of the cluster, such as {"CPU": 2, "GPU": 1}; one CPU if
            None.
        tell: called with a line of text as the work goes on.

    Returns:
        A `Sensitivity`: print it, plot it, or pass it to `tfprune.allocate`.

    Example:

    ```python
    found = tfprune.sensitivity(model, (x_test[:1000], y_test[:1000]))
    print(found)
    found.plot()
    ```

    Raises:
        TypeError: no model of Keras 3.
        ValueError: a model that is subclassed, not built or wrapped for pruning; data that are
            empty, misshaped, without labels or without end; levels out of range; a metric
            that gives no finite number, or that other processes cannot find; an unknown layer; a
            record of another measurement: another model, metric or pattern, other levels, other
            data or the same in another order.
        OSError: the record cannot be written; see `tfprune.files.check_target`.
        RuntimeError: processes die again and again at the same level, or cannot run it.
        ImportError: `engine="ray"` without Ray.
        ConnectionError: a cluster that does not answer within 30 seconds.

    Source: sensitivity analysis of Han et al. 2015 and Li et al. 2017.
    """
    require_model(model, "sensitivity")
    _check(engine, processes, address, resources)
    pattern = patterns.get(pattern)
    levels = _levels(sparsities, pattern)
    named = None if layers is None else listed(layers)
    bench = Bench(model, metric, pattern, named)
    sums = Sums(record, _identity(model, levels, bench.metric, pattern, bench.trials))
    say = tell or (lambda text: None)
    batches = enumerate(merged(Batches(model, data, use=MEASURED)))
    batches = _pass_over(batches, bench, sums)
    with contextlib.ExitStack() as stack:
        measurer: Bench | Processes | RayTasks = bench
        arguments = (model, metric, pattern, named, bench.trials)
        if engine == RAY:
            found = stack.enter_context(Cluster(address, processes, resources))
            measurer = RayTasks(found, *arguments)
        elif processes is not None and processes > 1:
            measurer = stack.enter_context(Processes(processes, *arguments))
        stack.callback(sums.save)  # before any process is ended, whatever happened
        for number, batch in batches:
            sums.begin(batch)
            work = Work(number, batch, levels, sums.known, sums.keep, say)
            sums.add(batch, bench.counts(batch), *measurer.measure(work))
    return _result(model.name, bench, levels, sums)


def _pass_over(
    batches: Iterator[tuple[int, Batch]], bench: Bench, sums: Sums
) -> Iterator[tuple[int, Batch]]:
    """Return the batches that the record has not, or not all of, once the others are the same."""
    begun = bool(sums.known)
    batch: Batch | None = None
    for expected in range(sums.batches + begun):
        _, batch = next(batches, (expected, None))
        sums.require_batch(expected, batch)
        if expected == 0 and batch is not None:
            bench.take(batch)
            sums.require_first(bench.dense)
    if begun and batch is not None:
        return itertools.chain([(sums.batches, batch)], batches)
    return batches


def _result(model: str, bench: Bench, levels: Sequence[float], sums: Sums) -> Sensitivity:
    dense, drops = sums.means()
    rows = tuple(
        WeightSensitivity(one.path, one.weight.name, int(one.dense.size), tuple(map(float, row)))
        for one, row in zip(bench.trials, drops, strict=True)
    )
    metric = NEGATIVE_LOSS if bench.metric == "loss" else bench.metric
    return Sensitivity(model, metric, dense, tuple(levels), rows, sums.samples)


def _identity(
    model: keras.Model,
    levels: Sequence[float],
    metric: str,
    pattern: Pattern,
    trials: Sequence[Trial],
) -> dict[str, Any]:
    """Return what tells one measurement from another, weights included by their sums."""
    total = float(sum(np.abs(t.dense, dtype=np.float64).sum() for t in trials))
    return {
        "model": model.name,
        "weights": [[t.path, t.weight.name, list(t.dense.shape)] for t in trials],
        "sum": round(total, 3),
        "levels": list(levels),
        "metric": metric,
        "pattern": str(pattern),
    }


def _check(engine: Any, processes: Any, address: Any, resources: Any) -> None:
    if engine not in (PROCESSES, RAY):
        raise ValueError(f"`engine` must be '{PROCESSES}' or '{RAY}'. Received: engine={engine!r}")
    check(address, processes, resources)
    if engine != RAY:
        require_none(engine, address, resources)


def _levels(sparsities: Sequence[float], pattern: Pattern) -> list[float]:
    if isinstance(pattern, NM):
        return [pattern.zeros / pattern.group]
    several = isinstance(sparsities, Iterable) and not isinstance(sparsities, str)
    given = list(sparsities) if several else []
    levels = [float(s) for s in given if is_number(s) and 0 < s < 1]
    rising = all(a < b for a, b in itertools.pairwise(levels))
    if not levels or not rising or len(levels) != len(given):
        raise ValueError(
            "`sparsities` must be rising levels, each in (0, 1), such as (0.5, 0.8, 0.9): "
            f"fractions of zeros, no per cent. Received: sparsities={sparsities!r}"
        )
    return levels
