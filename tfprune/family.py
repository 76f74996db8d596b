"""Which of the two Keras families an object belongs to, found without loading the other one."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Literal

import keras

Family = Literal["keras", "tf_keras"]


def family(obj: Any) -> Family | None:
    """Return "keras" for a Keras 3 layer or model, "tf_keras" for a legacy one, else None.

    An object of tf_keras can only exist once tf_keras has been imported, so a look into
    `sys.modules` is enough, and nothing is ever imported here.

    Example: `family(keras.layers.Dense(1))` is `"keras"`.
    """
    if isinstance(obj, keras.layers.Layer):
        return "keras"
    legacy = sys.modules.get("tf_keras")
    if legacy is not None and isinstance(obj, legacy.layers.Layer):
        return "tf_keras"
    return None


def room(kind: Family) -> Any:
    """Return the module that knows a family: `tfprune.keras3`, or `tfprune.legacy` if needed.

    Both have the same doors, so that workflows need not ask which family they serve.
    """
    return importlib.import_module("tfprune.legacy" if kind == "tf_keras" else "tfprune.keras3")


def require_family(obj: Any, expected: str) -> Family:
    """Return the family of a layer or model, or raise a `ValueError` that names what was expected.

    Args:
        obj: what the user passed.
        expected: what the caller takes, in words, for the message.
    """
    found = family(obj)
    if found is None:
        raise ValueError(
            f"Expected {expected} of Keras 3 (`import keras`) or of legacy Keras "
            f"(`import tf_keras`). Received: {obj!r} "
            f"(of type {type(obj).__module__}.{type(obj).__name__})"
        )
    return found
