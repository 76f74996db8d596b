"""Sensitivity on a Ray cluster of this machine: 12 levels on two workers beside the same on one.

Each worker has one thread. Workers are started before, by a measurement that is not counted; each
that is counted sends the model and data, and builds the model there. One and two workers take
turns. With `load of the last 15 minutes` above 1 in the results other work ran beside, and the
figure is rough: two workers then share with it what one had nearly to itself.

    python benchmarks/ray_workers.py [--rounds 3] [--samples 1024]
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time
from typing import Any

import numpy as np
from environment import RESULTS, environment, save

LEVELS = (0.5, 0.7, 0.8, 0.9)
LAYERS = ("first", "second", "third")  # 12 levels together


def network(keras: Any) -> Any:
    """Return three convolutions of 64 channels, so that a level takes about a second."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            *(layers.Conv2D(64, 3, padding="same", activation="relu", name=n) for n in LAYERS),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, name="classifier"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "ray_workers.json")
    options = parser.parse_args()

    import keras

    import tfprune
    from tfprune.cluster import Cluster

    keras.utils.set_random_seed(0)
    model = network(keras)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(options.samples, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, len(x))

    def measured(workers: int) -> float:
        begun = time.perf_counter()
        found = tfprune.sensitivity(
            model, (x, y), LEVELS, layers=LAYERS, engine="ray", processes=workers
        )
        assert len(found.weights) * len(LEVELS) == 12
        return time.perf_counter() - begun

    seconds: dict[int, list[float]] = {1: [], 2: []}
    with Cluster(None, None, None):  # shared by all, so that workers are started once
        measured(2)
        for _ in range(options.rounds):
            for workers, found in seconds.items():
                found.append(measured(workers))
    one, two = (statistics.median(found) for found in seconds.values())
    figures = {
        "levels": 12,
        "samples": options.samples,
        "seconds on one worker": [round(s, 2) for s in seconds[1]],
        "seconds on two workers": [round(s, 2) for s in seconds[2]],
        "median of one over median of two": round(one / two, 2),
    }
    print(figures)
    save(options.out, {"environment": environment(), **figures})


if __name__ == "__main__":
    main()
