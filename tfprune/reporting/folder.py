"""What a run left in its folder: saved results, event files, models and exported files."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfprune.reporting import readers, training, trials
from tfprune.reporting.items import VARIANTS, Item, Table
from tfprune.reporting.kinds import kind_of
from tfprune.reporting.texts import percent, size
from tfprune.weightfiles import inspect_file

_LARGEST = 64 * 1024**2  # bytes of a JSON file; results have some hundred thousand at most
_ORDER = ("quickstart", "shrink", "benchmark", "variants", "search", "trials", "count", "summary")
_SEARCHES = ("search", "trials")
PRUNED, DENSE = ("model.keras", "pruned.keras"), ("dense.keras",)


@dataclasses.dataclass
class Found:
    """What was read, and what could not be.

    Attributes:
        items: of the page.
        notes: a sentence for each file that was left out.
        pruned: file of the pruned model, None if there is none.
        dense: file of the dense model, None if there is none.
    """

    items: list[Item] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    pruned: pathlib.Path | None = None
    dense: pathlib.Path | None = None


def check_folder(run_dir: Any) -> pathlib.Path:
    """Return the folder of a run as a path.

    Raises:
        TypeError: it is no path.
        FileNotFoundError: there is no such folder.
        NotADirectoryError: it is a file.
    """
    if not isinstance(run_dir, (str, os.PathLike)):
        raise TypeError(
            "`run_dir` must be the path of a run's folder; a model goes into `pruned`, a result "
            f"into `results=[...]`. Received: run_dir={run_dir!r}"
        )
    folder = pathlib.Path(run_dir).expanduser()
    if not folder.exists():
        raise FileNotFoundError(
            "The folder of the run does not exist; `tfprune quickstart --out DIR` makes one. "
            f"Received: run_dir={str(run_dir)!r}"
        )
    if not folder.is_dir():
        raise NotADirectoryError(
            "The folder of a run is expected, and this is a file; pass the folder it lies in. "
            f"Received: run_dir={str(run_dir)!r}"
        )
    return folder


def read(folder: pathlib.Path, beside: Sequence[Mapping[str, Any]] = ()) -> Found:
    """Read what the page can show; what is foreign or damaged becomes a note.

    Args:
        folder: of the run.
        beside: results that the page shows anyway: a search among them is not shown once more.
    """
    found = Found(pruned=_first(folder, PRUNED), dense=_first(folder, DENSE))
    results = sorted(_results(folder, found.notes), key=_place)
    searches = [figures for figures in beside if kind_of(figures) == "search"]
    for kind, figures, source in results:
        try:
            if kind in _SEARCHES:  # a search keeps a record, and its result may be saved beside it
                search = figures if kind == "search" else trials.result_of(figures)
                if any(trials.same(search, other) for other in searches):
                    continue
                found.pruned = found.pruned or _chosen(folder / source, search)
                searches.append(search)
            found.items += readers.read(kind, figures, source)
        except readers.DAMAGE as error:
            found.notes.append(
                f"{source} looks like a saved result ({kind}), but is damaged: {error!r}"
            )
    _read_events(folder, found)
    known = {name for _, figures, _ in results for name in _files(figures)}
    rest = [path for path in sorted(folder.glob("*.tflite")) if path.name not in known]
    found.items += list(_exported(rest, found.notes))
    return found


def _place(result: tuple[str, Any, str]) -> tuple[int, int]:
    """Return where a result stands: by its kind, and of searches the one first that knows most."""
    kind, figures, _ = result
    if kind not in _SEARCHES:
        return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER)), 0
    known = figures["trials"]
    return _ORDER.index("search"), -len(known) if isinstance(known, list) else 0


def _chosen(file: pathlib.Path, search: Mapping[str, Any]) -> pathlib.Path | None:
    """Return the model that a search chose, if it lies beside the file that tells of it."""
    if search["best"] is None:
        return None
    name = search["trials"][search["best"]]["file"]
    path = file.parent / pathlib.PurePath(name).name
    return path if name and path.is_file() else None


def _results(folder: pathlib.Path, notes: list[str]) -> Iterator[tuple[str, Any, str]]:
    """Yield kind, figures and name of each saved result in the folder and in those inside it."""
    for path in sorted({*folder.glob("*.json"), *folder.glob("*/*.json")}):
        source = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in source.split("/")) or not path.is_file():
            continue
        try:
            if path.stat().st_size > _LARGEST:
                notes.append(f"{source} is larger than any saved result, and was not read")
                continue
            figures = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            notes.append(f"{source} cannot be read as JSON: {error}")
            continue
        kind = kind_of(figures)
        if kind is None:
            notes.append(f"{source} is no result that tfprune saved")
        else:
            yield kind, figures, source


def _read_events(folder: pathlib.Path, found: Found) -> None:
    curves: dict[str, training.Curve] = {}
    for events in training.event_folders(folder):
        try:
            curves.update(training.curves(events, folder))
        except (OSError, ValueError, TypeError) as error:
            name = events.relative_to(folder).as_posix()
            found.notes.append(f"the event files in {name} cannot be read: {error}")
    found.items += list(training.items(curves))


def _files(figures: Any) -> Iterator[str]:
    """Yield the names of exported files that a result tells about itself."""
    for key in ("variants", "rows"):
        rows = figures.get(key)
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and row.get("file"):
                yield str(row["file"])


def _exported(paths: list[pathlib.Path], notes: list[str]) -> Iterator[Item]:
    """Yield one table of the `.tflite` files that no result tells about."""
    rows = []
    for path in paths:
        try:
            file = inspect_file(path)
        except (ValueError, OSError) as error:
            notes.append(str(error))
            continue
        rows.append(
            (path.name, size(file.file_bytes), size(file.gzip_bytes), percent(file.sparsity))
        )
    if rows:
        columns = ("file", "size", "gzip", "zeros in weights")
        yield Table(VARIANTS, "Further files in the folder", columns, tuple(rows), 3)


def _first(folder: pathlib.Path, names: tuple[str, ...]) -> pathlib.Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
