"""What each weight can lose: the measured table, what follows from it, and its plots."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import numpy as np
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.results import Result
from tfprune.saved import restored
from tfprune.sources import check_source

NEGATIVE_LOSS = "negative loss"
"""What `metric="loss"` measures: larger is better. It is shown as the loss that is added."""
_POINT, _OF_LOSS, _OF_METRIC = 0.01, 0.1, 0.01


@dataclasses.dataclass(frozen=True)
class WeightSensitivity:
    """One weight, pruned alone.

    Attributes:
        layer: path of its layer.
        weight: its name in the layer.
        size: number of its values.
        drops: how much worse the model is at each sparsity; below 0 if it is better.
    """

    layer: str
    weight: str
    size: int
    drops: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Sensitivity(Result):
    """How much worse a model gets as each weight alone is pruned, without training.

    Attributes:
        model: its name.
        metric: what was measured, larger for better models; "negative loss" for `metric="loss"`.
        dense: its value for the dense model.
        sparsities: the levels.
        weights: a row for each weight.
        samples: how many the metric was measured on.

    Example:

    ```python
    found = tfprune.sensitivity(model, (x, y))
    print(found)
    found.recommended(max_drop=0.01)  # {"conv1": 0.5, "dense": 0.95}
    ```

    Source: made by `tfprune.sensitivity`.
    """

    model: str
    metric: str
    dense: float
    sparsities: tuple[float, ...]
    weights: tuple[WeightSensitivity, ...]
    samples: int

    @property
    def usual_drop(self) -> float:
        """The drop that is taken for small, in the metric's own unit.

        0.01 for accuracy, one point. A loss has a scale of its own: a tenth of the dense model's,
        which is about what one point is to a model that is right nine times in ten. For a function
        of yours a hundredth of the dense model's value. A choice of tfprune's own.
        """
        if self.metric == "accuracy":
            return _POINT
        return abs(self.dense) * (_OF_LOSS if self._of_loss else _OF_METRIC)

    @property
    def _of_loss(self) -> bool:
        return self.metric == NEGATIVE_LOSS

    def recommended(self, max_drop: float | None = None) -> dict[str, float]:
        """Return, for each layer, the highest level at which none of its weights costs too much.

        Args:
            max_drop: in the metric's own unit: 0.01 is one point of accuracy, or that much more
                loss. `usual_drop` if None.

        A level counts only if all lower levels are within the limit too: a curve that dips again
        by chance is no reason. 0.0 where even the lowest level costs too much.
        """
        most = self.usual_drop if max_drop is None else max_drop
        found: dict[str, float] = {}
        for row in self.weights:
            within = [drop <= most for drop in row.drops]
            count = within.index(False) if False in within else len(within)
            best = self.sparsities[count - 1] if count else 0.0
            found[row.layer] = min(best, found.get(row.layer, 1.0))
        return found

    def by_layer(self) -> dict[str, tuple[int, list[float]]]:
        """Return the size of each layer and the drops of its weights together at each level."""
        found: dict[str, tuple[int, list[float]]] = {}
        for row in self.weights:
            size, drops = found.get(row.layer, (0, [0.0] * len(self.sparsities)))
            together = [a + b for a, b in zip(drops, row.drops, strict=True)]
            found[row.layer] = (size + row.size, together)
        return found

    def table(self) -> Table:
        """Return the table that `print` shows: the drop of each weight at each level."""
        table = Table(
            title=f"{self._cost()} by pruning one weight of '{self.model}'",
            box=box.SIMPLE_HEAD,
        )
        table.add_column("weight", overflow="fold")
        table.add_column("size", justify="right")
        for level in self.sparsities:
            table.add_column(f"{level:.0%}", justify="right")
        most = max((d for row in self.weights for d in row.drops), default=0.0)
        for row in self.weights:
            cells = [_cell(drop, most) for drop in row.drops]
            table.add_row(f"{row.layer}/{row.weight}", f"{row.size:,}", *cells)
        return table

    def __rich__(self) -> Group:
        """Return what rich prints: the table and a recommendation."""
        advice = ", ".join(f"{name} {s:.0%}" for name, s in self.recommended().items())
        named, costs = ("loss ", "adds") if self._of_loss else ("", "costs")
        return Group(
            self.table(),
            Text(f"dense: {named}{self._shown(self.dense):.4f} on {self.samples:,} samples"),
            Text(f"each alone {costs} at most {self.usual_drop:.3g} up to: {advice}"),
        )

    def _cost(self) -> str:
        return "loss added" if self._of_loss else f"{self.metric} lost"

    def _shown(self, value: Any) -> Any:
        """Return a value of the metric as it is shown: the loss itself, not its negative."""
        return -value if self._of_loss else value

    def plot(self, axes: Any = None) -> Any:
        """Draw a heat map (weights by levels) and the curves; returns the two matplotlib axes."""
        import matplotlib.pyplot as plt

        drops = np.array([row.drops for row in self.weights])
        names = [f"{row.layer}/{row.weight}" for row in self.weights]
        if axes is None:
            height = 1.5 + 0.3 * len(names)
            _, axes = plt.subplots(1, 2, figsize=(12, max(height, 4.0)), layout="constrained")
        heat, curves = axes
        image = heat.imshow(drops, aspect="auto", cmap="magma_r", vmin=0.0)
        heat.set_xticks(range(len(self.sparsities)), [f"{s:.0%}" for s in self.sparsities])
        heat.set_yticks(range(len(names)), names, fontsize=8)
        heat.set_xlabel("sparsity of this weight alone")
        heat.figure.colorbar(image, ax=heat, label=self._cost())
        for row, name in zip(drops, names, strict=True):
            curves.plot(self.sparsities, self._shown(self.dense - row), marker="o", label=name)
        curves.axhline(self._shown(self.dense), color="grey", linestyle=":")
        curves.set_xlabel("sparsity of this weight alone")
        curves.set_ylabel("loss" if self._of_loss else self.metric)
        if len(names) <= 20:
            curves.legend(fontsize=7)
        return axes


def _cell(drop: float, most: float) -> str:
    """Return a figure, brighter the more it costs relative to the worst."""
    part = drop / most if most > 0 else 0.0
    style = "bold red" if part > 0.5 else "yellow" if part > 0.1 else "dim"
    return f"[{style}]{drop:.4f}[/{style}]"


def load(path: str | os.PathLike) -> Sensitivity:
    """Read a result that `to_json` saved.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    source = check_source(path, "a sensitivity saved by `to_json`")
    try:
        found = restored(Sensitivity, json.loads(source.read_text("utf-8")))
        if any(len(row.drops) != len(found.sparsities) for row in found.weights):
            raise ValueError("each weight has a drop for each of the levels")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} is no sensitivity that `to_json` saved: {error}. "
            f"Measure it with `tfprune.sensitivity`. Received: path={str(path)!r}"
        ) from None
    return found
