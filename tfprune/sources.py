"""Files that are read: `check_source` says at once, and in words, that one is none."""

from __future__ import annotations

import os
import pathlib


def check_source(path: str | os.PathLike, expected: str, name: str = "path") -> pathlib.Path:
    """Return `path` as a `Path` if a file is there, or raise with what was expected.

    Args:
        path: what the user passed.
        expected: what the file should be, for the message: "a `.tflite` file".
        name: of the argument, for the message.

    Example: `check_source("model.tflite", "a `.tflite` file")`

    Raises:
        TypeError: `path` is not a path.
        FileNotFoundError: there is no such file, or it is a folder.
    """
    given = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not given or not isinstance(given, str):
        raise TypeError(
            f"`{name}` must be the path of {expected}, as a text or a `pathlib.Path`. "
            f"Received: {name}={path!r}"
        )
    source = pathlib.Path(path)
    if not source.is_file():
        what = "is a folder" if source.is_dir() else "does not exist"
        raise FileNotFoundError(
            f"The file {str(path)!r} {what}: give the path of {expected}. "
            f"Received: {name}={str(path)!r}"
        )
    return source
