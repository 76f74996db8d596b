"""What `prune_one_shot` did: a row for each weight, with what its outputs lost."""

from __future__ import annotations

import dataclasses

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.recalibration import Recalibration
from tfprune.results import Result


@dataclasses.dataclass(frozen=True)
class ReconstructedWeight:
    """A weight that was pruned.

    Attributes:
        layer: path of its layer.
        weight: its name in the layer.
        size: number of its values.
        pattern: where zeros could stand.
        sparsity: fraction of zeros that it has now.
        magnitude_error: how far the layer's outputs would be from those of the dense model if its
            smallest weights had been set to zero: squared, relative to the variance of the dense
            outputs; on the calibration data, behind the earlier layers as they are now. None if the
            layer cannot be refitted.
        error: the same for the refitted weights.
        reason: why the weight was pruned by magnitude alone; empty if it was refitted.
    """

    layer: str
    weight: str
    size: int
    pattern: str
    sparsity: float
    magnitude_error: float | None
    error: float | None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class ReconstructionReport(Result):
    """What was cut and refitted, and how far the outputs of each layer are from the dense ones.

    Attributes:
        model: name of the model.
        samples: calibration samples.
        weights: a row for each pruned weight, in the order in which the layers run.
        dense: (path, reason) of layers that were left dense and that somebody might miss.
        recalibration: what became of the statistics of norms, None if they were left alone.

    Example: `small, report = tfprune.prune_one_shot(model, x, 0.5); print(report)`

    Source: made by `tfprune.prune_one_shot`.
    """

    model: str
    samples: int
    weights: tuple[ReconstructedWeight, ...]
    dense: tuple[tuple[str, str], ...]
    recalibration: Recalibration | None = None

    @property
    def sparsity(self) -> float:
        """Fraction of zeros over all weights that were pruned."""
        size = sum(row.size for row in self.weights)
        return sum(row.size * row.sparsity for row in self.weights) / size

    def table(self) -> Table:
        """Return the table of weights that `print` shows."""
        title = f"'{self.model}' pruned in one shot on {self.samples:,} samples"
        table = Table(title=title, box=box.SIMPLE_HEAD)
        table.add_column("weight", overflow="fold")
        for name in ("size", "zeros", "pattern", "error by magnitude", "refitted"):
            table.add_column(name, justify="right")
        table.add_column("by magnitude only, because", overflow="fold")
        for row in self.weights:
            table.add_row(
                f"{row.layer}/{row.weight}",
                f"{row.size:,}",
                f"{row.sparsity:.1%}",
                row.pattern,
                *("" if e is None else f"{e:.2%}" for e in (row.magnitude_error, row.error)),
                row.reason,
            )
        return table

    def __rich__(self) -> Group:
        """Return what rich prints: the table, the total, and what was left dense."""
        size = sum(row.size for row in self.weights)
        lines = [
            f"{self.sparsity:.1%} of {size:,} weights are zero. An error is that of a layer's "
            "outputs, squared, relative to their variance.",
            *(f"left dense: {path} ({reason})" for path, reason in self.dense),
        ]
        parts = [self.table(), *map(Text, lines)]
        return Group(*parts, *([] if self.recalibration is None else [self.recalibration]))
