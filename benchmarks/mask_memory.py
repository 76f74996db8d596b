"""Memory that pruning needs: bytes of mask for each weight, and the peak during a mask update.

Bytes of mask: the size of the mask variable over the number of weights pruned; the wrapper's other
two variables, a threshold and the step, are 8 bytes for the whole weight. tfmot's masks beside it.
Peak: the most memory that one `update_masks` holds beyond what was held before it, in bytes for
each weight: of numpy alone (`tracemalloc`), and of the whole process as Linux records it, with
TensorFlow's own copies of what is read from it and assigned to it.

    python benchmarks/mask_memory.py
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import pathlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from environment import RESULTS, environment, save

SHAPE = (12_500, 2000)  # 25 million weights
PATTERNS = {"unstructured": 0.8, "1x16": 0.8, "2:4": 0.5}


def status(field: str) -> int:
    """Return a figure of this process in bytes (Linux)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def process_peak(work: Callable[[], None]) -> int:
    """Return how far resident memory rises above where it was, in bytes (Linux with glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # memory kept for reuse would hide what is needed
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def size_in_bytes(variables: list[Any]) -> int:
    return sum(np.asarray(v).nbytes for v in variables)


def tfprune_layer(pattern: str, sparsity: float) -> Any:
    import keras

    import tfprune

    layer = tfprune.PruneLowMagnitude(
        keras.layers.Dense(SHAPE[1], use_bias=False),
        tfprune.ConstantSparsity(sparsity, 0),
        pattern=pattern,
    )
    layer.build((None, SHAPE[0]))
    return layer


def tfmot_mask_bytes() -> int:
    import tf_keras
    from tensorflow_model_optimization.python.core.sparsity import keras as tfmot

    schedule = tfmot.pruning_schedule.ConstantSparsity(0.8, 0)
    layer = tfmot.prune.prune_low_magnitude(
        tf_keras.layers.Dense(SHAPE[1], use_bias=False), schedule
    )
    layer.build((None, SHAPE[0]))
    return size_in_bytes([mask for _, mask, _ in layer.pruning_vars])


def measure(pattern: str, sparsity: float) -> dict[str, Any]:
    layer = tfprune_layer(pattern, sparsity)
    [(weight, mask, threshold)] = layer.pruning_vars
    values = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    layer.update_masks(0)  # what is set up once is not the update's own
    weight.assign(values)
    process = process_peak(lambda: layer.update_masks(0))
    weight.assign(values)
    tracemalloc.start()
    layer.update_masks(0)
    numpy_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "pattern": pattern,
        "weights": values.size,
        "mask bytes a weight": size_in_bytes([mask]) / values.size,
        "other bytes of the wrapper": size_in_bytes([threshold, layer.pruning_step]),
        "numpy peak bytes a weight": numpy_peak / values.size,
        "process peak bytes a weight": process / values.size,
    }


def print_table(rows: list[dict[str, Any]], tfmot_bytes: float) -> None:
    from rich.console import Console
    from rich.table import Table

    names = ("mask bytes a weight", "numpy peak bytes a weight", "process peak bytes a weight")
    table = Table(title=f"Bytes for each of {rows[0]['weights'] / 1e6:.0f} M weights (float32)")
    for name in ("pattern", "mask", "peak of an update, numpy", "peak, whole process"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row["pattern"], *(f"{row[name]:.3f}" for name in names))
    table.add_row("tfmot", f"{tfmot_bytes:.3f}", "-", "-")
    Console(width=100).print(table)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    rows = [measure(pattern, sparsity) for pattern, sparsity in PATTERNS.items()]
    tfmot_bytes = tfmot_mask_bytes() / (SHAPE[0] * SHAPE[1])
    print_table(rows, tfmot_bytes)
    path = RESULTS / "mask_memory.json"
    peer = {"tfmot mask bytes a weight": tfmot_bytes}
    save(path, {"environment": environment(), "updates": rows} | peer)
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
