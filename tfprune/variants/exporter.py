"""`export_variants`: check everything, export and verify each variant, measure all, choose."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from tfprune import metrics, resumption
from tfprune.export import calibration, samples
from tfprune.export.interfaces import interface_of
from tfprune.metrics import Metric
from tfprune.progress import Steps
from tfprune.variants import (
    accuracy,
    data,
    fingerprint,
    making,
    measurement,
    model_file,
    record,
)
from tfprune.variants.data import Evaluation
from tfprune.variants.making import Work
from tfprune.variants.objective import OBJECTIVES, choose
from tfprune.variants.record import Record
from tfprune.variants.result import VariantsResult
from tfprune.variants.row import VariantRow
from tfprune.variants.variant import VARIANTS, chosen


def export_variants(
    model: Any,
    out: str | os.PathLike,
    variants: Any = "all",
    representative_data: Any = None,
    eval_data: Any = None,
    objective: str = "balanced",
    max_accuracy_drop: float = 0.01,
    *,
    metric: Metric | None = None,
    runtime: str = "native",
    threads: int = 1,
    runs: int = 50,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = False,
) -> VariantsResult:
    """Write a model in every form, verify and measure each file, and choose the best one.

    Each file is written by `export_tflite`, so it is there only once it has been compared with
    Keras on two runtimes. `variants.json` beside the files tells what is finished, and is
    rewritten after every variant: an interrupted run keeps what it finished, and `resume=True`
    goes on from there. Latency and memory are measured at the end, all files in turns.

    Args:
        model: path of a `.keras` or `.h5` file of Keras 3 or tf_keras, pruning wrappers on or off;
            or a built model.
        out: folder for `<model>-<variant>.tflite` and `variants.json`; made if needed.
        variants: "all", or some of float32, float16, dynamic, int8, float32-sparse,
            float16-sparse, int8-sparse, as a list or with commas between. A form that this model
            cannot have (nothing to encode, wrong on phones) is left out, with the reason.
        representative_data: calibration data for int8: path of a `.npy` file, or of a `.npz` file
            with the key x or the names of the inputs; or what `export_tflite` takes. Without it,
            the int8 forms are left out.
        eval_data: path of a `.npz` file with inputs and labels (keys x and y), or a pair (x, y).
            Labels are class ids or one-hot rows; for a single sigmoid unit 0 or 1. Without it, no
            accuracy is measured, and the choice does without.
        objective: "size" (fewest bytes of the file), "latency" (smallest median) or "balanced"
            (smallest product of both).
        max_accuracy_drop: how far the accuracy of the chosen file may lie below that of the Keras
            model, 0.01 for one percentage point.
        metric: function of (labels, outputs) that returns a number, larger for better models, for
            what is not a classifier. Outputs are an array (samples, ...), or a dict of them by
            name.
        runtime: where latency and memory are measured, see `tfprune.benchmark`.
        threads: of each interpreter that is timed.
        runs: timed runs of each file.
        overwrite: whether files of an earlier run may be replaced.
        resume: go on with an earlier run of the same model, data and versions: verified files that
            are unchanged are kept, with their accuracy, and so are those of variants that are not
            asked for now. Latencies are kept only if none is missing.
        progress: show on the standard error what is being done.

    Returns:
        A `VariantsResult`, which prints as a table. Its `best` is None if no variant meets the
        objective; its `choice` then says which came closest.

    Example:

    ```python
    result = tfprune.export_variants(
        "model.keras", "out", representative_data=x_train[:200], eval_data=(x_test, y_test)
    )
    print(result)
    result.best  # "int8"
    ```

    Raises:
        FileNotFoundError: the model or a data file does not exist.
        FileExistsError: `out` holds such files, and neither `overwrite` nor `resume` is set.
        ValueError: a bad argument; data that do not fit the model; a model or data file that is
            damaged; an earlier run of something else; a model of which no variant can be made.
        TypeError: an argument of the wrong type.
        RuntimeError: a tool that the runtime needs is missing.

    Source: tfprune's own; files are those of `export_tflite`, latencies those of `benchmark`.
    """
    wanted = chosen(variants)
    _check(objective, max_accuracy_drop, threads, runs, overwrite and resume)
    if metric is not None and (eval_data is None or not callable(metric)):
        raise ValueError(
            "`metric` must be a function of (labels, outputs), and needs `eval_data` to be applied "
            f"to. Received: metric={metric!r}, eval_data={_short(eval_data)}"
        )
    stem = model_file.stem(model)
    files = {one.name: f"{stem}-{one.name}.tflite" for one in wanted}
    folder = record.check_folder(out, files.values(), overwrite, resume)
    earlier = record.read(folder) if resume else None
    before = record.files_left(folder)
    source = model_file.check_file(model) if model_file.is_path(model) else None
    calibrating = evaluating = None
    if representative_data is not None:
        calibrating = data.read_calibration(representative_data)
    if eval_data is not None:
        evaluating = data.read_evaluation(eval_data)

    with Steps(len(wanted) + 1, progress) as steps:
        measurement.check_setup(runtime, steps.begin)
        steps.begin("loading the model")
        loaded = model if source is None else model_file.load(source)
        model_file.check_model(loaded)
        work = _work(loaded, calibrating, evaluating, metric, steps)
        identity = _identity(source or loaded, work, metric)
        kept = record.reusable(earlier, folder, identity) if earlier else {}
        result = VariantsResult(
            model=str(source or loaded.name),
            out=str(folder),
            objective=objective,
            max_accuracy_drop=float(max_accuracy_drop),
            best=None,
            choice="The run has not come to its end.",
            rows=tuple(kept[one.name] for one in VARIANTS if one.name in kept),
            metric=work.metric_name,
            baseline=work.baseline,
            eval_samples=work.evaluation.count if work.evaluation else 0,
            runtime=runtime,
            threads=threads,
            runs=runs,
            conditions=(),
            versions=identity["versions"],
            earlier_files=_without(before, kept.values()),
        )
        folder.mkdir(parents=True, exist_ok=True)
        record.write(folder, Record(identity, None, False, result))
        for variant in wanted:
            path, row = folder / files[variant.name], kept.get(variant.name)
            if row is None:
                row = making.make(work, variant, path, steps)
            elif row.done and metric is not None:  # a function of the same name may do otherwise
                row = making.judge(work, row, path, steps)
            result = _with_row(result, row)
            record.write(folder, Record(identity, None, False, result))
            steps.finish()
        of_use = result.earlier_files or any(row.done for row in result.rows)
        if not resume and not of_use:
            (folder / record.NAME).unlink()  # else it would stand in the way of the next try
        _check_any(result)
        steps.begin("measuring latency and memory")
        setup = measurement.Setup(runtime, threads, runs, _shapes(work))
        key = setup.key(result.rows)
        timed = all(row.median_ms is not None for row in result.rows if row.done)
        if timed and earlier is not None and earlier.measurement == key:
            result = dataclasses.replace(result, conditions=earlier.result.conditions)
        else:
            rows, lines = measurement.measure(result.rows, folder, setup, steps.begin)
            result = dataclasses.replace(result, rows=rows, conditions=lines)
        choice = choose(result.rows, objective, work.baseline, result.max_accuracy_drop)
        result = dataclasses.replace(result, best=choice.best, choice=choice.reason)
        record.write(folder, Record(identity, key, True, result))
        steps.finish()
    return result


def _work(
    model: Any,
    calibrating: data.Given | None,
    evaluating: data.Given | None,
    metric: Metric | None,
    steps: Steps,
) -> Work:
    """Return what all variants share, once the data are known to fit the model."""
    inputs = [None if given is None else given.inputs for given in (evaluating, calibrating)]
    interface = interface_of(model, *inputs)
    real = ready = None
    if calibrating is not None:
        real = data.calibration_samples(calibrating, interface)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the export says the same, beside the variant
            calibration.check_variety(real, interface, calibrating.name)
    if evaluating is None:
        return Work(model, interface, real)
    ready = data.evaluation(evaluating, interface, metric is not None)
    steps.begin("Keras model: accuracy")
    outputs = accuracy.keras_outputs(model, interface, ready, steps)
    name, judge = metrics.metric_for(ready, outputs) if metric is None else (None, metric)
    name = name or f"metric {getattr(metric, '__name__', type(metric).__name__)}"
    baseline = metrics.score(judge, ready, outputs)
    return Work(model, interface, real, ready, judge, name, baseline)


def _identity(model: Any, work: Work, metric: Metric | None) -> dict[str, Any]:
    """Return what must be the same for one run to go on from another."""
    real = work.calibration
    return {
        "model": fingerprint.of_model(model),
        "calibration": real and resumption.of_arrays(a for one in real for a in one),
        "evaluation": work.evaluation and _fingerprint(work.evaluation),
        "metric": metric and f"{metric.__module__}.{getattr(metric, '__qualname__', '')}",
        "versions": fingerprint.versions(),
    }


def _with_row(result: VariantsResult, row: VariantRow) -> VariantsResult:
    by_name = {one.name: one for one in (*result.rows, row)}
    rows = tuple(by_name[one.name] for one in VARIANTS if one.name in by_name)
    left = _without(result.earlier_files, [row])
    # Of a variant that cannot be made, an earlier file is removed as well.
    left = tuple(name for name in left if (pathlib.Path(result.out) / name).is_file())
    return dataclasses.replace(result, rows=rows, earlier_files=left)


def _without(names: Iterable[str], rows: Iterable[VariantRow]) -> tuple[str, ...]:
    made = {row.file for row in rows}
    return tuple(name for name in names if name not in made)


def _check_any(result: VariantsResult) -> None:
    if any(row.done for row in result.rows):
        return
    reasons = list(dict.fromkeys(row.reason for row in result.rows))
    told = "; ".join(
        f"{', '.join(row.name for row in result.rows if row.reason == reason)}: "
        + reason.partition(" Received: ")[0].rstrip(".")
        for reason in reasons
    )
    raise ValueError(
        f"No variant of {result.model!r} could be made. {told}. "
        f"Received: variants={[row.name for row in result.rows]}"
    )


def _shapes(work: Work) -> dict[str, tuple[int, ...]]:
    """Return the lengths of free axes to measure with: those of the data, else made up ones."""
    if work.evaluation is not None:
        sample = work.evaluation.samples[0]
    elif work.calibration is not None:
        sample = work.calibration[0]
    else:
        sample = samples.generated(work.interface, work.model)[0]
    return measurement.shapes_of(work.interface, sample)


def _fingerprint(ready: Evaluation) -> str:
    arrays = [array for sample in ready.samples for array in sample]
    if isinstance(ready.labels, np.ndarray):
        return resumption.of_arrays([*arrays, ready.labels])
    return resumption.of_arrays([*arrays, np.frombuffer(repr(ready.labels).encode(), "uint8")])


def _check(objective: Any, max_drop: Any, threads: Any, runs: Any, both: bool) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(
            f"`objective` must be one of {', '.join(map(repr, OBJECTIVES))}. "
            f"Received: objective={objective!r}"
        )
    number = isinstance(max_drop, (int, float)) and not isinstance(max_drop, bool)
    if not number or not 0 <= max_drop < math.inf:
        raise ValueError(
            "`max_accuracy_drop` must be a number of 0 or more, 0.01 for one percentage point. "
            f"Received: max_accuracy_drop={max_drop!r}"
        )
    for name, value in (("threads", threads), ("runs", runs)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"`{name}` must be a whole number, 1 or more. Received: {name}={value!r}"
            )
    if both:
        raise ValueError(
            "`overwrite` starts anew and `resume` goes on: choose one of them. "
            "Received: overwrite=True, resume=True"
        )


def _short(value: Any) -> str:
    return "None" if value is None else type(value).__name__
