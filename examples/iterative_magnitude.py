"""Cut 10 % to 50 % of a small classifier's weights, training on after each cut.

The write-up: grey images of 17x10 pixels, convolutions with pooling and one dense layer, trained
for 10 epochs in batches of 16 at a learning rate of 1e-3 that falls by 20 % an epoch; then the
smallest weights go in cuts of 10, 20, 30, 40 and 50 %, with training after each. It compares
accuracy, size, memory, power and time before and after.

    python examples/iterative_magnitude.py
    python examples/iterative_magnitude.py --dataset fashion_mnist --data-dir DIR
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import experiment
import keras

import tfprune
from tfprune.quickstart import tflite_accuracy, train

SHAPE = (17, 10, 1)
BATCH = 16
CUTS = (0.1, 0.2, 0.3, 0.4, 0.5)
PRUNED = ("conv1", "conv2", "conv3", "output")
FORMS = {"accuracy": "{:.1%}", "memory, KB": "{:,.0f}", "inference, ms": "{:.4f}"}
MEASURED = 500
"""Test images that each file is asked about."""


def classifier(classes: int) -> keras.Model:
    """Return three convolutions, two of them with pooling, and one dense layer."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(32, 3, padding="same", activation="relu", name="conv2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Conv2D(64, 3, padding="same", activation="relu", name="conv3"),
            layers.Flatten(name="flatten"),
            layers.Dense(classes, name="output"),
        ],
        name="small_images",
    )


def falling_rate(steps: int) -> Any:
    """Return a learning rate of 1e-3 that falls by 20 % after each epoch of so many steps."""
    return keras.optimizers.schedules.ExponentialDecay(1e-3, steps, 0.8, staircase=True)


def measured(models: dict[str, tuple[keras.Model, Any]], data: Any, runs: int) -> list[dict]:
    """Export each model in its number format, and measure the files together."""
    x, y = data.x_test[:MEASURED], data.y_test[:MEASURED]
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, f"{name}.tflite") for name in models]
        for path, (model, quantize) in zip(paths, models.values(), strict=True):
            samples = {"representative_data": data.x_train[:200]} if quantize == "int8" else {}
            tfprune.export_tflite(model, path, quantize=quantize, **samples)
        result = tfprune.benchmark(paths, runs=runs)
        return [
            {
                "accuracy": tflite_accuracy(path, x, y),
                "size, KB": row.file_bytes / 1e3,
                "gzip, KB": row.gzip_bytes / 1e3,
                "memory, KB": row.peak_memory_bytes and row.peak_memory_bytes / 1e3,
                "power, W": row.energy_mj and row.median_ms and row.energy_mj / row.median_ms,
                "inference, ms": row.median_ms,
            }
            for path, row in zip(paths, result.files, strict=True)
        ]


def main() -> None:
    """Train, cut five times, export, and compare."""
    chosen = experiment.options(__doc__)
    data = experiment.load(chosen, SHAPE)
    steps = -(-len(data.x_train) // BATCH)
    after_each = 1 if chosen.fast else 2  # epochs
    dense = classifier(len(data.classes))
    train(dense, data, 1 if chosen.fast else 10, BATCH, falling_rate(steps), [])

    schedule = tfprune.Iterative(CUTS, every=after_each * steps)
    pruned = tfprune.prune_low_magnitude(dense, schedule)
    callbacks: list[Any] = [tfprune.UpdatePruningStep()]
    train(pruned, data, after_each * len(CUTS), BATCH, falling_rate(steps), callbacks)
    small = tfprune.strip_pruning(pruned)

    models = {
        "before": (dense, None),
        "after": (small, None),
        "after, int8": (small, "int8"),
    }
    found = measured(models, data, 20 if chosen.fast else 200)
    written_up = ("92.5 -> 89.7 %", "14.5 -> 3.2", "", "650 -> 150", "4.5 -> 1.8", "120 -> 40")
    rows = []
    for name, theirs in zip(found[0], written_up, strict=True):
        missing = "no meter" if name.startswith("power") else "-"
        form = FORMS.get(name, "{:,.1f}")
        values = [one[name] for one in found]
        cells = [missing if value is None else form.format(value) for value in values]
        rows.append((name, *cells, theirs))
    sparsity = experiment.zeros(small, PRUNED)
    figures = {
        "zeros": sparsity,
        "cuts": list(schedule.sparsities),
        "files": dict(zip(models, found, strict=True)),
    }
    experiment.show(
        chosen,
        f"Iterative pruning, {data.name} at 17x10",
        ("", *models, "write-up"),
        rows,
        figures,
        [f"Zeros: {', '.join(f'{name} {part:.1%}' for name, part in sparsity.items())}"],
    )


if __name__ == "__main__":
    main()
