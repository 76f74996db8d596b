"""What a search tried, and what it chose: a table, a curve, the model and its rules."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import keras
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.allocate import Allocation
from tfprune.results import Result
from tfprune.search.failures import telling

UNITS = {"sparsity": "zeros", "size": "bytes", "latency": "ms"}
_COST_AXES = {
    "size": "bytes of the sparse float32 file",
    "latency": "milliseconds of the sparse float32 file",
}
UNMEASURED = "trained, and not measured yet"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One pruned and trained model.

    Attributes:
        sparsity: that was asked for.
        reached: fraction of zeros in the weights that were pruned; None if the trial failed.
        value: the metric after training; None if the trial failed.
        cost: by the objective: 1 - zeros, bytes of the sparse float32 file, or milliseconds.
        within: whether the value is inside the budget.
        failure: why there is no value, with all that the error says; empty if there is one.
        file: name of the trained model in the search's folder, empty without a folder.
        settings: what was sampled for it, by name of a layer or group; empty for bisection.
        short: whether it has fewer zeros than were asked for: `train` did not prune to the end.
    """

    sparsity: float
    reached: float | None
    value: float | None
    cost: float | None
    within: bool
    failure: str = ""
    file: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    short: bool = False


@dataclasses.dataclass(frozen=True)
class SearchResult(Result):
    """The sparsest model inside the budget, and all that was tried.

    Attributes:
        objective: "sparsity", "size" or "latency".
        metric: that the budget is about.
        dense: its value before pruning.
        max_drop: the budget.
        trials: in the order in which they were made.
        best: number of the chosen trial; the one that lost least if none is inside the budget.
        met: whether the chosen one is inside the budget.
        reason: why it was chosen, or why none is inside.
        model: the chosen model, stripped; None if every trial failed.
        allocation: how its zeros were spread; its `rules` make the model again.

    Example:

    ```python
    result = tfprune.search(model, (x, y), train=train)
    print(result)
    result.plot()
    result.to_yaml("rules.yaml")  # for `tfprune.prune(model, "rules.yaml")`
    ```

    Source: made by `tfprune.search`.
    """

    objective: str
    metric: str
    dense: float
    max_drop: float
    trials: tuple[Trial, ...]
    best: int | None
    met: bool
    reason: str
    model: keras.Model | None
    allocation: Allocation | None

    @property
    def rules(self) -> list:
        """The rules of the chosen trial, for `tfprune.prune`; empty if every trial failed."""
        return self.allocation.rules if self.allocation is not None else []

    def to_yaml(self, path: str | os.PathLike | None = None, overwrite: bool = False) -> str:
        """Return the rules of the chosen trial as YAML, and save them if a path is given.

        `tfprune.prune(model, path)` reads the same rules; `to_json` keeps the figures.

        Raises:
            ValueError: every trial failed, so that there are no rules.
            OSError: see `tfprune.files.check_target`.
        """
        if self.allocation is None:
            raise ValueError(
                "No trial gave rules that could be written; see `trials` for what each failed of, "
                f"and search again. Received: {len(self.trials)} trials, all failed"
            )
        return self.allocation.to_yaml(path, overwrite)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values, the model left out."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del fields["model"]
        fields["trials"] = [dataclasses.asdict(trial) for trial in self.trials]
        fields["allocation"] = None if self.allocation is None else self.allocation.to_dict()
        return fields

    def table(self) -> Table:
        """Return the table of trials that `print` shows, the chosen one marked."""
        table = Table(
            title=f"{self.metric} may fall by {self.max_drop:g} from {self.dense:.4f}",
            box=box.SIMPLE_HEAD,
        )
        table.add_column("")
        # Of "sparsity" the cost is the zeros once more.
        unit = [UNITS[self.objective]] if self.objective != "sparsity" else []
        for name in ("asked", "zeros", self.metric, "lost", *unit):
            table.add_column(name, justify="right")
        table.add_column("", overflow="fold")
        for number, trial in enumerate(self.trials):
            if trial.value is None or trial.reached is None or trial.cost is None:
                table.add_row(
                    *("", f"{trial.sparsity:.1%}", "", "", ""),
                    *("" for _ in unit),
                    f"failed: {telling(trial.failure)}",
                )
                continue
            table.add_row(
                "*" if number == self.best else "",
                f"{trial.sparsity:.1%}",
                f"{trial.reached:.1%}",
                f"{trial.value:.4f}",
                f"{self.dense - trial.value:.4f}",
                *(_shown(self.objective, trial.cost) for _ in unit),
                ", ".join(filter(None, [trial.settings.get("method", ""), *_judged(trial)])),
            )
        return table

    def __rich__(self) -> Group:
        """Return what rich prints: the trials, the reason under them, what each layer loses."""
        chosen = [] if self.allocation is None else [Text(), self.allocation.table()]
        return Group(self.table(), Text(self.reason), *chosen)

    def plot(self, axes: Any = None) -> Any:
        """Draw the metric over zeros, or what the objective counts; returns matplotlib axes.

        The dense model and the budget are lines, the chosen trial is a star; those that failed
        are left out.

        Args:
            axes: of matplotlib, to draw on; None makes a figure.

        Example: `result.plot().figure.savefig("search.png")`

        Raises:
            ImportError: matplotlib is not installed.
        """
        import matplotlib.pyplot as plt

        if axes is None:
            _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        by_cost = self.objective in _COST_AXES
        done = sorted(
            (t.cost if by_cost else t.reached, t.value)
            for t in self.trials
            if t.reached is not None and t.value is not None and t.cost is not None
        )
        axes.plot([x for x, _ in done], [y for _, y in done], marker="o")
        axes.axhline(self.dense, color="grey", linestyle=":", label="dense")
        axes.axhline(self.dense - self.max_drop, color="tab:red", linestyle="--", label="budget")
        if self.best is not None and self.trials[self.best].reached is not None:
            chosen = self.trials[self.best]
            at = chosen.cost if by_cost else chosen.reached
            axes.plot([at], [chosen.value], "*", markersize=16, label="chosen")
        axes.set_xlabel(_COST_AXES.get(self.objective, "zeros in the pruned weights"))
        axes.set_ylabel(self.metric)
        axes.legend()
        return axes


def _judged(trial: Trial) -> list[str]:
    short = "fewer zeros than asked for" if trial.short else ""
    return [short, "" if trial.within else "beyond the budget"]


def _shown(objective: str, cost: float) -> str:
    return f"{cost:,.0f}" if objective == "size" else f"{cost:.3f}"


def reason_for(best: Trial | None, dense: float, max_drop: float, trials: Sequence[Trial]) -> str:
    """Return why a trial was chosen, or why none is inside the budget."""
    if best is None or best.value is None:
        return f"Every trial failed; the last one: {telling(trials[-1].failure)}"
    lost = dense - best.value
    if best.within:
        return f"{best.reached:.1%} zeros cost {lost:.4f}, inside the budget of {max_drop:g}."
    return (
        f"No trial is inside the budget of {max_drop:g}: the one that lost least, with "
        f"{best.reached:.1%} zeros, lost {lost:.4f}. Train longer, allow more, or lower `between`."
    )


def preferred(trial: Trial, best: Trial | None) -> bool:
    """Tell whether a trial is the better choice: inside the budget first, then by cost."""
    if trial.value is None:
        return False
    if best is None or best.value is None:
        return True
    if trial.within != best.within:
        return trial.within
    return better(trial, best) if trial.within else trial.value > best.value


def better(trial: Trial, other: Trial | None) -> bool:
    """Tell whether a trial costs less than another; ties go to the higher value."""
    if trial.cost is None or trial.value is None:
        return False
    if other is None or other.cost is None or other.value is None:
        return True
    if math.isclose(trial.cost, other.cost, rel_tol=1e-12):
        return trial.value > other.value
    return trial.cost < other.cost
