"""One file on a phone: copied, run by `benchmark_model` in turns, its outputs copied back."""

from __future__ import annotations

import pathlib
import shlex
import statistics
import tempfile
from collections.abc import Callable, Sequence

import numpy as np

from tfprune.benchmarking.connection import ADB_SECONDS, Connection
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.figures import Figures, Plan
from tfprune.benchmarking.model import Model
from tfprune.benchmarking.tool_output import ToolFigures, complaint, parse

ROUNDS = 5
"""How often each file has its turn; each time in a fresh process."""


class PhoneRunner:
    """One file on the phone, and what is known of it so far."""

    def __init__(
        self,
        phone: Connection,
        binary: str,
        folder: str,
        model: Model,
        inputs: Sequence[np.ndarray],
        plan: Plan,
    ):
        self._phone, self._binary, self._folder = phone, binary, folder
        self._model, self._inputs, self._plan = model, inputs, plan
        self._found: list[ToolFigures] = []
        self._outputs: tuple[np.ndarray, ...] | None = None
        self._failure: str | None = None

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step unless an earlier one failed."""
        if self._failure is None:
            try:
                step()
            except FileFailure as failure:
                self._failure = str(failure)

    def copy(self) -> None:
        """Copy the file and its inputs."""
        made = self._phone.shell(f"mkdir -p {self._folder}")
        if made.returncode:
            raise FileFailure(f"making a folder on the phone failed: {made.stderr.strip()}")
        try:
            self._phone.push(self._model.path, f"{self._folder}/model.tflite")
            with tempfile.TemporaryDirectory(prefix="tfprune-") as here:
                for index, array in enumerate(self._inputs):
                    path = pathlib.Path(here, f"input{index}")
                    path.write_bytes(np.ascontiguousarray(array).tobytes())
                    self._phone.push(path, f"{self._folder}/input{index}")
        except RuntimeError as error:  # too large for the phone, maybe: others may fit
            raise FileFailure(str(error)) from error

    def turn(self) -> None:
        """Let the tool run once in this round."""
        rounds = min(ROUNDS, self._plan.runs)
        count = -(-self._plan.runs // rounds)
        done = self._tool(f"--num_runs={count}", f"--warmup_runs={self._plan.warmup}")
        self._found.append(parse(done))

    def compute(self) -> None:
        """Let the tool run untimed and write the outputs, and copy them here."""
        path = f"{self._folder}/outputs"
        self._tool(
            *("--num_runs=1", "--warmup_runs=1", "--warmup_min_secs=0"), f"--output_filepath={path}"
        )
        with tempfile.TemporaryDirectory(prefix="tfprune-") as here:
            local = pathlib.Path(here, "outputs")
            if self._phone.pull(path, local):
                self._outputs = _split(local.read_bytes(), self._model)

    def figures(self) -> Figures:
        """Return what there is once everything has run."""
        if self._failure is not None:
            return Figures(failure=self._failure)
        notes = []
        if any(one.median_us is None for one in self._found):
            notes.append("this benchmark_model is old and tells the mean only, no median, p5, p95")
        if self._outputs is None:
            notes.append(
                "not compared with XNNPACK off: this benchmark_model does not write outputs"
            )
        medians = [one.mean_us if one.median_us is None else one.median_us for one in self._found]
        memory = _middle([one.memory_mb for one in self._found])
        return Figures(
            median_ms=statistics.median(medians) / 1e3,
            p5_ms=_milli([one.p5_us for one in self._found]),
            p95_ms=_milli([one.p95_us for one in self._found]),
            runs=sum(one.runs for one in self._found),
            load_ms=_milli([one.load_us for one in self._found]),
            first_ms=_milli([one.first_us for one in self._found]),
            memory=None if memory is None else round(memory * 2**20),
            outputs=self._outputs,
            notes=tuple(notes),
        )

    def _tool(self, *more: str) -> str:
        words = [
            *(self._binary, f"--graph={self._folder}/model.tflite"),
            f"--num_threads={self._plan.threads}",
            *("--min_secs=0", f"--max_secs={self._plan.seconds:g}", "--use_xnnpack=true"),
            *self._layers(),
            *more,
        ]
        if self._model.signature is not None and self._model.subgraph:
            words.append(f"--signature_to_run_for={self._model.signature}")
        # Twice the limit: the tool ends its own runs, and needs time to load before them.
        done = self._phone.shell(shlex.join(words), 2 * self._plan.seconds + ADB_SECONDS)
        if done.returncode or "Benchmarking failed" in done.stderr + done.stdout:
            raise FileFailure(complaint(done.stdout, done.stderr, done.returncode))
        return done.stdout + done.stderr

    def _layers(self) -> list[str]:
        """Return the flags that say which inputs to run with."""
        tensors = self._model.inputs
        if not tensors or not all(tensor.shape for tensor in tensors):  # scalars have no flag
            return []
        names = [f"input{index}" for index in range(len(tensors))]
        shapes = [",".join(map(str, tensor.shape)) for tensor in tensors]
        files = [f"{name}:{self._folder}/{name}" for name in names]
        return [
            f"--input_layer={','.join(names)}",
            f"--input_layer_shape={':'.join(shapes)}",
            f"--input_layer_value_files={','.join(files)}",
        ]


def _split(content: bytes, model: Model) -> tuple[np.ndarray, ...]:
    """Cut the outputs, written one after the other, apart."""
    sizes = [
        int(np.prod(tensor.shape, dtype=int)) * np.dtype(tensor.dtype).itemsize
        for tensor in model.outputs
    ]
    if sum(sizes) != len(content):
        raise FileFailure(
            f"the phone wrote {len(content)} bytes of outputs. Expected: {sum(sizes)}"
        )
    ends = np.cumsum(sizes)
    return tuple(
        np.frombuffer(content[end - size : end], tensor.dtype)
        for tensor, size, end in zip(model.outputs, sizes, ends, strict=True)
    )


def _middle(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _milli(values: list[float | None]) -> float | None:
    middle = _middle(values)
    return None if middle is None else middle / 1e3
