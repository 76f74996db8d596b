"""Find out what a model takes: from its graph, from how it was built, or from data."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfprune.export.interface import Interface, from_structure
from tfprune.export.precision import sublayers


@dataclasses.dataclass(frozen=True)
class _Spec:
    shape: tuple[int | None, ...]
    dtype: str
    name: str = ""


def interface_of(model: Any, sample_inputs: Any, representative_data: Any) -> Interface:
    """Return the inputs of a built model.

    A subclassed model does not say what it takes: `sample_inputs` decide if they are an array, a
    dict or a list of arrays, then the shape that the model was built with, then the calibration
    data.

    Raises:
        ValueError: the inputs are unknown, or are strings.
    """
    if getattr(model, "inputs", None):
        sequential = any(kind.__name__ == "Sequential" for kind in type(model).__mro__)
        interface = from_structure(model.inputs[0] if sequential else model.input)
    else:
        interface = _of_data(sample_inputs) or _of_build(model) or _of_data(representative_data)
    if interface is None:
        raise ValueError(
            f"The subclassed model '{model.name}' does not say what inputs it takes. Pass some as "
            "`sample_inputs`: an array of shape (samples, ...) and of the right dtype, or a list "
            f"or dict of them. Received: a model built with {model.get_build_config()}"
        )
    for one in interface.inputs:
        if one.dtype in ("string", "object"):
            raise ValueError(
                f"The input '{one.name}' takes strings, which TFLite cannot. Export the model "
                "without its text preprocessing, from the token ids on."
            )
    return interface


def _of_data(data: Any) -> Interface | None:
    if data is None or callable(data) or not _arrays_only(data):
        return None
    if isinstance(data, (list, tuple)) and len(data) == 1:
        data = data[0]
    return from_structure(_batches(data))


def _arrays_only(data: Any) -> bool:
    if isinstance(data, dict):
        return bool(data) and all(_arrays_only(part) for part in data.values())
    if isinstance(data, (list, tuple)):
        return bool(data) and all(_arrays_only(part) for part in data)
    return isinstance(data, np.ndarray) or (hasattr(data, "numpy") and hasattr(data, "shape"))


def _batches(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _batches(part) for key, part in data.items()}
    if isinstance(data, (list, tuple)):
        return [_batches(part) for part in data]
    dtype = getattr(data.dtype, "name", str(data.dtype))
    dtype = {"float64": "float32", "int64": "int32"}.get(dtype, dtype)
    return _Spec((None, *data.shape[1:]), dtype)


def _of_build(model: Any) -> Interface | None:
    shapes = (model.get_build_config() or {}).get("input_shape")
    # The shape alone does not say that an embedding wants integers.
    takes_indices = any(type(layer).__name__ == "Embedding" for layer in sublayers(model))
    if not shapes or takes_indices:
        return None
    return from_structure(_specs(shapes))


def _specs(shapes: Any) -> Any:
    if isinstance(shapes, dict):
        return {key: _specs(part) for key, part in shapes.items()}
    if all(d is None or isinstance(d, int) for d in shapes):
        return _Spec((None, *shapes[1:]), "float32")
    return [_specs(part) for part in shapes]
