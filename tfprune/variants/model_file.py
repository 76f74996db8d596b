"""Load a model from a `.keras` or `.h5` file of either family, or take one that is in memory."""

from __future__ import annotations

import os
import pathlib
import re
import sys
from typing import Any

import keras

from tfprune.export import elsewhere
from tfprune.family import require_family, room
from tfprune.sources import check_source
from tfprune.variants import model_config
from tfprune.weightfiles import inspect_file

_ENDINGS = (".keras", ".h5", ".hdf5")
_NO_LOAD = (
    *(ValueError, TypeError, OSError, KeyError, AttributeError, ImportError, RuntimeError),
    *(IndexError, NotImplementedError),
)
_MISSING = re.compile(r"(?:Could not locate class|Unknown layer:) '([^']+)'")  # Keras 3, tf_keras


def is_path(model: Any) -> bool:
    """Tell whether a model is given as the path of a file."""
    return isinstance(model, (str, os.PathLike))


def stem(model: Any) -> str:
    """Return what the names of the exported files begin with.

    Example: `stem("nets/digits.keras")` is "digits".
    """
    name = pathlib.Path(model).stem if is_path(model) else str(getattr(model, "name", "model"))
    return re.sub(r"[^\w.-]", "_", name) or "model"


def check_file(path: str | os.PathLike) -> pathlib.Path:
    """Return the path of a model file that is whole, or raise.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, weights alone, or a damaged file.
    """
    source = check_source(path, "a model file that `model.save` wrote")
    if source.suffix.lower() not in _ENDINGS:
        raise ValueError(
            f"A model file that ends in {', '.join(_ENDINGS)} is expected: save the model with "
            f"`model.save('model.keras')`. Received: {str(path)!r}"
        )
    # In a process of its own: damaged HDF5 can crash the one that reads it.
    inspect_file(source)
    return source


def load(path: pathlib.Path, compiled: bool = False) -> Any:
    """Return the model in a file that `check_file` let pass.

    Args:
        path: of the file.
        compiled: whether to compile a Keras 3 model as it was when it was saved.

    Raises:
        ValueError: it holds no model, one that cannot be built here, or code that would be run.
    """
    said = model_config.read(path)
    if said.is_legacy:
        with room("tf_keras").scope():  # loads tf_keras, and knows tfmot's wrappers
            _require_harmless(path, said)
    try:
        if not said.is_legacy:
            return keras.models.load_model(path, compile=compiled)
        with room("tf_keras").scope():
            return sys.modules["tf_keras"].models.load_model(path, compile=False)
    except _NO_LOAD as error:
        if said.holds_code and "safe_mode" in str(error):
            raise _has_code(path) from error
        raise _unbuilt(path, said, str(error) or type(error).__name__) from error


def check_model(model: Any) -> None:
    """Raise unless this is a built model that can be exported here."""
    require_family(model, "a model, or the path of a .keras or .h5 file,")
    if not hasattr(model, "predict"):
        raise ValueError(
            "Expected a model, not a layer: put it into `keras.Sequential([...])`. "
            f"Received: {model!r}"
        )
    if elsewhere.is_needed(model):
        raise elsewhere.another_backend(
            "`export_variants`, unlike `export_tflite` and the command `tfprune export`,"
        )
    if not model.built:
        raise ValueError(
            "The model must be built, so that it has weights: call it once, or give it an Input. "
            f"Received: {type(model).__name__} {model.name!r}, built=False"
        )


def _require_harmless(path: pathlib.Path, said: model_config.ModelConfig) -> None:
    """Raise if tf_keras would run what lies in the file, or import what it names."""
    if said.holds_code:
        raise _has_code(path)
    functions = said.acting_functions()
    if functions:
        raise ValueError(
            f"A layer in {str(path)!r} would call {', '.join(f'tf.{one}' for one in functions)}, "
            "which may read or write files or run code, and nothing but calculation is done at the "
            "word of a file. If you trust where it comes from, load it in Python and pass the "
            f"model itself to the function of tfprune. Received: a file of Keras {said.version}"
        )
    modules = said.foreign_modules()
    if modules:
        raise ValueError(
            f"Loading {str(path)!r} would import {', '.join(map(repr, modules))}, because the file "
            "says so, and nothing is imported at the word of a file. Load the model in Python with "
            "its own classes in `custom_objects`, and pass the model itself to the function of "
            f"tfprune. Received: a file of Keras {said.version}"
        )


def _unbuilt(path: pathlib.Path, said: model_config.ModelConfig, why: str) -> ValueError:
    missing = _MISSING.search(why)
    first = next((line for line in why.splitlines() if line.strip()), "").rstrip(".")
    reason = f"its class {missing[1]!r} is not known here" if missing else first
    own = "Import" if missing else "If it has classes of your own: import"
    return ValueError(
        f"The model in {str(path)!r} cannot be built: {reason}. {own} the module that defines "
        f"{'it' if missing else 'them'} in Python, load the model there, and pass the model itself "
        "to the function of tfprune. `export_tflite` takes it on every backend, `export_variants` "
        "with KERAS_BACKEND=tensorflow. "
        f"Received: a file of Keras {said.version or 'of unknown version'}"
    )


def _has_code(path: pathlib.Path) -> ValueError:
    return ValueError(
        f"The model in {str(path)!r} has a Lambda layer whose Python code lies in the file, and "
        "code from a file is never run. If you trust where it comes from, load it in Python with "
        "`keras.models.load_model(path, safe_mode=False)` and pass the model itself to the "
        "function of tfprune; better, put a layer of Keras in the place of the Lambda. "
        "Received: a Lambda layer with Python code"
    )
