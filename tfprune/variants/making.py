"""Make one variant: export it, have it verified, measure its accuracy."""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from typing import Any

import numpy as np

from tfprune import metrics
from tfprune.export import ExportMismatch, ExportResult, export_tflite, samples
from tfprune.export.interface import Arrays, Interface
from tfprune.export.runtime import RuntimeFailure
from tfprune.metrics import Metric
from tfprune.progress import Steps
from tfprune.variants import accuracy, data, fingerprint
from tfprune.variants.data import Evaluation
from tfprune.variants.row import DONE, FAILED, LEFT_OUT, VariantRow
from tfprune.variants.variant import Variant

_HERE = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Work:
    """What all variants of a run have in common.

    Attributes:
        model: built, wrapped or not.
        interface: what it takes.
        calibration: samples for int8; None without.
        evaluation: samples with labels; None without.
        metric: what accuracy is; None without evaluation data.
        metric_name: of it.
        baseline: accuracy of the Keras model; None without evaluation data.
    """

    model: Any
    interface: Interface
    calibration: list[Arrays] | None = None
    evaluation: Evaluation | None = None
    metric: Metric | None = None
    metric_name: str | None = None
    baseline: float | None = None


def make(work: Work, variant: Variant, path: pathlib.Path, steps: Steps) -> VariantRow:
    """Return the row of a variant whose file was written and verified, or why it was not.

    A file that was there before is replaced; none is left of a variant that is not done.
    """
    steps.begin(f"{variant.name}: exporting and verifying")
    row = _exported(work, variant, path)
    if row.done:
        row = judge(work, row, path, steps)
    if not row.done:  # what lies there is of another run, or is not to be used
        path.unlink(missing_ok=True)
    return row


def judge(work: Work, row: VariantRow, path: pathlib.Path, steps: Steps) -> VariantRow:
    """Return the row with the accuracy of its file, as it is without evaluation data."""
    if work.evaluation is None or work.metric is None or work.baseline is None:
        return row
    try:
        outputs = accuracy.file_outputs(path, work.interface, work.evaluation, steps, row.name)
    except RuntimeFailure as error:
        return VariantRow(row.name, FAILED, " ".join(str(error).split()))
    found = metrics.score(work.metric, work.evaluation, outputs)
    return dataclasses.replace(row, accuracy=found, drop=work.baseline - found)


def _exported(work: Work, variant: Variant, path: pathlib.Path) -> VariantRow:
    real, ready = work.calibration, work.evaluation
    if variant.quantize == "int8" and real is None:
        reason = (
            "int8 needs calibration data, inputs like those in use, to choose the ranges of "
            "activations: pass `representative_data` (`--data`)"
        )
        return VariantRow(variant.name, LEFT_OUT, reason)
    compared = None if ready is None else _few(ready.samples)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            done = export_tflite(
                work.model,
                path,
                quantize=variant.quantize,
                representative_data=None if real is None else data.packed(real, work.interface),
                overwrite=True,
                sample_inputs=None if compared is None else data.packed(compared, work.interface),
                sparse=variant.sparse,
            )
    except ValueError as error:
        return VariantRow(variant.name, LEFT_OUT, " ".join(str(error).split()))
    except (ExportMismatch, RuntimeFailure) as error:
        return VariantRow(variant.name, FAILED, " ".join(str(error).split()))
    notes = list(done.notes)
    for one in caught:  # tfprune's own; what TensorFlow has to say about itself helps nobody
        text = str(one.message).removeprefix(f"{path}: ")
        ours = issubclass(one.category, UserWarning) and _HERE in pathlib.Path(one.filename).parents
        if ours and text not in notes:
            notes.append(text)
    return _row(variant, path, done, tuple(notes))


def _row(
    variant: Variant, path: pathlib.Path, done: ExportResult, notes: tuple[str, ...]
) -> VariantRow:
    return VariantRow(
        variant.name,
        DONE,
        file=path.name,
        file_bytes=done.file_bytes,
        gzip_bytes=done.gzip_bytes,
        sha256=fingerprint.of_file(path),
        sparsity=float(done.sparsity),
        encoded=sum(weight.encoded for weight in done.weights),
        kernels=done.verdict.kind,
        max_rel_error=float(done.max_rel_error),
        notes=notes,
    )


def _few(found: list[Arrays]) -> list[Arrays]:
    """Return at most as many samples as are compared, at even distances."""
    picks = np.linspace(0, len(found) - 1, min(len(found), samples.COMPARED_SAMPLES))
    return [found[int(i)] for i in picks]
