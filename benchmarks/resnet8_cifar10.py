"""The ResNet-8 of MLPerf Tiny, cut to half its MACs by four importances: accuracy and speed.

The trained network is tuned on a part of CIFAR-10 first ("dense"), since it may have learned other
images than these. Then it is cut to 50 % of its MACs with `tfprune.shrink`, by l2, gamma,
activation and taylor, in one step each, and every cut is tuned with the same budget as "dense
again", the uncut network that is tuned once more. Tuning: Adam from 1e-3 along a cosine to 0,
batch 32, images moved and mirrored. Accuracy is on all 10,000 test images, one seed unless asked
for more; two figures from one seed that are less than a point apart say nothing.

Then the networks that l2 leaves at 100, 75, 50 and 25 % of the MACs are exported to float32
`.tflite` files and measured by `tfprune.benchmark`, in turns: does time fall as MACs do? Once with
as many channels as the ranking leaves, once with multiples of 8: runtimes compute several at once.

    python benchmarks/resnet8_cifar10.py --model resnet8.h5 --data-dir DIR

DIR holds CIFAR-10 as `tfprune.datasets.load("cifar10", DIR)` reads it. The default budget takes
about 15 minutes on two cores that nobody else needs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import statistics
import tempfile
from typing import Any

import cifar10
import numpy as np
from environment import RESULTS, environment, save

IMPORTANCES = ("l2", "gamma", "activation", "taylor")
BATCH = 32
SCORED = 512
"""Training images that activation and taylor look at."""
LEVELS = (1.0, 0.75, 0.5, 0.25)
MULTIPLES = (1, 8)
"""What every layer keeps a multiple of, in the files that are measured."""


def tuned(model: Any, data: Any, options: argparse.Namespace, seed: int) -> float:
    """Train a model in place; return its accuracy."""
    x, y, x_test, y_test = data
    cifar10.train(model, x, y, options.epochs, BATCH, 1e-3, seed)
    return cifar10.accuracy(model, x_test, y_test)


def one_seed(data: Any, options: argparse.Namespace, seed: int) -> tuple[Any, list[dict]]:
    """Return the tuned dense network, and a row for each network of this seed."""
    import keras

    import tfprune

    keras.utils.set_random_seed(seed)
    x, y, x_test, y_test = data
    dense = keras.models.load_model(options.model, compile=False)
    given = cifar10.accuracy(dense, x_test, y_test)
    first = tuned(dense, data, options, seed)
    rows = [{"name": "as given", "cut": given}, {"name": "dense", "cut": given, "tuned": first}]
    size = tfprune.count(dense)
    for row in rows:
        row |= {"macs": size.macs, "params": size.parameters}
    print(rows, flush=True)
    again = keras.models.clone_model(dense)
    again.set_weights(dense.get_weights())
    rows.append({**rows[1], "name": "dense again", "cut": first})
    rows[-1]["tuned"] = tuned(again, data, options, seed + 1)
    scored = (x[:SCORED], y[:SCORED])
    for importance in IMPORTANCES:
        dense.compile(loss="sparse_categorical_crossentropy")  # taylor's gradients are of a loss
        needs_data = importance in ("activation", "taylor")
        small, report = tfprune.shrink(
            dense, macs=0.5, importance=importance, data=scored if needs_data else None
        )
        cut = cifar10.accuracy(small, x_test, y_test)
        row = {"name": importance, "cut": cut, "tuned": tuned(small, data, options, seed + 1)}
        rows.append(row | {"macs": report.macs_after, "params": report.params_after})
        print(rows[-1], flush=True)
    return dense, [row | {"seed": seed} for row in rows]


def latencies(dense: Any, runs: int) -> list[dict]:
    """Return MACs, bytes and milliseconds of the network cut to several fractions of its MACs."""
    import tfprune

    with tempfile.TemporaryDirectory() as folder:
        rows, files = [], []
        for level, multiple in itertools.product(LEVELS, MULTIPLES):
            if level == 1.0 and multiple > 1:
                continue
            model = dense
            if level < 1.0:
                model, _ = tfprune.shrink(dense, macs=level, round_to=multiple)
            files.append(pathlib.Path(folder) / f"{level}-{multiple}.tflite")
            tfprune.export_tflite(model, files[-1])
            macs = tfprune.count(model).macs
            rows.append({"asked": level, "multiple of": multiple, "macs": macs})
        for row, measured in zip(rows, tfprune.benchmark(files, runs=runs).files, strict=True):
            row |= {"bytes": measured.file_bytes, "ms": measured.median_ms}
            row |= {"macs, of dense": row["macs"] / rows[0]["macs"]}
            row |= {"ms, of dense": row["ms"] / rows[0]["ms"]}
    return rows


def print_tables(rows: list[dict], speed: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=100)
    table = Table(title="ResNet-8, CIFAR-10: accuracy on the test images, mean (least-most)")
    for name in ("", "MACs", "parameters", "before tuning", "tuned"):
        table.add_column(name, justify="right")
    for name in dict.fromkeys(row["name"] for row in rows):
        same = [row for row in rows if row["name"] == name]
        table.add_row(
            name,
            f"{same[0]['macs']:,}",
            f"{same[0]['params']:,}",
            *(percent([row[k] for row in same if k in row]) for k in ("cut", "tuned")),
        )
    console.print(table)
    table = Table(title="float32 .tflite, one thread: does time fall as MACs do?")
    for name in ("channels", "MACs", "of dense", "ms", "of dense", "bytes"):
        table.add_column(name, justify="right")
    for row in speed:
        table.add_row(
            f"multiples of {row['multiple of']}",
            f"{row['macs']:,}",
            f"{row['macs, of dense']:.3f}",
            f"{row['ms']:.3f}",
            f"{row['ms, of dense']:.3f}",
            f"{row['bytes']:,}",
        )
    console.print(table)


def percent(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ({min(values):.2%}-{max(values):.2%})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2%}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="the trained ResNet-8, inputs 0 to 255")
    parser.add_argument("--data-dir", required=True, help="folder with CIFAR-10")
    parser.add_argument("--images", type=int, default=5_000, help="training images")
    parser.add_argument("--epochs", type=int, default=6, help="of each tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=int, default=200, help="timed runs of each file")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    x, y, x_test, y_test = cifar10.load(options.data_dir, options.images)
    data = tuple(np.float32(255) * part for part in (x, x_test))
    data = (data[0], y, data[1], y_test)
    dense, rows = None, []
    for seed in options.seeds:
        dense, found = one_seed(data, options, seed)
        rows += found
    speed = latencies(dense, options.runs)
    print_tables(rows, speed)
    budget = {name: getattr(options, name) for name in ("images", "epochs", "seeds", "runs")}
    path = RESULTS / "resnet8_cifar10.json"
    figures = {"environment": environment(), "budget": budget | {"batch": BATCH}}
    save(path, figures | {"accuracy": rows, "latency": speed})
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
