"""From one schedule for a whole model to a rule for each layer, and on to int8.

The write-up first wraps a model by `prune_low_magnitude` with a `PolynomialDecay` from 50 % to
80 %; then it gives each layer its own: 50 % of single weights in the first convolution (one input
channel, so no groups of four), 2:4 in the second and in the dense layer of 1,024 units, nothing in
the output. It names one-shot, iterative and gradual schedules, and prunes before it quantizes.

    python examples/rules_per_layer.py
    python examples/rules_per_layer.py --logs logs/rules  # curves for `tfprune board`
"""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import experiment
import keras
import numpy as np
from cifar10 import accuracy

import tfprune
from tfprune.quickstart import Recipe, build_model, tflite_accuracy, train

PRUNED = ("conv1", "conv2", "dense_wide", "output")
RECIPE = Recipe(kernel=3, wide=1024, batch=64, dense_epochs=8, pruned_epochs=8)
MEASURED = 500


def rules(schedule: Any) -> list[tfprune.Rule]:
    """Return the write-up's rule for each layer, with a schedule that ends at 50 %."""
    return [
        tfprune.Rule("conv1", schedule),
        tfprune.Rule("conv2|dense_wide", schedule, pattern="2:4"),
        tfprune.Rule("output", skip=True),
    ]


def wrapped(dense: keras.Model, steps: int) -> dict[str, keras.Model]:
    """Return the model wrapped in each way, for a training of so many steps."""
    end = max(1, steps * 3 // 4)
    often = max(1, steps // 50)
    whole = tfprune.PolynomialDecay(0.5, 0.8, begin_step=0, end_step=end, frequency=often)
    gradual = tfprune.PolynomialDecay(0.0, 0.5, begin_step=0, end_step=end, frequency=often)
    iterative = tfprune.Iterative([0.25, 0.5], every=max(1, steps // 2 - 1))
    return {
        "whole, 50 -> 80 %": tfprune.prune_low_magnitude(dense, whole),
        "by layer, one-shot": tfprune.prune(dense, rules(tfprune.OneShot(0.5))),
        "by layer, iterative": tfprune.prune(dense, rules(iterative)),
        "by layer, gradual": tfprune.prune(dense, rules(gradual)),
    }


def groups(model: keras.Model, name: str) -> list[int]:
    """Return the numbers of zeros that occur in four neighbouring input channels."""
    kernel = np.asarray(model.get_layer(name).kernel)
    fours = np.moveaxis(kernel, -2, -1).reshape(-1, 4)
    return np.unique((fours == 0).sum(1)).tolist()


def exported(model: keras.Model, data: Any, folder: str, name: str) -> dict[str, Any]:
    """Export a model in int8; return the size of the file and what it gets right."""
    path = pathlib.Path(folder, f"{name}.tflite")
    result = tfprune.export_tflite(
        model, path, quantize="int8", representative_data=data.x_train[:200]
    )
    right = tflite_accuracy(path, data.x_test[:MEASURED], data.y_test[:MEASURED])
    return {"int8 accuracy": right, "int8 file": result.file_bytes, "int8 gzip": result.gzip_bytes}


def main() -> None:
    """Train, prune in each way, export in int8, and compare."""
    chosen = experiment.options(__doc__, logs=True)
    shape = (16, 16, 1) if chosen.dataset == "digits" else (28, 28, 1)
    data = experiment.load(chosen, shape)
    dense = build_model(data.image_shape, len(data.classes), RECIPE)
    epochs = 1 if chosen.fast else RECIPE.pruned_epochs
    train(dense, data, 1 if chosen.fast else RECIPE.dense_epochs, RECIPE.batch, 1e-3, [])

    models = {"not pruned": dense}
    for name, model in wrapped(dense, epochs * -(-len(data.x_train) // RECIPE.batch)).items():
        callbacks: list[Any] = [tfprune.UpdatePruningStep()]
        if chosen.logs:
            folder = name.replace(" ", "-").replace(",", "").replace(">", "to").replace("%", "")
            callbacks.append(tfprune.PruningSummaries(str(pathlib.Path(chosen.logs, folder))))
        train(model, data, epochs, RECIPE.batch, 5e-4, callbacks)
        models[name] = tfprune.strip_pruning(model)

    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, (name, model) in enumerate(models.items()):
            figures[name] = {
                "accuracy": accuracy(model, data.x_test, data.y_test),
                "zeros": experiment.zeros(model, PRUNED),
                "zeros in four": {layer: groups(model, layer) for layer in PRUNED[1:3]},
                **exported(model, data, folder, str(index)),
            }
    rows = [
        (
            name,
            f"{one['accuracy']:.1%}",
            *(f"{part:.1%}" for part in one["zeros"].values()),
            f"{one['int8 accuracy']:.1%}",
            f"{one['int8 gzip'] / 1e3:,.0f}",
        )
        for name, one in figures.items()
    ]
    columns = ("zeros in", "accuracy", *PRUNED, "int8", "KB")
    notes = [
        "int8: accuracy of the file, and its size in gzip.",
        "The write-up: 50-70 % sparsity costs little accuracy.",
    ]
    experiment.show(chosen, f"Rules, {data.name}", columns, rows, {"models": figures}, notes)


if __name__ == "__main__":
    main()
