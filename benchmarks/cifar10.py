"""What the benchmarks on CIFAR-10 share: a part of the images, training on them, accuracy."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

SHIFT = 4


def load(data_dir: str, images: int) -> Any:
    """Return some of the training images of CIFAR-10, drawn once for all, and all test images."""
    from tfprune import datasets

    data = datasets.load("cifar10", data_dir)
    chosen = np.random.default_rng(0).permutation(len(data.x_train))[:images]
    return data.x_train[chosen], data.y_train[chosen], data.x_test, data.y_test


def augmented(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return images moved by up to 4 pixels in each direction, half of them mirrored."""
    size = x.shape[1]
    wide = np.pad(x, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    down, right = rng.integers(0, 2 * SHIFT + 1, (2, len(x)))
    rows, columns = (start[:, None] + np.arange(size) for start in (down, right))
    columns = np.where(rng.random((len(x), 1)) < 0.5, columns[:, ::-1], columns)
    return wide[np.arange(len(x))[:, None, None], rows[:, :, None], columns[:, None, :]]


def train(
    model: Any, x: np.ndarray, y: np.ndarray, epochs: int, batch: int, rate: float, seed: int
) -> dict[str, float]:
    """Train with Adam and a learning rate that falls along a cosine; return what it took."""
    import keras

    steps = epochs * -(-len(x) // batch)
    schedule = keras.optimizers.schedules.CosineDecay(rate, max(steps, 1))
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy")
    rng = np.random.default_rng(seed)
    started, loss = time.perf_counter(), float("nan")
    for _ in range(epochs):
        order = rng.permutation(len(x))
        found = model.fit(augmented(x[order], rng), y[order], batch, verbose=0)
        loss = found.history["loss"][-1]
    return {"loss": loss, "seconds": time.perf_counter() - started}


def accuracy(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Return the fraction of images whose class the model tells."""
    return float((model.predict(x, batch_size=500, verbose=0).argmax(-1) == y).mean())
