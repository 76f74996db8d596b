"""Small image sets to prune on: digits (in the package), MNIST, Fashion-MNIST and CIFAR-10.

`load(name)` gives every set in one form: float32 images in [0, 1], NHWC, integer labels. Files come
from `data_dir`, or are downloaded by `keras.datasets`; only `digits` needs neither.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import os
import pathlib

import numpy as np

from tfprune import image_files

_CLASSES = {
    name: tuple(classes.split())
    for name, classes in {
        "digits": "0 1 2 3 4 5 6 7 8 9",
        "fashion_mnist": "T-shirt trouser pullover dress coat sandal shirt sneaker bag ankle-boot",
        "mnist": "0 1 2 3 4 5 6 7 8 9",
        "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    }.items()
}
NAMES = tuple(_CLASSES)

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels to train and test on.

    `x_train` and `x_test` are float32 in [0, 1] of shape (images, height, width, channels);
    `y_train` and `y_test` are int64 of shape (images,), indices into `classes`.
    `source` says where the images came from.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    source: str

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of one image: (height, width, channels)."""
        return self.x_train.shape[1:]

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}: {len(self.x_train)} training and {len(self.x_test)} test "
            f"images of {'x'.join(map(str, self.image_shape))}, {len(self.classes)} classes)"
        )


def spaced(size: int, count: int) -> np.ndarray:
    """Return `count` indices into `size` things, evenly spaced; all of them if there are no more.

    Files of images may be sorted by class: the first of them would be of one class only.

    Example: `spaced(10, 4)` is `[0, 2, 5, 7]`.
    """
    return np.arange(size) if count >= size else np.arange(count) * size // count


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """Load a set of images by name: "digits", "fashion_mnist", "mnist" or "cifar10".

    ```python
    from tfprune import datasets

    data = datasets.load("digits")
    model.fit(data.x_train, data.y_train)
    ```

    What `data_dir` may hold; without it the set is downloaded once by `keras.datasets`:

    - mnist, fashion_mnist: the four IDX files `train-images-idx3-ubyte`, ..., raw or `.gz`;
    - cifar10: the official Python batches `data_batch_1`, ..., `test_batch` (also inside
      `cifar-10-batches-py/`), or a file `cifar10*.npz` in the JPEG npz layout: for `train` and
      `test` the arrays `{part}_jpeg` (uint8, all files end to end), `{part}_offsets` and
      `{part}_labels`, image i being `jpeg[offsets[i]:offsets[i + 1]]`.

    Raises:
        ValueError: an unknown name, a `data_dir` for digits, or a corrupt file.
        FileNotFoundError: `data_dir` or a file in it does not exist.
        OSError: the download failed.
    """
    if name not in _CLASSES:
        raise ValueError(f"No such dataset; there are {', '.join(NAMES)}. Received: name={name!r}")
    if name == "digits":
        if data_dir is not None:
            raise ValueError(
                "The digits ship inside tfprune and are not read from a folder: leave `data_dir` "
                f"out, or name another dataset. Received: data_dir={str(data_dir)!r}"
            )
        arrays, source = (
            _embedded_digits(),
            "embedded: UCI Optical Recognition of Handwritten Digits",
        )
        scale = 16.0
    elif data_dir is None:
        arrays, source, scale = _download(name), f"keras.datasets.{name}", 255.0
    else:
        folder = _existing_folder(data_dir)
        arrays, source = (_cifar10_in if name == "cifar10" else _idx_in)(folder)
        scale = 255.0
    return _as_dataset(name, arrays, source, scale)


def _as_dataset(name: str, arrays: image_files.Arrays, source: str, scale: float) -> Dataset:
    x_train, y_train, x_test, y_test = arrays
    classes = _CLASSES[name]
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(
                f"The {part} part of {name} must have one label for each image, and at least one. "
                f"Received: {len(x)} images and {len(y)} labels from {source}"
            )
        lowest, highest = int(y.min()), int(y.max())
        if lowest < 0 or highest >= len(classes):
            raise ValueError(
                f"Labels of {name} must be 0 to {len(classes) - 1}. "
                f"Received: labels {lowest} to {highest} in the {part} part from {source}"
            )

    def images(x: np.ndarray) -> np.ndarray:
        scaled = x.astype("float32") / np.float32(scale)
        return scaled[..., None] if scaled.ndim == 3 else scaled

    def labels(y: np.ndarray) -> np.ndarray:
        return y.astype("int64")

    return Dataset(
        name, images(x_train), labels(y_train), images(x_test), labels(y_test), classes, source
    )


def _embedded_digits() -> image_files.Arrays:
    file = importlib.resources.files("tfprune") / "data" / "digits.npz"
    with file.open("rb") as opened, np.load(opened) as arrays:
        return arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"]


def _download(name: str) -> image_files.Arrays:
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception when a download fails
        if not isinstance(error.__context__, OSError):
            raise
        raise OSError(
            f"{name} could not be downloaded ({error}). Check the connection, or pass the folder "
            "that holds its files as data_dir (--data-dir)."
        ) from error
    return x_train, y_train.reshape(-1), x_test, y_test.reshape(-1)


def _existing_folder(data_dir: str | os.PathLike) -> pathlib.Path:
    folder = pathlib.Path(data_dir).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"The data folder {what}; pass the folder that holds the files. "
            f"Received: data_dir={str(data_dir)!r}"
        )
    return folder


def _missing(folder: pathlib.Path, wanted: str) -> FileNotFoundError:
    found = sorted(path.name for path in folder.iterdir())
    listed = ", ".join(found[:6]) + (", ..." if len(found) > 6 else "")
    return FileNotFoundError(
        f"Expected {wanted} in the data folder. "
        f"Received: data_dir={str(folder)!r}, which holds {listed or 'nothing'}"
    )


def _idx_in(folder: pathlib.Path) -> tuple[image_files.Arrays, str]:
    paths = []
    for name in _IDX_FILES:
        candidates = (folder / name, folder / f"{name}.gz")
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise _missing(folder, f"the IDX file {name} (or {name}.gz)")
        paths.append(path)
    x_train, y_train, x_test, y_test = map(image_files.read_idx, paths, (3, 1, 3, 1))
    return (x_train, y_train, x_test, y_test), str(folder)


def _cifar10_in(folder: pathlib.Path) -> tuple[image_files.Arrays, str]:
    for place in (folder, folder / "cifar-10-batches-py"):
        if all((place / name).is_file() for name in image_files.CIFAR_BATCHES):
            return image_files.read_cifar_batches(place), str(place)
    archives = sorted(folder.glob("cifar10*.npz"))
    if archives:
        return image_files.read_jpeg_npz(archives[0]), f"{archives[0]} (JPEG npz)"
    raise _missing(
        folder, "the official Python batches (data_batch_1 to 5, test_batch) or a cifar10*.npz"
    )
