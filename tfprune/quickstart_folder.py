"""The folder of a quickstart: its files, what may be replaced, how a new run comes into it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

FORMATS = ("float32", "float16", "dynamic", "int8")
TFLITE_FILES = ("dense-float32.tflite", *(f"pruned-{name}.tflite" for name in FORMATS))
# Those of `tfprune report` are about a run, and go when it goes.
FILES = ("model.keras", *TFLITE_FILES, "report.json", "report.html", "report.md")
_ROOM = ".quickstart-"


def checked_folder(out: str | os.PathLike, overwrite: bool) -> pathlib.Path:
    """Return the folder, which need not exist yet; refuse one that holds what must not be lost."""
    folder = pathlib.Path(out).expanduser()
    try:
        present = sorted(folder.iterdir()) if folder.is_dir() else []
        exists = folder.exists()
    except OSError as error:
        raise _unusable(out, error) from None
    if exists and not folder.is_dir():
        raise FileExistsError(
            f"The results need a folder, and this is a file; choose another name. "
            f"Received: out={str(out)!r}"
        )
    present = [path for path in present if not path.name.startswith(".")]
    foreign = [path.name for path in present if not _is_ours(path)]
    if foreign:
        raise FileExistsError(
            f"The folder holds what a quickstart did not write ({', '.join(foreign[:4])}), and "
            f"nothing was touched; choose a new or an empty one. Received: out={str(out)!r}"
        )
    if present and not overwrite:
        raise FileExistsError(
            "The folder holds an earlier quickstart; pass overwrite=True (--overwrite) to replace "
            f"it, or choose another one. Received: out={str(out)!r}"
        )
    return folder


def made_folder(folder: pathlib.Path) -> pathlib.Path:
    """Return the folder, made if it was not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from None
    return folder


def _unusable(out: str | os.PathLike, error: OSError) -> OSError:
    return OSError(
        f"The folder for the results cannot be made or read ({error.strerror}); choose "
        f"another one. Received: out={str(out)!r}"
    )


@contextlib.contextmanager
def told_of_full_disk(out: str | os.PathLike) -> Iterator[None]:
    """Say in words what TensorFlow, which writes the logs, tells of a disk without room."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left on device" not in str(error):  # memory
            raise
        raise OSError(
            "There is no room for the logs on the disk: make room, or choose a folder on another "
            f"one. Received: out={str(out)!r}"
        ) from None


def _is_ours(path: pathlib.Path) -> bool:
    if path.name == "logs" and path.is_dir() and not path.is_symlink():
        files = [file for file in path.rglob("*") if not file.is_dir()]
        return all(file.name.startswith("events.out.tfevents.") for file in files)
    return path.name in FILES


@contextlib.contextmanager
def room(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a folder to write into, whose files are in `folder` afterwards.

    What an earlier quickstart left there stays until all of the new one is written, and goes then:
    TensorBoard would mix the logs of both.
    """
    for forgotten in folder.glob(f"{_ROOM}*"):  # of a run that was killed
        shutil.rmtree(forgotten)
    if not any((folder / name).exists() for name in (*FILES, "logs")):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix=_ROOM, dir=folder) as name:
        inside = pathlib.Path(name)
        yield inside
        if (folder / "logs").exists():
            shutil.rmtree(folder / "logs")
        for name in FILES:
            if not (inside / name).exists():
                (folder / name).unlink(missing_ok=True)
        for made in inside.iterdir():
            os.replace(made, folder / made.name)
