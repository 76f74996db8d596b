"""Arrays and labels as users give them, made numpy arrays or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import tree


def is_array(value: Any) -> bool:
    """Tell whether a value is an array or a tensor, of whatever library."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def length_of(value: Any, what: str) -> int:
    """Return the number of samples.

    Args:
        value: array of shape (samples, ...).
        what: it is, for messages.
    """
    shape = np.shape(value)
    if not shape:
        raise ValueError(f"{what} must be an array of samples. Received: {value!r}")
    return int(shape[0])


def labels_of(given: Any) -> Any:
    """Return labels as arrays, structured as they are."""
    if given is None:
        return None
    several = isinstance(given, Mapping) or (
        isinstance(given, (list, tuple)) and any(is_array(part) for part in given)
    )
    if several:
        return tree.map_structure(lambda part: numbers_of(part, "the labels"), given)
    return numbers_of(given, "the labels")


def numbers_of(value: Any, what: str) -> np.ndarray:
    """Return an array of numbers; tensors of any backend are copied."""
    try:
        array = np.asarray(value)
        if array.dtype.kind == "V":  # bfloat16, which numpy does not know
            array = array.astype(np.float32)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise TypeError(
            f"{what} must be an array of numbers, or a tensor that can be copied into one "
            f"({str(error).strip().splitlines()[0]}). Received: {kind_of(value)}"
        ) from error
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{what} must be an array of numbers. Received: {kind_of(value)}, of type {array.dtype}"
        )
    return array


def kind_of(value: Any) -> str:
    """Return the type of a value, for messages.

    Example: `kind_of(3)` is `"int"`.
    """
    return f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
