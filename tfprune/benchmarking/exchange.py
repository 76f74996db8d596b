"""What passes between tfprune and a page with LiteRT.js: a file, its inputs, its outputs."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.model import Model
from tfprune.benchmarking.tables import with_fixed_shapes

_DTYPES = ("float32", "int32", "uint8")


def file_bytes(model: Model) -> bytes:
    """Return the file as LiteRT.js can take it.

    Raises:
        FileFailure: it has inputs or outputs of a type that LiteRT.js does not know.
    """
    for tensor in (*model.inputs, *model.outputs):
        if tensor.dtype not in _DTYPES:
            raise FileFailure(
                f"LiteRT.js takes and gives {', '.join(_DTYPES)} only: export with float32 "
                f"inputs and outputs. Received: '{tensor.name}' of {tensor.dtype}"
            )
    return with_fixed_shapes(pathlib.Path(model.path).read_bytes())


def input_bytes(inputs: Sequence[np.ndarray]) -> list[bytes]:
    """Return the values of each input, one after the other."""
    return [np.ascontiguousarray(array).tobytes() for array in inputs]


def described(model: Model, threads: int) -> dict[str, Any]:
    """Return what the page must know to load a file."""
    inputs = [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in model.inputs]
    return {"threads": threads, "signature": model.signature, "inputs": inputs}


def outputs(
    model: Model, found: Sequence[Mapping[str, str]], bodies: Mapping[int, bytes]
) -> tuple[np.ndarray, ...]:
    """Return the outputs in the order of the file, whose names tell which is which.

    Args:
        model: the file.
        found: name and dtype of each output, in the order of the page.
        bodies: their values.
    """
    arrays = [np.frombuffer(bodies[index], one["dtype"]) for index, one in enumerate(found)]
    named = {one["name"]: array for one, array in zip(found, arrays, strict=True)}
    names = [tensor.name for tensor in model.outputs]
    if set(names) == set(named) and len(named) == len(arrays):
        return tuple(named[name] for name in names)
    return tuple(arrays)
