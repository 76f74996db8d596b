"""Measure a file in LiteRT.js, in a headless browser of its own: sparse kernels on any PC."""

from __future__ import annotations

import contextlib
import os
import pathlib
import queue
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfprune.benchmarking import exchange, litertjs
from tfprune.benchmarking.cpu import this_cpu
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.figures import Plan
from tfprune.benchmarking.model import Model
from tfprune.benchmarking.server import GONE, PageServer
from tfprune.benchmarking.turns import Loaded, Runner, TurnTaking

_START_SECONDS = 120.0
_FLAGS = (
    *("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-timer-throttling", "--disable-renderer-backgrounding"),
    *("--disable-extensions", "--disable-background-networking", "--disable-sync"),
    *("--disable-component-update", "--no-default-browser-check", "--mute-audio"),
)


class Browser(TurnTaking):
    """A browser on this machine, and LiteRT.js.

    Args:
        packages: the `node_modules` folder with `@litertjs/core`.
        program: path of the browser.

    Attributes:
        device: in words.
        cpu: the processor of this machine.
        versions: of what takes part; the browser's once it has run.
    """

    def __init__(self, packages: pathlib.Path, program: str):
        self.packages, self.program = packages, program
        version = litertjs.package_version(packages)
        self.device = f"LiteRT.js {version} in {pathlib.Path(program).stem}"
        self.cpu = this_cpu()
        self.versions = {"@litertjs/core": version}

    def runner(self, model: Model, inputs: Sequence[np.ndarray], plan: Plan) -> Runner:
        """Return the runner of one file."""
        return PageRunner(self, model, inputs, plan.threads, plan.seconds)


def find_browser(
    packages: str | os.PathLike | None,
    program: str | os.PathLike | None,
    tell: Callable[[str], None],
) -> Browser:
    """Return the browser of this machine with LiteRT.js, which npm installs if need be.

    Raises:
        MissingTool: Chromium, node or npm is not there; the message says how to get it.
        FileNotFoundError: the given folder does not hold LiteRT.js.
    """
    found = litertjs.find_browser_program(program)
    return Browser(litertjs.find_packages(packages, tell), found)


class PageRunner:
    """A file in a page, in a browser process of its own.

    Args:
        browser: to start.
        model: the file.
        inputs: one array for each input.
        threads: of LiteRT.js.
        seconds: time limit for each thing that is asked.
    """

    def __init__(
        self,
        browser: Browser,
        model: Model,
        inputs: Sequence[np.ndarray],
        threads: int,
        seconds: float,
    ):
        self._browser, self._model, self._inputs = browser, model, inputs
        self._threads, self._seconds = threads, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._server: PageServer | None = None
        self._open = contextlib.ExitStack()

    def load(self) -> Loaded:
        """Start the browser, load the file, run it once."""
        content = exchange.file_bytes(self._model)
        folder = self._open.enter_context(
            tempfile.TemporaryDirectory(prefix="tfprune-", ignore_cleanup_errors=True)
        )
        inputs = exchange.input_bytes(self._inputs)
        self._server = PageServer(self._browser.packages, content, inputs)
        # closed with the rest
        self._errors = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        sandbox = ["--no-sandbox"] if litertjs.needs_no_sandbox() else []
        self._process = subprocess.Popen(
            [
                *(self._browser.program, *_FLAGS, *sandbox),
                *(f"--user-data-dir={folder}", self._server.url),
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            start_new_session=True,
        )
        started = self._ask(
            {"do": "start", "threads": self._threads},
            "starting LiteRT.js in the browser",
            max(self._seconds, _START_SECONDS),
        )
        self._browser.versions["browser"] = _browser_version(started["agent"])
        ask = {"do": "load", **exchange.described(self._model, self._threads)}
        done = self._ask(ask, "loading and the first run")
        outputs = exchange.outputs(self._model, done["outputs"], self._server.outputs)
        return Loaded(done["load_ms"], done["first_ms"], outputs)

    def run(self, count: int) -> list[float]:
        """Return the milliseconds of each of `count` runs."""
        return self._ask({"do": "run", "count": count}, f"{count} runs")["ms"]

    def memory(self) -> int | None:
        """Return how many bytes of WebAssembly's memory the file has written to, in whole pages."""
        return self._ask({"do": "memory"}, "its memory")["bytes"]

    def close(self) -> None:
        """End the browser, and remove its files."""
        if self._process is not None:
            _end(self._process)
        if self._server is not None:
            self._server.close()
        self._open.close()

    def _ask(self, ask: dict[str, Any], what: str, seconds: float | None = None) -> dict[str, Any]:
        server, process = self._server, self._process
        assert server is not None
        assert process is not None
        limit = seconds or self._seconds
        end = time.monotonic() + limit
        server.asks.put(ask)
        while True:
            try:
                reply = server.answers.get(timeout=0.25)
            except queue.Empty:
                if process.poll() is not None:
                    raise FileFailure(
                        f"{what}: the browser ended (exit code {process.returncode})"
                        f"{self._last_words()}"
                    ) from None
                if time.monotonic() > end:
                    _end(process)
                    raise FileFailure(
                        f"{what} did not end within {limit:g} seconds, and was stopped. Ask for "
                        "fewer runs, or pass a larger `time_limit` (`--time-limit`)"
                    ) from None
                continue
            if reply == GONE:
                raise FileFailure(f"{what}: the page crashed, maybe for lack of memory")
            if "error" in reply:
                raise FileFailure(f"{what} failed: {' '.join(reply['error'].split())}")
            return reply

    def _last_words(self) -> str:
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f": {lines[-1]}" if lines else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the browser and the processes it started, which share its session."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _browser_version(agent: str) -> str:
    """Return the part of a user agent that names the browser's engine.

    Example: "Chrome/143.0.0.0" for "Mozilla/5.0 (X11) HeadlessChrome/143.0.0.0 Safari/537.36".
    """
    for part in agent.split():
        if "Chrome/" in part:
            return part.replace("Headless", "")
    return agent
