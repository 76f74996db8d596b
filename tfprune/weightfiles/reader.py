"""`inspect_file`: choose the reader by the ending, and turn damage into one clear error."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
import zlib

from tfprune import layouts
from tfprune.sources import check_source
from tfprune.weightfiles import constants, flatbuffer, isolated, unpacking
from tfprune.weightfiles.result import FileSparsity, FileWeight, nm_pattern

Found = tuple[list[FileWeight], int, bool]
"""Rows, number of other values, whether masks were applied."""

_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, KeyError),
    *(OverflowError, NotImplementedError, MemoryError, RecursionError, OSError),
)


def inspect_file(path: str | os.PathLike) -> FileSparsity:
    """Return the sparsity of each weight in a `.keras`, `.h5`, `.hdf5` or `.tflite` file.

    Args:
        path: of the file, told by its ending. It is read, never run. Pruning masks that are
            saved in it are applied first.

    Returns:
        A `FileSparsity`, which prints as a table: for each weight its shape, in the axes of the
        file, its number of values, those that are not zero, and its N:M pattern; the fraction of
        zeros, from 0 to 1, of each and of all; the size of the file as it is and after gzip, in
        bytes.

    Example: `print(inspect_file("model.keras"))`

    Raises:
        TypeError: `path` is not a path.
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, or a damaged one.

    Source: tfprune's own readers of HDF5 and FlatBuffers, in `tfprune/weightfiles`: Keras and
    TensorFlow are not loaded.
    """
    source = check_source(path, "a model file (.keras, .h5, .hdf5 or .tflite)")
    readers = {".keras": _keras, ".h5": isolated.read, ".hdf5": isolated.read, ".tflite": _tflite}
    reader = readers.get(source.suffix.lower())
    if reader is None:
        raise ValueError(
            f"A file that ends in one of {', '.join(readers)} is expected. "
            f"Received: path={str(path)!r}"
        )
    content = source.read_bytes()
    try:
        rows, other, masked = reader(content)
        metadata = flatbuffer.read_metadata(content) if reader is _tflite else {}
    except ChildProcessError:  # the file is not to blame
        raise
    except flatbuffer.Unreadable as error:  # it says itself what is wrong
        raise ValueError(f"Cannot read {str(path)!r}: {error}") from error
    except _DAMAGE as error:
        raise ValueError(
            f"Cannot read {str(path)!r}: it is damaged, cut short, or not a {source.suffix} file "
            f"({error}). Copy or save it again. Received: {len(content):,} bytes"
        ) from error
    packed = len(gzip.compress(content, compresslevel=6, mtime=0))
    return FileSparsity(str(path), tuple(rows), other, masked, len(content), packed, metadata)


def _tflite(content: bytes) -> tuple[list[FileWeight], int, bool]:
    rows, other = [], 0
    for constant in constants.read_constants(content):
        if not constant.is_weight:
            other += constant.size
            continue
        shape, pattern = constant.shape, ""
        # Input channels come last, but for depthwise kernels, whose first axis is 1.
        if shape[0] > 1:
            last = layouts.Layout((len(shape) - 1,), tuple(range(len(shape) - 1)))
            pattern = nm_pattern(constant.is_zero.reshape(shape), last)
        name, counts = constant.name, (constant.size, constant.nonzero)
        rows.append(FileWeight(name, shape, constant.dtype, *counts, pattern))
    return rows, other, False


def _keras(content: bytes) -> tuple[list[FileWeight], int, bool]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        if "model.weights.h5" not in names:
            raise ValueError(f"there is no model.weights.h5 in it, only {', '.join(names)}")
        config = _member(archive, "config.json") if "config.json" in names else b"{}"
        return isolated.read(_member(archive, "model.weights.h5"), json.loads(config))


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    unpacking.require_plausible(name, info.file_size, info.compress_size)
    return archive.read(info)  # checks its CRC
