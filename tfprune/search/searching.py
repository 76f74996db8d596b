"""`search`: prune harder and harder, train, and stop at the accuracy that may be lost."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfprune import schedules
from tfprune.allocate import Allocation, Method, allocate
from tfprune.channels.batches import MEASURED, Batches
from tfprune.cluster import Cluster, check, require_none
from tfprune.evaluation import Judge, evaluate, require_model
from tfprune.metrics import Metric
from tfprune.schedules import PruningSchedule
from tfprune.schedules.base import is_number
from tfprune.search import ray_trials
from tfprune.search.attempts import Attempts, Train
from tfprune.search.course import Course
from tfprune.search.engines import LAYERS, Bisection, Engine, Sampling
from tfprune.search.identity import identity
from tfprune.search.logs import Logs
from tfprune.search.notes import notes
from tfprune.search.record import Record
from tfprune.search.result import UNITS, SearchResult, reason_for
from tfprune.sensitivity import Sensitivity

BISECTION, OPTUNA, RAY = "bisection", "optuna", "ray"


def search(
    model: keras.Model,
    data: Any,
    max_accuracy_drop: float = 0.01,
    objective: str = "sparsity",
    train: Train | None = None,
    *,
    metric: str | Metric = "accuracy",
    method: Method | Sequence[Method] = "global",
    schedule: PruningSchedule | float | None = None,
    pattern: Any = "unstructured",
    sensitivity: Sensitivity | None = None,
    between: tuple[float, float] = (0.5, 0.99),
    trials: int = 6,
    engine: str = "bisection",
    groups: str | Mapping[str, Sequence[str]] = LAYERS,
    seed: int = 0,
    folder: str | os.PathLike | None = None,
    processes: int | None = None,
    address: str | None = None,
    resources: Mapping[str, float] | None = None,
    tell: Callable[[str], None] | None = None,
) -> SearchResult:
    """Find the sparsest model that loses no more accuracy than allowed, training each trial.

    Sparsities are tried by bisection: where a trial stays inside the budget the next one is
    sparser, where it does not the next one is denser; a trial that fails says nothing of its
    sparsity, and is passed by once before what is sparser is given up. With `engine="optuna"` each
    trial samples a sparsity for every layer or group, where earlier trials did well: a wider
    search, which takes 30 trials rather than 6. Each trial starts from the model as it was before
    the search, even if `train` changes that: a `keras.distillation.Distiller` freezes its teacher.

    Args:
        model: a trained Sequential or Functional model of Keras 3; it is not changed.
        data: held-out (inputs, labels), or batches of them to their end, that the budget is
            measured on. With sample weights, (inputs, labels, weights), "accuracy" and "loss" are
            weighted as in Keras's `evaluate`, accuracy as its `weighted_metrics`; a metric of your
            own knows none.
        max_accuracy_drop: the budget, in the metric's own unit: 0.01 is one point of accuracy, of
            which at most 1 can be lost.
        objective: what the chosen model has least of: "sparsity" (nonzero weights), "size" (bytes
            of the sparse float32 `.tflite`), "latency" (milliseconds of that file here).
        train: called with each wrapped model; compiles it and trains it with
            `tfprune.UpdatePruningStep()`; may return another model in its place, and anything else
            that it returns is left alone. The schedule has to be done by its last step.
        metric: "accuracy", "loss" (that which `model` is compiled with, without penalties), or a
            function (labels, outputs) -> a number, larger is better; it is averaged over batches
            of some hundred samples.
        method: how `tfprune.allocate` spreads the zeros; for Optuna over the layers of a group, and
            there may be several to choose from.
        schedule: how each trial gets to its sparsity; gradually over its run if None; a number is
            a cut at the first step.
        pattern: where zeros may stand.
        sensitivity: for `method="sensitivity"`.
        between: the least and the greatest sparsity to try.
        trials: how many models are trained; by bisection each halves what is left between the two.
        engine: "bisection", "optuna" (`pip install 'tfprune[optuna]'`), or "ray" (`pip install
            'tfprune[ray]'`): what Optuna samples, trained on a Ray cluster by Ray Tune, and judged
            and kept here. A worker or node that is lost costs its own trial, which is run again.
            Several trials are under way at a time; whichever ends first, Optuna learns from them
            in their order. Its first ten samples are those of "optuna"; a later one knows of all
            trials but the last few before it.
        groups: for Optuna, what gets a sparsity of its own: "layers", "model" (all layers
            together), or {name: paths of layers}; layers in no group stay dense.
        seed: of what Optuna samples.
        folder: where each trained model and `search.json` are kept; made if it does not exist. A
            search that was interrupted goes on from there, with the trials that failed or whose
            files are gone made again; a change of `train` is not noticed. Trials stand side by side
            in TensorBoard: `tfprune board FOLDER/logs`, under HParams.
        processes: for Ray, how many trials are trained at a time; None as many as there is room
            for.
        address: of the Ray cluster: "auto" for that which this machine belongs to, "host:port", or
            None to start one here. A program that has called `ray.init` keeps its connection.
        resources: that each trial takes of the cluster, such as {"CPU": 2, "GPU": 1}; one CPU if
            None.
        tell: called with a line of text as the work goes on.

    Returns:
        A `SearchResult`. If no trial is inside the budget, the one that lost least, with
        `met=False` and the reason.

    Example:

    ```python
    def train(pruned):
        pruned.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        pruned.fit(x, y, epochs=4, callbacks=[tfprune.UpdatePruningStep()])

    result = tfprune.search(model, (x_test, y_test), 0.01, train=train)
    print(result)
    result.model.save("pruned.keras")
    ```

    Raises:
        ValueError, TypeError: an argument is out of range; data that are empty, misshaped,
            without labels or without end; a folder of another search. What `train` raises, or what
            judging its model does, is recorded as a failed trial, and the search goes on; only
            Ctrl-C and the like end it.
        NotADirectoryError, OSError: `folder` is a file, or cannot be made.
        ImportError: `engine="optuna"` without Optuna, `engine="ray"` without it or Ray.
        ConnectionError: a cluster that does not answer within 30 seconds.

    Source: bisection is tfprune's own; samples are those of Optuna's TPE (Bergstra et al. 2011;
    Akiba et al. 2019).
    """
    require_model(model, "search")
    _check(max_accuracy_drop, metric, objective, train, trials, between)
    _check_places(engine, processes, address, resources)
    assert train is not None
    followed = None if schedule is None else schedules.get(schedule)
    options = {"schedule": followed, "pattern": pattern, "sensitivity": sensitivity}
    chooser = _engine(engine, model, method, groups, between, seed, options)
    batches = Batches(model, data, use=MEASURED)
    judge = Judge(model, metric, "tfprune.search")
    dense = evaluate(model, batches, judge)
    least = dense - max_accuracy_drop
    say = tell or (lambda text: None)
    known: dict[str, Any] = {}
    if folder is not None:  # data are read once more for it
        known = identity(
            model,
            batches,
            options,
            metric=judge.name,
            dense=round(dense, 6),
            objective=objective,
            between=list(between),
            **{
                "max drop": float(max_accuracy_drop),
                "chosen by": _chosen_by(engine, method, groups, seed),
            },
        )
    kept = Record(folder, known, model)
    logs = Logs(folder, judge.name, objective)
    attempts = Attempts(model, train, batches, judge, objective, least)
    with contextlib.ExitStack() as stack:
        cluster = None
        if engine == RAY:
            cluster = stack.enter_context(Cluster(address, processes, resources))
        ahead = 1 if cluster is None else cluster.places
        course = Course(trials, ahead, chooser, kept, logs, attempts, least, say)
        if cluster is not None:
            ray_trials.run(cluster, course, attempts)
        while (one := course.next()) is not None:
            course.done(one[0], *attempts.trained(one[1]))
    best, chosen = course.best, course.chosen
    if best is not None and chosen is None:
        chosen = kept.model(best)
    reason = [
        reason_for(best, dense, max_accuracy_drop, kept.trials),
        *notes(model, kept.trials, course.again, between),
    ]
    return SearchResult(
        objective=objective,
        metric=judge.name,
        dense=dense,
        max_drop=float(max_accuracy_drop),
        trials=tuple(kept.trials),
        best=None if best is None else kept.trials.index(best),
        met=best is not None and best.within,
        reason=" ".join(reason),
        model=chosen,
        allocation=course.allocation,
    )


def _engine(
    name: str,
    model: keras.Model,
    method: Any,
    groups: Any,
    between: tuple[float, float],
    seed: int,
    options: dict[str, Any],
) -> Engine:
    def spread(sparsity: float, how: Any, layers: Sequence[str] | None) -> Allocation:
        given = {**options, "sensitivity": options["sensitivity"] if how == "sensitivity" else None}
        return allocate(model, sparsity, how, layers=layers, **given)

    if name not in (BISECTION, OPTUNA, RAY):
        raise ValueError(
            f"`engine` must be '{BISECTION}', '{OPTUNA}' or '{RAY}'. Received: engine={name!r}"
        )
    several = isinstance(method, (list, tuple))
    if name in (OPTUNA, RAY):
        if several and not method:
            raise ValueError(f"`method` names no method. Received: method={method!r}")
        methods = list(dict.fromkeys(method)) if several else [method]
        return Sampling(between, methods, groups, spread, seed)
    if several or groups != LAYERS:
        raise ValueError(
            f"Several methods, and groups, are for engine='{OPTUNA}'; '{BISECTION}' turns one "
            f"sparsity of one method. Received: method={method!r}, groups={groups!r}"
        )
    return Bisection(between, method, spread)


def _chosen_by(engine: str, method: Any, groups: Any, seed: int) -> list[Any]:
    """Return what chose the trials: the same on a cluster, so that a search may go on there."""
    return [engine, method] if engine == BISECTION else [OPTUNA, method, groups, seed]


def _check(drop: Any, metric: Any, objective: Any, train: Any, trials: Any, between: Any) -> None:
    if not is_number(drop) or not 0 <= drop < math.inf:
        raise ValueError(
            "`max_accuracy_drop` is how much the metric may fall, 0 or more: 0.01 is one point of "
            f"accuracy. Received: max_accuracy_drop={drop!r}"
        )
    if metric == "accuracy" and drop > 1:
        raise ValueError(
            "Accuracy is a fraction, of which at most 1 can be lost: for a point pass 0.01. "
            f"Received: max_accuracy_drop={drop!r}"
        )
    if objective not in UNITS:
        raise ValueError(
            f"`objective` must be one of {', '.join(UNITS)}. Received: objective={objective!r}"
        )
    if not callable(train):
        raise TypeError(
            "`train` must be a function that compiles and trains the wrapped model it is given, "
            f"with `tfprune.UpdatePruningStep()` among the callbacks. Received: train={train!r}"
        )
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ValueError(f"`trials` is a whole number, 1 or more. Received: trials={trials!r}")
    ends = tuple(between) if isinstance(between, (tuple, list)) else ()
    inside = all(is_number(end) and 0 <= end < 1 for end in ends)
    if len(ends) != 2 or not inside or not ends[0] < ends[1]:
        raise ValueError(
            "`between` holds the least and the greatest sparsity to try, such as (0.5, 0.99): "
            f"fractions of zeros in [0, 1). Received: between={between!r}"
        )


def _check_places(engine: Any, processes: Any, address: Any, resources: Any) -> None:
    check(address, processes, resources)
    if engine == RAY:
        return
    require_none(engine, address, resources)
    if processes is not None:
        raise ValueError(
            f"`processes` is for engine='{RAY}': others train one trial after the other, each with "
            f"all cores. Received: engine={engine!r}, processes={processes!r}"
        )
