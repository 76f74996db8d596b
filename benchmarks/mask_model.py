"""Memory and time of a mask update of a whole model, up to a billion weights in layers alike.

Layers of 16.8 M weights (4096 x 4096, float32) are updated one after the other, as the callback
does it: 80 % zeros, unstructured. `memory over weights` is all that is held at the peak of the
update (weights, masks, and what one layer's update needs beside) over the bytes of the weights.

    python benchmarks/mask_model.py [--most 1010]
"""

from __future__ import annotations

import argparse
import os
import pathlib
import time
from typing import Any

import numpy as np
from environment import RESULTS, environment, save
from mask_memory import process_peak, size_in_bytes

SIDE = 4096
SIZE = SIDE * SIDE
COUNTS = (1, 4, 15, 30, 60)


def layer() -> Any:
    import keras

    import tfprune

    dense = keras.layers.Dense(SIDE, use_bias=False, kernel_initializer="zeros")
    wrapped = tfprune.PruneLowMagnitude(dense, tfprune.ConstantSparsity(0.8, 0))
    wrapped.build((None, SIDE))
    return wrapped


def measure(layers: list[Any], values: np.ndarray) -> dict[str, Any]:
    for one in layers:
        one.pruning_vars[0][0].assign(values)

    def update() -> None:
        for one in layers:
            one.update_masks(0)

    begun = time.perf_counter()
    peak = process_peak(update)
    seconds = time.perf_counter() - begun
    weights = len(layers) * SIZE
    masks = sum(size_in_bytes([mask]) for one in layers for _, mask, _ in one.pruning_vars)
    zeros = np.count_nonzero(np.asarray(layers[-1].pruning_vars[0][1]) == 0) / SIZE
    assert abs(zeros - 0.8) < 1e-4, zeros
    return {
        "layers": len(layers),
        "weights": weights,
        "mask bytes a weight": masks / weights,
        "peak beside, bytes a weight of one layer": peak / SIZE,
        "memory over weights": (4 * weights + masks + peak) / (4 * weights),
        "seconds for each 100 M weights": seconds / weights * 1e8,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=1010, help="million weights")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "mask_model.json")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    values = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    layers, rows = [layer()], []
    layers[0].update_masks(0)  # what is set up once is not the update's own
    for count in COUNTS:
        if count * SIZE > options.most * 1e6:
            break
        layers += [layer() for _ in range(count - len(layers))]
        rows.append(measure(layers, values))
        print(rows[-1])
    save(options.out, {"environment": environment(), "updates": rows})


if __name__ == "__main__":
    main()
