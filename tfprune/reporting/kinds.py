"""Which result a JSON file holds, told by its keys."""

from __future__ import annotations

from typing import Any

# The keys that a kind always has; of two that fit, the one with more keys is meant.
KEYS: dict[str, frozenset[str]] = {
    "quickstart": frozenset({"dataset", "seed", "test_images", "layers", "variants"}),
    "variants": frozenset({"objective", "best", "choice", "baseline", "rows", "runtime"}),
    "benchmark": frozenset({"runtime", "device", "cpu", "files", "energy"}),
    "sensitivity": frozenset({"metric", "dense", "sparsities", "weights", "samples"}),
    "shrink": frozenset({"params_before", "params_after", "macs_before", "layers", "history"}),
    "search": frozenset({"objective", "metric", "dense", "max_drop", "trials", "reason"}),
    "trials": frozenset({"identity", "trials"}),  # what `search` keeps in its folder
    "count": frozenset({"model", "parameters", "nonzero", "macs", "nonzero_macs", "layers"}),
    "export": frozenset({"path", "file_bytes", "gzip_bytes", "weights", "checks", "verdict"}),
    "file": frozenset({"path", "file_bytes", "gzip_bytes", "weights", "other_size", "masked"}),
    "summary": frozenset({"name", "rows", "parameters", "nonzero"}),
    "allocation": frozenset({"method", "sparsity", "layers", "schedule", "pattern"}),
    "reconstruction": frozenset({"model", "samples", "weights", "dense", "recalibration"}),
    "permutation": frozenset({"model", "pattern", "weights"}),
    "doctor": frozenset({"tfprune", "python", "backend", "versions", "energy", "problems"}),
}


def kind_of(figures: Any) -> str | None:
    """Return the kind of a result that `to_json` saved, None if it is none of tfprune's.

    Example: `kind_of({"tfprune": "0.1", "python": "3", "backend": "jax"})` is None: keys are
    missing.
    """
    if not isinstance(figures, dict):
        return None
    fitting = [kind for kind, keys in KEYS.items() if keys <= figures.keys()]
    return max(fitting, key=lambda kind: len(KEYS[kind]), default=None)
