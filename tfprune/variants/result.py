"""What `export_variants` gives back: a row for each variant, the best one, and how to show them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.results import Result
from tfprune.variants.row import FAILED, VariantRow


@dataclasses.dataclass(frozen=True)
class VariantsResult(Result):
    """The variants of a model, measured, and the best one: print it, or take its figures.

    Example:

    ```python
    result = tfprune.export_variants("model.keras", "out", eval_data=(x, y))
    print(result)
    result.best  # "float16"
    result["float16"].file_bytes
    ```

    Attributes:
        model: the file that was exported, or the name of the model.
        out: the folder with the files and `variants.json`.
        objective: "size", "latency" or "balanced".
        max_accuracy_drop: the accuracy that may be lost against the Keras model.
        best: name of the variant to ship; None if none meets the objective.
        choice: why, or why none; which came closest.
        rows: one `VariantRow` for each variant.
        metric: what the accuracy is; None if it was not measured.
        baseline: accuracy of the Keras model; None if it was not measured.
        eval_samples: how many samples it was measured on.
        runtime: where latency and memory were measured: "native", "wasm" or "adb".
        threads: of each interpreter.
        runs: timed runs of each file.
        conditions: the processor, and what is to be known about latency and memory.
        versions: of the libraries that took part.
        earlier_files: what a run that this one replaces left in the folder, and this one has not
            replaced: it was asked for fewer variants, or was interrupted.

    Source: made by `tfprune.export_variants`.
    """

    model: str
    out: str
    objective: str
    max_accuracy_drop: float
    best: str | None
    choice: str
    rows: tuple[VariantRow, ...]
    metric: str | None
    baseline: float | None
    eval_samples: int
    runtime: str
    threads: int
    runs: int
    conditions: tuple[str, ...]
    versions: dict[str, str]
    earlier_files: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> VariantRow:
        return next(row for row in self.rows if row.name == name)

    @property
    def failed(self) -> tuple[VariantRow, ...]:
        """The variants whose file came out wrong, or could not be run."""
        return tuple(row for row in self.rows if row.state == FAILED)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))

    def table(self) -> Table:
        """Return the table of variants that `print` shows, the best one marked."""
        table = Table(
            title=f"{self.model}: {self.runtime}, {self.runs} runs, {self.threads} thread"
            + "s" * (self.threads > 1),
            title_justify="left",
            box=box.SIMPLE_HEAD,
            padding=0,  # the box itself sets columns a space apart
        )
        table.add_column("variant", no_wrap=True)
        for title in _TITLES:
            table.add_column(title, justify="right", no_wrap=True)
        if self.baseline is not None:
            table.add_column("accuracy", justify="right", no_wrap=True)
            table.add_column("drop", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)  # rows come after all columns, or rich loses the last
        if self.baseline is not None:
            blank = [""] * len(_TITLES)
            table.add_row("Keras", *blank, f"{self.baseline:.4f}", "", "", end_section=True)
        for row in self.rows:
            best = row.name == self.best
            cells = _cells(row)
            if self.baseline is not None:
                cells += [_fraction(row.accuracy), _fraction(row.drop)]
            mark = "best" if best else "" if row.done else row.state
            style = "bold green" if best else "red" if row.state == FAILED else None
            table.add_row(row.name, *cells, mark, style=style or (None if row.done else "dim"))
        return table

    def lines(self) -> list[str]:
        """Return what stands under the table."""
        found = [f"best ({self.objective}): {self.best or 'none'}. {self.choice}"]
        if self.baseline is not None:
            found.append(f"accuracy: {self.metric} on {self.eval_samples:,} samples")
        if any(row.file_bytes is not None for row in self.rows):
            found.append("size: what the installed app keeps on the device and maps into memory")
            found.append("gzip: about what the app's download grows by")
        found += self.conditions
        told: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            if not row.done:
                told.setdefault((row.state, row.reason), []).append(row.name)
            for note in row.notes:
                told.setdefault(("note:", note), []).append(row.name)
        found += [f"{what} {', '.join(names)}: {text}" for (what, text), names in told.items()]
        if self.earlier_files:
            found.append(f"of an earlier run, not replaced: {', '.join(self.earlier_files)}")
        return [*found, f"files and variants.json: {self.out}"]

    def __rich__(self) -> Group:
        """Return what rich prints: the table and the lines under it."""
        return Group(self.table(), *(Text(line) for line in self.lines()))


# All of it must fit into 80 columns; p5 and p95 are in variants.json.
_TITLES = ("size\nkB", "gzip\nkB", "zeros", "median\nms", "memory\nMB")


def _cells(row: VariantRow) -> list[str]:
    return [
        _number(None if row.file_bytes is None else row.file_bytes / 1e3),
        _number(None if row.gzip_bytes is None else row.gzip_bytes / 1e3),
        "-" if row.sparsity is None else f"{row.sparsity:.0%}",
        _number(row.median_ms),
        _number(None if row.peak_memory_bytes is None else row.peak_memory_bytes / 1e6),
    ]


def _number(value: float | None) -> str:
    """Return a figure with about three digits.

    Example: `_number(0.0123)` is "0.012", `_number(1234.5)` is "1,234", `_number(None)` is "-".
    """
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
