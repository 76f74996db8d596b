"""The process of TensorFlow that exports a model for one in which Keras runs on another backend."""

from __future__ import annotations

import os
import pathlib
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from tfprune import child

OUTCOME = "outcome.pickle"
"""The file with what came of it, in the folder of the parcel."""
_NO_LOAD = (
    *(ValueError, TypeError, OSError, KeyError, AttributeError, ImportError, RuntimeError),
    *(IndexError, NotImplementedError),
)


class Elements:
    """Batches or samples that came out of a generator; no list, which may stand for inputs."""

    def __init__(self, elements: list[Any]):
        self._elements = elements

    def __iter__(self) -> Iterator[Any]:
        return iter(self._elements)


def answer() -> None:
    """Answer the parent until it closes the pipe; run by the child only."""
    child.serve(_prepare, (OSError,))  # the folder is full, or gone


def _prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    from tfprune.export.exporter import export_tflite

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        folder = pathlib.Path(question["folder"])
        os.chdir(question["cwd"])
        sys.path += [part for part in question["path"] if part not in sys.path]
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            try:
                model, arguments = _unpacked(folder)
                outcome: Any = export_tflite(model, **arguments)
            except (ValueError, TypeError, OSError, RuntimeError) as error:
                outcome = error
        told = [str(one.message) for one in said if one.category is UserWarning]
        (folder / OUTCOME).write_bytes(pickle.dumps((outcome, told)))
        return {}

    return reply


def _unpacked(folder: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    from tfprune import parcels

    try:
        model, (arguments,) = parcels.unpack(folder)
    except _NO_LOAD as error:
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise ValueError(
            f"The model cannot be built on TensorFlow: {first or type(error).__name__}. Classes "
            "of your own must stand in a module that can be imported, give `get_config`, and "
            "compute with `keras.ops` rather than with JAX or PyTorch. "
            "Received: a model from another backend of Keras"
        ) from error
    return model, arguments
