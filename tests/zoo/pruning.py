"""Give a model of the zoo weights that mean something, most of them zero."""

from __future__ import annotations

import keras
import numpy as np

UNPRUNED = "unpruned"
"""Kernels of layers whose name has this in it keep all their weights."""

_DEEP = 12  # layers of BatchNormalization


def prune_to(model: keras.Model, sparsity: float, seed: int) -> keras.Model:
    """Set new weights, with this fraction of zeros in every kernel, the smallest ones.

    What is left is scaled by its inputs, so that outputs stay near 1 and relative errors mean
    something; biases and the statistics of BatchNormalization are far from 0 and 1, so that
    folding them matters.
    """
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if "kernel" in variable.name:
            cut = 0.0 if UNPRUNED in variable.path else sparsity
            # MobileNet calls its depthwise layers "conv_dw".
            depthwise = "depthwise" in variable.path or (shape[-1] == 1 and shape[0] > 1)
            variable.assign(_kernel(rng, shape, cut, depthwise and len(shape) == 4))
        elif variable.dtype.startswith("float"):
            variable.assign(_vector(rng, shape, variable.name))
    norms = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    if len(norms) > _DEEP:
        _settle(model, norms, rng)
    return model


def _settle(model: keras.Model, norms: list, rng: np.random.Generator) -> None:
    """Take the statistics from data, as training does: a deep network dies of any others."""
    momenta = [one.momentum for one in norms]
    for one in norms:
        one.momentum = 0.0
        if one.beta is not None:  # ReLUs that are mostly open, or one sample in ten gets through
            one.beta.assign(rng.uniform(0.5, 1.0, one.beta.shape))
    shape = model.inputs[0].shape[1:]
    model(rng.normal(size=(16, *shape)) + rng.normal(size=(16, 1, 1, shape[-1])), training=True)
    for one, momentum in zip(norms, momenta, strict=True):
        one.momentum = momentum
        # A channel that is 0 throughout would be divided by next to nothing.
        variance = np.asarray(one.moving_variance)
        one.moving_variance.assign(np.where(variance < 0.02, 1, variance))


def _kernel(rng: np.random.Generator, shape: tuple[int, ...], sparsity: float, depthwise: bool):
    values = rng.normal(size=shape)
    # Mostly positive, and one large weight for each output: otherwise so few weights are left
    # that all ReLUs answer 0, and a file that answers a constant cannot be told to be wrong.
    values = np.where(rng.random(shape) < 0.7, np.abs(values), values)
    centre = tuple(size // 2 for size in shape[:-2])
    inputs, outputs = shape[-2:]
    for i in range(inputs if depthwise else outputs):
        values[(*centre, i, 0) if depthwise else (*centre, i % inputs, i)] = 3 + rng.random()
    # One weight for each output stays: networks of 27 layers would lose every path otherwise.
    kept = max(round((1 - sparsity) * values.size), inputs if depthwise else outputs)
    order = np.argsort(np.abs(values), axis=None)
    values.flat[order[: values.size - kept]] = 0
    fan_in = np.prod(shape[:-2] if depthwise else shape[:-1])
    return values * np.sqrt(1 / fan_in / np.mean(values**2))


def _vector(rng: np.random.Generator, shape: tuple[int, ...], name: str):
    if name in ("gamma", "moving_variance", "variance"):
        return rng.uniform(0.5, 1.5, shape)
    if name == "alpha":  # the slope of a PReLU
        return rng.uniform(0.05, 0.4, shape)
    if name == "moving_mean":
        return rng.normal(0, 0.2, shape)
    return rng.uniform(-0.1, 0.3, shape)  # mostly positive, so that ReLU leaves something
