"""`explain`: say what a phone's sparse kernels make of a `.tflite` file, and why."""

from __future__ import annotations

import dataclasses
import functools
import os

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.export import runtime
from tfprune.export.graph import read_graphs
from tfprune.export.sparse import decide
from tfprune.export.xnnpack.verdict import DENSE, FAST, WRONG, Pointwise, Verdict, judge, pointwise
from tfprune.results import Result
from tfprune.sources import check_source
from tfprune.weightfiles import flatbuffer

_ORDER = (WRONG, DENSE, FAST)
_WORDS = {
    FAST: "fast: loads, is right, and runs with sparse kernels",
    DENSE: "dense: loads and is right, at the speed of the dense model",
    WRONG: "WRONG: would give wrong results, or not load",
}


@dataclasses.dataclass(frozen=True)
class Explanation(Result):
    """What a CPU with sparse kernels (ARM, WebAssembly) makes of a `.tflite` file.

    Example: `tfprune.explain("model.tflite").verdict.kind` is "fast", "dense" or "wrong".

    Attributes:
        path: of the file.
        verdict: as it is stored.
        if_encoded: what would be, were every weight in sparse encoding that gets smaller by it;
            None if they are.
        convolutions: the 1x1 convolutions with float weights, in order.
        encoded: number of weights in sparse encoding.
        custom: names of custom operations, which load only in apps that bring kernels for them.

    Source: made by `tfprune.explain`, by the rules in `tfprune/export/README.md`.
    """

    path: str
    verdict: Verdict
    if_encoded: Verdict | None
    convolutions: tuple[Pointwise, ...]
    encoded: int
    custom: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the verdict in words."""
        found = [_WORDS[self.verdict.kind], f"  why: {self.verdict.reason}"]
        if self.verdict.advice:
            found.append(f"  to change that: {self.verdict.advice}")
        if self.if_encoded is not None:
            found.append(f"With its zeros encoded it would be {_WORDS[self.if_encoded.kind]}")
            found.append(f"  why: {self.if_encoded.reason}")
            if self.if_encoded.advice:
                found.append(f"  to change that: {self.if_encoded.advice}")
        if self.custom:
            found.append(
                f"It has custom operations ({', '.join(self.custom)}): it loads only in an app "
                "that brings kernels for them."
            )
        found.append(
            "This is for ARM and WebAssembly; a PC with AVX never uses the sparse kernels."
        )
        return found

    def __rich__(self) -> Group:
        """Return what rich prints: the 1x1 convolutions and the verdict."""
        table = Table(title=self.path, title_justify="left", expand=False)
        table.add_column("1x1 convolution", overflow="fold")
        table.add_column("outputs x inputs", justify="right")
        table.add_column("zeros", justify="right")
        table.add_column("stored")
        table.add_column("runs")
        for one in self.convolutions:
            shared = f", {one.block} channels at a time on 64-bit ARM" if one.block > 1 else ""
            table.add_row(
                one.name,
                f"{one.shape[0]} x {one.shape[-1]}",
                f"{one.zeros:.1%}",
                "sparse" if one.encoded else "dense",
                f"sparse{shared}" if one.sparse else "dense",
            )
        parts = [table] if self.convolutions else [Text(self.path)]
        return Group(*parts, *(Text(line) for line in self.lines()))


def explain(path: str | os.PathLike) -> Explanation:
    """Say whether the zeros of a `.tflite` file make it faster on a phone, and if not, why not.

    Three things can be: *fast*, *dense* (right, but no faster; the first reason and how to change
    the model), or *wrong* (it would give wrong results or not load; the operation at fault).
    The file is read, and opened by ai-edge-litert in a process beside this one, but not run.

    Args:
        path: of a `.tflite` file, from tfprune or elsewhere.

    Example:

    ```python
    print(tfprune.explain("model.tflite"))
    ```

    Raises:
        TypeError: `path` is not a path.
        FileNotFoundError: there is no such file.
        ValueError: not a `.tflite` file, or a damaged one.
        ChildProcessError: the process with the runtime does not start.

    Source: XNNPACK's `src/subgraph.c`; `tfprune/export/README.md` has the rules.
    """
    source = check_source(path, "a `.tflite` file")
    content = source.read_bytes()
    try:
        # What tables can hold and no converter writes is met while the graph is judged, too.
        found = flatbuffer.guarded(functools.partial(_explain, str(path)), content)
    except ValueError as error:
        raise ValueError(f"Cannot explain {str(path)!r}: {error}") from error
    # No runtime opens a file with custom operations without the app's kernels for them.
    if found.verdict.kind == WRONG or found.custom:
        return found
    refused = runtime.interpreters().refusal(source)
    return found if refused is None else dataclasses.replace(found, **_refused(refused))


def _explain(path: str, content: bytes) -> Explanation:
    graphs = read_graphs(content)
    custom = flatbuffer.custom_operations(content)
    encoded = sum(tensor.sparse for graph in graphs for tensor in graph.tensors)
    now = _worst([judge(graph) for graph in graphs])
    candidates = [one for one in decide(content) if one.encoded]
    after = None
    if candidates and now.kind != WRONG:
        chosen = [
            {one.tensor for one in candidates if one.graph == number}
            | {tensor.index for tensor in graph.tensors if tensor.sparse}
            for number, graph in enumerate(graphs)
        ]
        after = _worst([judge(g, c) for g, c in zip(graphs, chosen, strict=True) if c])
    if not encoded and now.kind == DENSE:
        now = Verdict(DENSE, "no weight is in sparse encoding, without which zeros are computed")
        if not decide(content):
            now = Verdict(DENSE, "it has no weights")
    rows = tuple(row for graph in graphs for row in pointwise(graph))
    return Explanation(path, now, after, rows, encoded, tuple(custom))


def _refused(why: str) -> dict[str, Verdict | None]:
    """Return what is said of a file whose tables can be read, and that the runtime refuses."""
    advice = (
        "export the model again, or copy the file again if it was whole before; an operation that "
        "is newer than the runtime needs `pip install --upgrade ai-edge-litert`, and an app with "
        "a newer runtime"
    )
    return {"verdict": Verdict(WRONG, f"ai-edge-litert would not load it: {why}", advice),
            "if_encoded": None}  # fmt: skip


def _worst(verdicts: list[Verdict]) -> Verdict:
    """Return the verdict of a file: the worst of its subgraphs that have something to say."""
    return min(verdicts, key=lambda verdict: _ORDER.index(verdict.kind))
