"""What a permutation did: the magnitude that N:M keeps, before and after, weight by weight."""

from __future__ import annotations

import dataclasses

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.results import Result


@dataclasses.dataclass(frozen=True)
class PermutedWeight:
    """One weight with N:M groups.

    Attributes:
        layer: path of its layer.
        weight: its name in the layer.
        magnitude: sum of its absolute values.
        before: fraction of the magnitude that the pattern keeps, channels as they were.
        after: the same, channels as they are now.
        free: number of its input channels that could change places.
        reason: why not all could, empty if they could.
    """

    layer: str
    weight: str
    magnitude: float
    before: float
    after: float
    free: int
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class PermutationReport(Result):
    """What reordering channels gained: print it, or take its figures.

    Attributes:
        model: its name.
        pattern: the N:M pattern, such as "2:4".
        weights: a row for each weight that the pattern fits.

    Example: `permuted, report = tfprune.permute_for_nm(model, "2:4"); print(report)`

    Source: made by `tfprune.permute_for_nm`.
    """

    model: str
    pattern: str
    weights: tuple[PermutedWeight, ...]

    @property
    def before(self) -> float:
        """Fraction of the magnitude of all these weights that the pattern kept."""
        return self._kept([row.before for row in self.weights])

    @property
    def after(self) -> float:
        """Fraction of the magnitude of all these weights that the pattern keeps now."""
        return self._kept([row.after for row in self.weights])

    @property
    def recovered(self) -> float:
        """Part of the magnitude lost before that is kept now."""
        lost = 1.0 - self.before
        return (self.after - self.before) / lost if lost > 0 else 0.0

    def _kept(self, fractions: list[float]) -> float:
        total = sum(row.magnitude for row in self.weights)
        kept = sum(row.magnitude * f for row, f in zip(self.weights, fractions, strict=True))
        return kept / total if total else 1.0

    def table(self) -> Table:
        """Return the table of weights that `print` shows."""
        table = Table(
            title=f"magnitude that {self.pattern} keeps in '{self.model}'", box=box.SIMPLE_HEAD
        )
        table.add_column("weight", overflow="fold")
        for name in ("before", "after", "recovered"):
            table.add_column(name, justify="right")
        table.add_column("must stay", overflow="fold")
        for row in self.weights:
            lost = 1.0 - row.before
            part = f"{(row.after - row.before) / lost:.1%}" if row.free and lost > 0 else "-"
            name = f"{row.layer}/{row.weight}"
            table.add_row(name, f"{row.before:.2%}", f"{row.after:.2%}", part, row.reason)
        return table

    def __rich__(self) -> Group:
        """Return what rich prints: the table and the total under it."""
        total = f"{self.before:.2%} -> {self.after:.2%}: {self.recovered:.1%} of what was lost"
        return Group(self.table(), Text(total))
