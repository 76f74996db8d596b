"""Tiny models of both families, made once."""

import keras
import numpy as np
import pytest

L = keras.layers


def _cut(model, sparsity=0.75):
    """Set the smallest weights of every kernel to zero."""
    for variable in model.weights:
        values = variable.numpy()
        if values.ndim >= 2:
            values[np.abs(values) < np.quantile(np.abs(values), sparsity)] = 0
            variable.assign(values)
    return model


def _zeros_of(model):
    """Return the number of zeros in the kernels and tables of a model."""
    return sum(
        int((v.numpy() == 0).sum())
        for v in model.weights
        if len(v.shape) >= 2 and "bias" not in v.name
    )


@pytest.fixture(scope="session")
def cut():
    return _cut


@pytest.fixture(scope="session")
def zeros_of():
    return _zeros_of


@pytest.fixture(scope="session")
def cnn():
    keras.utils.set_random_seed(1)
    layers = [keras.Input((12, 12, 3)), L.Conv2D(8, 3, activation="relu", name="conv")]
    layers += [L.BatchNormalization(), L.Flatten(), L.Dense(5, activation="softmax", name="out")]
    model = keras.Sequential(layers, name="cnn")
    model.layers[1].moving_variance.assign(np.linspace(0.5, 2, 8))
    return _cut(model)


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).random((20, 12, 12, 3)).astype("float32")


@pytest.fixture(scope="session")
def lstm():
    keras.utils.set_random_seed(2)
    x = keras.Input((6, 40))
    return _cut(keras.Model(x, L.Dense(3)(L.LSTM(16)(x)), name="rnn"))


@pytest.fixture(scope="session")
def two_inputs():
    """Nested dict inputs, dict outputs, integer ids."""
    keras.utils.set_random_seed(3)
    ids, extra = keras.Input((7,), dtype="int32"), keras.Input((4,))
    pooled = L.GlobalAveragePooling1D()(L.Embedding(30, 8)(ids))
    both = L.Concatenate()([pooled, extra])
    inputs = {"text": {"ids": ids}, "extra": extra}
    outputs = {"score": L.Dense(2)(both), "rank": L.Dense(3)(both)}
    return _cut(keras.Model(inputs, outputs, name="two"))
