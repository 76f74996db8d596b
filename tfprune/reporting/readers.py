"""From a saved result to what the page shows of it: a function for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfprune.reporting import files, layers, trials
from tfprune.reporting.items import (
    CHANNELS,
    OTHER,
    SIZES,
    Item,
    Origin,
    Pair,
    Remark,
    Skipped,
    Table,
)
from tfprune.reporting.texts import count, digits, percent, plain

Figures = Mapping[str, Any]
Reader = Callable[[Figures, str], Iterator[Item]]

DAMAGE = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
"""What a reader raises over a file with the right keys and the wrong things behind them."""


def read(kind: str, figures: Figures, source: str) -> list[Item]:
    """Return what the page shows of a result.

    Args:
        kind: a key of `tfprune.reporting.kinds.KEYS`.
        figures: as `to_dict` gives them, and JSON keeps them.
        source: name of the file, or of the object.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError: the figures are
            damaged.
    """
    return list(READERS[kind](figures, source))


def versions(found: Mapping[str, Any], source: str) -> Iterator[Item]:
    """Yield the versions of libraries that took part."""
    for name, version in found.items():
        if version is not None:
            yield Origin(str(name), plain(version), source)


def _quickstart(figures: Figures, source: str) -> Iterator[Item]:
    variants = figures["variants"]
    before, after = variants[0], variants[1]
    models = str(before["name"]), str(after["name"])
    for key, name in (
        *(("accuracy", "accuracy"), ("parameters", "parameters"), ("nonzero", "nonzero")),
        *(("file_bytes", "raw_bytes"), ("gzip_bytes", "gzip_bytes")),
        *(("macs", "macs"), ("nonzero_macs", "nonzero_macs"), ("memory", "peak_memory_bytes")),
        *(("latency", "median_ms"), ("energy", "energy_mj")),
    ):
        yield Pair(key, before.get(name), after.get(name), models, source)  # older runs have fewer
    yield from layers.rows(figures["layers"], source)
    yield from files.quickstart(figures, source)
    yield Origin("seed", plain(figures["seed"]), source)
    yield Origin("data", f"{figures['dataset']} ({figures['source']})", source)


def _shrink(figures: Figures, source: str) -> Iterator[Item]:
    models = str(figures["model"]), f"{figures['model']} shrunk to {figures['target']}"
    for key, name in (("parameters", "params"), ("macs", "macs")):
        yield Pair(key, figures[f"{name}_before"], figures[f"{name}_after"], models, source)
    latency = figures.get("latency_before_ms"), figures.get("latency_after_ms")
    yield Pair("latency", *latency, models, source)
    rows = figures["layers"]
    yield from layers.channels(figures, source)
    for row in rows:
        if row["frozen"]:
            what = f"{row['layer']}: {row['frozen']} of {row['before']} channels stay"
            yield Skipped(what, plain(row["reason"]), source)
    for path, kind in figures["unknown"]:
        yield Skipped(f"{path}: its channels stay", f"no rule is known for {kind}", source)
    for note in figures["notes"]:
        yield Remark(CHANNELS, str(note))


def _count(figures: Figures, source: str) -> Iterator[Item]:
    models = _with_zeros(figures["model"])
    for key, every, left in (
        *(("parameters", "parameters", "parameters"), ("nonzero", "parameters", "nonzero")),
        *(("macs", "macs", "macs"), ("nonzero_macs", "macs", "nonzero_macs")),
    ):
        yield Pair(key, figures[every], figures[left], models, source)
    for path in figures["not_counted"]:
        yield Skipped(f"{path}: MACs not counted", "no rule is known for it", source)
    cells = [
        (
            *(str(row["layer"]), count(row["parameters"]), count(row["nonzero"])),
            *(count(row["macs"]), count(row["nonzero_macs"]), plain(row["kind"])),
        )
        for row in figures["layers"]
    ]
    columns = ("layer", "parameters", "nonzero", "MACs", "MACs, nonzero", "kind")
    caption = f"Each layer of {figures['model']} ({source})"
    yield Table(SIZES, caption, columns, tuple(cells), 4)


def _summary(figures: Figures, source: str) -> Iterator[Item]:
    models = _with_zeros(figures["name"])
    yield Pair("nonzero", figures["parameters"], figures["nonzero"], models, source)
    yield from layers.rows(figures["rows"], source)


def _with_zeros(name: Any) -> tuple[str, str]:
    """Return what is compared where one model is known: what its zeros save."""
    return f"{name}, were no weight zero", f"{name} as it is"


def _allocation(figures: Figures, source: str) -> Iterator[Item]:
    cells = [
        (str(row["layer"]), count(row["size"]), percent(row["sparsity"]), plain(row["reason"]))
        for row in figures["layers"]
    ]
    caption = f"Planned: {percent(figures['sparsity'])} zeros, {figures['method']} ({source})"
    yield Table(OTHER, caption, ("layer", "weights", "sparsity", "remark"), tuple(cells), 2)
    for row in figures["layers"]:
        if not row["chosen"]:
            yield Skipped(str(row["layer"]), plain(row["reason"]), source)


def _reconstruction(figures: Figures, source: str) -> Iterator[Item]:
    rows = [{**row, "reached": row["sparsity"], "reason": ""} for row in figures["weights"]]
    yield from layers.rows(rows, source)
    cells = [
        (f"{row['layer']}/{row['weight']}", digits(row["magnitude_error"]), digits(row["error"]))
        for row in figures["weights"]
    ]
    caption = f"Relative error of the outputs of each layer ({source})"
    yield Table(OTHER, caption, ("weight", "by magnitude", "refitted"), tuple(cells), 2)
    for row in figures["weights"]:
        if row["reason"]:
            yield Skipped(f"{row['layer']}/{row['weight']}: not refitted", row["reason"], source)
    for path, reason in figures["dense"]:
        yield Skipped(str(path), str(reason), source)


def _permutation(figures: Figures, source: str) -> Iterator[Item]:
    cells = [
        (f"{row['layer']}/{row['weight']}", percent(row["before"]), percent(row["after"]))
        for row in figures["weights"]
    ]
    caption = f"Magnitude that {figures['pattern']} keeps ({source})"
    yield Table(OTHER, caption, ("weight", "before", "after"), tuple(cells), 2)
    for row in figures["weights"]:
        if row["reason"]:
            yield Skipped(
                f"{row['layer']}/{row['weight']}: order of channels", row["reason"], source
            )


def _doctor(figures: Figures, source: str) -> Iterator[Item]:
    yield Origin("tfprune", plain(figures["tfprune"]), source)
    yield Origin("system", plain(figures["python"]), source)
    yield from versions(figures["versions"], source)
    for text in figures["problems"]:
        yield Remark(OTHER, f"Known problem ({source}): {text}")


READERS: dict[str, Reader] = {
    "quickstart": _quickstart,
    "variants": files.variants,
    "benchmark": files.benchmark,
    "sensitivity": trials.sensitivity,
    "shrink": _shrink,
    "search": trials.search,
    "trials": trials.kept,
    "count": _count,
    "export": files.export,
    "file": files.inspected,
    "summary": _summary,
    "allocation": _allocation,
    "reconstruction": _reconstruction,
    "permutation": _permutation,
    "doctor": _doctor,
}


def two_counts(dense: Figures, pruned: Figures | None, models: tuple[str, str]) -> Iterator[Item]:
    """Yield the sizes of two models that `tfprune.count` counted; the second may be missing."""
    for key in ("parameters", "nonzero", "macs", "nonzero_macs"):
        yield Pair(key, dense[key], None if pruned is None else pruned[key], models, "counted")
