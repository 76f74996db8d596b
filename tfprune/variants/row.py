"""What became of one variant: its file and its figures, or why there is none."""

from __future__ import annotations

import dataclasses

DONE, LEFT_OUT, FAILED = "done", "left out", "failed"


@dataclasses.dataclass(frozen=True)
class VariantRow:
    """One variant; None stands for a figure that was not measured.

    Attributes:
        name: such as "int8-sparse".
        state: "done"; "left out" (this model has no such form, or calibration data are missing);
            or "failed" (a file came out wrong, or could not be run).
        reason: for the latter two.
        file: name of the file in the folder; None if none was written.
        file_bytes: size of the file.
        gzip_bytes: size after gzip.
        sha256: of the file.
        sparsity: fraction of zeros among its weights.
        encoded: how many of its weights are in sparse encoding.
        kernels: what XNNPACK's sparse kernels make of it on ARM and in WebAssembly: "fast",
            "dense" or "wrong".
        max_rel_error: largest error against Keras, relative to the largest output.
        median_ms: milliseconds of a run, half of the runs were faster.
        p5_ms: 5 % of the runs were faster.
        p95_ms: 95 % of the runs were faster.
        peak_memory_bytes: largest memory in use, above what the runtime needs without a file.
        accuracy: of the file on the evaluation data, from 0 to 1; or what a `metric` returned.
        drop: accuracy of the Keras model minus that; negative if the file does better.
        notes: what to know about this file.
    """

    name: str
    state: str
    reason: str = ""
    file: str | None = None
    file_bytes: int | None = None
    gzip_bytes: int | None = None
    sha256: str | None = None
    sparsity: float | None = None
    encoded: int | None = None
    kernels: str | None = None
    max_rel_error: float | None = None
    median_ms: float | None = None
    p5_ms: float | None = None
    p95_ms: float | None = None
    peak_memory_bytes: int | None = None
    accuracy: float | None = None
    drop: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether there is a verified file that ran."""
        return self.state == DONE
