"""How much of each layer to prune, and why: a table, and rules for `prune`."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.patterns import Pattern
from tfprune.results import Result
from tfprune.rules import Rule, to_yaml
from tfprune.schedules import PruningSchedule, with_final


@dataclasses.dataclass(frozen=True)
class AllocatedLayer:
    """What a layer is to lose.

    Attributes:
        layer: its path.
        size: number of weights that may be pruned.
        sparsity: fraction of them to prune.
        chosen: whether it counts for the sparsity that was asked for: by "size" and "latency" only
            layers do in which zeros save something.
        reason: what its zeros save, or why they save nothing; empty for other methods.
    """

    layer: str
    size: int
    sparsity: float
    chosen: bool = True
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Allocation(Result):
    """How much of each layer to prune; `tfprune.prune(model, allocation)` takes it as rules.

    Attributes:
        method: how it was found.
        sparsity: over all layers that are chosen.
        layers: a row for each layer that may be pruned.
        schedule: that every layer follows to its own sparsity.
        pattern: where zeros may stand.

    Example:

    ```python
    spread = tfprune.allocate(model, 0.9, "erk")
    print(spread)
    spread.to_yaml("rules.yaml")  # `tfprune.prune(model, "rules.yaml")` does the same, any time
    ```

    Source: made by `tfprune.allocate`.
    """

    method: str
    sparsity: float
    layers: tuple[AllocatedLayer, ...]
    schedule: PruningSchedule
    pattern: Pattern

    @property
    def rules(self) -> list[Rule]:
        """The same as rules, one for each layer."""
        found = []
        for row in self.layers:
            name = f"^{re.escape(row.layer)}$"
            if row.sparsity <= 0.0:
                found.append(Rule(name, skip=True))
            else:
                found.append(Rule(name, with_final(self.schedule, row.sparsity), self.pattern))
        return found

    def to_yaml(self, path: str | os.PathLike | None = None, overwrite: bool = False) -> str:
        """Return the rules as YAML, and save them if a path is given.

        `tfprune.prune(model, path)` reads the same rules; `to_json` keeps the figures.

        Raises:
            ValueError: a schedule of one's own whose arguments are no plain values.
            OSError: see `tfprune.files.check_target`.
        """
        return to_yaml(
            self.rules, path, overwrite, note=f"{self.sparsity:.1%} zeros, {self.method}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return {
            "method": self.method,
            "sparsity": self.sparsity,
            "layers": [dataclasses.asdict(row) for row in self.layers],
            "schedule": self.schedule.get_config(),
            "pattern": str(self.pattern),
        }

    def table(self) -> Table:
        """Return the table of layers that `print` shows."""
        table = Table(title=f"{self.sparsity:.1%} zeros, {self.method}", box=box.SIMPLE_HEAD)
        table.add_column("layer", overflow="fold")
        for name in ("weights", "sparsity", "left"):
            table.add_column(name, justify="right")
        told = any(row.reason for row in self.layers)
        if told:
            table.add_column("", overflow="fold")
        for row in self.layers:
            left = round(row.size * (1.0 - row.sparsity))
            cells = [row.layer, f"{row.size:,}", f"{row.sparsity:.1%}", f"{left:,}"]
            table.add_row(*cells, *([row.reason] if told else []))
        return table

    def __rich__(self) -> Group:
        """Return what rich prints: the table and the total under it."""
        size = sum(row.size for row in self.layers)
        left = sum(round(row.size * (1.0 - row.sparsity)) for row in self.layers)
        total = f"{left:,} of {size:,} weights stay"
        if not all(row.chosen for row in self.layers):
            total += f"; {self.sparsity:.1%} of those in layers where zeros save something go"
        return Group(self.table(), Text(total))
