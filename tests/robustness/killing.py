"""Processes that are killed (SIGKILL) at a chosen moment of their work, and such that are not."""

import json
import os
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).parents[1]

# "fsync 3": dies with its third file complete under a temporary name. "replace 3": right after
# that file got its own. Any other moment is for the code itself to meet.
_DYING = """
import os, signal
moment, number = os.environ["TFPRUNE_TEST_KILL"].split()
real, calls = getattr(os, moment, None), []
def dying(*arguments, **options):
    calls.append(1)
    last = len(calls) == int(number)
    if last and moment == "fsync":
        os.kill(os.getpid(), signal.SIGKILL)
    done = real(*arguments, **options)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
if real is not None:
    setattr(os, moment, dying)
"""


def run(code, folder, kill=""):
    """Run code in a process; return what its last line says as JSON, None if it was killed.

    Args:
        code: finds the folder as `sys.argv[1]`.
        folder: that it works in.
        kill: the moment of its death, as "fsync 3"; it lives if empty.
    """
    done = subprocess.run(
        [sys.executable, "-c", (_DYING if kill else "") + code, str(folder)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TFPRUNE_TEST_KILL": kill,
            "PYTHONPATH": os.pathsep.join((str(TESTS.parent), str(TESTS))),
        },
    )
    if kill:
        assert done.returncode == -9, (done.returncode, done.stderr[-2000:])
        return None
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def finished(folder):
    """Return the names in a folder, without what a killed process left under temporary names."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
