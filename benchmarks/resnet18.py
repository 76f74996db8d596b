"""ResNet-18 with the stem for ImageNet, as torchvision has it; layers are named as there."""

from __future__ import annotations

from typing import Any

import keras

layers = keras.layers


def resnet18(shape: tuple[int, int, int] = (32, 32, 3), classes: int = 10) -> keras.Model:
    """Return the network of He et al. 2016 with torchvision's padding; `layer2.0.conv1` is
    called "layer2_0_conv1".
    """
    inputs = keras.Input(shape)
    x = _norm(_conv(inputs, 64, 7, 2, "conv1"), "bn1")
    x = layers.ReLU(name="relu")(x)
    x = layers.ZeroPadding2D(1, name="pool_pad")(x)  # behind a ReLU as good as torch's -inf
    x = layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, channels in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _block(x, channels, stride, f"layer{stage}_{block}")
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    outputs = layers.Dense(classes, activation="softmax", name="fc")(x)
    return keras.Model(inputs, outputs, name="resnet18")


def _block(x: Any, channels: int, stride: int, name: str) -> Any:
    shortcut = x
    x = _norm(_conv(x, channels, 3, stride, f"{name}_conv1"), f"{name}_bn1")
    x = layers.ReLU(name=f"{name}_relu1")(x)
    x = _norm(_conv(x, channels, 3, 1, f"{name}_conv2"), f"{name}_bn2")
    if stride > 1:
        shortcut = _conv(shortcut, channels, 1, stride, f"{name}_downsample_conv")
        shortcut = _norm(shortcut, f"{name}_downsample_bn")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _conv(x: Any, filters: int, size: int, stride: int, name: str) -> Any:
    if size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    conv = layers.Conv2D(
        *(filters, size, stride), use_bias=False, kernel_initializer="he_normal", name=name
    )
    return conv(x)


def _norm(x: Any, name: str) -> Any:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)
