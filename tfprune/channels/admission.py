"""Which models may be shrunk: plain ones, whose weights are what they compute with."""

from __future__ import annotations

from typing import Any

import keras

from tfprune import conversion
from tfprune.channels import graph
from tfprune.cloning import leaves
from tfprune.family import family
from tfprune.strip import pruned_layers


def admit(model: Any) -> keras.Model:
    """Return a model that can be shrunk: the one given, or a tf_keras one in Keras 3.

    Raises:
        TypeError: it is no Keras model.
        ValueError: it is wrapped for pruning, quantized, has LoRA enabled, is not built or not a
            Sequential or Functional one; or a tf_keras model that has no counterpart in Keras 3.
    """
    kind = family(model)
    if kind is not None and model.built:
        _require_unwrapped(model)
    if kind == "tf_keras":
        return conversion.to_keras3(model)
    graph.require_graph(model)
    for layer in leaves(model):
        inside = [layer, *_inner(layer)]
        mode = next((m for one in inside if (m := getattr(one, "quantization_mode", None))), None)
        if mode:
            raise ValueError(
                f"The layer '{layer.name}' is quantized by Keras ({mode}), and channels are ranked "
                "and cut in float weights. Shrink the float model first, then quantize. "
                f"Received: the model '{model.name}'"
            )
        if any(getattr(one, "lora_enabled", False) for one in inside):
            raise ValueError(
                f"The layer '{layer.name}' has LoRA enabled, so that its kernel is a sum of "
                "several weights, which would be cut apart. Merge them first: save the model and "
                "load it into one without LoRA. "
                f"Received: the model '{model.name}'"
            )
    return model


def _require_unwrapped(model: Any) -> None:
    wrapped = pruned_layers(model)
    if wrapped:
        names = ", ".join(f"'{layer.layer_name}'" for layer in wrapped[:3])
        raise ValueError(
            "The model is wrapped for pruning: its masks belong to weights of the present size. "
            "Strip it first, `tfprune.strip_pruning(model)`, and wrap what `shrink` returns. "
            f"Received: {len(wrapped)} wrapped layers, such as {names}"
        )


def _inner(layer: Any) -> list[Any]:
    """Return the layers inside a layer: of attention, of what wraps another."""
    own = [getattr(layer, name, None) for name in ("layer", "forward_layer", "backward_layer")]
    projections = [getattr(layer, f"{n}_dense", None) for n in ("query", "key", "value", "output")]
    return [one for one in (*own, *projections) if isinstance(one, keras.layers.Layer)]
