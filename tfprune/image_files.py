"""Image files as published: IDX (MNIST), CIFAR-10's Python batches, and the JPEG npz layout.

Each function reads one format into uint8 arrays and says clearly when a file is not what it should
be. A data file never runs code: pickles are read with nothing but numpy arrays allowed.
"""

from __future__ import annotations

import gzip
import itertools
import math
import os
import pathlib
import pickle
import zipfile
import zlib

import numpy as np

CIFAR_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_JPEG_KEYS = tuple(
    f"{part}_{what}" for part in ("train", "test") for what in ("jpeg", "offsets", "labels")
)
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""x_train, y_train, x_test, y_test."""


def read_idx(path: str | os.PathLike, rank: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, raw or gzip, as a uint8 array with `rank` dimensions.

    The format: two zero bytes, the type (8 is uint8), the rank, each dimension as a big-endian
    32-bit integer, then the bytes (<http://yann.lecun.com/exdb/mnist/>).

    Raises:
        ValueError: another magic number, another rank, or too few or too many bytes.
    """
    content = pathlib.Path(path).read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"The gzip file is corrupt or cut short: {error}. Received: {str(path)!r}"
            ) from error
    expected = bytes([0, 0, 8, rank])
    if content[:4] != expected:
        raise ValueError(
            f"Expected an IDX file of {rank}-dimensional unsigned bytes, which starts with "
            f"{expected.hex(' ')}. Received: {str(path)!r}, which starts with "
            f"{content[:4].hex(' ') or 'nothing'}"
        )
    header = 4 + 4 * rank
    if len(content) < header:
        raise ValueError(f"The IDX file is cut short inside its header. Received: {str(path)!r}")
    shape = tuple(int(n) for n in np.frombuffer(content[4:header], ">u4"))
    if len(content) - header != math.prod(shape):
        raise ValueError(
            "The IDX file is cut short or too long: its header announces "
            f"{'x'.join(map(str, shape))} bytes. "
            f"Received: {str(path)!r} with {len(content) - header} bytes of data"
        )
    return np.frombuffer(content, "uint8", offset=header).reshape(shape)


_NOT_A_BATCH = (  # what pickle and the lines after it raise on arbitrary bytes
    *(pickle.UnpicklingError, EOFError, LookupError),
    *(TypeError, ValueError, AttributeError),
)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and plain Python values only: a data file must not run code."""

    def find_class(self, module: str, name: str):
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if name == "_reconstruct" and module.startswith("numpy."):
            return np.empty(0).__reduce__()[0]  # its module moved in numpy 2
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image file needs")


def read_cifar_batches(folder: str | os.PathLike) -> Arrays:
    """Read CIFAR-10's `data_batch_1` to `data_batch_5` and `test_batch` from one folder.

    Images come as uint8 of shape (images, 32, 32, 3), as <https://www.cs.toronto.edu/~kriz/cifar.html>
    stores them.

    Raises:
        ValueError: a file is not such a batch, or asks for more than numpy arrays.
    """
    batches = [_cifar_batch(pathlib.Path(folder) / name) for name in CIFAR_BATCHES]
    x_train = np.concatenate([images for images, _ in batches[:-1]])
    y_train = np.concatenate([labels for _, labels in batches[:-1]])
    return x_train, y_train, *batches[-1]


def _cifar_batch(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
        images = content[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return images, np.asarray(content[b"labels"])
    except _NOT_A_BATCH as error:
        raise ValueError(
            "Expected a CIFAR-10 Python batch: a pickle with b'data' (images x 3072 bytes) and "
            f"b'labels'. Received: {str(path)!r} ({error})"
        ) from error


def read_jpeg_npz(path: str | os.PathLike) -> Arrays:
    """Read images that are kept as JPEG bytes in one .npz file (the JPEG npz layout).

    For `train` and `test` it holds `{part}_jpeg` (uint8, all JPEG files end to end),
    `{part}_offsets` (image i is `jpeg[offsets[i]:offsets[i + 1]]`) and `{part}_labels`.

    Raises:
        ValueError: a corrupt file, a missing key, or bytes that are no JPEG image.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in _JPEG_KEYS if key not in archive.files]
            arrays = {key: archive[key] for key in _JPEG_KEYS if not missing}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, TypeError) as error:
        raise ValueError(f"Not a readable .npz file: {error}. Received: {str(path)!r}") from error
    if missing:
        raise ValueError(
            f"Expected the JPEG npz layout, with the keys {', '.join(_JPEG_KEYS)}. "
            f"Received: {str(path)!r} without {', '.join(missing)}"
        )
    x_train, x_test = (
        _decode_jpegs(arrays[f"{part}_jpeg"], arrays[f"{part}_offsets"], path)
        for part in ("train", "test")
    )
    return x_train, arrays["train_labels"], x_test, arrays["test_labels"]


def _decode_jpegs(jpeg: np.ndarray, offsets: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    import tensorflow as tf

    content = jpeg.tobytes()
    rising = len(offsets) > 0 and offsets[0] == 0 and bool((np.diff(offsets) > 0).all())
    if not rising or offsets[-1] != len(content):
        raise ValueError(
            f"The offsets must rise from 0 to the number of JPEG bytes, {len(content)}. "
            f"Received: {str(path)!r}"
        )
    files = [content[a:b] for a, b in itertools.pairwise(offsets)]
    decoded = tf.data.Dataset.from_tensor_slices(files).map(
        lambda file: tf.io.decode_jpeg(file, channels=3), num_parallel_calls=tf.data.AUTOTUNE
    )
    try:
        return np.concatenate(list(decoded.batch(1000).as_numpy_iterator()))
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"An image is not a readable JPEG, or not of the size of the others. "
            f"Received: {str(path)!r} ({error.message})"
        ) from error
