"""What the quickstart made, before and after: each exported file with its accuracy and size."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tfprune.results import Result
from tfprune.summary import WeightSparsity


@dataclasses.dataclass(frozen=True)
class Variant:
    """One exported file: what it holds, how well it does, how large and how fast it is.

    `accuracy` is measured on the test images with the file itself; `parameters` and `nonzero` are
    counted in the file, `macs` and `nonzero_macs` in the model that it was made of; sizes are in
    bytes. `median_ms` and `peak_memory_bytes` are those of a run on this machine, `energy_mj` what
    its meter says; None where they could not be measured.
    """

    name: str
    file: str
    accuracy: float
    parameters: int
    nonzero: int
    raw_bytes: int
    gzip_bytes: int
    macs: int
    nonzero_macs: int
    median_ms: float | None = None
    peak_memory_bytes: int | None = None
    energy_mj: float | None = None

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the parameters."""
        return 1.0 - self.nonzero / self.parameters


@dataclasses.dataclass(frozen=True)
class QuickstartResult(Result):
    """What `quickstart` did and measured; prints as a before/after table, saves as JSON.

    `variants[0]` is the dense model in float32, before pruning; the others are pruned. `layers` is
    the sparsity of each weight at the end of training; `conditions` says how latency and memory
    were measured: first what zeros can do on this processor, or why nothing was measured. `energy`
    says what was read for `energy_mj`, or "no meter".
    """

    out: str
    dataset: str
    source: str
    test_images: int
    seed: int
    dense_epochs: int
    pruned_epochs: int
    seconds: float
    layers: tuple[WeightSparsity, ...]
    variants: tuple[Variant, ...]
    conditions: tuple[str, ...]
    energy: str

    def table(self) -> Table:
        """Return the before/after table."""
        dense = self.variants[0]
        table = _table(f"Before and after: {self.dataset}, {dense.parameters:,} parameters")
        table.add_column("model", no_wrap=True)
        for title in ("accuracy", "zeros", "file", "gzip", "smaller", "latency"):
            table.add_column(title, justify="right", no_wrap=True)
        for variant in self.variants:
            table.add_row(
                variant.name,
                f"{variant.accuracy:.1%}",
                f"{variant.sparsity:.0%}",
                _size(variant.raw_bytes),
                _size(variant.gzip_bytes),
                "" if variant is dense else f"{dense.gzip_bytes / variant.gzip_bytes:.1f}x",
                _milliseconds(variant.median_ms),
                end_section=variant is dense,
            )
        return table

    def layer_table(self) -> Table:
        """Return the table of the weights: the pattern and the zeros of each."""
        table = _table("Zeros by layer")
        table.add_column("layer")
        table.add_column("shape")
        table.add_column("pattern")
        table.add_column("zeros", justify="right")
        for row in self.layers:
            shape = "x".join(map(str, row.shape))
            table.add_row(row.layer, shape, row.pattern or "dense", f"{row.reached:.0%}")
        return table

    def _legend(self) -> Table:
        legend = Table.grid(padding=(0, 2))
        legend.add_column(style="bold", no_wrap=True)
        legend.add_column()
        for word, meaning in (
            (
                "accuracy",
                f"of each file on {self.test_images:,} test images; training took "
                f"{self.dense_epochs} epochs dense, then {self.pruned_epochs} pruning",
            ),
            (
                "file",
                "what an app installs: zeros are left out of a weight where that takes fewer bytes "
                "and is right on every phone",
            ),
            ("gzip", "what users download: there a zero costs little"),
            ("smaller", "gzip size of the dense model against that of the file"),
            ("latency", f"of one image on this machine. {self.conditions[0]}"),
        ):
            legend.add_row(f" {word}", meaning)
        return legend

    def __rich__(self) -> Group:
        wrote = f"Wrote [b]{escape(self.out)}[/b] in {self.seconds:.0f} s. Look at it with"
        return Group(
            "",
            self.layer_table(),
            self.table(),
            self._legend(),
            "",
            Text.from_markup(wrote),
            Text(f"  tfprune report {self.out}", no_wrap=True),
            Text(f"  tfprune board {self.out}/logs", no_wrap=True),
            Text(f"  tfprune inspect {self.out}/{self.variants[-1].file}", no_wrap=True),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, the sparsity of each file included."""
        figures = super().to_dict()
        for figure, variant in zip(figures["variants"], self.variants, strict=True):
            figure["sparsity"] = variant.sparsity
        return figures

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


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )


def _size(count: int) -> str:
    if count < 1000 * 1024:
        return f"{count / 1024:.0f} KiB"
    return f"{count / 1024**2:.1f} MiB"


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{1000 * value:,.0f} µs" if value < 1 else f"{value:,.1f} ms"
