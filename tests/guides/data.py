"""Pictures that a small network learns at once, in the shapes of MNIST and CIFAR-10."""

from __future__ import annotations

import numpy as np


def pictures(count: int, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise with a bright patch whose place tells the class, as bytes, and the classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = rng.integers(0, 60, (count, *shape))
    height, width = shape[0] // 2, shape[1] // 5
    for image, label in zip(images, labels, strict=True):
        top, left = label // 5 * height, label % 5 * width
        image[top : top + height, left : left + width] += 190
    return images.astype("uint8"), labels.astype("uint8")


def mnist(train: int = 640, test: int = 100):
    """Return what `keras.datasets.mnist.load_data()` returns, smaller."""
    return pictures(train, (28, 28), seed=0), pictures(test, (28, 28), seed=1)


def cifar10(train: int = 256, validation: int = 128, test: int = 128):
    """Return `tf.data` datasets of single (image, label) pairs, as `tfds.load` does, smaller."""
    import tensorflow as tf

    sizes = (train, validation, test)
    return [
        tf.data.Dataset.from_tensor_slices(pictures(size, (32, 32, 3), seed))
        for seed, size in enumerate(sizes)
    ]
