"""A fifth of one convolution's channels removed from a ResNet-18: size to the digit, accuracy.

The cut is the one of a published write-up: 20 % of the output channels of `layer2.0.conv1`, those
of the least mean activation over real inputs, from a ResNet-18 with the stem for ImageNet, 32x32
inputs, 10 classes; then fine-tuning at 1e-4 with only the touched layers, the BatchNorms and the
classifier unfrozen (`tfprune.unfreeze_only`). Parameters are counted as PyTorch does, without the
statistics of norms.

The network is trained from scratch on a part of CIFAR-10, then tuned from the same weights with the
cut and without it, the same layers unfrozen, for the same number of epochs.

    python benchmarks/resnet18_r4.py --data-dir DIR

DIR holds CIFAR-10 as `tfprune.datasets.load("cifar10", DIR)` reads it. The default budget, a tenth
of the images and few epochs, takes about 15 minutes on two cores: the accuracies are to be compared
with each other, not with those of a network trained to the end.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import cifar10
import numpy as np
from environment import RESULTS, environment, save

LAYER = "layer2_0_conv1"
BATCH = 128
SCORED = 512
"""Training images that the activations are averaged over."""


def sizes(before: Any, after: Any) -> dict[str, Any]:
    """Return parameters and MACs of the network and of the cut one."""
    import tfprune

    counts = [tfprune.count(model) for model in (before, after)]
    return {
        "parameters": [size.trainable for size in counts],
        "with statistics": [size.parameters for size in counts],
        "macs": [size.macs for size in counts],
        "channels": [model.get_layer(LAYER).filters for model in (before, after)],
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    import keras
    from resnet18 import resnet18

    import tfprune

    x, y, x_test, y_test = cifar10.load(options.data_dir, options.images)
    x, x_test = ((part - np.float32(0.47)) / np.float32(0.25) for part in (x, x_test))
    keras.utils.set_random_seed(options.seed)
    model = resnet18()
    spent = cifar10.train(model, x, y, options.epochs, BATCH, 1e-3, options.seed)
    trained = cifar10.accuracy(model, x_test, y_test)
    print(f"trained: {trained:.2%}, {spent}", flush=True)

    small, report = tfprune.shrink(
        model, channels={LAYER: 0.2}, importance="activation", data=x[:SCORED]
    )
    size = sizes(model, small)
    cut = cifar10.accuracy(small, x_test, y_test)
    found = {"trained": trained, "cut": cut}
    for name, one in (("cut, tuned", small), ("uncut, tuned", model)):
        tuned = tfprune.unfreeze_only(one, report)
        spent = cifar10.train(one, x, y, options.tuning, BATCH, 1e-4, options.seed + 1)
        found[name] = cifar10.accuracy(one, x_test, y_test)
        print(f"{name}: {found[name]:.2%}, {spent}", flush=True)
    return {"size": size, "accuracy": found, "unfrozen": tuned}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder with CIFAR-10")
    parser.add_argument("--images", type=int, default=5_000, help="training images")
    parser.add_argument("--epochs", type=int, default=6, help="of training from scratch")
    parser.add_argument("--tuning", type=int, default=2, help="epochs with and without the cut")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    figures = measure(options)
    for name, (before, after) in figures["size"].items():
        print(f"{name:<16}{before:>12,} -> {after:>12,}  ({after - before:+,})")
    for name, value in figures["accuracy"].items():
        print(f"{name:<16}{value:>12.2%}")
    budget = {name: getattr(options, name) for name in ("images", "epochs", "tuning", "seed")}
    path = RESULTS / "resnet18_r4.json"
    save(path, {"environment": environment(), "budget": budget | {"batch": BATCH}} | figures)
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
