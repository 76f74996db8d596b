"""A fifth of one convolution's channels removed from a ResNet-18, those that are least active.

The write-up: a ResNet-18 with the stem for ImageNet, 32x32 inputs; of `layer2.0.conv1` go the 20 %
of output channels with the least mean activation over real inputs, with what BatchNorm and the next
convolution hold for them; then fine-tuning at 1e-4 with only the touched layers, the BatchNorms and
the classifier unfrozen. `benchmarks/resnet18_r4.py` is the same with the uncut network tuned beside
it; network, layer and counts are its own.

    python examples/resnet18_channels.py --dataset cifar10 --data-dir DIR
    python examples/resnet18_channels.py  # digits, enlarged
"""

from __future__ import annotations

import experiment
from cifar10 import accuracy, train
from resnet18 import resnet18
from resnet18_r4 import BATCH, LAYER, SCORED, sizes

import tfprune


def main() -> None:
    """Train, remove channels, fine-tune, and compare."""
    chosen = experiment.options(__doc__, images=5_000)
    data = experiment.load(chosen, (32, 32, 3))
    x, y, tested = data.x_train, data.y_train, (data.x_test, data.y_test)
    epochs, tuning = (1, 1) if chosen.fast else (6, 2)
    model = resnet18(classes=len(data.classes))
    train(model, x, y, epochs, BATCH, 1e-3, chosen.seed)

    small, report = tfprune.shrink(
        model, channels={LAYER: 0.2}, importance="activation", data=x[:SCORED]
    )
    size = sizes(model, small)
    found = {"trained": accuracy(model, *tested), "cut": accuracy(small, *tested)}
    unfrozen = tfprune.unfreeze_only(small, report)
    train(small, x, y, tuning, BATCH, 1e-4, chosen.seed + 1)
    found["cut, tuned"] = accuracy(small, *tested)

    written_up = {
        "parameters": "11,181,642 -> 11,138,392",
        "macs": "37.03M -> 36.33M",
        "channels": "20 % removed",
    }
    rows = [
        (name, f"{size[name][0]:,}", f"{size[name][1]:,}", theirs)
        for name, theirs in written_up.items()
    ]
    before, after = found["trained"], found["cut, tuned"]
    rows.append(("accuracy", f"{before:.1%}", f"{after:.1%}", "81.42 -> 83.28 %"))
    figures = {"size": size, "accuracy": found, "unfrozen": unfrozen}
    notes = [
        f"Accuracy of the cut network before tuning: {found['cut']:.1%}",
        f"MACs less: {size['macs'][0] - size['macs'][1]:,}",
        f"Unfrozen: {len(unfrozen)} layers",
    ]
    title = f"{LAYER} of a ResNet-18, {data.name}"
    experiment.show(chosen, title, ("", "before", "after", "write-up"), rows, figures, notes)


if __name__ == "__main__":
    main()
