"""The ways to prune that an overview sets against each other, on one network.

- unstructured (weights become zero) against structured (channels are removed);
- static (a mask chosen once) against dynamic (weights may return where gradients are large);
- hard (what is cut is gone) against soft (it goes on learning and may return until the end);
- Network Slimming: L1 on the scales of BatchNorms, all channels ranked by them, cut, fine-tuned.

Each way removes half: of the weights in the convolutions, or of the channels. All start from the
same trained network and train on for the same number of epochs; Network Slimming does so twice,
before the cut and after it.

    python examples/ways_to_prune.py
    python examples/ways_to_prune.py --dataset cifar10 --data-dir DIR
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import experiment
import keras
from cifar10 import accuracy

import tfprune
from tfprune.quickstart import train

CONVS = {"conv1": 16, "conv2": 32, "conv3": 64}
BATCH = 32
HALF = 0.5
RATE = 3e-3


def network(shape: tuple[int, ...], classes: int) -> keras.Model:
    """Return three convolutions, each with a BatchNorm, and a classifier."""
    x = inputs = keras.Input(shape)
    for name, channels in CONVS.items():
        x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False, name=name)(x)
        x = keras.layers.BatchNormalization(momentum=0.8, name=f"{name}_norm")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        if name != "conv3":
            x = keras.layers.MaxPooling2D(name=f"{name}_pool")(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    outputs = keras.layers.Dense(classes, name="output")(x)
    return keras.Model(inputs, outputs, name="ways")


def copied(model: keras.Model) -> keras.Model:
    """Return a copy of a model, weights and all."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def ways(dense: keras.Model, data: Any, epochs: int) -> Iterator[tuple[str, keras.Model]]:
    """Yield each way's name and the model that it makes, tuned."""
    steps = epochs * -(-len(data.x_train) // BATCH)

    def tune(model: keras.Model, *callbacks: Any) -> keras.Model:
        train(model, data, epochs, BATCH, RATE, list(callbacks))
        return model

    def masked(schedule: Any, regrowth: Any = None) -> keras.Model:
        rule = tfprune.Rule("conv", schedule, regrowth=regrowth)
        wrapped = tune(tfprune.prune(dense, [rule]), tfprune.UpdatePruningStep())
        return tfprune.strip_pruning(wrapped)

    yield "not pruned, trained on", tune(copied(dense))

    moving = tfprune.ConstantSparsity(
        HALF, begin_step=0, end_step=steps * 3 // 4, frequency=max(1, steps // 20)
    )
    yield "weights, static, hard", masked(tfprune.OneShot(HALF))
    yield "weights, dynamic (RigL)", masked(moving, "rigl")
    yield "weights, dynamic, soft", masked(moving, "soft")

    small, _ = tfprune.shrink(dense, channels=HALF, scope="local")
    yield "channels, static, hard", tune(small)

    soft = tfprune.SoftChannelPruning(HALF)
    model = tune(copied(dense), soft)
    small = tfprune.replay(model, soft.history)
    tfprune.recalibrate_batch_norm(small, data.x_train[:500])  # no training follows the last cut
    yield "channels, dynamic, soft", small

    slim = tune(tfprune.BatchNormRegularizer(1e-4).apply(dense))
    # Ranked together, a whole layer may come last: no less than a quarter of each is left.
    small, _ = tfprune.shrink(slim, channels=HALF, importance="gamma", max_ratio=0.75)
    yield "Network Slimming", tune(tfprune.BatchNormRegularizer.remove(small))


def main() -> None:
    """Train one network, prune it in each way, and compare."""
    chosen = experiment.options(__doc__)
    shape = (32, 32, 3) if chosen.dataset == "cifar10" else (16, 16, 1)
    data = experiment.load(chosen, shape)
    epochs = 2 if chosen.fast else 8
    dense = network(data.image_shape, len(data.classes))
    train(dense, data, epochs, BATCH, RATE, [])

    figures = {}
    for name, model in ways(dense, data, epochs):
        size = tfprune.count(model)
        figures[name] = {
            "accuracy": accuracy(model, data.x_test, data.y_test),
            "parameters": size.parameters,
            "nonzero": size.nonzero,
            "macs": size.macs,
            "channels": [model.get_layer(conv).filters for conv in CONVS],
            "zeros": experiment.zeros(model, list(CONVS)),
        }
    rows = [
        (
            name,
            f"{one['accuracy']:.1%}",
            f"{one['nonzero']:,}",
            f"{one['parameters']:,}",
            f"{one['macs']:,}",
            "+".join(map(str, one["channels"])),
        )
        for name, one in figures.items()
    ]
    columns = ("", "accuracy", "nonzero", "parameters", "MACs", "channels")
    note = "The overview gives no figures of its own."
    experiment.show(
        chosen, f"Half of it gone, {data.name}", columns, rows, {"ways": figures}, [note]
    )


if __name__ == "__main__":
    main()
