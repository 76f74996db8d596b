"""`demo_page`: two `.tflite` files side by side, in the browser of whoever looks at the page."""

from __future__ import annotations

import html
import json
import os
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfprune.benchmarking import agreement, exchange, native
from tfprune.benchmarking.benchmarker import check_counts
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.inputs import seeded_inputs
from tfprune.benchmarking.litertjs import find_packages, package_version
from tfprune.benchmarking.model import Model, read_model
from tfprune.benchmarking.server import Handler, LocalServer
from tfprune.export.explanation import Explanation, explain

_SECONDS = 300.0  # for the run with plain kernels
_LEAST = {"threads": 1, "runs": 1, "port": 0}
_HIGHEST_PORT = 65535


class DemoPage:
    """A page that is served as long as this object is not closed, and Python runs.

    Attributes:
        url: the address to open, on this machine.

    Example:

    ```python
    with tfprune.demo_page("dense.tflite", "sparse.tflite") as page:
        webbrowser.open(page.url)
        input("Enter ends it")
    ```

    Source: made by `tfprune.demo_page`.
    """

    def __init__(self, server: LocalServer) -> None:
        self._server, self.url = server, server.url

    def close(self) -> None:
        """Stop serving the page."""
        self._server.close()

    def __enter__(self) -> DemoPage:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"DemoPage({self.url!r})"

    def _repr_html_(self) -> str:
        """Return a link for notebooks."""
        return f'<a href="{html.escape(self.url)}" target="_blank">Open the page</a>'


def demo_page(
    before: str | os.PathLike,
    after: str | os.PathLike,
    *,
    threads: int = 1,
    runs: int = 100,
    signature: str | None = None,
    port: int = 0,
    litertjs: str | os.PathLike | None = None,
    tell: Callable[[str], None] | None = None,
) -> DemoPage:
    """Serve a page that runs two `.tflite` files side by side in your own browser.

    The page runs both with LiteRT.js (WebAssembly, which has the sparse kernels on any PC), on the
    same inputs and in turns, and shows how fast each is and whether the answers are the same and
    right. `benchmark(files, "wasm")` gives figures to keep; this is to see them, and to show them.

    It is served to this machine only, under an address that nobody can guess. To see it on a phone
    that is connected with adb: `port=8765`, then `adb reverse tcp:8765 tcp:8765`, and open the same
    address there.

    Args:
        before: path of the file to compare with, such as the dense one.
        after: path of the other file, which takes the same inputs.
        threads: of each interpreter.
        runs: timed runs of each file.
        signature: the one to run, in files with several.
        port: to listen at; 0 for one that is free.
        litertjs: folder with an installed `@litertjs/core`; the environment variable
            TFPRUNE_LITERTJS does the same. Without it, npm installs it once for this user.
        tell: called with what is being done, in words.

    Returns:
        A `DemoPage`: print it for its address, close it to end it.

    Example:

    ```python
    page = tfprune.demo_page("dense.tflite", "sparse.tflite")
    print(page.url)
    ```

    Raises:
        TypeError: a file is not given by its path.
        FileNotFoundError: a file does not exist.
        ValueError: a file is not a whole `.tflite` file, or needs a decision; LiteRT.js cannot run
            it; the two take or give different things; or an argument is out of range.
        RuntimeError: node or npm is missing (the message says how to get it).
        OSError: the port is taken.

    Source: the turns, the first run of each that is not timed, and the inputs are those of
    `benchmark`; `tfprune/benchmarking/README.md` has the reasons.
    """
    check_counts({"threads": threads, "runs": runs, "port": port}, _LEAST)
    if port > _HIGHEST_PORT:
        raise ValueError(f"`port` must be {_HIGHEST_PORT} or less. Received: port={port}")
    tell = tell or (lambda text: None)
    models = [read_model(path, signature) for path in (before, after)]
    _check_alike(models)
    contents = [_content(model) for model in models]
    packages = find_packages(litertjs, tell)
    tell("running both with XNNPACK off, to compare with")
    inputs = seeded_inputs(models[0])
    plain = [_plain(model, inputs) for model in models]
    about = {
        "litertjs": package_version(packages),
        "runs": runs,
        "files": [_about(model, threads) for model in models],
    }
    return DemoPage(_DemoServer(packages, port, about, models, contents, inputs, plain))


def _check_alike(models: Sequence[Model]) -> None:
    """Refuse files that do not take and give the same, of which no comparison makes sense."""
    before, after = models
    for what in ("inputs", "outputs"):
        kinds = [[(t.dtype, t.shape) for t in getattr(model, what)] for model in models]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"The two files must have the same {what}, as the same network has before and "
                f"after: {before.path!r} and {after.path!r} differ. "
                f"Received: {_words(kinds[0])} and {_words(kinds[1])}"
            )


def _words(kinds: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{dtype} {'x'.join(map(str, shape))}" for dtype, shape in kinds)


def _content(model: Model) -> bytes:
    try:
        return exchange.file_bytes(model)
    except FileFailure as failure:
        raise ValueError(f"{model.path!r} cannot run in a browser: {failure}") from failure


def _plain(model: Model, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...] | None:
    """Return what plain kernels make of the inputs; None if they cannot run the file."""
    try:
        return native.plain_outputs(model, inputs, _SECONDS)
    except FileFailure:
        return None


def _about(model: Model, threads: int) -> dict[str, Any]:
    """Return what the page shows of a file before it has run."""
    found = explain(model.path)
    return {
        **exchange.described(model, threads),
        "name": pathlib.Path(model.path).name,
        "bytes": model.file_bytes,
        "gzip_bytes": model.gzip_bytes,
        "zeros": _zeros(found),
        "encoded": found.encoded,
        "kind": found.verdict.kind,
        "reason": found.verdict.reason,
    }


def _zeros(found: Explanation) -> float | None:
    """Return the fraction of zeros in all 1x1 convolutions; None if there are none."""
    sizes = [int(np.prod(one.shape)) for one in found.convolutions]
    zeros = sum(one.zeros * n for one, n in zip(found.convolutions, sizes, strict=True))
    return zeros / sum(sizes) if sizes else None


class _DemoServer(LocalServer):
    """Serves two files with their inputs, and judges the outputs that the page sends."""

    def __init__(
        self,
        packages: pathlib.Path,
        port: int,
        about: Mapping[str, Any],
        models: Sequence[Model],
        contents: Sequence[bytes],
        inputs: Sequence[np.ndarray],
        plain: Sequence[tuple[np.ndarray, ...] | None],
    ) -> None:
        self.about, self.models, self.contents = about, models, contents
        self.inputs, self.plain = exchange.input_bytes(inputs), plain
        self.outputs: tuple[dict[int, bytes], ...] = ({}, {})
        super().__init__(packages, "demo.html", _Demonstrator, port)

    def judge(self, found: Sequence[Sequence[Mapping[str, str]]]) -> dict[str, Any]:
        """Return how far each file is from plain kernels, and both are from each other.

        Args:
            found: name and dtype of the outputs of each file, in the order of the page.
        """
        triples = zip(self.models, found, self.outputs, strict=True)
        before, after = (exchange.outputs(*triple) for triple in triples)
        first, second = self.models
        limits = [agreement.tolerance(model) for model in self.models]
        # A quantized file may differ from a float one by as much as it may from itself.
        widest = None if None in limits else max(limit or 0.0 for limit in limits)
        return {
            "between": _judged(first, before, after, widest),
            "files": [
                _judged(first, self.plain[0], before, limits[0]),
                _judged(second, self.plain[1], after, limits[1]),
            ],
        }


def _judged(
    model: Model,
    wanted: Sequence[np.ndarray] | None,
    got: Sequence[np.ndarray],
    tolerance: float | None,
) -> dict[str, Any] | None:
    """Return the largest difference and whether rounding explains it, None without a yardstick.

    Infinity, which JSON does not have, becomes None. Without a tolerance (class numbers), only
    equal outputs are judged.
    """
    if wanted is None:
        return None
    error = agreement.max_rel_error(model, wanted, got)
    agrees = (error == 0 or None) if tolerance is None else error <= tolerance
    return {"error": error if np.isfinite(error) else None, "agrees": agrees, "limit": tolerance}


class _Demonstrator(Handler):
    page: _DemoServer

    def get(self, path: str) -> bool:
        """Answer with what is known of the files, with a file, or with an input."""
        wanted = re.fullmatch(r"files/([01])/(?:model|input/(\d{1,4}))", path)
        if path == "about":
            self.send_json(self.page.about)
        elif wanted and wanted[2] is None:
            self.send(self.page.contents[int(wanted[1])])
        elif wanted and int(wanted[2]) < len(self.page.inputs):
            self.send(self.page.inputs[int(wanted[2])])
        else:
            return False
        return True

    def post(self, path: str, body: bytes) -> bool:
        """Take an output, or judge all of them."""
        output = re.fullmatch(r"files/([01])/output/(\d{1,4})", path)
        if output:
            self.page.outputs[int(output[1])][int(output[2])] = body
            self.send(b"")
        elif path == "agreement":
            self.send_json(self.page.judge(json.loads(body)))
        else:
            return False
        return True
