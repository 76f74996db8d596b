"""Make up the inputs of a file: the same for every runtime, from one seed."""

from __future__ import annotations

import numpy as np

from tfprune.benchmarking.model import Model
from tfprune.benchmarking.tables import Tensor

SEED = 0


def seeded_inputs(model: Model) -> list[np.ndarray]:
    """Return one array for each input, in the order of the file.

    Floats come from the standard normal distribution; quantized integers stand for such numbers;
    bytes without a scale are images (0 to 255); other integers are 0 or 1, which every table of an
    embedding has; booleans are drawn evenly.
    """
    rng = np.random.default_rng(SEED)
    return [_values(tensor, rng) for tensor in model.inputs]


def _values(tensor: Tensor, rng: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(tensor.dtype)
    if dtype.kind == "b":
        return rng.random(tensor.shape) < 0.5
    if dtype.kind == "f":
        return rng.standard_normal(tensor.shape).astype(dtype)
    limits = np.iinfo(dtype)
    if tensor.scale:
        steps = np.round(rng.standard_normal(tensor.shape) / tensor.scale) + tensor.zero_point
        return np.clip(steps, limits.min, limits.max).astype(dtype)
    top = 256 if dtype == np.uint8 else 2
    return rng.integers(0, top, tensor.shape).astype(dtype)
