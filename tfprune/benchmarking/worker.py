"""The child process that holds one file: loads it, runs it when asked, tells how long it took.

It answers lines of JSON on its standard output with lines of JSON. What native code prints goes to
the standard error. Only ai-edge-litert and numpy are loaded, so that little memory is in use
before the file is.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfprune import child

_STATUS = pathlib.Path("/proc/self/status")
_CLEAR = pathlib.Path("/proc/self/clear_refs")


class Worker:
    """One file in one interpreter."""

    def __init__(self, question: dict[str, Any]):
        self._question = question
        self._folder = pathlib.Path(question["folder"])
        self._before = peak_memory(start=True)
        self._interpreter: Any = None
        self._runner: Any = None

    def load(self) -> dict[str, Any]:
        """Create the interpreter, run once, write the outputs to the folder."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        arrays = [np.load(self._folder / f"input{i}.npy") for i in range(len(self._inputs))]
        resolver = OpResolverType.AUTO
        if not self._question["xnnpack"]:
            resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        start = time.perf_counter_ns()
        interpreter = Interpreter(
            model_path=self._question["path"],
            experimental_op_resolver_type=resolver,
            num_threads=self._question["threads"],
        )
        signature = self._question["signature"] if self._question["subgraph"] else None
        if signature is None:
            for one in self._inputs:
                if one["resized"]:
                    interpreter.resize_tensor_input(one["index"], one["shape"])
            interpreter.allocate_tensors()
        loaded = time.perf_counter_ns()
        self._interpreter = interpreter
        if signature is None:
            for one, array in zip(self._inputs, arrays, strict=True):
                interpreter.set_tensor(one["index"], array)
        else:  # a graph other than the main one is reached through its signature only
            runner = interpreter.get_signature_runner(signature)
            named = {one["name"]: a for one, a in zip(self._inputs, arrays, strict=True)}
            self._runner = lambda: runner(**named)
        start_first = time.perf_counter_ns()
        results = self._invoke()
        end = time.perf_counter_ns()
        for index, one in enumerate(self._question["outputs"]):
            value = results[one["name"]] if results else interpreter.get_tensor(one["index"])
            np.save(self._folder / f"output{index}.npy", value)
        return {"load_ms": (loaded - start) / 1e6, "first_ms": (end - start_first) / 1e6}

    def run(self, count: int) -> dict[str, Any]:
        """Run so many times; return the milliseconds of each."""
        times = []
        for _ in range(count):
            start = time.perf_counter_ns()
            self._invoke()
            times.append((time.perf_counter_ns() - start) / 1e6)
        return {"ms": times}

    def memory(self) -> dict[str, Any]:
        """Return by how many bytes the largest use so far is above that before loading."""
        peak = peak_memory()
        if peak is None or self._before is None:
            return {"bytes": None}
        return {"bytes": max(0, peak - self._before)}

    @property
    def _inputs(self) -> list[dict[str, Any]]:
        return self._question["inputs"]

    def _invoke(self) -> Any:
        if self._runner is not None:
            return self._runner()
        return self._interpreter.invoke()


def answer() -> None:
    """Answer the parent until it closes the pipe; run by the child only."""
    child.serve(_prepare, child.REFUSALS)


def _prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    import ai_edge_litert.interpreter  # noqa: F401 -- the memory before loading includes it

    worker: Worker | None = None

    def reply(ask: dict[str, Any]) -> dict[str, Any]:
        nonlocal worker
        if worker is None:
            worker = Worker(ask["question"])
            return {}
        if ask["do"] == "load":
            return worker.load()
        return worker.run(ask["count"]) if ask["do"] == "run" else worker.memory()

    return reply


def peak_memory(start: bool = False) -> int | None:
    """Return the largest resident memory of this process so far in bytes, None if not known.

    On Linux this is VmHWM, not `ru_maxrss`: a child inherits the latter from its parent, so that
    under a parent with TensorFlow loaded no model would seem to need any memory.

    Args:
        start: count from now on, where the system allows it.
    """
    if _STATUS.is_file():
        if start:
            with contextlib.suppress(OSError):
                _CLEAR.write_text("5")  # see proc(5): resets the peak to what is in use now
        for line in _STATUS.read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024
