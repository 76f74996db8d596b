"""Compare the outputs of a file on one runtime with those of plain kernels, XNNPACK off."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.model import Model

FLOAT_TOLERANCE = 5e-5
"""Float files: only the order of additions may differ. 3.5e-6 seen on ResNet50; the smallest error
seen from sparse kernels that went wrong is 1.7e-4."""
QUANTIZED_TOLERANCE = 0.25
"""Quantized files: no rounding explains more; 0.02 seen."""
_FLOOR = 1e-20  # below what a float32 output should be; only keeps 0 / 0 away


def tolerance(model: Model) -> float | None:
    """Return the largest error that rounding explains, None where none can be told.

    A class number or a boolean is right or wrong; near a tie both are.
    """
    if any(not (t.scale or t.dtype.startswith("float")) for t in model.outputs):
        return None
    return QUANTIZED_TOLERANCE if model.quantized else FLOAT_TOLERANCE


def max_rel_error(model: Model, wanted: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    """Return the largest difference of any output value, relative to that output's largest value.

    Infinite where one side alone is NaN or infinite.

    Raises:
        FileFailure: the outputs differ in number or size.
    """
    if len(wanted) != len(got) or any(w.size != g.size for w, g in zip(wanted, got, strict=True)):
        raise FileFailure(
            "it gives other outputs than with XNNPACK off. Expected: shapes "
            f"{[w.shape for w in wanted]}. Received: {[g.shape for g in got]}"
        )
    worst = 0.0
    for tensor, w, g in zip(model.outputs, wanted, got, strict=True):
        w, g = tensor.real(w).reshape(-1), tensor.real(g).reshape(-1)
        whole = np.isfinite(w) & np.isfinite(g)
        if not np.array_equal(w[~whole], g[~whole], equal_nan=True):
            return float("inf")
        w, g = w[whole], g[whole]
        scale = max(np.abs(w).max(initial=0.0), _FLOOR)
        worst = max(worst, float(np.abs(w - g).max(initial=0.0) / scale))
    return worst
