"""A fifth of a LeNet's weights, the smallest of four layers ranked together.

The write-up prunes conv1, conv2, conv4 and fc of a LeNet with one threshold of magnitude over the
four, from 160k weights to 128k, and keeps its accuracy after retraining. It does not tell the
widths; those here give the four layers exactly 160,000 weights.

    python examples/global_threshold.py
    python examples/global_threshold.py --dataset fashion_mnist --data-dir DIR
"""

from __future__ import annotations

import experiment
import keras
import numpy as np
from cifar10 import accuracy

import tfprune
from tfprune.quickstart import train

SHAPE = (32, 32, 1)
RANKED = ("conv1", "conv2", "conv4", "fc")
SPARSITY = 0.2
BATCH = 64


def lenet(classes: int) -> keras.Model:
    """Return a LeNet; the layers of RANKED have 200 + 3,200 + 145,800 + 10,800 weights."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(8, 5, activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(16, 5, activation="relu", name="conv2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Conv2D(135, 3, activation="relu", name="conv3"),
            layers.Conv2D(120, 3, activation="relu", name="conv4"),
            layers.Flatten(name="flatten"),
            layers.Dense(90, activation="relu", name="fc"),
            layers.Dense(classes, name="output"),
        ],
        name="lenet",
    )


def cut_now(pruned: keras.Model) -> None:
    """Move the masks to where the schedule has them before the first training step."""
    callback = tfprune.UpdatePruningStep(verbose=False, steps=1)
    callback.set_model(pruned)
    callback.on_train_begin()
    callback.on_train_batch_begin(-1)
    callback.on_train_end()


def left(model: keras.Model) -> dict[str, int]:
    """Return the weights that are not zero in each layer of RANKED."""
    return {name: int(np.count_nonzero(model.get_layer(name).kernel)) for name in RANKED}


def main() -> None:
    """Train, cut once, retrain, and compare."""
    chosen = experiment.options(__doc__)
    data = experiment.load(chosen, SHAPE)
    epochs = 1 if chosen.fast else 8
    dense = lenet(len(data.classes))
    train(dense, data, epochs, BATCH, 1e-3, [])

    spread = tfprune.allocate(
        dense, SPARSITY, "global", schedule=tfprune.OneShot(SPARSITY), layers=RANKED
    )
    pruned = tfprune.prune(dense, spread)
    cut_now(pruned)
    stages = {"trained": dense, "cut": tfprune.strip_pruning(pruned)}
    train(pruned, data, epochs, BATCH, 5e-4, [tfprune.UpdatePruningStep()])
    stages["cut, retrained"] = tfprune.strip_pruning(pruned)

    figures = {}
    for name, model in stages.items():
        figures[name] = {
            "accuracy": accuracy(model, data.x_test, data.y_test),
            "weights": left(model),
            "all": sum(left(model).values()),
        }
    rows = [
        (
            name,
            f"{one['accuracy']:.1%}",
            *(f"{weights:,}" for weights in one["weights"].values()),
            f"{one['all']:,}",
            theirs,
        )
        for (name, one), theirs in zip(figures.items(), ("160k", "128k", "128k"), strict=True)
    ]
    columns = ("weights left", "accuracy", *RANKED, "together", "write-up")
    title = f"One threshold over four layers, {data.name}"
    experiment.show(chosen, title, columns, rows, {"stages": figures})


if __name__ == "__main__":
    main()
