"""The ResNet-8 of MLPerf Tiny pruned in every way that tfprune has, and by tfmot, at equal budget.

The trained network is tuned on a part of CIFAR-10 first ("dense"). From those weights each method
prunes it to 50, 80 and 90 % of zeros and to 2:4 with the budget of "dense again", the network that
is tuned once more and not pruned: Adam from 1e-3 along a cosine to 0, batch 32, images moved and
mirrored; zeros grow along `PolynomialDecay` over the first two thirds of the steps, frequency 50,
but for 2:4, which is there from the first step, as tfmot's is whatever its schedule says.

- uniform: the same sparsity for every layer, by magnitude
- erk, global, lamp, sensitivity: the same zeros spread by `tfprune.allocate`
- soft: uniform, cut weights go on learning and may return
- RigL: uniform, cut once at the first step, weights exchanged until two thirds of the steps
- distilled: uniform, the loss is half the dense network's answers, by Keras's own `Distiller`
- lamp distilled: both
- permuted (2:4 only): input channels in an order in which 2:4 keeps more
- growing (2:4 only): uniform, group by group over two thirds of the steps
- tfmot: the same network on tf_keras, uniform

All layers but the last are pruned. Accuracy is on all 10,000 test images; MACs are those with a
weight that is not zero, bytes those of the sparse float32 `.tflite`.

    python benchmarks/resnet8_methods.py --model resnet8.h5 --data-dir DIR --seeds 0 1 2 --resume

DIR holds CIFAR-10 as `tfprune.datasets.load("cifar10", DIR)` reads it.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time
from typing import Any

import cifar10
import numpy as np
from environment import RESULTS, environment, save

BATCH, RATE, FREQUENCY = 32, 1e-3, 50
PRUNED_PART = 2 / 3
LEVELS = ("0.5", "0.8", "0.9", "2:4")
SPREAD = ("erk", "global", "lamp", "sensitivity", "lamp distilled")
ONLY_2_4 = ("permuted", "growing")
METHODS = ("uniform", *SPREAD, "soft", "RigL", "distilled", *ONLY_2_4, "tfmot")
HELD_OUT = 500
"""Training images that sensitivity looks at."""


def ways(level: str) -> tuple[str, ...]:
    """Return the methods that there are for a level."""
    if level == "2:4":  # fixes the sparsity of every layer, and has no use for single weights
        return tuple(m for m in METHODS if m not in (*SPREAD, "RigL"))
    return tuple(m for m in METHODS if m not in ONLY_2_4)


class Run:
    """One seed: its data, its dense weights, and what each method makes of them."""

    def __init__(self, options: argparse.Namespace, data: Any, seed: int):
        self.options, self.seed = options, seed
        self.x, self.y, self.x_test, self.y_test = data
        self.steps = options.epochs * -(-len(self.x) // BATCH)
        self.pruned_steps = int(PRUNED_PART * self.steps)

    def batches(self, seed: int) -> Any:
        """Return a dataset of moved and mirrored images, new ones in every epoch."""
        import tensorflow as tf

        rng = np.random.default_rng(seed)

        def one_epoch():
            order = rng.permutation(len(self.x))
            images = cifar10.augmented(self.x[order], rng)
            for start in range(0, len(order), BATCH):
                yield images[start : start + BATCH], self.y[order[start : start + BATCH]]

        kinds = (
            tf.TensorSpec((None, *self.x.shape[1:]), "float32"),
            tf.TensorSpec((None,), "int64"),
        )
        made = tf.data.Dataset.from_generator(one_epoch, output_signature=kinds)
        return made.apply(
            tf.data.experimental.assert_cardinality(self.steps // self.options.epochs)
        )

    def train(self, keras: Any, model: Any, seed: int, callbacks: list | None = None) -> Any:
        """Train a model in place; the budget of everything here."""
        rate = keras.optimizers.schedules.CosineDecay(RATE, self.steps)
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
        keras.utils.set_random_seed(seed)
        epochs = self.options.epochs
        model.fit(self.batches(seed), epochs=epochs, verbose=0, callbacks=callbacks)
        return model

    def row(self, level: str, method: str, model: Any, started: float) -> dict:
        found = {"seed": self.seed, "level": level, "method": method}
        found["accuracy"] = cifar10.accuracy(model, self.x_test, self.y_test)
        return found | {"seconds": time.perf_counter() - started}

    def schedule(self, keras_or_tfmot: Any, final: float) -> Any:
        end = self.pruned_steps
        return keras_or_tfmot.PolynomialDecay(0.0, final, 0, end, frequency=FREQUENCY)

    def wrapped(self, model: Any, level: str, method: str) -> Any:
        """Return the dense model wrapped as a method has it."""
        import tfprune

        last = tfprune.Rule(f"^{model.layers[-1].name}$", skip=True)
        if level == "2:4":
            regrowth = "soft" if method == "soft" else None
            many = [
                layer.name
                for layer in model.layers
                if hasattr(layer, "kernel") and layer.kernel.shape[-2] >= 4
            ]
            names = "|".join(f"^{name}$" for name in many)
            at_once = tfprune.ConstantSparsity(0.5, 0, end_step=self.pruned_steps)
            schedule = self.schedule(tfprune, 0.5) if method == "growing" else at_once
            return tfprune.prune(
                model, [last, tfprune.Rule(names, schedule, pattern="2:4", regrowth=regrowth)]
            )
        slow = self.schedule(tfprune, float(level))
        if method in SPREAD:
            method = method.split()[0]
            extra = {}
            if method == "sensitivity":
                held = (self.x[:HELD_OUT], self.y[:HELD_OUT])
                model.compile(loss="sparse_categorical_crossentropy")
                extra["sensitivity"] = tfprune.sensitivity(model, held, metric="loss")
            spread = tfprune.allocate(
                model, float(level), method, schedule=slow, ignore=[model.layers[-1].name], **extra
            )
            return tfprune.prune(model, spread)
        if method == "RigL":
            slow = tfprune.ConstantSparsity(
                float(level), 0, end_step=self.pruned_steps, frequency=FREQUENCY
            )
        regrowth = {"soft": "soft", "RigL": "rigl"}.get(method)
        return tfprune.prune(model, [last, tfprune.Rule(None, slow, regrowth=regrowth)])

    def pruned(self, dense: Any, level: str, method: str) -> Any:
        """Return the model that a method of tfprune makes, stripped."""
        import keras

        import tfprune

        teacher = None
        if "distilled" in method:
            teacher = keras.models.clone_model(dense)
            teacher.set_weights(dense.get_weights())
        if method == "permuted":
            dense, _ = tfprune.permute_for_nm(dense, "2:4")
        model = self.wrapped(dense, level, method)
        callbacks = [tfprune.UpdatePruningStep()]
        if teacher is None:
            self.train(keras, model, self.seed + 1, callbacks)
        else:
            from keras.distillation import Distiller, LogitsDistillation

            both = Distiller(
                teacher=teacher,
                student=model,
                distillation_losses=LogitsDistillation(temperature=1.0),
                student_loss_weight=0.5,
            )
            self.train(keras, both, self.seed + 1, callbacks)
        return tfprune.strip_pruning(model)

    def by_tfmot(self, weights: list[np.ndarray], level: str) -> Any:
        """Return the model that tfmot makes of the same weights, stripped."""
        import tf_keras
        from tensorflow_model_optimization.python.core.sparsity import keras as tfmot

        model = tf_keras.models.load_model(self.options.model, compile=False)
        model.set_weights(weights)
        kernels = [layer for layer in model.layers if hasattr(layer, "kernel")][:-1]

        def wrap(layer):
            if layer not in kernels:
                return layer
            if level != "2:4":
                slow = self.schedule(tfmot.pruning_schedule, float(level))
                return tfmot.prune.prune_low_magnitude(layer, slow)
            if layer.kernel.shape[-2] < 4:
                return layer
            at_once = tfmot.pruning_schedule.ConstantSparsity(0.5, 0)
            return tfmot.prune.prune_low_magnitude(layer, at_once, sparsity_m_by_n=(2, 4))

        model = tf_keras.models.clone_model(model, clone_function=wrap)
        callbacks = [tfmot.pruning_callbacks.UpdatePruningStep()]
        return tfmot.prune.strip_pruning(self.train(tf_keras, model, self.seed + 1, callbacks))


def cost(model: Any) -> dict[str, Any]:
    """Return zeros in kernels, MACs that are left and bytes of the sparse file."""
    import tfprune

    kernels = [layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")][:-1]
    size = sum(kernel.size for kernel in kernels)
    with tempfile.TemporaryDirectory() as folder:
        file = tfprune.export_tflite(model, pathlib.Path(folder) / "model.tflite")
    return {
        "zeros": 1 - sum(np.count_nonzero(kernel) for kernel in kernels) / size,
        "macs": tfprune.count(model).nonzero_macs,
        "bytes": file.file_bytes,
    }


def print_table(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="ResNet-8, CIFAR-10 (JPEG): accuracy on the test images, mean (least-most)")
    for name in ("zeros", "method", "accuracy", "MACs", "bytes"):
        table.add_column(name, justify="right")
    for level, method in dict.fromkeys((row["level"], row["method"]) for row in rows):
        same = [r for r in rows if (r["level"], r["method"]) == (level, method)]
        values = [row["accuracy"] for row in same]
        shown = f"{statistics.mean(values):.2%}"
        if len(values) > 1:
            shown += f" ({min(values):.2%}-{max(values):.2%})"
        figures = [
            f"{round(statistics.mean(r[k] for r in same)):,}" if k in same[0] else "-"
            for k in ("macs", "bytes")
        ]
        table.add_row(level, method, shown, *figures)
    Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="the trained ResNet-8, inputs 0 to 255")
    parser.add_argument("--data-dir", required=True, help="folder with CIFAR-10")
    parser.add_argument("--images", type=int, default=5_000, help="training images")
    parser.add_argument("--epochs", type=int, default=6, help="of each tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--resume", action="store_true", help="keep the rows that --out holds")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "resnet8_methods.json")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    x, y, x_test, y_test = cifar10.load(options.data_dir, options.images)
    data = (np.float32(255) * x, y, np.float32(255) * x_test, y_test)
    rows = []
    if options.resume and options.out.exists():
        rows = json.loads(options.out.read_text())["rows"]
    budget = {"images": options.images, "epochs": options.epochs, "batch": BATCH}

    def add(row: dict) -> None:
        rows.append(row)
        save(options.out, {"environment": environment(), "budget": budget, "rows": rows})
        print(row, flush=True)

    for seed in options.seeds:
        run, started = Run(options, data, seed), time.perf_counter()
        done = {(row["level"], row["method"]) for row in rows if row["seed"] == seed}
        dense = keras.models.load_model(options.model, compile=False)
        run.train(keras, dense, seed)
        weights = dense.get_weights()
        if ("0", "dense") not in done:
            add(run.row("0", "dense", dense, started))
            again, started = keras.models.clone_model(dense), time.perf_counter()
            again.set_weights(weights)
            run.train(keras, again, seed + 1)
            add(run.row("0", "dense again", again, started) | cost(again))
        for level in options.levels:
            for method in (m for m in ways(level) if m in options.methods):
                if (level, method) in done:
                    continue
                started = time.perf_counter()
                if method == "tfmot":
                    add(run.row(level, method, run.by_tfmot(weights, level), started))
                else:
                    model = run.pruned(dense, level, method)
                    add(run.row(level, method, model, started) | cost(model))
    print_table(rows)
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
