"""What zeros in blocks of neighbouring output channels cost in accuracy, on Fashion-MNIST.

A 64-bit ARM runs 1x1 convolutions faster if nonzeros are shared by 2 or 4 neighbouring output
channels. The price is accuracy: a small network of depthwise and 1x1 convolutions is trained dense
for 4 epochs (Adam, batch 128); from those weights its 1x1 convolutions are pruned for 4 epochs
(`PolynomialDecay` over the first 2, frequency 50), unstructured and in blocks of 1x2 and 1x4
(inputs x outputs). The learning rate falls from 2e-3 to 0 along a cosine each time: with one that
stays, the accuracy of this network jumps by 3 points from epoch to epoch. Accuracy is that of the
stripped model on the 10,000 test images.

    python benchmarks/channel_blocks.py --data-dir DIR --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
from typing import Any

from environment import RESULTS, environment, save
from fashion_mnist import BATCH, Data, accuracy, compile_for, load

EPOCHS, PRUNED_EPOCHS, FREQUENCY = 4, 2, 50
SPARSITIES = (0.8, 0.9)
BLOCKS = (1, 2, 4)


def network(keras: Any) -> Any:
    layers = keras.layers

    def separable(filters: int, stride: int) -> list[Any]:
        start = [layers.ZeroPadding2D(1)] if stride == 2 else []
        padding = "valid" if stride == 2 else "same"
        depthwise = layers.DepthwiseConv2D(3, stride, padding, use_bias=False)
        parts = [depthwise, layers.BatchNormalization(), layers.ReLU()]
        parts += [layers.Conv2D(filters, 1, use_bias=False), layers.BatchNormalization()]
        return [*start, *parts, layers.ReLU()]

    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, 2, "same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            *separable(64, 1),
            *separable(128, 2),
            *separable(128, 1),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def fit(keras: Any, model: Any, data: Data, callbacks: list | None = None) -> None:
    decay = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * data.steps)
    compile_for(keras, model, decay)
    model.fit(data.x, data.y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks)


def pruned_accuracy(keras: Any, data: Data, start: Any, sparsity: float, block: int) -> float:
    """Prune from the dense weights; return the accuracy of the stripped model."""
    import tfprune

    model = network(keras)
    model.set_weights(start)
    schedule = tfprune.PolynomialDecay(
        0.0, sparsity, begin_step=0, end_step=PRUNED_EPOCHS * data.steps, frequency=FREQUENCY
    )
    names = "|".join(
        layer.name for layer in model.layers if getattr(layer, "kernel_size", 0) == (1, 1)
    )
    model = tfprune.prune(model, [tfprune.Rule(names, schedule, tfprune.Block((1, block)))])
    fit(keras, model, data, [tfprune.UpdatePruningStep()])
    return accuracy(keras, tfprune.strip_pruning(model), data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True, help="the IDX files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps-limit", type=int, help="steps in an epoch, for less time")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "channel_blocks.json")
    options = parser.parse_args()

    import keras

    data = load(options.data_dir, options.steps_limit)
    table: dict[str, list[float]] = {}
    for seed in options.seeds:
        keras.utils.set_random_seed(seed)
        model = network(keras)
        fit(keras, model, data)
        table.setdefault("dense", []).append(round(accuracy(keras, model, data), 4))
        for sparsity in SPARSITIES:
            for block in BLOCKS:
                keras.utils.set_random_seed(seed + 1)
                found = pruned_accuracy(keras, data, model.get_weights(), sparsity, block)
                table.setdefault(f"{sparsity:.0%}, 1x{block}", []).append(round(found, 4))
        print(json.dumps(table), flush=True)
    figures = {
        "what": __doc__.splitlines()[0],
        "environment": environment(),
        "training images": len(data.x),
        "accuracy": {
            name: {"seeds": values, "mean": round(statistics.mean(values), 4)}
            for name, values in table.items()
        },
    }
    save(options.out, figures)
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
