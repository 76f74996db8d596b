"""What the two examples share: their options, the digits, and what the chief says at the end."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import launch


def options(about: str | None) -> argparse.Namespace:
    """Read the command line; without `--index`, start local processes and end with them."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="local processes to start")
    parser.add_argument("--cluster", help="on real machines: host:port of each, the chief first")
    parser.add_argument("--index", type=int, help="on real machines: which of them this one is")
    parser.add_argument("--sparsity", type=float, default=0.8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64, help="images a step, all workers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds to wait for the others"
    )
    parser.add_argument("--backup", help="folder that all workers see, to go on from after a fall")
    parser.add_argument("--out", default="small.keras", help="the chief's file")
    parser.add_argument("--json", help="file for the figures of each worker; its index is added")
    parser.add_argument("--fast", action="store_true", help="256 images, two epochs")
    chosen = parser.parse_args()
    if chosen.workers < 1:
        parser.error(f"--workers must be 1 or more. Received: --workers {chosen.workers}")
    if chosen.epochs < 1:
        parser.error(f"--epochs must be 1 or more. Received: --epochs {chosen.epochs}")
    if (chosen.index is None) != (chosen.cluster is None):
        parser.error("--cluster and --index go together; without both, processes start here")
    if chosen.index is None:
        addresses = [f"127.0.0.1:{port}" for port in launch.free_ports(chosen.workers)]
        sys.exit(launch.local(sys.argv[0], sys.argv[1:], addresses))
    chosen.cluster = chosen.cluster.split(",")
    if not 0 <= chosen.sparsity < 1:
        parser.error(f"--sparsity is in [0, 1). Received: {chosen.sparsity}")
    if chosen.batch < len(chosen.cluster):
        parser.error(f"--batch gives each worker an image at least. Received: {chosen.batch}")
    if not pathlib.Path(chosen.out).absolute().parent.is_dir():  # before the work, not after it
        parser.error(f"--out names a file in a folder that exists. Received: {chosen.out}")
    if not 0 <= chosen.index < len(chosen.cluster):
        parser.error(f"--index counts from 0. Received: {chosen.index} of {len(chosen.cluster)}")
    if chosen.fast:
        chosen.epochs = 2
    return chosen


def images(chosen: argparse.Namespace) -> tuple[Any, Any]:
    """Return training images and labels, a whole number of batches of them."""
    from tfprune import datasets

    data = datasets.load("digits")
    count = 256 if chosen.fast else len(data.x_train)
    count -= count % chosen.batch
    return data.x_train[:count], data.y_train[:count]


def layers(layers_of: Any, inputs: Any, shape: tuple[int, ...]) -> list[Any]:
    """Return the layers of the network, of Keras 3 or of tf_keras."""
    return [
        inputs(shape),
        layers_of.Conv2D(16, 3, activation="relu", name="conv"),
        layers_of.BatchNormalization(name="norm"),
        layers_of.Flatten(name="flatten"),
        layers_of.Dense(64, activation="relu", name="wide"),
        layers_of.Dense(10, name="output"),
    ]


def report(chosen: argparse.Namespace, model: Any, chief: bool) -> None:
    """Print what was reached, on the chief; write the figures of this worker, if asked to."""
    import tfprune
    from tfprune.resumption import of_arrays
    from tfprune.strip import pruned_layers

    wrapped = pruned_layers(model)
    states = [state for layer in wrapped for state in layer.states()]
    table = tfprune.summary(model)  # it reads weights, for which all workers may be needed
    if chief:
        print(table)
    if chosen.json:
        figures = {
            "masks": of_arrays(state.mask for state in states),
            "weights": of_arrays(state.weight for state in states),
            "sparsity": [state.sparsity for state in states],
            "step": wrapped[0].read_step(),
        }
        pathlib.Path(f"{chosen.json}.{chosen.index}").write_text(json.dumps(figures))
