"""Weights are found again in a file, with norms folded into them."""

import keras
import numpy as np

from tfprune.export.convert import converted
from tfprune.export.graph import read_graphs
from tfprune.export.matching import is_weight
from tfprune.export.sparse import candidates

L = keras.layers


def test_by_hand():
    weight = np.array([[1.0, 2.0], [3.0, -1.0]])
    assert is_weight(weight, np.array([[-2.0, -4.0], [0.3, -0.1]]))
    assert is_weight(weight, np.array([[0.0, 0.0], [3.0, -1.0]]))  # a norm scales it by zero
    assert not is_weight(weight, np.array([[1.0, 2.0], [3.0, 1.0]]))
    assert not is_weight(weight, np.array([[1.0, 2.0, 3.0, -1.0]]))
    assert not is_weight(weight, weight[::-1])
    assert is_weight(weight, weight.reshape(2, 1, 2))


def test_each_kernel_of_a_model_is_one_constant_of_its_file():
    keras.utils.set_random_seed(0)
    x = keras.Input((6, 6, 4))
    h = L.BatchNormalization(name="n")(L.Conv2D(4, 3, name="a")(x))
    h = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, padding="same", name="b")(h)))
    h = L.Conv2DTranspose(5, 2, name="c")(h)
    model = keras.Model(x, L.Dense(3, name="d")(L.Flatten()(h)))
    for weight in model.get_layer("n").weights:
        weight.assign(np.random.default_rng(1).uniform(0.5, 2.0, weight.shape))
    (graph,) = read_graphs(converted(model))
    constants = [tensor for _, _, tensor, _ in candidates([graph])]
    for name, order in {
        "a": (3, 0, 1, 2),
        "b": (3, 0, 1, 2),
        "c": (2, 0, 1, 3),
        "d": (1, 0),
    }.items():
        kernel = model.get_layer(name).kernel.numpy().transpose(order)
        rows = kernel.reshape(kernel.shape[0], -1)
        found = [one for one in constants if is_weight(rows, graph.values(one.index))]
        assert [one.shape for one in found] == [kernel.shape], name
