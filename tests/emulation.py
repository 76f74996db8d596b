"""Run `.tflite` files on a CPU without AVX, where XNNPACK's sparse kernels are switched on.

On a PC with AVX they never are, so that a file can be right there and wrong on a phone. QEMU's
user mode runs the same Python with the same ai-edge-litert on a Nehalem, which has SSE4.2 only.
One process runs many files, as starting it costs two seconds.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import pytest

EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
CPU = "Nehalem"
IS_PC = platform.machine() in ("x86_64", "AMD64")
"""Elsewhere (ARM) the sparse kernels are in use anyway, and files are run without QEMU."""
HAS_EMULATOR = EMULATOR is not None or not IS_PC
ADVICE = (
    "qemu-user-static is not installed, so NO file is run without AVX and wrong answers of "
    "XNNPACK's sparse kernels would not show. Install it: apt-get install qemu-user-static"
)
_WORKER = pathlib.Path(__file__).with_name("emulated_worker.py")
_SECONDS_A_FILE = 60  # most take a tenth of a second

Sample = dict[str, np.ndarray]
"""The inputs, or the outputs, of one call by their names in the file's signature."""
Job = tuple[pathlib.Path, list[Sample]]


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a file did not load, or did not run."""

    reason: str


def require_emulator() -> None:
    """Skip the test, loudly, where there is no emulator; in continuous integration, fail it."""
    if HAS_EMULATOR:
        return
    if os.environ.get("CI") or os.environ.get("TFPRUNE_NO_SKIP"):
        pytest.fail(ADVICE)
    warnings.warn(ADVICE, stacklevel=2)
    pytest.skip(ADVICE)


def run_without_avx(jobs: dict[str, Job]) -> dict[str, list[Sample] | Failure]:
    """Return the outputs of each file for each of its samples, or why there are none.

    A file that crashes the process is a `Failure` as well; the rest are run in a new process.

    Args:
        jobs: by any name, a file and its samples.
    """
    assert HAS_EMULATOR, ADVICE
    found: dict[str, list[Sample] | Failure] = {}
    left = dict(enumerate(jobs))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for index, key in left.items():
            _write(folder / f"{index}.in.npz", jobs[key][1])
        while left:
            ending = _work(folder, {index: jobs[key][0] for index, key in left.items()})
            for index in list(left):
                result = _read(folder, index)
                if result is None:  # files are taken in order: this one was the end of it
                    found[left.pop(index)] = Failure(ending)
                    break
                found[left.pop(index)] = result
    return found


def _work(folder: pathlib.Path, paths: dict[int, pathlib.Path]) -> str:
    """Run one process over the files and say how it ended."""
    (folder / "files.txt").write_text("".join(f"{i}\t{path}\n" for i, path in paths.items()))
    started = folder / "started"
    started.unlink(missing_ok=True)
    # An interpreter in a virtual environment finds its packages by its own path.
    command = [sys.executable, str(_WORKER), str(folder)]
    if IS_PC:
        command = [str(EMULATOR), "-cpu", CPU, *command]
    limit = 60 + _SECONDS_A_FILE * len(paths)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"not finished after {limit} s"
    if not started.exists():
        raise RuntimeError(f"The emulated Python does not start: {done.stderr[-2000:]}")
    names = {-one.value: one.name for one in signal.Signals}
    return f"{names.get(done.returncode, done.returncode)}: {done.stderr[-500:].strip()}"


def _write(path: pathlib.Path, samples: list[Sample]) -> None:
    np.savez(path, **{f"{i} {name}": v for i, one in enumerate(samples) for name, v in one.items()})


def _read(folder: pathlib.Path, index: int) -> list[Sample] | Failure | None:
    failed, done = folder / f"{index}.failed.txt", folder / f"{index}.out.npz"
    if failed.exists():
        return Failure(failed.read_text())
    if not done.exists():
        return None
    outputs: dict[int, Sample] = {}
    with np.load(done) as arrays:
        for key in arrays:
            sample, name = key.split(" ", 1)
            outputs.setdefault(int(sample), {})[name] = arrays[key]
    return [outputs[i] for i in sorted(outputs)]
