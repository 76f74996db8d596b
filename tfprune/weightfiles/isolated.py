"""Read an HDF5 file in a process of its own.

The HDF5 library trusts what it reads: a damaged file can send it into an endless loop or crash it,
from which no `except` in this process would return (seen: one flipped bit in a heap of attribute
strings hangs it). So a child reads the file, under a time limit, and answers in JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tfprune import child
from tfprune.weightfiles.result import FileWeight

SECONDS = 20.0
"""Time limit: for starting Python and loading h5py on a slow machine, plus the reading."""
_BYTES_PER_SECOND = 5e6
_CHILD = "from tfprune.weightfiles import isolated; isolated.answer()"
_DAMAGE = (
    *(OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, IndexError),
    *(OverflowError, NotImplementedError, MemoryError, RecursionError, AttributeError),
    *(SystemError, UnicodeError),
)


def read(content: bytes, config: Any = None) -> tuple[list[FileWeight], int, bool]:
    """Return what `hdf5.read` does, or raise.

    Raises:
        ValueError: the file is damaged, or reading it crashed or took too long.
        ChildProcessError: the child could not even start reading.
    """
    head = json.dumps(config).encode()
    limit = SECONDS + len(content) / _BYTES_PER_SECOND
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=len(head).to_bytes(8, "big") + head + content,
            capture_output=True,
            timeout=limit,
            env=child.environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"reading it did not end within {limit:.0f} seconds") from error
    if done.returncode < 0:
        raise ValueError(f"reading it {child.ending(done.returncode, 'the HDF5 library')}")
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no message"]
        raise ChildProcessError(f"the process that reads HDF5 files failed: {lines[-1]}")
    found = json.loads(done.stdout)
    if "error" in found:
        raise ValueError(found["error"])
    rows = [FileWeight(**{**row, "shape": tuple(row["shape"])}) for row in found["weights"]]
    return rows, found["other"], found["masked"]


def answer() -> None:
    """Read the question from the standard input and write the answer; run by the child only."""
    import dataclasses

    from tfprune.weightfiles import hdf5

    question = sys.stdin.buffer.read()
    start = 8 + int.from_bytes(question[:8], "big")
    try:
        rows, other, masked = hdf5.read(question[start:], json.loads(question[8:start]))
        found: dict = {"weights": [dataclasses.asdict(row) for row in rows]}
        found |= {"other": other, "masked": masked}
    except _DAMAGE as error:
        found = {"error": str(error) or type(error).__name__}
    sys.stdout.write(json.dumps(found))
