"""The dense model of a search, the same before every trial whatever training does with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import numpy as np


@contextlib.contextmanager
def left_as_it_was(model: keras.Model) -> Iterator[None]:
    """Give a model back as it was: which of its layers and weights train, and their values.

    A `train` that learns from the dense model may change it: Keras's `Distiller` freezes its
    teacher, and a trial made of a frozen model would train nothing.

    Example:

    ```python
    with left_as_it_was(model):
        keras.distillation.Distiller(teacher=model, student=pruned).fit(x, y)
    ```
    """
    # A setter reaches all that is below, so those that hold most come first.
    layers = sorted(_layers(model), key=lambda one: -len(_layers(one)))
    train = [layer.trainable for layer in layers]
    variables = [(one, one.trainable, _value(one)) for one in model.variables]
    try:
        yield
    finally:
        for layer, before in zip(layers, train, strict=True):
            if layer.trainable != before:
                layer.trainable = before
        for variable, before, value in variables:
            if variable.trainable != before:
                variable.trainable = before
            if not np.array_equal(_value(variable), value):
                variable.assign(value)


def _layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return layer._flatten_layers()


def _value(variable: keras.Variable) -> np.ndarray:
    return np.array(variable.numpy())  # a copy: some backends share the memory
