"""The child process that runs exported files: a crash of the runtime is a crash of this one.

Only ai-edge-litert and numpy are loaded, so that it starts in the time that a conversion takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tfprune import child


class Worker:
    """The files that are loaded, by numbers that the parent gives them."""

    def __init__(self) -> None:
        self._runners: dict[int, Any] = {}

    def load(self, file: int, path: str, xnnpack: bool) -> dict[str, Any]:
        """Load a file, with XNNPACK where it applies or with plain kernels only."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        resolver = OpResolverType.AUTO if xnnpack else plain
        interpreter = Interpreter(
            model_path=path, experimental_op_resolver_type=resolver, num_threads=1
        )
        names = [*interpreter.get_signature_list()]
        # None is "the only one there is".
        chosen = "serving_default" if "serving_default" in names else None
        self._runners[file] = interpreter.get_signature_runner(chosen)
        return {}

    def check(self, path: str) -> dict[str, Any]:
        """Open a file without preparing it to run; the runtime checks its bytes and operations."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        Interpreter(model_path=path, experimental_op_resolver_type=plain, num_threads=1)
        return {}

    def run(self, file: int, inputs: dict[str, str], folder: str) -> dict[str, Any]:
        """Run a file once on arrays that lie in files; return where its outputs lie."""
        runner = self._runners[file]
        wanted = runner.get_input_details()
        # An input that the graph does not use is dropped by the converter.
        arrays = {name: np.load(path) for name, path in inputs.items() if name in wanted}
        outputs = {}
        for index, (name, value) in enumerate(runner(**arrays).items()):
            outputs[name] = os.path.join(folder, f"output{index}.npy")
            np.save(outputs[name], value)
        return {"outputs": outputs}

    def close(self, file: int) -> dict[str, Any]:
        """Free a file; a runtime that wrote where it must not may crash here."""
        self._runners.pop(file, None)
        return {}


def answer() -> None:
    """Answer the parent until it closes the pipe; run by the child only."""
    child.serve(_prepare, child.REFUSALS)


def _prepare() -> Callable[[dict[str, Any]], dict[str, Any]]:
    import ai_edge_litert.interpreter  # noqa: F401 -- while the parent still converts

    worker = Worker()
    asks = {
        "check": worker.check,
        "load": worker.load,
        "run": worker.run,
        "close": worker.close,
    }

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        return asks[question.pop("do")](**question)

    return reply
