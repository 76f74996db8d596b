"""What the quickstart made, before and after: each exported file with its accuracy and size."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table

from tfprune.files import write_whole
from tfprune.summary import SparsitySummary


@dataclasses.dataclass(frozen=True)
class Variant:
    """One exported file: what it holds, how well it does, how large it is.

    `accuracy` is measured on the test images with the file itself; `parameters` and `nonzero` are
    counted in the file; sizes are in bytes.
    """

    name: str
    file: str
    accuracy: float
    parameters: int
    nonzero: int
    raw_bytes: int
    gzip_bytes: int

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the parameters."""
        return 1.0 - self.nonzero / self.parameters


@dataclasses.dataclass(frozen=True)
class QuickstartResult:
    """What `quickstart` did and measured; prints as a before/after table, saves as JSON.

    `variants[0]` is the dense model in float32, before pruning; the others are pruned. `layers` is
    the sparsity of each weight at the end of training.
    """

    out: str
    dataset: str
    source: str
    seed: int
    dense_epochs: int
    pruned_epochs: int
    seconds: float
    layers: SparsitySummary
    variants: tuple[Variant, ...]

    def table(self) -> Table:
        """Return the before/after table."""
        dense = self.variants[0]
        table = Table(title="Before and after", title_justify="left", title_style="bold")
        table.add_column("model")
        for title in ("accuracy", "weights", "nonzero", "zeros", "file", "gzip", "gzip is"):
            table.add_column(title, justify="right", no_wrap=True)
        for variant in self.variants:
            smaller = dense.gzip_bytes / variant.gzip_bytes
            table.add_row(
                variant.name,
                f"{variant.accuracy:.1%}",
                f"{variant.parameters:,}",
                f"{variant.nonzero:,}",
                f"{variant.sparsity:.0%}",
                _kilobytes(variant.raw_bytes),
                _kilobytes(variant.gzip_bytes),
                "" if variant is dense else f"{smaller:.1f}x less",
                style="" if variant is not dense else "dim",
                end_section=variant is dense,
            )
        return table

    def __rich__(self) -> Group:
        return Group(
            self.layers.table(),
            "",
            self.table(),
            "",
            "[b]file[/b] is what an app installs: zeros are stored like any number, so pruning "
            "alone leaves it as it was.\n[b]gzip[/b] is what users download: there the zeros "
            "vanish, and fewer bits per weight help twice.",
            "",
            f"Results in [b]{self.out}[/b] after {self.seconds:.0f} s. Next:",
            Padding(
                f"tensorboard --logdir {self.out}/logs\n"
                f"tfprune inspect {self.out}/{self.variants[-1].file}",
                (0, 2),
            ),
        )

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=100)
        console.print(self)
        return console.file.getvalue().rstrip()  # type: ignore[attr-defined]

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """Return the figures as JSON, and write them to a file if a path is given."""
        figures = dataclasses.asdict(self)
        for figure, variant in zip(figures["variants"], self.variants, strict=True):
            figure["sparsity"] = variant.sparsity
        text = json.dumps(figures, indent=2)
        if path is not None:
            write_whole(path, text.encode(), overwrite=True)
        return text

    def plot(self, axes: Any = None) -> Any:
        """Draw the gzip size of each file as a bar, with its accuracy; returns matplotlib axes."""
        import matplotlib.pyplot as plt

        if axes is None:
            axes = plt.subplots(figsize=(7, 3), layout="constrained")[1]
        bars = axes.barh(
            [variant.name for variant in self.variants],
            [variant.gzip_bytes / 1024 for variant in self.variants],
            color=["#adb5bd"] + ["#2a6f97"] * (len(self.variants) - 1),
        )
        axes.bar_label(bars, [f"{variant.accuracy:.1%}" for variant in self.variants], padding=4)
        axes.margins(x=0.15)
        axes.set(xlabel="gzip, KiB", title=f"Size and accuracy on {self.dataset}")
        axes.invert_yaxis()
        return axes


def _kilobytes(count: int) -> str:
    return f"{count / 1024:,.0f} KiB"
