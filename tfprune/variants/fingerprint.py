"""Tell by hashes and versions whether an earlier run did the same work."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from typing import Any

import numpy as np

from tfprune import resumption
from tfprune.version import __version__

_PACKAGES = ("tensorflow", "keras", "tf_keras", "ai-edge-litert", "numpy")
_CHUNK = 1 << 20


def of_file(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def of_model(model: Any) -> str:
    """Return the SHA-256 of a model: of its file, or of its configuration and weights in memory.

    A model of the user's own class that has no configuration counts by its class and weights.
    """
    if isinstance(model, os.PathLike):
        return of_file(model)
    try:
        config = json.dumps(model.get_config(), sort_keys=True, default=str)
    except NotImplementedError:
        config = ""
    head = f"{type(model).__module__}.{type(model).__qualname__} {config}"
    weights = resumption.of_arrays(np.asarray(variable.numpy()) for variable in model.weights)
    return hashlib.sha256(f"{head} {weights}".encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the libraries that decide what a file looks like."""
    found = {"tfprune": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # the legacy family is not always there
    return found
