"""The scores that an importance gives to the channels of one layer, in their order."""

import keras
import numpy as np

from tfprune.channels import structure
from tfprune.channels.scoring import Scorer


def layer_scores(model, importance, layer, data=None, seed=0):
    read = structure.read(model)
    scores = Scorer(importance, model, data, seed).scores(read)
    (place,) = [p for p in read.atoms.places if p.layer == layer and p.role == "out"]
    return scores[read.atoms.of[place.ids]]


def set_weights(model, **weights):
    """Set the weights of layers by their names, such as `conv=[kernel, bias]`."""
    for name, values in weights.items():
        model.get_layer(name).set_weights([np.asarray(v, "float32") for v in values])


def two_dense(**options):
    """Three inputs, three channels that are the inputs behind a relu, one output."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(3, "relu", use_bias=False, name="first"),
            keras.layers.Dense(1, use_bias=False, name="last"),
        ],
        **options,
    )
    set_weights(model, first=[np.eye(3)], last=[np.ones((3, 1))])
    return model
