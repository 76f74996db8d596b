"""Export where Keras runs on JAX or PyTorch: a process of TensorFlow does it, beside this one.

A `.keras` file means the same on every backend, so the model goes over as one, with its classes and
the data as arrays; what comes back is the result, the warnings, or the error that was raised.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pathlib
import pickle
import sys
import tempfile
import threading
import warnings
from typing import Any

import keras

from tfprune import parcels
from tfprune.child import Child, ChildFailure
from tfprune.export.calibration import CALIBRATION_SAMPLES
from tfprune.export.elsewhere_worker import OUTCOME, Elements
from tfprune.export.result import ExportResult

_SECONDS = 3600.0  # for one model: nobody waits so long for a conversion that works
_CODE = (
    "import os; os.environ['KERAS_BACKEND'] = 'tensorflow'; "
    "from tfprune.export import elsewhere_worker; elsewhere_worker.answer()"
)
_ALONE = (
    "Or save the model with `model.save('model.keras')`, and load and export it in a process "
    "with KERAS_BACKEND=tensorflow, where its classes are defined"
)


def is_needed(model: Any) -> bool:
    """Tell whether this is a model of Keras 3 on another backend than TensorFlow."""
    return isinstance(model, keras.Model) and keras.backend.backend() != "tensorflow"


def another_backend(what: str) -> ValueError:
    """Return the error of what needs TensorFlow in this very process.

    Args:
        what: the beginning of the message.
    """
    return ValueError(
        f"{what} needs Keras on the TensorFlow backend: save the model as .keras, set "
        "KERAS_BACKEND=tensorflow, load it and go on there. "
        f"Received: the backend {keras.backend.backend()!r}"
    )


def export_elsewhere(
    model: Any, path: str | os.PathLike, data: dict[str, Any], **choices: Any
) -> ExportResult:
    """Return what `export_tflite` does with a model, in a process of TensorFlow.

    Args:
        model: a built model of Keras 3.
        path: the file to write.
        data: `representative_data` and `sample_inputs`.
        **choices: the other arguments of `export_tflite`.

    Raises:
        ValueError, OSError, ExportMismatch: what it raises there. Also a ValueError for a model
            that cannot be saved, or whose own classes stand in no module.
        RuntimeError: the process crashes.
        ChildProcessError: it does not start.
    """
    arguments = {"path": os.fspath(path), **choices}
    arguments |= {name: _still(given) for name, given in data.items()}
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        parcels.pack(folder, model, {"the data": arguments}, False, _ALONE)
        try:
            # The process is kept, and paths and modules mean what they mean here and now.
            where = {"folder": folder, "cwd": os.getcwd(), "path": sys.path}
            _child().ask(where, _SECONDS)
        except ChildFailure as error:
            raise RuntimeError(
                f"The process of TensorFlow that exports '{model.name}' {error}. "
                f"Received: the backend {keras.backend.backend()!r}"
            ) from error
        outcome, said = pickle.loads((pathlib.Path(folder) / OUTCOME).read_bytes())
    for message in said:
        warnings.warn(message, stacklevel=3)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _still(given: Any) -> Any:
    """Return data as numpy arrays; what is iterated over as its first elements."""
    is_function = callable(given) and not hasattr(given, "__iter__")
    data: Any = given() if is_function and not hasattr(given, "__getitem__") else given
    if data is None or isinstance(data, (str, bytes, bool, int, float)):
        return data  # refused there, with the message that all users get
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return keras.ops.convert_to_numpy(data)
    if isinstance(data, dict):
        return {name: _still(part) for name, part in data.items()}
    if isinstance(data, (list, tuple)):
        return [_still(part) for part in data[:CALIBRATION_SAMPLES]]
    if hasattr(data, "__iter__"):
        return Elements([_still(one) for one in itertools.islice(data, CALIBRATION_SAMPLES)])
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        count = min(len(data), CALIBRATION_SAMPLES)
        return Elements([_still(data[index]) for index in range(count)])
    return data


_lock = threading.Lock()
_kept: dict[int, Child] = {}  # by the process that started it: a fork does not inherit it


def _child() -> Child:
    """Return the process of TensorFlow, kept from export to export: it takes long to start."""
    with _lock:
        child = _kept.get(os.getpid())
        if child is None or not child.alive:
            if child is not None:
                child.close()
            child = _kept[os.getpid()] = Child(_CODE, "TensorFlow")
        return child


@atexit.register
def _close() -> None:
    with _lock:
        child = _kept.pop(os.getpid(), None)
        if child is not None:
            child.close()
