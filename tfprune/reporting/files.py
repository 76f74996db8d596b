"""Exported files on the page: their sizes, their accuracy, and how they ran."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfprune.reporting.drawing import bars
from tfprune.reporting.items import (
    ENERGY,
    SPEED,
    VARIANTS,
    Item,
    Origin,
    Pair,
    Picture,
    Remark,
    Skipped,
    Table,
)
from tfprune.reporting.texts import (
    count,
    digits,
    is_number,
    millijoules,
    milliseconds,
    percent,
    plain,
    points,
    size,
)

Figures = Mapping[str, Any]


def quickstart(figures: Figures, source: str) -> Iterator[Item]:
    """Yield the files of `tfprune quickstart`."""
    rows = figures["variants"]
    cells = tuple(
        (
            *(str(row["name"]), percent(row["accuracy"]), count(row["nonzero"])),
            *(percent(row["sparsity"]), size(row["raw_bytes"]), size(row["gzip_bytes"])),
        )
        for row in rows
    )
    columns = ("model", "accuracy", "nonzero", "zeros", "file", "gzip")
    images = count(figures["test_images"])
    caption = f"Each file on {images} test images of {figures['dataset']} ({source})"
    yield Table(VARIANTS, caption, columns, cells, 5)
    yield from _sizes([(r["name"], r["raw_bytes"], r["gzip_bytes"]) for r in rows], source)
    if "conditions" in figures:  # nothing was measured in the runs of older versions
        caption = f"Each file, one image at a time ({source})"
        yield from _measured(caption, "model", rows, figures["conditions"], _meter(figures))
        yield Remark(SPEED, f"Energy: {figures['energy']}.")


def variants(figures: Figures, source: str) -> Iterator[Item]:
    """Yield the files of `export_variants`, the best one marked; those left out, and why."""
    done = [row for row in figures["rows"] if row["state"] == "done"]
    best = next((row for row in done if row["name"] == figures["best"]), None)
    cells = tuple(
        (
            str(row["name"]) + (" (best)" if row is best else ""),
            *(size(row["file_bytes"]), size(row["gzip_bytes"]), percent(row["sparsity"])),
            *(percent(row["accuracy"]), plain(row["kernels"])),
        )
        for row in done
    )
    columns = ("variant", "file", "gzip", "zeros", "accuracy", "on phones")
    yield Table(VARIANTS, f"Variants of {figures['model']} ({source})", columns, cells, 4)
    if best is not None:
        yield from _against_keras(figures, best, source)
    yield from _sizes([(r["name"], r["file_bytes"], r["gzip_bytes"]) for r in done], source)
    yield Remark(
        VARIANTS, f"Best by {figures['objective']}: {plain(figures['best'])}. {figures['choice']}"
    )
    for row in figures["rows"]:
        if row["state"] != "done":
            yield Skipped(f"variant {row['name']}: {row['state']}", plain(row["reason"]), source)
    caption = f"Variants of {figures['model']} ({source})"
    yield from _measured(caption, "variant", done, figures["conditions"])
    for name, version in figures["versions"].items():
        yield Origin(str(name), plain(version), source)


def _against_keras(figures: Figures, best: Figures, source: str) -> Iterator[Item]:
    """Yield what the chosen file does as the Keras model does it; nothing that is not known.

    It is no `Pair`: the Keras model may be pruned already, and then is no "before".
    """
    known = figures["baseline"], best["accuracy"]
    if all(map(is_number, known)):
        columns = ("figure", "Keras model", str(best["name"]), "change")
        row = (str(figures["metric"]), *map(percent, known), points(*known))
        caption = f"The Keras model and the chosen file, {best['name']} ({source})"
        yield Table(VARIANTS, caption, columns, (row,), 3)


def _measured(
    caption: str, what: str, rows: Sequence[Figures], conditions: Sequence[Any], meter: str = ""
) -> Iterator[Item]:
    """Yield latency and memory of the files that ran, and under which conditions.

    Args:
        meter: what stands for an energy that is not known, where it was asked for.
    """
    ran = [row for row in rows if is_number(row["median_ms"])]
    section = SPEED if ran else VARIANTS
    for text in conditions:
        yield Remark(section, str(text))
    if ran:
        cells = tuple(
            (
                *(str(row["name"]), milliseconds(row["median_ms"])),
                size(row["peak_memory_bytes"]),
                *([_energy(row, meter)] if meter else []),
            )
            for row in ran
        )
        columns = (what, "median latency", "peak memory", *([ENERGY] if meter else []))
        yield Table(SPEED, caption, columns, cells, len(columns) - 1)
        yield _latencies([str(row["name"]) for row in ran], [row["median_ms"] for row in ran])


def export(figures: Figures, source: str) -> Iterator[Item]:
    """Yield a file of `export_tflite`: its weights, its errors, what phones make of it."""
    name = base(figures["path"])
    cells = tuple(
        (
            *(str(row["name"]), count(row["size"]), percent(row["sparsity"])),
            *(size(row["stored_bytes"]), plain(row["dtype"])),
            ("sparse: " if row["encoded"] else "dense: ") + str(row["reason"]),
        )
        for row in figures["weights"]
    )
    columns = ("weight", "values", "zeros", "stored in", "dtype", "encoding")
    sizes = f"{size(figures['file_bytes'])}, {size(figures['gzip_bytes'])} after gzip"
    yield Table(VARIANTS, f"Weights in {name}: {sizes} ({source})", columns, cells, 3)
    verdict = figures["verdict"]
    yield Remark(VARIANTS, f"{name}, sparse kernels: {verdict['kind']}: {verdict['reason']}")
    for check in figures["checks"]:
        error = digits(check["max_rel_error"])
        yield Remark(
            VARIANTS,
            f"{name}, error against Keras, {check['runtime']}: {error} of the largest output",
        )
    for note in figures["notes"]:
        yield Remark(VARIANTS, f"{name}: {note}")
    for library, version in figures["versions"].items():
        yield Origin(str(library), plain(version), source)


def inspected(figures: Figures, source: str) -> Iterator[Item]:
    """Yield what `inspect_file` found in a file."""
    name = base(figures["path"])
    cells = tuple(
        (
            *(str(row["name"]), percent(row["sparsity"]), count(row["size"])),
            *(plain(row["shape"]), plain(row["dtype"]), plain(row["pattern"])),
        )
        for row in figures["weights"]
    )
    sizes = f"{size(figures['file_bytes'])}, {size(figures['gzip_bytes'])} after gzip"
    columns = ("weight", "zeros", "values", "shape", "dtype", "N:M")
    yield Table(VARIANTS, f"Weights in {name}: {sizes} ({source})", columns, cells, 2)


def benchmark(figures: Figures, source: str) -> Iterator[Item]:
    """Yield the figures of files that ran side by side, each that ran against the first."""
    rows = figures["files"]
    names = [base(row["path"]) for row in rows]
    if len(set(names)) < len(names):  # files of one name in several folders
        names = [str(row["path"]) for row in rows]
    for name, row in zip(names[1:], rows[1:], strict=True):
        for key, figure in (
            *(("file_bytes", "file_bytes"), ("gzip_bytes", "gzip_bytes")),
            *(("memory", "peak_memory_bytes"), ("latency", "median_ms"), ("energy", "energy_mj")),
        ):
            if not row["failure"]:
                yield Pair(key, rows[0][figure], row[figure], (names[0], name), source)
    cells = tuple(
        (
            *(name, milliseconds(row["median_ms"])),
            _spread(row["p5_ms"], row["p95_ms"]),
            f"{digits(row['speedup'])}x" if is_number(row["speedup"]) else plain(None),
            *(milliseconds(row["load_ms"]), size(row["peak_memory_bytes"])),
            _energy(row, _meter(figures)),
        )
        for name, row in zip(names, rows, strict=True)
    )
    columns = ("file", "median", "5 to 95 %, ms", "faster", "load", "memory", ENERGY)
    yield Table(SPEED, f"{figures['device']} ({source})", columns, cells, 6)
    ran = [
        (n, r["median_ms"]) for n, r in zip(names, rows, strict=True) if is_number(r["median_ms"])
    ]
    if ran:
        yield _latencies([name for name, _ in ran], [value for _, value in ran])
    for name, row in zip(names, rows, strict=True):
        if row["failure"]:
            yield Skipped(f"{name}: not measured", str(row["failure"]), source)
        elif row["wrong"]:
            yield Remark(SPEED, f"{name}: its outputs are wrong, so its speed means nothing.")
    yield Remark(SPEED, f"Processor: {figures['cpu']['name']}. Energy: {figures['energy']}.")
    for note in figures["notes"]:
        yield Remark(SPEED, str(note))
    for name, version in figures["versions"].items():
        yield Origin(str(name), plain(version), source)


def _latencies(names: Sequence[str], values: Sequence[float]) -> Picture:
    told = ", ".join(
        f"{name} {milliseconds(value)}" for name, value in zip(names, values, strict=True)
    )
    alt = f"Bars: median latency of each file. {told}."
    return bars(SPEED, alt, names, {"latency": values}, "median latency, ms")


def _spread(low: Any, high: Any) -> str:
    return f"{digits(low)} to {digits(high)}" if is_number(low) else plain(None)


def _energy(row: Figures, meter: str) -> str:
    return meter if row["energy_mj"] is None else millijoules(row["energy_mj"])


def _meter(figures: Figures) -> str:
    return str(figures["energy"]) if str(figures["energy"]).startswith("no meter") else plain(None)


def _sizes(rows: Sequence[tuple[Any, Any, Any]], source: str) -> Iterator[Item]:
    known = [row for row in rows if is_number(row[1]) and is_number(row[2])]
    if known:
        told = ", ".join(f"{name} {size(raw)}, gzip {size(packed)}" for name, raw, packed in known)
        yield bars(
            VARIANTS,
            f"Bars: size of each file, as it is and after gzip. {told} ({source}).",
            [str(name) for name, _, _ in known],
            {
                "file": [raw / 1024 for _, raw, _ in known],
                "gzip": [packed / 1024 for *_, packed in known],
            },
            "KiB",
        )


def base(path: Any) -> str:
    """Return the name of a file without its folder, whatever system wrote the path.

    Example: `base("C:\\\\out\\\\a.tflite")` is "a.tflite".
    """
    return os.path.basename(str(path).replace("\\", "/"))
