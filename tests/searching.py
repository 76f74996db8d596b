"""What the tests of `search` share: a network, data that it gets right, training without time."""

import keras
import numpy as np

import tfprune

L = keras.layers


def network(*first, middle=0):
    """Return a network of ten inputs and three classes, with layers in front, or units between."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((10,)),
            *first,
            L.Dense(40, "relu", name="a"),
            *([L.Dense(middle, "relu", name="b")] if middle else []),
            L.Dense(3, "softmax", name="c" if middle else "b"),
        ],
        name="network",
    )


def data(model, n=200):
    """Return inputs, and labels that the dense model gets right."""
    x = np.random.default_rng(0).normal(size=(n, 10)).astype("float32")
    return x, model.predict(x, verbose=0).argmax(1)


def cut_only(pruned):
    """Prune at the first step, and move nothing; return what `fit` does, as many users will."""
    pruned.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    x, y = np.zeros((4, 10), "float32"), np.zeros(4, int)
    return pruned.fit(x, y, verbose=0, callbacks=[tfprune.UpdatePruningStep(verbose=False)])
