"""Keep TensorFlow's chatter off the screen, and at hand for error messages."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import IO

_STDERR = 2
_LOGGERS = ("tensorflow", "absl")


class Chatter:
    """What was written to the standard error in the meantime."""

    def __init__(self, file: IO[bytes] | None):
        self._file = file

    def errors(self) -> list[str]:
        """Return the lines that say `error:`, in order, each once."""
        if self._file is None:
            return []
        self._file.flush()
        self._file.seek(0)
        lines = self._file.read().decode("utf-8", "replace").splitlines()
        return list(dict.fromkeys(line.strip() for line in lines if "error:" in line.lower()))


@contextlib.contextmanager
def quiet() -> Iterator[Chatter]:
    """Send what C++ code and TensorFlow's loggers write to the standard error to a file.

    Only the file descriptor 2 is moved, so that a progress bar on the standard output lives on.
    Exceptions pass unchanged, and so do Python warnings but for one about TensorFlow itself.
    """
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryFile() as file, warnings.catch_warnings():
        # TensorFlow's calibrator uses the interpreter that TensorFlow deprecates.
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter")
        try:
            saved = os.dup(_STDERR)
        except OSError:  # a process without a standard error has nothing to silence
            saved = None
        try:
            if saved is not None:
                os.dup2(file.fileno(), _STDERR)
            yield Chatter(file)
        finally:
            if saved is not None:
                os.dup2(saved, _STDERR)
                os.close(saved)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
