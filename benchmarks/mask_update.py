"""How long one mask update takes: tfprune beside tfmot and torch, on the same weights.

tfprune: `PruneLowMagnitude.update_masks`, the whole path on the host: read the weight and the mask
from Keras, choose the new mask, assign mask, weight and threshold.
tfmot: `Pruning.conditional_mask_update` and `weight_mask_op` in a `tf.function`, as tfmot's wrapper
runs them in a training step: choose the mask, assign it and the threshold, mask the weight.
torch: `torch.nn.utils.prune.global_unstructured` with `L1Unstructured`.

All prune normally distributed float32 weights, 2000 columns wide, from dense to 80 % (2:4 to 50 %).
Each repeat runs every library once, one after another, so that a busy machine slows all alike; a
ratio is the median of the ratios of the repeats. Wall time and processor time are both measured
(see `timing.py`). Then tfprune alone, from 1 to 100 million weights.

    python benchmarks/mask_update.py
    python benchmarks/mask_update.py --torch-python /path/to/venv-with-torch/bin/python

torch lives in another interpreter, since two tensor libraries in one process fight for the cores;
without `--torch-python`, torch of this interpreter is tried.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
from environment import RESULTS, environment, save
from timing import Cost, both_spreads, cell, cost_of, ratios

COLUMNS = 2000
SIZES = (4_600_000, 25_000_000)
GROWTH = (1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000)
PATTERNS = ("unstructured", "1x16", "2:4")
SPARSITY = {"unstructured": 0.8, "1x16": 0.8, "2:4": 0.5}

Update = Callable[[], Cost]


def weights(size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((size // COLUMNS, COLUMNS), np.float32)


def tfprune_update(values: np.ndarray, pattern: str) -> Update:
    """Return a function that prunes these weights, from dense, and returns what it cost."""
    import keras

    import tfprune

    schedule = tfprune.ConstantSparsity(SPARSITY[pattern], 0)
    layer = tfprune.PruneLowMagnitude(
        keras.layers.Dense(values.shape[1], use_bias=False), schedule, pattern=pattern
    )
    layer.build((None, values.shape[0]))
    [(weight, mask, _)] = layer.pruning_vars

    def update() -> Cost:
        weight.assign(values)
        mask.assign(np.ones(values.shape, bool))
        return cost_of(lambda: layer.update_masks(0))

    return update


def tfmot_update(values: np.ndarray, pattern: str) -> Update:
    """Return the same for tfmot."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import (
        pruning_impl,
        pruning_schedule,
    )

    weight, mask = tf.Variable(values), tf.Variable(np.ones_like(values))
    step = tf.constant(1, tf.int64)
    pruning = pruning_impl.Pruning(
        training_step_fn=lambda: step,
        pruning_vars=[(weight, mask, tf.Variable(0.0))],
        pruning_schedule=pruning_schedule.ConstantSparsity(SPARSITY[pattern], 0, frequency=1),
        block_size=(1, 16) if pattern == "1x16" else (1, 1),
        block_pooling_type="AVG",
        sparsity_m_by_n=(2, 4) if pattern == "2:4" else None,
    )

    @tf.function
    def graph():
        pruning.conditional_mask_update()
        pruning.weight_mask_op()

    def update() -> Cost:
        weight.assign(values)
        mask.assign(tf.ones_like(mask))
        cost = cost_of(graph)
        kept = float(tf.reduce_mean(tf.cast(weight != 0, tf.float32)))
        if abs(1 - kept - SPARSITY[pattern]) > 0.01:
            raise RuntimeError(f"tfmot left {kept:.1%} of the weights. Received: {pattern}")
        return cost

    return update


def torch_worker() -> None:
    """Answer each line of stdin, a number of weights, with what one pruning cost."""
    import torch
    from torch.nn.utils import prune

    print(torch.__version__, flush=True)
    for line in sys.stdin:
        values = torch.from_numpy(weights(int(line)))
        module = torch.nn.Linear(values.shape[1], values.shape[0], bias=False)
        module.weight.data = values
        what = [(module, "weight")]
        amount = SPARSITY["unstructured"]
        cost = cost_of(
            lambda: prune.global_unstructured(what, prune.L1Unstructured, amount=amount)  # noqa: B023
        )
        print(cost.wall, cost.cpu, flush=True)


class Torch:
    """torch in a process of its own, idle until it is asked; `version` is None without torch."""

    def __init__(self, python: str):
        self._process = subprocess.Popen(
            [python, __file__, "--torch-worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.version = self._process.stdout.readline().strip() or None

    def update(self, size: int) -> Cost:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        wall, cpu = self._process.stdout.readline().split()
        return Cost(float(wall), float(cpu))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def interleave(updates: dict[str, Update], repeats: int) -> dict[str, list[Cost]]:
    """Run every library once in each repeat, after one round that is not counted."""
    costs: dict[str, list[Cost]] = {name: [] for name in updates}
    for repeat in range(repeats + 1):
        for name, update in updates.items():
            cost = update()
            if repeat > 0:
                costs[name].append(cost)
    return costs


def compare(pattern: str, size: int, torch: Torch, repeats: int) -> dict:
    values = weights(size)
    updates = {"tfprune": tfprune_update(values, pattern), "tfmot": tfmot_update(values, pattern)}
    if pattern == "unstructured" and torch.version is not None:
        updates["torch"] = lambda: torch.update(size)
    costs = interleave(updates, repeats)
    row: dict = {"pattern": pattern, "weights": int(values.size), "repeats": repeats}
    row["seconds"] = {name: both_spreads(c) for name, c in costs.items()}
    row["times faster than"] = {
        peer: ratios(costs[peer], costs["tfprune"]) for peer in costs if peer != "tfprune"
    }
    return row


def grow(repeats: int) -> list[dict]:
    rows = []
    for size in GROWTH:
        update = tfprune_update(weights(size), "unstructured")
        update()
        costs = [update() for _ in range(repeats)]
        per_million = both_spreads([cost / (size / 1e6) for cost in costs])
        rows.append({"weights": size, "seconds": both_spreads(costs), "per million": per_million})
    return rows


def print_tables(rows: list[dict], growth: list[dict], torch: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=130)
    for clock, title in (("wall", "wall time"), ("cpu", "processor time")):
        table = Table(title=f"One mask update, {title}: median (least-most). torch: {torch}")
        for name in ("pattern", "weights", "tfprune", "tfmot", "torch"):
            table.add_column(name, justify="right")
        table.add_column("faster than tfmot", justify="right")
        table.add_column("faster than torch", justify="right")
        for row in rows:
            seconds, faster = row["seconds"], row["times faster than"]
            table.add_row(
                row["pattern"],
                f"{row['weights'] / 1e6:.1f} M",
                *(
                    cell(seconds.get(name, {}).get(clock), " s", 3)
                    for name in ("tfprune", "tfmot", "torch")
                ),
                *(cell(faster.get(peer, {}).get(clock), "x", 1) for peer in ("tfmot", "torch")),
            )
        console.print(table)
    grown = Table(title="tfprune, unstructured: growth with the number of weights")
    for name in ("weights", "wall", "wall per million", "processor per million"):
        grown.add_column(name, justify="right")
    for row in growth:
        grown.add_row(
            f"{row['weights'] / 1e6:.0f} M",
            cell(row["seconds"]["wall"], " s", 3),
            cell(row["per million"]["wall"], " ms", 1, 1e3),
            cell(row["per million"]["cpu"], " ms", 1, 1e3),
        )
    console.print(grown)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", default=sys.executable, help="interpreter with torch")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--torch-worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.torch_worker:
        torch_worker()
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    torch = Torch(options.torch_python)
    rows = [
        compare(pattern, size, torch, options.repeats)
        for pattern in options.patterns
        for size in SIZES
    ]
    torch.close()
    growth = grow(options.repeats)
    torch_version = torch.version or "not installed"
    print_tables(rows, growth, torch_version)
    path = RESULTS / "mask_update.json"
    versions = environment() | {"torch": torch_version}
    save(path, {"environment": versions, "updates": rows, "growth": growth})
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
