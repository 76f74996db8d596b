"""Importances from data and soft pruning under JAX, where `fit` keeps weights outside the model."""

import pytest

CODE = """
import keras, numpy as np, tfprune
layers = keras.layers
model = keras.Sequential([
    keras.Input((1,)),
    layers.Dense(2, use_bias=False, name="first"),
    layers.Dense(1, use_bias=False, name="last"),
])
model.layers[0].set_weights([np.array([[1.0, 2.0]])])
model.layers[1].set_weights([np.array([[3.0], [-1.0]])])
model.compile(keras.optimizers.SGD(0.01), "mse")
x, zeros = np.array([[1.0], [2.0]]), np.zeros((2, 1))

from tfprune.channels import structure
from tfprune.channels.scoring import Scorer
read = structure.read(model)
print(np.round(Scorer("taylor", model, (x, zeros)).scores(read), 3).tolist())
print(np.round(Scorer("activation", model, x).scores(read), 3).tolist())

soft = tfprune.SoftChannelPruning(0.5)
zeroed = lambda: np.flatnonzero(np.asarray(model.layers[0].kernel)[0] == 0).tolist()
model.fit(x, zeros, epochs=2, verbose=0, callbacks=[soft])
print(zeroed() == soft.history[0]["removed"])
print(tfprune.replay(model, soft.history).layers[0].units)
"""


@pytest.mark.slow
def test_the_numbers_of_tensorflow(run_python):
    # Outputs 1 2 and 2 4: means 1.5 and 3, relative to 2.25. Taylor as worked by hand there.
    lines = run_python(CODE, KERAS_BACKEND="jax").split("\n")
    assert lines[:4] == ["[30.0, 20.0]", "[0.667, 1.333]", "True", "1"]
