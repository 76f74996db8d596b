"""Make up inputs for a model whose exported file is to be compared with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfprune.export.interface import Arrays, Input, Interface
from tfprune.export.precision import sublayers

COMPARED_SAMPLES = 32
"""At most so many given samples are compared."""
_GENERATED = 6
_FREE_LENGTH = 8
_FREE_SIDE = 32  # images pass several poolings
_CATEGORIES = 10


def generated(interface: Interface, model: Any) -> list[Arrays]:
    """Return seeded samples: floats from N(0, 1) and U(0, 1) in turns, integers within range.

    Integers stay below the smallest vocabulary of the model's embeddings and category encodings,
    below 256 for uint8 (images), else below 10. A free length becomes 8 (32 in images and videos).
    """
    rng = np.random.default_rng(0)
    limit = _vocabulary(model)
    return [
        [_values(one, rng, limit, normal=turn % 2 == 0) for one in interface.inputs]
        for turn in range(_GENERATED)
    ]


def _vocabulary(model: Any) -> int:
    sizes = [
        size
        for layer in sublayers(model)
        for name in ("input_dim", "num_tokens", "vocabulary_size")
        if isinstance(size := getattr(layer, name, None), int) and size > 0
    ]
    return min(sizes, default=_CATEGORIES)


def _values(one: Input, rng: np.random.Generator, limit: int, normal: bool) -> np.ndarray:
    free = _FREE_SIDE if len(one.shape) >= 4 else _FREE_LENGTH
    shape = tuple(free if d is None else d for d in one.shape)
    dtype = np.dtype(one.dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        top = 256 if dtype == np.uint8 else min(limit, np.iinfo(dtype).max)
        return rng.integers(0, top, shape).astype(dtype)
    return (rng.normal(size=shape) if normal else rng.random(shape)).astype(dtype)
