"""What is known about the weights in a file, and how to show it."""

from __future__ import annotations

import dataclasses

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune import layouts
from tfprune.results import Result

_PATTERNS = ((3, 4), (1, 2), (2, 4), (4, 8), (1, 4))  # (zeros, group), the strictest first


@dataclasses.dataclass(frozen=True)
class FileWeight:
    """One kernel, matrix or table in a file.

    Attributes:
        name: layer and weight, such as "conv1/kernel"; the tensor's name in a `.tflite` file.
        shape: as stored.
        dtype: as stored, such as "float32".
        size: number of values.
        nonzero: those that are not zero, after masks if the file holds any.
        pattern: the strictest N:M pattern along input channels that holds ("2:4": two zeros in
            every four), empty if none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    nonzero: int
    pattern: str

    @property
    def sparsity(self) -> float:
        """Fraction of zeros."""
        return 1.0 - self.nonzero / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True)
class FileSparsity(Result):
    """The sparsity of the weights in a file: print it, or take its figures.

    Attributes:
        path: of the file.
        weights: one `FileWeight` for each weight with two or more dimensions, biases left out.
        other_size: number of values in biases, norms and statistics, which are never pruned.
        masked: whether the file still holds pruning wrappers, whose masks have been applied.
        file_bytes: size of the file.
        gzip_bytes: size after gzip.
        metadata: what tfprune wrote into a `.tflite` file: "version", "sparsity", "rules" (the
            schedule and pattern of each layer that was wrapped); empty in other files.
    """

    path: str
    weights: tuple[FileWeight, ...]
    other_size: int
    masked: bool
    file_bytes: int
    gzip_bytes: int
    metadata: dict = dataclasses.field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of values in the weights listed."""
        return sum(weight.size for weight in self.weights)

    @property
    def nonzero(self) -> int:
        """Those that are not zero."""
        return sum(weight.nonzero for weight in self.weights)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros in the weights listed."""
        return 1.0 - self.nonzero / self.size if self.size else 0.0

    def to_dict(self) -> dict:
        """Return the figures as plain values, the totals included."""
        done = {**super().to_dict(), "size": self.size, "nonzero": self.nonzero}
        done["sparsity"] = self.sparsity
        for row, weight in zip(done["weights"], self.weights, strict=True):
            row["sparsity"] = weight.sparsity
        return done

    def __rich__(self) -> Group:
        """Return what rich prints: the table and the totals under it."""
        table = Table(title=self.path, title_justify="left", expand=False)
        table.add_column("weight", overflow="fold")
        for title in ("shape", "dtype"):
            table.add_column(title)
        for title in ("size", "nonzero", "sparsity"):
            table.add_column(title, justify="right")
        table.add_column("N:M")
        for w in self.weights:
            counts = (f"{w.size:,}", f"{w.nonzero:,}", f"{w.sparsity:.1%}", w.pattern)
            table.add_row(w.name, "x".join(map(str, w.shape)), w.dtype, *counts)
        table.add_section()
        total = (f"{self.size:,}", f"{self.nonzero:,}", f"{self.sparsity:.1%}")
        table.add_row("all weights", "", "", *total, "")
        lines = [
            f"{self.file_bytes:,} bytes, {self.gzip_bytes:,} after gzip; "
            f"{self.other_size:,} further values in biases, norms and statistics"
        ]
        if self.metadata:
            lines.append(f"Exported by tfprune {self.metadata.get('version', '?')}")
            rules = self.metadata.get("rules", [])
            lines += ["  " + ", ".join(str(part) for part in rule.values()) for rule in rules]
            if not rules and self.metadata.get("sparsity"):
                lines.append(
                    "  how it was pruned is not known: a stripped model had gone through a file. "
                    "Export the wrapped model, or at once what `strip_pruning` returns, to keep it"
                )
        if self.masked:
            lines.append(
                "The file still holds pruning wrappers: the weights are shown masked. "
                "Take the wrappers off with `strip_pruning`."
            )
        return Group(table, *(Text(line) for line in lines))


def nm_pattern(zero: np.ndarray, layout: layouts.Layout | None) -> str:
    """Return the strictest of 3:4, 1:2, 2:4, 4:8 and 1:4 that holds, empty if none does.

    Args:
        zero: True where a kernel is zero.
        layout: which of its axes are inputs. A last, ragged group counts as filled with zeros.

    Example: `nm_pattern(np.array([[True], [True], [False], [False]]), layouts.of_kernel(2))` is
    "2:4": two zeros in every four inputs.
    """
    if layout is None or zero.all() or not zero.any():
        return ""
    rows = layout.rows(zero)
    for zeros, group in _PATTERNS:
        if rows.shape[1] >= group:
            padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % group)), constant_values=True)
            if (padded.reshape(len(rows), -1, group).sum(axis=2) >= zeros).all():
                return f"{zeros}:{group}"
    return ""
