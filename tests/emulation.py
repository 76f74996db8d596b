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
import warnings

import pytest

from tfprune.export.runtime import DEFAULT, Interpreters, RuntimeFailure, Sample

EMULATOR = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
CPU = "Nehalem"
IS_PC = platform.machine() in ("x86_64", "AMD64")
"""Elsewhere (ARM) the sparse kernels are in use anyway, and files are run without QEMU."""
HAS_EMULATOR = EMULATOR is not None or not IS_PC
ADVICE = (
    "qemu-user-static is not installed, so NO file is run without AVX and wrong answers of "
    "XNNPACK's sparse kernels would not show. Install it: apt-get install qemu-user-static"
)

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
    interpreters = Interpreters([str(EMULATOR), "-cpu", CPU] if IS_PC else [])
    try:
        for key, (path, samples) in jobs.items():
            try:
                found[key] = interpreters.run(path, samples, DEFAULT)
            except RuntimeFailure as error:
                found[key] = Failure(str(error))
    finally:
        interpreters.close()
    return found
