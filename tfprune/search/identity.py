"""What tells one search from another, so that no trial of one is taken for that of another."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.channels.batches import Batch
from tfprune.sensitivity import Sensitivity

_BYTES = 8


def digest_of_data(batches: Iterable[Batch]) -> str:
    """Return a digest of samples with their labels, the same in whatever order they come.

    A dataset that shuffles is the same data each time; other labels are not.
    """
    total = 0
    for batch in batches:
        parts = tree.flatten([batch.inputs, batch.labels, batch.weights]) or []
        arrays = [np.ascontiguousarray(part) for part in parts if part is not None]
        for rows in zip(*arrays, strict=True):
            found = hashlib.blake2b(digest_size=_BYTES)
            for row in rows:
                found.update(np.asarray(row).tobytes())
            total += int.from_bytes(found.digest(), "big")
    return f"{total % 256**_BYTES:0{2 * _BYTES}x}"


def digest_of(measured: Sensitivity | None) -> str | None:
    """Return a digest of what was measured, which says how zeros are spread."""
    if measured is None:
        return None
    text = json.dumps(measured.to_dict(), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=_BYTES).hexdigest()


def identity(
    model: keras.Model, batches: Iterable[Batch], options: dict[str, Any], **others: Any
) -> dict[str, Any]:
    """Return what tells a search from another, as JSON knows it; the weights by their sum.

    The sum is of all weights, frozen ones too: a model that is frozen is another search by
    "trainable", the number of weights that train, which says so.

    Args:
        model: that is pruned.
        batches: that the budget is measured on.
        options: of `allocate`: schedule, pattern, sensitivity.
        others: figures and names, as they are.

    Example: `identity(model, batches, options, objective="size", between=[0.5, 0.99])`
    """
    values = [np.asarray(v.numpy(), dtype=np.float64) for v in model.weights]
    schedule = options["schedule"]
    return {
        "model": model.name,
        "weights": round(sum(float(np.abs(value).sum()) for value in values), 3),
        "trainable": sum(math.prod(v.shape) for v in model.trainable_weights),
        "data": digest_of_data(batches),
        "schedule": None if schedule is None else schedule.get_config(),
        "pattern": str(options["pattern"]),
        "sensitivity": digest_of(options["sensitivity"]),
        **others,
    }
