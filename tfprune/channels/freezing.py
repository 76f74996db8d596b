"""`unfreeze_only`: train what a cut has touched, and leave the rest of the model as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from tfprune.channels import graph
from tfprune.channels.report import ShrinkReport
from tfprune.cloning import is_graph


def unfreeze_only(model: keras.Model, report: ShrinkReport) -> list[str]:
    """Freeze every layer but those that a cut has touched, the BatchNorms and the classifier.

    For a short fine-tuning at a low learning rate. Touched are the layers whose weights are smaller
    now: what made the removed channels, what reads them, norms and biases between. The classifier
    is the last layer with weights before each output. Compile the model afterwards: a training step
    that was compiled before goes on with the layers of then.

    Args:
        model: the smaller model that `shrink` returned, or one of the same layer names; its
            `trainable` flags are changed.
        report: what `shrink` returned with it.

    Returns:
        Paths of the layers that train now, such as "backbone/conv1".

    Example:

    ```python
    small, report = tfprune.shrink(model, channels={"conv1": 0.2}, importance="activation", data=x)
    tfprune.unfreeze_only(small, report)
    small.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    small.fit(x, y, epochs=10)
    ```

    Raises:
        ValueError: the report is that of a model with other layers; nothing is changed then.
        TypeError: `report` is no `ShrinkReport`.

    Source: tfprune's own; what a cut has touched stands in the report of `shrink`.
    """
    if not isinstance(report, ShrinkReport):
        raise TypeError(
            "`report` is what `shrink` returns beside the model. "
            f"Received: {report!r} (of type {type(report).__name__})"
        )
    graph.require_graph(model)
    layers = dict(_layers(model, ""))
    unknown = [path for path in report.touched if path not in layers]
    if unknown:
        raise ValueError(
            "The report is that of another model: "
            f"{', '.join(map(repr, unknown[:3]))} is not in '{model.name}'. Pass the model that "
            f"`shrink` returned with it. Received: the report of '{report.model}'"
        )
    wanted = {id(layers[path]) for path in report.touched} | {id(x) for x in _classifiers(model)}
    wanted |= {id(x) for x in layers.values() if isinstance(x, keras.layers.BatchNormalization)}
    model.trainable = True  # a model that is frozen as a whole trains nothing
    for layer in layers.values():
        layer.trainable = id(layer) in wanted
    return [path for path, layer in layers.items() if layer.trainable and layer.weights]


def _layers(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield each layer of a model and of those nested in it, by its path."""
    for call in graph.calls(model):
        layer, path = call.operation, f"{prefix}{call.operation.name}"
        if is_graph(layer):
            yield from _layers(layer, f"{path}/")
        elif isinstance(layer, keras.layers.Layer):
            yield path, layer


def _classifiers(model: Any) -> list[Any]:
    """Return, for each output, the last layers before it that have a kernel."""
    makers = {id(x): call for call in graph.calls(model) for x in call.outputs}
    found: list[Any] = []
    ahead: list[Any] = list(tree.flatten(graph.outputs(model)) or [])
    seen: set[int] = set()
    while ahead:
        tensor = ahead.pop()
        if id(tensor) in seen or id(tensor) not in makers:
            continue
        seen.add(id(tensor))
        layer = makers[id(tensor)].operation
        inside = _classifiers(layer) if is_graph(layer) else []
        if any(len(v.shape) > 1 for v in getattr(layer, "weights", ())):
            found += inside or [layer]
        else:
            ahead += makers[id(tensor)].tensors
    return found
