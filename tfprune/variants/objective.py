"""Choose the best variant under an objective, among those that are accurate enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfprune.variants.row import VariantRow

OBJECTIVES = ("size", "latency", "balanced")
_ROUNDING = 1e-9  # 0.98 - 0.97 is a little more than 0.01 in binary


@dataclasses.dataclass(frozen=True)
class Choice:
    """The best variant, or why there is none.

    Attributes:
        best: its name; None if no variant meets the objective.
        reason: a sentence or two.
    """

    best: str | None
    reason: str


def choose(
    rows: Sequence[VariantRow], objective: str, baseline: float | None, max_drop: float
) -> Choice:
    """Return the variant to ship.

    Args:
        rows: of all variants.
        objective: "size", the fewest bytes; "latency", the smallest median; "balanced", the
            smallest product of both, relative to float32. Ties go to fewer bytes.
        baseline: accuracy of the Keras model; None if accuracy was not measured.
        max_drop: the accuracy that may be lost.

    Example: `choose(rows, "size", baseline=0.98, max_drop=0.01).best` may be "float16-sparse".
    """
    done = [row for row in rows if row.done]
    if not done:
        return Choice(None, "No variant was finished, so there is none to choose.")
    fitting, condition = done, _no_accuracy(max_drop)
    if baseline is not None:
        fitting = [row for row in done if _drop(row) <= max_drop + _ROUNDING]
        condition = (
            f"Accuracy may drop by {max_drop:g} from the Keras model's {baseline:.4f}; "
            f"{len(fitting)} of {len(done)} variants stay within that."
        )
        if not fitting:
            return Choice(None, _out_of_reach(done, baseline, max_drop))
    if objective == "size":
        best = min(fitting, key=_bytes)
        return Choice(
            best.name, f"{best.name} is the smallest: {_bytes(best):,} bytes. {condition}"
        )
    timed = [row for row in fitting if row.median_ms is not None]
    if not timed:
        return Choice(
            None,
            f"The objective '{objective}' needs the latency, which could not be measured for any "
            f"variant that may be chosen. Choose 'size', or another runtime. {condition}",
        )
    if objective == "latency":
        best = min(timed, key=lambda row: (row.median_ms, _bytes(row)))
        return Choice(
            best.name, f"{best.name} is the fastest: {best.median_ms:.3g} ms. {condition}"
        )
    best = min(timed, key=lambda row: (_product(row), _bytes(row)))
    reference = next((row for row in done if row.name == "float32" and row.median_ms), None)
    ratio = f" ({_product(best) / _product(reference):.2g} of float32's)" if reference else ""
    return Choice(
        best.name, f"{best.name} has the smallest product of size and latency{ratio}. {condition}"
    )


def _product(row: VariantRow) -> float:
    """Return bytes times milliseconds; relative to float32, the order is the same."""
    return _bytes(row) * (row.median_ms or 0.0)


def _bytes(row: VariantRow) -> int:
    return row.file_bytes or 0


def _drop(row: VariantRow) -> float:
    return float("inf") if row.drop is None else row.drop


def _no_accuracy(max_drop: float) -> str:
    return (
        f"Accuracy was not measured, so the allowed drop of {max_drop:g} was not applied: pass "
        "evaluation data (`eval_data`, `--eval`)."
    )


def _out_of_reach(done: Sequence[VariantRow], baseline: float, max_drop: float) -> str:
    closest = min(done, key=lambda row: (_drop(row), _bytes(row)))
    reached = "none" if closest.accuracy is None else f"{closest.accuracy:.4f}"
    return (
        f"No variant stays within an accuracy drop of {max_drop:g} from the Keras model's "
        f"{baseline:.4f}. {closest.name} came closest: accuracy {reached}, a drop of "
        f"{_drop(closest):.4f}. Allow a larger drop (`max_accuracy_drop`, `--max-accuracy-drop`), "
        "calibrate on data more like those in use, or add variants such as float16. The files are "
        "kept."
    )
