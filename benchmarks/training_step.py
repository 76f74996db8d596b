"""What pruning adds to a training step: wrapped models beside the same model dense.

Adam, batch 128, three models. "mobilenet": MobileNetV1 on 64x64 images, 3.2 million weights, what
ends on phones. "conv": the network of `fashion_mnist.py`, two convolutions in front of a dense
layer, here of 1450 units, 4.6 million weights. "dense": Dense(2048), Dense(1464), Dense(10) on 784
inputs, 4.6 million weights, the worst case: a step does little else than read and write weights.

Measured is `fit`, from the first batch hook to the last, the work of `UpdatePruningStep` in between
included; masks change every 100 or every 10 steps, which goes on for the whole run. What `fit` does
once an epoch is left out. tfmot on tf_keras is measured beside it, against the same model not
pruned in tf_keras.

The models take turns in blocks of 10 steps, in one process, so that a busy machine slows all alike.
A round is 100 steps of each model, and a ratio is the median over the rounds of
(wrapped seconds in the round) / (dense seconds in the round), by wall time and by processor time
(see `timing.py`).

    python benchmarks/training_step.py [--rounds 9]
    python benchmarks/training_step.py --networks dense --without-tfmot --compiled
    python benchmarks/training_step.py --networks dense --backend torch

`--compiled` trains all of them under XLA (`jit_compile=True`), which Keras does by itself on GPUs.
`--backend` runs Keras 3 on JAX (always under XLA) or PyTorch, without tfmot.
"""

from __future__ import annotations

import argparse
import os
import pathlib
from collections.abc import Callable
from typing import Any

import fashion_mnist
import numpy as np
from environment import RESULTS, environment, save
from timing import Cost, both_spreads, cell, now, ratios

BATCH, BLOCK, BLOCKS = 128, 10, 10
SPARSITY = 0.8
FREQUENCIES = (100, 10)

Name = tuple[str, str]  # library, how often masks change


class Trainee:
    """A compiled model, and what its training steps cost."""

    def __init__(self, keras: Any, model: Any, callbacks: Callable[[], list], compiled: Any):
        self._keras, self._model, self._callbacks = keras, model, callbacks
        loss = keras.losses.SparseCategoricalCrossentropy(True)
        model.compile(keras.optimizers.Adam(1e-4), loss, jit_compile=compiled)
        self._cost = Cost()

    def train(self, x: np.ndarray, y: np.ndarray) -> None:
        """Fit one block; its first and last hooks read the clock."""
        clock: list[Cost] = []
        start = self._keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs=None: clock.append(now())
        )
        stop = self._keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs=None: clock.append(now())
        )
        callbacks = [start, *self._callbacks(), stop]
        self._model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=callbacks)
        self._cost += clock[-1] - clock[0]

    def take_cost(self) -> Cost:
        """Return the cost since the last call."""
        cost, self._cost = self._cost, Cost()
        return cost


def dense(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((784,)),
            layers.Dense(2048, activation="relu"),
            layers.Dense(1464, activation="relu"),
            layers.Dense(10),
        ]
    )


def conv(keras: Any) -> Any:
    return fashion_mnist.network(keras, units=1450)


def mobilenet(keras: Any) -> Any:
    return keras.applications.MobileNet(
        (64, 64, 3), weights=None, classes=10, classifier_activation=None
    )


NETWORKS = {"mobilenet": mobilenet, "conv": conv, "dense": dense}
SHAPES = {"mobilenet": (64, 64, 3), "conv": (28, 28, 1), "dense": (784,)}


def tfprune_trainees(network: Callable, compiled: bool) -> dict[str, Trainee]:
    import keras

    import tfprune

    trainees = {"none": Trainee(keras, network(keras), list, compiled)}
    for frequency in FREQUENCIES:
        schedule = tfprune.ConstantSparsity(SPARSITY, 0, frequency=frequency)
        pruned = tfprune.prune_low_magnitude(network(keras), schedule)
        callbacks = lambda: [tfprune.UpdatePruningStep()]  # noqa: E731
        trainees[f"every {frequency}"] = Trainee(keras, pruned, callbacks, compiled)
    return trainees


def tfmot_trainees(network: Callable, compiled: bool) -> dict[str, Trainee]:
    import tf_keras
    from tensorflow_model_optimization.python.core.sparsity import keras as tfmot

    trainees = {"none": Trainee(tf_keras, network(tf_keras), list, compiled)}
    for frequency in FREQUENCIES:
        schedule = tfmot.pruning_schedule.ConstantSparsity(SPARSITY, 0, frequency=frequency)
        pruned = tfmot.prune.prune_low_magnitude(network(tf_keras), schedule)
        callbacks = lambda: [tfmot.pruning_callbacks.UpdatePruningStep()]  # noqa: E731
        trainees[f"every {frequency}"] = Trainee(tf_keras, pruned, callbacks, compiled)
    return trainees


def measure(
    trainees: dict[Name, Trainee], rounds: int, shape: tuple[int, ...]
) -> dict[Name, list[Cost]]:
    """Return the cost of each round of each model, one warming block left out."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH * BLOCK, *shape), np.float32)
    y = rng.integers(0, 10, len(x))
    for trainee in trainees.values():
        trainee.train(x, y)
        trainee.take_cost()
    costs: dict[Name, list[Cost]] = {name: [] for name in trainees}
    for number in range(rounds):
        for _ in range(BLOCKS):
            for trainee in trainees.values():
                trainee.train(x, y)
        for name, trainee in trainees.items():
            costs[name].append(trainee.take_cost())
        print(f"round {number + 1} of {rounds}", flush=True)
    return costs


def figures(network: str, costs: dict[Name, list[Cost]]) -> list[dict[str, Any]]:
    return [
        {
            "model": network,
            "library": library,
            "masks": name,
            "seconds a step": both_spreads([c / (BLOCK * BLOCKS) for c in rounds]),
            "ratio to dense": ratios(rounds, costs[library, "none"]),
        }
        for (library, name), rounds in costs.items()
    ]


def print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="A training step, batch 128: median (least-most)")
    for name in (
        "model",
        "library",
        "mask updates",
        "a step",
        "against dense",
        "by processor time",
    ):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["model"],
            row["library"],
            "not pruned" if row["masks"] == "none" else f"{row['masks']} steps",
            cell(row["seconds a step"]["wall"], " ms", 1, 1e3),
            cell(row["ratio to dense"]["wall"], "x", 3),
            cell(row["ratio to dense"]["cpu"], "x", 3),
        )
    Console(width=130).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--without-tfmot", action="store_true", help="tfprune and dense only")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--compiled", action="store_true", help="under XLA (`jit_compile=True`)")
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), default="tensorflow")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = options.backend
    elsewhere = options.backend != "tensorflow"
    suffix = f"_{options.backend}" if elsewhere else ""
    out = options.out or RESULTS / f"training_step{suffix}.json"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    rows, compiled = [], options.compiled or options.backend == "jax"
    for name in options.networks:
        network = NETWORKS[name]
        trainees = {("tfprune", k): t for k, t in tfprune_trainees(network, compiled).items()}
        if not options.without_tfmot and not elsewhere:
            trainees |= {("tfmot", k): t for k, t in tfmot_trainees(network, compiled).items()}
        rows += figures(name, measure(trainees, options.rounds, SHAPES[name]))
    print_table(rows)
    kept = {
        "environment": environment(),
        "backend": options.backend,
        "rounds": options.rounds,
        "compiled": compiled,
    }
    save(out, kept | {"steps": rows})
    print(f"Written: {out}")


if __name__ == "__main__":
    main()
