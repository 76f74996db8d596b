"""A Python process beside this one, which answers questions and may crash without harm.

Native libraries trust the files that they read, and a crash in one ends the process it happens in.
So a child loads the file. Questions and answers are lines of JSON, arrays lie in files. The child
is a new Python, not a copy of this process (a fork): that works on every system, in notebooks, in
scripts without `if __name__ == "__main__"`, and beside TensorFlow's threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

REFUSALS = (RuntimeError, ValueError, MemoryError, OSError, IndexError, KeyError, TypeError)
"""What ai-edge-litert raises about a file."""
START_SECONDS = 120.0
"""Time limit for Python, numpy and the libraries of the child, on a slow disk."""

_STARTED = {"started": True}
_WINDOWS_CRASH = 0xC0000000  # exit codes from here on are exceptions that nobody caught


class ChildFailure(RuntimeError):
    """The child did not answer. Its message reads on after what was asked: "ended its ..."."""


class ChildTimeout(ChildFailure):
    """It took too long, and was ended."""


class ChildEnd(ChildFailure):
    """It crashed, ended itself, or was ended by someone else."""


class ChildRefusal(ChildFailure):
    """It answered with an error and lives on."""


class Child:
    """A child process; it starts at once, beside whatever is done before the first question.

    Args:
        code: what it runs: Python that calls `serve`.
        library: what a crash is put down to, in messages.
        command: what Python is started with, such as an emulator.

    Attributes:
        asked: number of questions so far.

    Example:

    ```python
    child = Child("from tfprune.export import worker; worker.answer()", "the runtime")
    child.ask({"do": "load", "path": "a.tflite"}, seconds=60.0)
    child.close()
    ```
    """

    def __init__(self, code: str, library: str, command: Sequence[str] = ()):
        self._library = library
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._lock = threading.Lock()
        self._started = False
        self.asked = 0
        # To append: both processes share one position in the file. Closed with the rest.
        self._errors = tempfile.TemporaryFile("a+b")  # noqa: SIM115
        self._process = subprocess.Popen(
            [*command, sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=environment(),
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer to a question; one is asked at a time, from any thread.

        Raises:
            ChildProcessError: it could not even start, which says nothing about what is asked.
            ChildFailure: it refuses, ends, or does not answer in time.
        """
        with self._lock:
            if not self._started:
                self._wait_for_start()
            self.asked += 1
            heard = os.fstat(self._errors.fileno()).st_size
            try:
                return self._exchange(question, seconds)
            except ChildRefusal:
                raise
            except ChildEnd as error:
                raise ChildEnd(f"{error}{self._last_words(heard)}") from None
            except BaseException:  # an interrupt: its answer would be taken for that to the next
                self._process.kill()
                self._process.wait()
                raise

    def said(self, start: int = 0) -> str:
        """Return what it wrote to its standard error so far, from a byte on."""
        self._errors.seek(start)
        return self._errors.read().decode("utf-8", "replace")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._listener.join(1.0)
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while we read
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put(None)

    def _wait_for_start(self) -> None:
        try:
            self._receive(START_SECONDS)
        except ChildFailure as error:
            raise ChildProcessError(
                f"The process for {self._library} could not start: it {error}"
                f"{self._last_words(0)}. Look whether `python -c 'import numpy, ai_edge_litert'` "
                f"works, and install tfprune again if not. Received: the Python {sys.executable!r}"
            ) from None
        self._started = True

    def _exchange(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # the pipe is broken or closed: it ended before it could read
            raise self._end() from None
        return self._receive(seconds)

    def _receive(self, seconds: float) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise ChildTimeout(f"did not end within {seconds:g} seconds, and was stopped") from None
        if answer is None:
            raise self._end()
        reply = json.loads(answer)
        if "error" in reply:
            raise ChildRefusal(f"failed: {reply['error']}")
        return reply

    def _end(self) -> ChildEnd:
        return ChildEnd(ending(self._process.wait(), self._library))

    def _last_words(self, start: int) -> str:
        lines = [line.strip() for line in self.said(start).splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith(("INFO:", "WARNING:"))]
        return f": {lines[-1]}" if lines else ""


def serve(
    prepare: Callable[[], Callable[[dict[str, Any]], dict[str, Any]]],
    refusals: tuple[type[Exception], ...],
) -> None:
    """Answer the parent until it closes the pipe; called by the child only.

    Args:
        prepare: loads what is needed and returns what answers a question.
        refusals: exceptions of it that are answers; any other ends the process.
    """
    # Ctrl-C reaches both processes: the parent decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # native code that prints must not print into the answers

    def say(reply: dict[str, Any]) -> None:
        channel.write(json.dumps(reply) + "\n")
        channel.flush()

    answer = prepare()
    say(_STARTED)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except refusals as error:
            reply = {"error": str(error) or type(error).__name__}
        say(reply)


def environment() -> dict[str, str]:
    """Return this process's environment, in which a child finds the modules that this one does."""
    search = os.pathsep.join(part or os.getcwd() for part in sys.path)
    return {**os.environ, "PYTHONPATH": search}


def ending(code: int, library: str) -> str:
    """Return how a process ended, in words.

    Example: `ending(-11, "the runtime")` is "crashed the runtime (SIGSEGV)".
    """
    if code >= _WINDOWS_CRASH:
        return f"crashed {library} (exception {code:#x})"
    if code >= 0:
        return f"ended its process with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":  # never sent by a fault of the process itself
        return "was killed from outside (SIGKILL), as systems do that run out of memory"
    return f"crashed {library} ({name})"
