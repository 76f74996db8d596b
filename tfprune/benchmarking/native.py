"""Measure a file in ai-edge-litert on this machine, in a process of its own."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfprune.benchmarking.cpu import this_cpu
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.figures import Plan
from tfprune.benchmarking.model import Model
from tfprune.benchmarking.turns import Loaded, Runner, TurnTaking

_CHILD = "from tfprune.benchmarking import worker; worker.answer()"
_START_SECONDS = 120.0  # Python, numpy and the runtime's libraries, on a slow disk


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
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None
        self._open = contextlib.ExitStack()

    def load(self) -> Loaded:
        """Start the process, load the file, run it once."""
        folder = self._folder = self._open.enter_context(
            tempfile.TemporaryDirectory(prefix="tfprune-")
        )
        for index, array in enumerate(self._inputs):
            np.save(pathlib.Path(folder, f"input{index}.npy"), array)
        self._start()
        self._ask(self._question(folder), "starting", max(self._seconds, _START_SECONDS))
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
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        self._open.close()

    def _start(self) -> None:
        search = os.pathsep.join(part or os.getcwd() for part in sys.path)
        # closed with the rest
        self._errors = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": search},
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while we read
            for line in process.stdout:
                self._answers.put(line)
        self._answers.put(None)

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

    def _ask(self, ask: dict[str, Any], what: str, seconds: float | None = None) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        limit = seconds or self._seconds
        try:
            process.stdin.write(json.dumps(ask) + "\n")
            process.stdin.flush()
            answer = self._answers.get(timeout=limit)
        except queue.Empty:
            process.kill()
            raise FileFailure(
                f"{what} did not end within {limit:g} seconds, and was stopped. Ask for fewer "
                "runs, or pass a larger `time_limit` (`--time-limit`)"
            ) from None
        except OSError:  # the pipe broke: it ended before it could read
            answer = None
        if answer is None:
            raise FileFailure(f"{what} {_ending(process.wait())}{self._last_words()}")
        reply = json.loads(answer)
        if "error" in reply:
            raise FileFailure(f"{what} failed: {_with_custom(reply['error'], self._model)}")
        return reply

    def _last_words(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith(("INFO:", "WARNING:"))]
        return f": {lines[-1]}" if lines else ""


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


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended its process with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"crashed the runtime ({name})"


def _with_custom(message: str, model: Model) -> str:
    text = " ".join(message.split())
    if not model.custom:
        return text
    return (
        f"{text}. The file has custom operations ({', '.join(model.custom)}), for which a runtime "
        "needs kernels of its own: measure it in the app, or convert it without them"
    )
