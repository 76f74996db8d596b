"""What was tried, on the page: each weight pruned alone, and the trials of a search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfprune.reporting.drawing import picture, short
from tfprune.reporting.items import SEARCH, SENSITIVITY, Item, Pair, Picture, Remark, Skipped, Table
from tfprune.reporting.texts import digits, milliseconds, percent, plain, size
from tfprune.saved import restored

Figures = Mapping[str, Any]
# Of "sparsity" the cost is the zeros once more.
_COSTS = {"size": ("file size", size), "latency": ("latency", milliseconds)}
_ALONG = {"size": "bytes", "latency": "milliseconds"}


def sensitivity(figures: Figures, source: str) -> Iterator[Item]:
    """Yield the heat map of what each weight costs at each sparsity, and its table."""
    from tfprune.sensitivity.result import Sensitivity, WeightSensitivity

    rows = tuple(
        WeightSensitivity(
            str(row["layer"]), str(row["weight"]), int(row["size"]), tuple(map(float, row["drops"]))
        )
        for row in figures["weights"]
    )
    levels = tuple(float(level) for level in figures["sparsities"])
    if not rows or not levels or any(len(row.drops) != len(levels) for row in rows):
        raise ValueError("a drop for each weight at each sparsity is expected")
    metric, dense = str(figures["metric"]), float(figures["dense"])
    shortened = tuple(
        WeightSensitivity(short(row.layer, 18), row.weight, row.size, row.drops) for row in rows
    )
    found = Sensitivity(str(figures["model"]), metric, dense, levels, shortened, figures["samples"])
    cells = tuple(
        (f"{row.layer}/{row.weight}", *(f"{drop:.4f}" for drop in row.drops)) for row in rows
    )
    columns = ("weight", *(percent(level) for level in levels))
    caption = f"{metric} lost by pruning one weight alone to this sparsity ({source})"
    yield Table(SENSITIVITY, caption, columns, cells, len(levels))
    worst = max(rows, key=lambda row: max(row.drops))
    least = min(rows, key=lambda row: max(row.drops))
    alt = (
        f"Heat map of the {metric} lost, weights by sparsities, and the {metric} of each weight "
        f"as a curve. {worst.layer}/{worst.weight} costs most, {max(worst.drops):.4f}; "
        f"{least.layer}/{least.weight} least, {max(least.drops):.4f} at worst."
    )

    def draw(figure: Any) -> None:
        found.plot(figure.subplots(2, 1))

    yield picture(SENSITIVITY, alt, 5.0 + 0.3 * len(rows), draw)
    yield Remark(
        SENSITIVITY, f"The dense model has {metric} {dense:.4f} on {plain(found.samples)} samples."
    )


def search(figures: Figures, source: str) -> Iterator[Item]:
    """Yield the trials of a search, the chosen one marked, and its curve."""
    from tfprune.search.failures import telling

    metric, dense, best = str(figures["metric"]), float(figures["dense"]), figures["best"]
    trials = figures["trials"]
    cost = [_COSTS[name] for name in (figures["objective"],) if name in _COSTS]
    cells = tuple(
        (
            f"{number + 1}" + (" (chosen)" if number == best else ""),
            *(percent(trial["sparsity"]), percent(trial["reached"]), digits(trial["value"])),
            *(shown(trial["cost"]) for _, shown in cost),
            "yes" if trial["within"] else "no",
        )
        for number, trial in enumerate(trials)
    )
    columns = ("trial", "asked", "zeros", metric, *(name for name, _ in cost), "within the budget")
    allowed = f"{metric} may fall by {digits(figures['max_drop'])} from {digits(dense)}"
    yield Table(SEARCH, f"{allowed} ({source})", columns, cells, len(columns) - 2)
    yield Remark(SEARCH, str(figures["reason"]))
    if best is not None and metric == "accuracy":
        yield Pair(
            "accuracy",
            dense,
            trials[best]["value"],
            ("the dense model", "the chosen trial"),
            source,
        )
    for number, trial in enumerate(trials):
        if trial["failure"]:
            yield Skipped(f"trial {number + 1}: no figures", telling(str(trial["failure"])), source)
    reached = [trial for trial in trials if trial["value"] is not None]
    if reached:
        yield _curve(figures, metric, dense, len(reached))


def kept(figures: Figures, source: str) -> Iterator[Item]:
    """Yield the same of the record that a search keeps in its folder, finished or not."""
    yield from search(result_of(figures), source)


def result_of(figures: Figures) -> dict[str, Any]:
    """Return what `SearchResult.to_dict` says of a search, out of the record in its folder.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, IndexError: the record is damaged.
    """
    from tfprune.search.result import Trial, preferred, reason_for

    known = figures["identity"]
    trials = [restored(Trial, trial) for trial in figures["trials"]]
    dense, max_drop = float(known["dense"]), float(known["max drop"])
    best = None
    for trial in trials:
        best = trial if preferred(trial, best) else best
    return {
        "objective": known["objective"],
        "metric": known["metric"],
        "dense": dense,
        "max_drop": max_drop,
        "trials": figures["trials"],
        "best": None if best is None else trials.index(best),
        "met": best is not None and best.within,
        "reason": reason_for(best, dense, max_drop, trials),
    }


def same(one: Figures, other: Figures) -> bool:
    """Tell whether two results are of one search, which may have gone on between them."""
    names = ("objective", "metric", "max_drop")
    if any(one[name] != other[name] for name in names):
        return False
    shorter, longer = sorted((list(one["trials"]), list(other["trials"])), key=len)
    return round(one["dense"], 6) == round(other["dense"], 6) and longer[: len(shorter)] == shorter


def _curve(figures: Figures, metric: str, dense: float, count: int) -> Picture:
    from tfprune.search.result import SearchResult, Trial

    trials = tuple(Trial(**trial) for trial in figures["trials"])
    names = ("objective", "max_drop", "best", "met", "reason")
    found = SearchResult(
        metric=metric,
        dense=dense,
        trials=trials,
        model=None,
        allocation=None,
        **{name: figures[name] for name in names},
    )
    along = _ALONG.get(figures["objective"], "zeros")
    alt = (
        f"Curve of {metric} over {along} for {count} trials, with the dense model and the budget "
        f"as lines. {figures['reason']}"
    )
    return picture(SEARCH, alt, 3.2, lambda figure: found.plot(figure.subplots()))
