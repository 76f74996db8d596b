"""Run a `.tflite` file in ai-edge-litert, as an app would and with XNNPACK off.

In a process of its own, which is kept for the next file: there are files that crash the runtime
("double free", seen for a MobileNetV3 in int8), and with it the process that it runs in.
"""

from __future__ import annotations

import atexit
import itertools
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tfprune.child import Child, ChildFailure, ChildRefusal

DEFAULT = "default"
XNNPACK_OFF = "XNNPACK off"
SECONDS = 300.0
"""Time limit for loading a file and for each sample, which take milliseconds to a few seconds."""

_CODE = "from tfprune.export import worker; worker.answer()"

Sample = dict[str, np.ndarray]
"""The inputs, or the outputs, of one call by their names in the file's signature."""


class RuntimeFailure(RuntimeError):
    """A file that the runtime could not load or run."""


class RuntimeCrash(RuntimeFailure):
    """A file that ended the process that it ran in, or did not come to an end."""


class Interpreters:
    """A process in which files are run; it starts when needed, and again after a crash.

    Args:
        command: what its Python is started with, such as an emulator.
        code: that it runs.

    Example:

    ```python
    interpreters = Interpreters()
    interpreters.run("a.tflite", [{"x": np.zeros((1, 8), "float32")}], DEFAULT)
    interpreters.close()
    ```
    """

    def __init__(self, command: Sequence[str] = (), code: str = _CODE):
        self._command, self._code = command, code
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._child: Child | None = None
        self._owner = 0

    def start(self) -> Child:
        """Start the process, unless it runs already, without waiting for it."""
        with self._lock:
            if self._owner != os.getpid():
                self._child = None  # after a fork: it belongs to the parent, who uses it
            if self._child is not None and not self._child.alive:
                self._child.close()
                self._child = None
            if self._child is None:
                self._child = Child(self._code, "the runtime", self._command)
                self._owner = os.getpid()
            return self._child

    def close(self) -> None:
        """End the process, if it runs."""
        with self._lock:
            if self._child is not None and self._owner == os.getpid():
                self._child.close()
            self._child = None

    def refusal(self, path: str | os.PathLike) -> str | None:
        """Return why the runtime does not open a file, None if it does.

        It checks every offset in the file, and has a kernel of the right version for each
        operation. Inputs need no sizes for that.

        Raises:
            ChildProcessError: the process does not start.
        """
        try:
            self.start().ask({"do": "check", "path": os.path.abspath(path)}, SECONDS)
        except ChildFailure as error:
            return f"it {str(error).strip()}"
        return None

    def run(self, path: str | os.PathLike, samples: list[Sample], runtime: str) -> list[Sample]:
        """Return the named outputs of a file for each sample; see `outputs`."""
        child = self.start()
        fresh = not child.asked
        try:
            return list(self._outputs(child, path, samples, runtime))
        except RuntimeCrash:
            if fresh:
                raise
            # Perhaps the file before left a broken heap behind: a new process tells.
            return list(self.outputs(path, samples, runtime))

    def outputs(
        self, path: str | os.PathLike, samples: Iterable[Sample], runtime: str
    ) -> Iterator[Sample]:
        """Give the named outputs of a file for one sample after the other.

        Args:
            path: the `.tflite` file.
            samples: arrays by the names of the inputs; one that the graph does not use is left out.
            runtime: `DEFAULT` (XNNPACK where it applies) or `XNNPACK_OFF` (plain kernels).

        Raises:
            RuntimeFailure: the runtime refuses the file or fails on a sample.
            RuntimeCrash: it crashes, or does not end in time.
            ChildProcessError: the process does not start.
        """
        return self._outputs(self.start(), path, samples, runtime)

    def _outputs(
        self, child: Child, path: str | os.PathLike, samples: Iterable[Sample], runtime: str
    ) -> Iterator[Sample]:
        number = next(self._numbers)

        def ask(what: str, **question: Any) -> dict[str, Any]:
            try:
                return child.ask({"do": what, "file": number, **question}, SECONDS)
            except ChildRefusal as error:
                raise RuntimeFailure(
                    f"ai-edge-litert ({runtime}) cannot run the exported file: it {error}"
                ) from error
            except ChildFailure as error:
                raise RuntimeCrash(
                    f"ai-edge-litert ({runtime}) does not survive the exported file: {_PARTS[what]}"
                    f" {error}"
                ) from error

        with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
            xnnpack = runtime == DEFAULT
            ask("load", path=os.path.abspath(path), xnnpack=xnnpack)
            try:
                for sample in samples:
                    inputs = {}
                    for index, (name, array) in enumerate(sample.items()):
                        inputs[name] = os.path.join(folder, f"input{index}.npy")
                        np.save(inputs[name], array)
                    found = ask("run", inputs=inputs, folder=folder)["outputs"]
                    yield {name: np.load(file) for name, file in found.items()}
            finally:
                if child.alive:
                    ask("close")


_PARTS = {"load": "loading it", "run": "running it", "close": "freeing it"}
_HERE = Interpreters()
atexit.register(_HERE.close)


def interpreters() -> Interpreters:
    """Return the process that this one shares between all its exports."""
    return _HERE
