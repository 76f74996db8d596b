"""What `tfprune.sensitivity` costs: a model of 20 weights at 6 levels, in evaluations of the model.

A naive table runs the whole model 120 times. Measured are the seconds of `tfprune.sensitivity` over
those of one evaluation of the same model on the same 1,024 images, once by `model.evaluate` (a
compiled graph) and once call by call, as `sensitivity` itself runs; they take turns.

    python benchmarks/sensitivity.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import time
from typing import Any

import numpy as np
from environment import RESULTS, environment, save

LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def network(keras: Any) -> Any:
    """Return a residual network of 19 convolutions and a dense layer, 32x32 inputs."""
    layers = keras.layers
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    for filters, stride in ((16, 1), (16, 1), (16, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1)):
        short = x
        if stride == 2:
            short = layers.Conv2D(filters, 1, stride)(x)
        x = layers.Conv2D(filters, 3, stride, padding="same", activation="relu")(x)
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, short]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "sensitivity.json")
    options = parser.parse_args()

    import keras

    import tfprune
    from tfprune.sensitivity.reruns import Reruns

    keras.utils.set_random_seed(0)
    model = network(keras)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1024, 32, 32, 3)).astype("float32")
    y = rng.integers(0, 10, len(x))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    reruns = Reruns(model)

    def compiled() -> None:
        model.evaluate(x, y, batch_size=256, verbose=0)

    def eager() -> None:
        for start in range(0, len(x), 256):
            values = reruns.first([x[start : start + 256]])
            np.asarray(reruns.outputs(values))

    def table() -> None:
        found = tfprune.sensitivity(model, (x, y), LEVELS)
        assert len(found.weights) == 20, len(found.weights)

    seconds: dict[str, list[float]] = {"compiled": [], "call by call": [], "sensitivity": []}
    compiled()
    for number in range(options.rounds):
        for name, run, times in (
            ("compiled", compiled, 5),
            ("call by call", eager, 5),
            ("sensitivity", table, 1),
        ):
            start = time.perf_counter()
            for _ in range(times):
                run()
            seconds[name].append((time.perf_counter() - start) / times)
        print(number + 1, {name: round(s[-1], 2) for name, s in seconds.items()}, flush=True)
    ratios = {
        name: round(
            statistics.median(
                a / b for a, b in zip(seconds["sensitivity"], seconds[name], strict=True)
            ),
            1,
        )
        for name in ("compiled", "call by call")
    }
    print("evaluations' time:", ratios)
    figures = {"weights": 20, "levels": len(LEVELS), "evaluations' time": ratios}
    save(options.out, {"environment": environment(), **figures, "seconds": seconds})


if __name__ == "__main__":
    main()
