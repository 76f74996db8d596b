"""Batch normalization that blows rounding up, which no two ways of computing a model agree on."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfprune.export.precision import sublayers

_LARGE = 10.0
"""By how much a channel is multiplied before it is suspected. 31.6 is what the default epsilon of
Keras makes of a channel that does not vary; three such layers in a row make 1 of 3e-5."""


def suspicion(model: Any) -> str:
    """Return which layers multiply channels that hardly vary, and what to do, or nothing.

    A channel whose `moving_variance` is near 0 was the same for every input in training: it is 0
    or dead. Its rounding is multiplied by `gamma / sqrt(moving_variance + epsilon)`, layer after
    layer. Converters fold that into the weights, where it is rounded in another way than in Keras.

    Args:
        model: of either family.

    Example: `suspicion(model)` is "" for a model whose channels all vary.
    """
    found = []
    for layer in sublayers(model):
        variance = getattr(layer, "moving_variance", None)
        if variance is None or not hasattr(layer, "epsilon"):
            continue
        scale = 1.0 if layer.gamma is None else np.abs(np.asarray(layer.gamma))
        small = np.asarray(variance) < layer.epsilon
        factor = small * scale / np.sqrt(np.asarray(variance) + layer.epsilon)
        if factor.size and factor.max() >= _LARGE:
            found.append((layer.name, int(np.count_nonzero(factor >= _LARGE)), factor.max()))
    if not found:
        return ""
    name, _, factor = max(found, key=lambda one: one[2])
    count = sum(channels for _, channels, _ in found)
    others = f" and {len(found) - 1} other layers" if len(found) > 1 else ""
    return (
        f"The likely cause: batch normalization ('{name}'{others}) multiplies {count} channels by "
        f"up to {factor:.3g}, as their `moving_variance` is near 0: they were the same for every "
        "input in training, and what is multiplied is rounding. Train on with varied data, or set "
        "the `moving_variance` of such channels to 1"
    )
