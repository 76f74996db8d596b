"""A model and what it needs, as files that another process can read, here or elsewhere."""

from __future__ import annotations

import os
import pathlib
import pickle
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfprune import masks
from tfprune.cloning import leaves

MODEL, OBJECTS, VALUES = "model.keras", "objects.pickle", "values.pickle"
"""Files in the folder of a parcel."""

Dumps = Callable[[Any], bytes]


def pack(
    folder: str | os.PathLike,
    model: keras.Model,
    values: Mapping[str, Any],
    compiled: bool,
    alone: str,
    dumps: Dumps = pickle.dumps,
) -> None:
    """Write a model, the classes that Keras does not bring, and values for those who run it.

    Args:
        folder: an empty one.
        model: a built model of Keras 3.
        values: by what a message calls them, such as {"the metric": closeness}.
        compiled: whether the copy is to be compiled as the model is.
        alone: how to do without other processes, for messages: "Measure with processes=1".
        dumps: pickles; by reference, as `pickle.dumps` does, or by value.

    Example: `pack(folder, model, {"the metric": "loss"}, True, "Measure with processes=1")`

    Raises:
        ValueError: the model cannot be saved, or another process could not find something.
    """
    files = pathlib.Path(folder)
    objects = _pickled(_own_objects(model), "a class or loss of the model", alone, dumps)
    (files / OBJECTS).write_bytes(objects)
    for name, value in values.items():
        _pickled(value, name, alone, dumps)
    (files / VALUES).write_bytes(dumps((compiled, tuple(values.values()))))
    try:
        model.save(files / MODEL)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"The model '{model.name}' cannot be saved, and other processes need a copy of it "
            f"({str(error).strip().splitlines()[0]}). {alone}. Received: {model!r}"
        ) from error


def unpack(folder: str | os.PathLike) -> tuple[keras.Model, tuple[Any, ...]]:
    """Return the model of a parcel and the values, in the order in which they were given."""
    files = pathlib.Path(folder)
    # Classes first: unpickling them imports the modules in which they are registered.
    objects = pickle.loads((files / OBJECTS).read_bytes())
    compiled, values = pickle.loads((files / VALUES).read_bytes())
    return loaded(files / MODEL, objects, compiled), values


def loaded(path: pathlib.Path, objects: Mapping[str, Any], compiled: bool = False) -> keras.Model:
    """Return a model that this user's own process saved, so that its code may run."""
    model: Any = keras.models.load_model(
        path, custom_objects=dict(objects), compile=compiled, safe_mode=False
    )
    return model


def sent(*arguments: Any, dumps: Dumps) -> dict[str, bytes]:
    """Return what `pack` writes as bytes, by name: for a machine that has no such folder."""
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        pack(folder, *arguments, dumps=dumps)
        return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


def received(files: Mapping[str, bytes]) -> tuple[keras.Model, tuple[Any, ...]]:
    """Return what `unpack` does of what `sent` made."""
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        for name, content in files.items():
            (pathlib.Path(folder) / name).write_bytes(content)
        return unpack(folder)


def model_bytes(model: keras.Model) -> bytes:
    """Return the content of a model's `.keras` file."""
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        path = pathlib.Path(folder) / MODEL
        model.save(path)
        return path.read_bytes()


def model_of(content: bytes, like: keras.Model) -> keras.Model:
    """Return the model of a `.keras` file's content, with the own classes of another one."""
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        path = pathlib.Path(folder) / MODEL
        path.write_bytes(content)
        return loaded(path, _own_objects(like))


def limit_threads(threads: int) -> None:
    """Leave the other cores to other processes; called before TensorFlow runs anything."""
    masks.limit_cores(threads)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)


def _pickled(value: Any, what: str, alone: str, dumps: Dumps) -> bytes:
    """Return what another process can read.

    Raises:
        ValueError: it could not, as something is a lambda, or defined in a function or script.
    """
    parts = value.values() if isinstance(value, dict) else (value,)
    by_value = dumps is not pickle.dumps
    try:
        content = dumps(value)
        there = by_value or all(getattr(one, "__module__", "") != "__main__" for one in parts)
    except (pickle.PicklingError, AttributeError, TypeError):
        there, content = False, b""
    if not there:
        cause = (
            "it holds what cannot be pickled (a lock, an open file, a data set of TensorFlow); "
            "make that inside"
            if by_value
            else "functions and classes have to stand at the top of a module (a .py file that is "
            "imported), not in a script, a notebook or a function. Move it there"
        )
        raise ValueError(
            f"Other processes cannot find {what}: {cause}, or do without them. {alone}. "
            f"Received: {list(parts)!r}"
        )
    return content


def _own_objects(model: keras.Model) -> dict[str, Any]:
    """Return the classes and functions that the model needs and Keras does not bring."""
    found: list[Any] = [type(model)]
    for one in leaves(model):
        found.append(type(one))
        while isinstance(one, keras.layers.Wrapper):
            one = one.layer
            found.append(type(one))
    loss = getattr(model, "loss", None) if model.compiled else None
    found += [loss] if callable(loss) and hasattr(loss, "__name__") else [type(loss)]
    own = [one for one in found if one.__module__.split(".")[0] not in ("keras", "builtins")]
    names = {one.__name__: one for one in own}
    # A class that travels by value is not registered where it arrives.
    return names | {keras.saving.get_registered_name(one): one for one in own}
