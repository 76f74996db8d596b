"""Read calibration and evaluation data, from files or from memory, and fit them to a model."""

from __future__ import annotations

import dataclasses
import os
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfprune.export import calibration
from tfprune.export.interface import Arrays, Interface
from tfprune.sources import check_source

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, KeyError, TypeError),
    *(NotImplementedError, tokenize.TokenError, SyntaxError, struct.error, MemoryError),
    *(OverflowError, RuntimeError),
)
"""What numpy and zipfile raise for bytes that are no archive of arrays."""
_LABELS = "y"


@dataclasses.dataclass(frozen=True)
class Given:
    """Data before it is known what the model takes.

    Attributes:
        inputs: in any form that `export_tflite` takes for `representative_data`.
        labels: of evaluation data; None for calibration data.
        name: of the file or the argument, for messages.
        from_file: whether `inputs` come from a file, by their keys.
    """

    inputs: Any
    labels: Any
    name: str
    from_file: bool


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Samples with labels.

    Attributes:
        samples: each one array of the file's batch size for each input.
        labels: one for each row of the outputs, an array (samples, ...); or whatever a `metric`
            takes.
        name: for messages.
    """

    samples: list[Arrays]
    labels: Any
    name: str

    @property
    def count(self) -> int:
        """Number of rows; a sample has one, unless the model fixes another batch size."""
        return sum(len(sample[0]) for sample in self.samples)


def read_calibration(data: Any) -> Given:
    """Return calibration data: the content of a `.npz` or `.npy` file, or what is in memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, damaged, or holds objects.
    """
    if not isinstance(data, (str, os.PathLike)):
        return Given(data, None, "representative_data", from_file=False)
    arrays = _read(data)
    return Given(_inputs(arrays), None, str(data), from_file=True)


def read_evaluation(data: Any) -> Given:
    """Return evaluation data: a `.npz` file with "x" and "y", or a pair (x, y) in memory.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: neither a path nor a pair.
        ValueError: the file is of another kind, damaged, holds objects, or no "y".
    """
    if not isinstance(data, (str, os.PathLike)):
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise TypeError(
                "`eval_data` must be a pair (x, y) of inputs and labels, or the path of a .npz "
                f"file that holds both. Received: {type(data).__name__}"
            )
        return Given(data[0], data[1], "eval_data", from_file=False)
    arrays = _read(data)
    if _LABELS not in arrays or len(arrays) == 1:
        raise ValueError(
            f"{str(data)!r} must hold inputs and labels: write it with "
            "`numpy.savez('eval.npz', x=inputs, y=labels)`. "
            f"Received: the keys {_listed(arrays)}"
        )
    return Given(_inputs(arrays), arrays[_LABELS], str(data), from_file=True)


def read_samples(path: str | os.PathLike) -> Any:
    """Return the inputs in a `.npz` or `.npy` file, or a pair (inputs, labels) if it holds "y".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, damaged, or holds objects.
    """
    arrays = _read(path)
    return (_inputs(arrays), arrays[_LABELS]) if _LABELS in arrays else _inputs(arrays)


def calibration_samples(given: Given, interface: Interface) -> list[Arrays]:
    """Return at most 300 samples that fit the model.

    Raises:
        TypeError, ValueError: they do not fit, hold NaN, are empty, or a single value throughout.
    """
    _check_keys(given, interface)
    limit = calibration.CALIBRATION_SAMPLES
    return calibration.samples(given.inputs, interface, given.name, limit)


def evaluation(given: Given, interface: Interface, any_labels: bool) -> Evaluation:
    """Return the samples and labels that fit the model.

    Args:
        given: what `read_evaluation` returned.
        interface: what the model takes.
        any_labels: whether labels are for a `metric` of the user's own, which knows their form.

    Raises:
        TypeError, ValueError: they do not fit, hold NaN, are empty, or differ in number.
    """
    _check_keys(given, interface)
    samples = calibration.samples(given.inputs, interface, given.name, sys.maxsize)
    rows = sum(len(sample[0]) for sample in samples)
    if any_labels and not hasattr(given.labels, "shape"):
        return Evaluation(samples, given.labels, given.name)
    labels = np.asarray(given.labels)
    if labels.dtype.kind not in "iubf":
        raise ValueError(
            f"The labels (y) in `{given.name}` must be numbers: class ids from 0, or one-hot rows. "
            f"Received: dtype {labels.dtype}"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(
            f"The labels (y) in `{given.name}` hold NaN or infinite values; leave those samples "
            f"out. Received: {np.count_nonzero(~np.isfinite(labels))} such values"
        )
    count = len(labels) if labels.ndim else 0
    # A model with a batch size of its own leaves the last rows over, as `samples` does.
    if not 0 <= count - rows < interface.batch:
        raise ValueError(
            f"Inputs (x) and labels (y) in `{given.name}` must be equally many. "
            f"Received: {rows:,} inputs and {count:,} labels"
        )
    return Evaluation(samples, labels[:rows], given.name)


def packed(samples: list[Arrays], interface: Interface) -> Any:
    """Return samples in the form that `export_tflite` takes, in the structure of the model.

    One batch of all, or a function that gives them one by one where their lengths differ.
    """
    if all(len({array.shape for array in arrays}) == 1 for arrays in zip(*samples, strict=True)):
        return interface.pack([np.concatenate(arrays) for arrays in zip(*samples, strict=True)])
    return lambda: (interface.pack(sample) for sample in samples)


def _read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    source = check_source(
        path, "a data file, such as `numpy.savez('data.npz', x=inputs, y=labels)` writes"
    )
    if source.suffix.lower() not in (".npz", ".npy"):
        raise ValueError(
            "A data file that ends in .npz (keys x and y, or the names of the inputs) or .npy "
            f"(inputs alone) is expected. Received: {str(path)!r}"
        )
    try:
        loaded = np.load(source, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"x": loaded}
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except _DAMAGE as error:
        with source.open("rb") as file:
            pickled = file.read(1) == b"\x80"
        if pickled or "Object arrays" in str(error):
            raise ValueError(
                f"{str(path)!r} holds Python objects, which are not read: a file may run code that "
                "way. Make an array of numbers of equal shapes, "
                "`numpy.asarray(inputs, 'float32')`, and save that. Received: dtype object"
            ) from error
        # numpy takes whatever it does not know for a pickle, and says so.
        detail = "" if "allow_pickle" in str(error) else f" ({error})"
        raise ValueError(
            f"Cannot read {str(path)!r}: it is damaged, cut short, or not a {source.suffix} file"
            f"{detail}. Write it again. Received: {source.stat().st_size:,} bytes"
        ) from error


def _inputs(arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the only array, if it is called x; else all but the labels, by name."""
    found = {key: value for key, value in arrays.items() if key != _LABELS}
    return found["x"] if set(found) == {"x"} else found


def _check_keys(given: Given, interface: Interface) -> None:
    names = [one.name for one in interface.inputs]
    if not given.from_file or (isinstance(given.inputs, np.ndarray) and len(names) == 1):
        return
    keys = given.inputs if isinstance(given.inputs, dict) else {"x": given.inputs}
    if set(keys) != set(names):
        wanted = "the key x, or " if len(names) == 1 else ""
        raise ValueError(
            f"`{given.name}` must hold {wanted}the names of the inputs of the model for keys: "
            f"{', '.join(map(repr, names))} (and y for labels). Received: the keys {_listed(keys)}"
        )


def _listed(keys: Any) -> str:
    return ", ".join(map(repr, keys)) or "none"
