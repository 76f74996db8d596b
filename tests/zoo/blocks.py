"""Pieces that the graphs are put together from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

L = keras.layers
Step = Callable[[Any], Any]


def image(size: int = 16, channels: int = 3):
    """Return an input image."""
    return keras.Input((size, size, channels))


def entry(x, filters: int = 16, **options):
    """The one first convolution that XNNPACK's sparse inference takes: 3x3, stride 2, padding 1."""
    x = L.Conv2D(filters, 3, strides=2, **options)(L.ZeroPadding2D(1)(x))
    return L.ReLU()(L.BatchNormalization()(x))


def pointwise(x, filters: int = 16, **options):
    """A 1x1 convolution, which is what becomes fast."""
    return L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 1, **options)(x)))


def depthwise(x, kernel: int = 3, stride: int = 1):
    """A depthwise convolution with the same padding on every side."""
    x = L.ZeroPadding2D(kernel // 2)(x)
    x = L.DepthwiseConv2D(kernel, strides=stride, padding="valid")(x)
    return L.ReLU()(L.BatchNormalization()(x))


def head(x, classes: int = 10):
    """Global average pooling and a Dense layer, which sparse inference takes."""
    return L.Dense(classes)(L.GlobalAveragePooling2D()(x))


def around(middle: Step, size: int = 16) -> keras.Model:
    """A network that is fast but for the step in the middle of its trunk."""
    inputs = image(size)
    x = pointwise(depthwise(entry(inputs)))
    x = pointwise(depthwise(middle(x)), 32)
    return keras.Model(inputs, head(x))


def after(start: Step, size: int = 16, channels: int = 3) -> keras.Model:
    """A network that is fast but for its start."""
    inputs = image(size, channels)
    x = pointwise(depthwise(pointwise(start(inputs))), 32)
    return keras.Model(inputs, head(x))


def before(end: Step, size: int = 16) -> keras.Model:
    """A network that is fast but for its end, which may return several outputs."""
    inputs = image(size)
    x = pointwise(depthwise(pointwise(entry(inputs))), 32)
    return keras.Model(inputs, end(x))
