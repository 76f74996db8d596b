"""Measure a file in ai-edge-litert on this machine, in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfprune.benchmarking.cpu import this_cpu
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.figures import Plan
from tfprune.benchmarking.model import Model
from tfprune.benchmarking.turns import Loaded, Runner, TurnTaking
from tfprune.child import Child, ChildFailure, ChildRefusal, ChildTimeout

_CHILD = "from tfprune.benchmarking import worker; worker.answer()"


class NativeRunner:
    """A file in a worker process.

    Args:
        model: the file.
        inputs: one array for each input.
        threads: of the interpreter.
        seconds: time limit for each thing that is asked.
        xnnpack: False for plain kernels, to compare with.
    """

    def __init__(
        self,
        model: Model,
        inputs: Sequence[np.ndarray],
        threads: int,
        seconds: float,
        xnnpack: bool = True,
    ):
        self._model, self._inputs, self._seconds = model, inputs, seconds
        self._threads, self._xnnpack = threads, xnnpack
        self._child: Child | None = None
        self._open = contextlib.ExitStack()

    def load(self) -> Loaded:
        """Start the process, load the file, run it once."""
        folder = self._folder = self._open.enter_context(
            tempfile.TemporaryDirectory(prefix="tfprune-")
        )
        for index, array in enumerate(self._inputs):
            np.save(pathlib.Path(folder, f"input{index}.npy"), array)
        self._child = Child(_CHILD, "the runtime")
        self._open.callback(self._child.close)
        self._ask({"do": "open", "question": self._question(folder)}, "starting")
        done = self._ask({"do": "load"}, "loading and the first run")
        count = len(self._model.outputs)
        outputs = tuple(np.load(pathlib.Path(folder, f"output{i}.npy")) for i in range(count))
        return Loaded(done["load_ms"], done["first_ms"], outputs)

    def run(self, count: int) -> list[float]:
        """Return the milliseconds of each of `count` runs."""
        return self._ask({"do": "run", "count": count}, f"{count} runs")["ms"]

    def memory(self) -> int | None:
        """Return the peak memory so far in bytes, above what the process needed before loading."""
        return self._ask({"do": "memory"}, "its memory")["bytes"]

    def close(self) -> None:
        """End the process, and remove its files."""
        self._open.close()

    def _question(self, folder: str) -> dict[str, Any]:
        model = self._model
        return {
            "path": os.path.abspath(model.path),
            "folder": folder,
            "threads": self._threads,
            "xnnpack": self._xnnpack,
            "subgraph": model.subgraph,
            "signature": model.signature,
            "inputs": [
                {
                    "name": tensor.name,
                    "index": tensor.index,
                    "shape": tensor.shape,
                    "resized": tensor.shape != tensor.stored_shape,
                }
                for tensor in model.inputs
            ],
            "outputs": [{"name": t.name, "index": t.index} for t in model.outputs],
        }

    def _ask(self, ask: dict[str, Any], what: str) -> dict[str, Any]:
        assert self._child is not None
        try:
            return self._child.ask(ask, self._seconds)
        except ChildTimeout as error:
            raise FileFailure(
                f"{what} {error}. Ask for fewer runs, or pass a larger `time_limit` "
                "(`--time-limit`)"
            ) from None
        except ChildRefusal as error:
            raise FileFailure(f"{what} {_with_custom(str(error), self._model)}") from None
        except ChildFailure as error:
            raise FileFailure(f"{what} {error}") from None


def plain_outputs(
    model: Model, inputs: Sequence[np.ndarray], seconds: float
) -> tuple[np.ndarray, ...]:
    """Return the outputs of a file with XNNPACK off, from a process that ends afterwards.

    Raises:
        FileFailure: the runtime refuses the file, crashes or takes too long.
    """
    runner = NativeRunner(model, inputs, 1, seconds, xnnpack=False)
    try:
        return runner.load().outputs
    finally:
        runner.close()


class Machine(TurnTaking):
    """This machine and its ai-edge-litert.

    Attributes:
        device: in words.
        cpu: its processor.
        versions: of the libraries that take part.
    """

    def __init__(self):
        version = importlib.metadata.version("ai-edge-litert")
        self.device = f"ai-edge-litert {version} on this machine"
        self.cpu = this_cpu()
        self.versions = {"ai-edge-litert": version}

    def runner(self, model: Model, inputs: Sequence[np.ndarray], plan: Plan) -> Runner:
        """Return the runner of one file."""
        return NativeRunner(model, inputs, plan.threads, plan.seconds)


def _with_custom(message: str, model: Model) -> str:
    text = " ".join(message.split())
    if not model.custom:
        return text
    return (
        f"{text}. The file has custom operations ({', '.join(model.custom)}), for which a runtime "
        "needs kernels of its own: measure it in the app, or convert it without them"
    )
