"""Accuracy without training: magnitude beside `tfprune.prune_one_shot`, norms measured anew or not.

Two networks: that of `fashion_mnist.py` (4 epochs; `--epochs` for fewer) and the ResNet-8 of MLPerf
Tiny, tuned on a part of CIFAR-10 as `resnet8_cifar10.py` does it. Each is cut at several levels in
four ways: by magnitude, by magnitude with `tfprune.recalibrate_batch_norm`, in one shot, and in one
shot with recalibration. Calibration images are drawn from the training images, anew for each seed;
accuracy is that on all 10,000 test images. "Recovered" is the part of magnitude's loss that one
shot does not have. Layers that a pattern does not fit stay dense in all ways alike (the first
convolutions at 2:4).

    python benchmarks/one_shot.py --fashion-dir DIR --cifar-dir DIR --resnet FILE --cache DIR

The trained networks are kept in the cache folder and trained only if they are not there. The
results file is written after every level; with `--resume` the levels that it holds are not made
again.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import time
from typing import Any

import cifar10
import fashion_mnist
import numpy as np
from environment import RESULTS, environment, save

LEVELS = ("0.5", "2:4", "0.7", "0.8", "0.9")
WAYS = ("magnitude", "magnitude, norms anew", "one shot", "one shot, norms anew")


def fashion(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return the dense network and its data: training images, test images and labels."""
    import keras

    data = fashion_mnist.load(options.fashion_dir, None)
    path = options.cache / "fashion.keras"
    if path.exists():
        model = keras.models.load_model(path, compile=False)
    else:
        keras.utils.set_random_seed(0)
        model = fashion_mnist.network(keras)
        fashion_mnist.compile_for(keras, model, 1e-3)
        model.fit(data.x, data.y, batch_size=128, epochs=options.epochs, verbose=0)
        model.save(path)
    return model, (data.x, data.x_test, data.y_test)


def resnet8(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return the dense network and its data: training images, test images and labels."""
    import keras

    x, y, x_test, y_test = cifar10.load(options.cifar_dir, options.images)
    x, x_test = np.float32(255) * x, np.float32(255) * x_test
    path = options.cache / "resnet8.keras"
    if path.exists():
        model = keras.models.load_model(path, compile=False)
    else:
        keras.utils.set_random_seed(0)
        model = keras.models.load_model(options.resnet, compile=False)
        cifar10.train(model, x, y, 6, 32, 1e-3, 0)
        model.save(path)
    return model, (x, x_test, y_test)


NETWORKS = {"fashion": fashion, "resnet8": resnet8}


def asked(level: str) -> dict[str, Any]:
    """Return a level as arguments of `prune_one_shot`."""
    return {"rules": 0.5, "pattern": level} if ":" in level else {"rules": float(level)}


def by_magnitude(model: Any, level: str) -> Any:
    """Return a copy whose smallest weights are zero, and nothing else is changed."""
    import keras

    from tfprune import masks, patterns, registry

    pattern = patterns.get(level if ":" in level else "unstructured")
    sparsity = 0.5 if ":" in level else float(level)
    small = keras.models.clone_model(model)
    small.set_weights(model.get_weights())
    for layer in small.layers:
        if registry.reason_against(layer) is None:
            for weight in registry.prunable_weights(layer):
                kernel = weight.variable.numpy()
                if pattern.reason_against(kernel.shape, weight.layout) is None:
                    scores = masks.magnitudes(kernel)
                    mask, _ = pattern.mask(scores, weight.layout, sparsity, sparsity)
                    weight.variable.assign(kernel * mask)
    return small


def one_level(model: Any, data: Any, level: str, options: argparse.Namespace) -> list[dict]:
    """Return a row for each seed: accuracy of the four ways, seconds of the refit."""
    import tfprune

    x, x_test, y_test = data

    def accuracy(one: Any) -> float:
        return cifar10.accuracy(one, x_test, y_test)

    plain, rows = accuracy(by_magnitude(model, level)), []
    for seed in options.seeds:
        picks = np.random.default_rng(seed).choice(len(x), options.samples, replace=False)
        row = {"level": level, "seed": seed, "magnitude": plain}
        cut = by_magnitude(model, level)
        tfprune.recalibrate_batch_norm(cut, x[picks])
        row["magnitude, norms anew"] = accuracy(cut)
        started = time.perf_counter()
        small, report = tfprune.prune_one_shot(model, x[picks], **asked(level), progress=False)
        row["seconds"] = time.perf_counter() - started
        row["one shot"] = accuracy(small)
        tfprune.recalibrate_batch_norm(small, x[picks])
        row["one shot, norms anew"] = accuracy(small)
        row["zeros"] = round(float(report.sparsity), 4)
        rows.append(row)
        print(row, flush=True)
    return rows


def summary(dense: float, rows: list[dict]) -> dict[str, Any]:
    """Return the means and the spread of each level, and what one shot recovers."""
    found: dict[str, Any] = {}
    for level in dict.fromkeys(row["level"] for row in rows):
        same = [row for row in rows if row["level"] == level]
        found[level] = {
            way: {
                "mean": round(statistics.mean(row[way] for row in same), 4),
                "least": round(min(row[way] for row in same), 4),
                "most": round(max(row[way] for row in same), 4),
            }
            for way in WAYS
        }
        lost = dense - found[level]["magnitude"]["mean"]
        left = dense - found[level]["one shot"]["mean"]
        found[level]["lost by magnitude"] = round(lost, 4)
        found[level]["recovered"] = round(1 - left / lost, 3) if lost > 0 else None
    return found


def print_table(name: str, part: dict[str, Any]) -> None:
    print(f"\n{name}, dense {part['dense']:.4f}\n{'level':<7}" + "".join(f"{w:>24}" for w in WAYS))
    for level, row in part["summary"].items():
        cells = "".join(f"{row[way]['mean']:>24.4f}" for way in WAYS)
        print(f"{level:<7}{cells}   recovered {row['recovered']}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fashion-dir", type=pathlib.Path, help="the IDX files of Fashion-MNIST")
    parser.add_argument("--cifar-dir", help="folder with CIFAR-10")
    parser.add_argument("--resnet", help="the trained ResNet-8, inputs 0 to 255")
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="for trained networks")
    parser.add_argument("--networks", nargs="+", choices=sorted(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=512, help="calibration images")
    parser.add_argument("--images", type=int, default=5_000, help="of CIFAR-10, for tuning")
    parser.add_argument("--epochs", type=int, default=4, help="of the Fashion-MNIST network")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "one_shot.json")
    parser.add_argument("--resume", action="store_true", help="keep the levels that --out holds")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options.cache.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Any] = {}
    if options.resume and options.out.exists():
        parts = json.loads(options.out.read_text())["networks"]
    for name in options.networks:
        model, data = NETWORKS[name](options)
        dense = cifar10.accuracy(model, *data[1:])
        part = parts.setdefault(name, {"dense": round(dense, 4), "rows": []})
        for level in options.levels:
            if level in {row["level"] for row in part["rows"]}:
                continue
            part["rows"] += one_level(model, data, level, options)
            part["summary"] = summary(dense, part["rows"])
            budget = {name: getattr(options, name) for name in ("samples", "images", "epochs")}
            figures = {"environment": environment(), "budget": budget}
            save(options.out, figures | {"networks": parts})
        print_table(name, part)
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
