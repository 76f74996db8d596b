"""The folder of a run: which files may be written, and `variants.json`, which tells what is there.

The record is rewritten whole after every finished variant, so that an interrupted run keeps what
it finished, and a later one can go on from there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from tfprune.files import check_target, write_whole
from tfprune.saved import restored
from tfprune.variants import fingerprint
from tfprune.variants.result import VariantsResult
from tfprune.variants.row import LEFT_OUT, VariantRow

NAME = "variants.json"
_FORMAT = 1
_WORDS = {
    "model": "the model",
    "calibration": "the calibration data",
    "evaluation": "the evaluation data",
    "metric": "the metric",
    "versions": "the versions of libraries",
}


@dataclasses.dataclass(frozen=True)
class Record:
    """What an earlier run left.

    Attributes:
        identity: hashes and versions of what it worked on.
        measurement: what decides whether its latencies may be kept; None if it took none.
        complete: whether it came to its end.
        result: its figures.
    """

    identity: dict[str, Any]
    measurement: dict[str, Any] | None
    complete: bool
    result: VariantsResult


def check_folder(
    out: str | os.PathLike, files: Iterable[str], overwrite: bool, resume: bool
) -> pathlib.Path:
    """Return the folder, which may not exist yet, if the files may be written to it.

    Raises:
        TypeError: `out` is not a path.
        NotADirectoryError: `out` is a file, or lies in one.
        FileExistsError: one of the files exists, and neither `overwrite` nor `resume` is set; or
            is something else than a file.
        PermissionError: the folder cannot be written to.
    """
    if not isinstance(out, (str, os.PathLike)):
        raise TypeError(f"`out` must be the path of a folder for the files. Received: out={out!r}")
    folder = pathlib.Path(out).expanduser()
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(
            f"{str(existing)!r} is a file, and a folder is needed for the results: choose another "
            f"name. Received: out={str(out)!r}"
        )
    if existing != folder:
        return folder
    names = [NAME, *files]
    taken = [name for name in names if os.path.lexists(folder / name)]
    if taken and not overwrite and not resume:
        raise FileExistsError(
            f"The folder {str(out)!r} holds {', '.join(taken)} already, and nothing was touched. "
            "Go on where that run ended with `resume=True` (`--resume`), replace it with "
            "`overwrite=True` (`--overwrite`), or choose another folder. "
            f"Received: out={str(out)!r}"
        )
    if taken and not overwrite and NAME not in taken:
        raise FileExistsError(
            f"There is no {NAME} in {str(out)!r}, so {', '.join(taken)} is not known to be of an "
            "earlier run, and nothing was touched. Replace it with `overwrite=True` "
            f"(`--overwrite`), or choose another folder. Received: out={str(out)!r}, resume=True"
        )
    for name in names:
        check_target(folder / name, overwrite=True)
    return folder


def write(folder: pathlib.Path, record: Record) -> None:
    """Write `variants.json`, whole or not at all."""
    figures = {
        "format": _FORMAT,
        "complete": record.complete,
        "identity": record.identity,
        "measurement": record.measurement,
        **record.result.to_dict(),
    }
    text = json.dumps(figures, indent=2, allow_nan=False)
    write_whole(folder / NAME, text.encode(), overwrite=True)


def read(folder: str | os.PathLike) -> Record | None:
    """Return what an earlier run left in a folder, None if there is nothing.

    Raises:
        ValueError: there is a `variants.json` that this version did not write.
    """
    path = pathlib.Path(folder) / NAME
    if not path.is_file():
        return None
    try:
        figures = json.loads(path.read_bytes())
        if figures.pop("format") != _FORMAT:
            raise KeyError("format")
        parts = {name: figures.pop(name) for name in ("identity", "measurement", "complete")}
        return restored(Record, {**parts, "result": figures})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fault = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise ValueError(
            f"{str(path)!r} is damaged, or of another version or program, so no run can go on from "
            f"it. Start anew with `overwrite=True` (`--overwrite`). Received: {fault}"
        ) from None


def reusable(
    earlier: Record, folder: pathlib.Path, identity: dict[str, Any]
) -> dict[str, VariantRow]:
    """Return the finished variants of an earlier run of the same work, by name.

    A variant whose file is gone or was changed is not among them, nor one that failed.

    Raises:
        ValueError: the earlier run worked on something else.
    """
    differing = [word for key, word in _WORDS.items() if earlier.identity.get(key) != identity[key]]
    if differing:
        raise ValueError(
            f"{str(folder / NAME)!r} is of a run with other inputs, so this one cannot go on from "
            f"it: {', '.join(differing)} differ. Repeat the run as it was, start anew with "
            "`overwrite=True` (`--overwrite`), or choose another folder. "
            f"Received: resume=True, out={str(folder)!r}"
        )
    return {
        row.name: row
        for row in earlier.result.rows
        if row.state == LEFT_OUT or (row.done and _is_whole(folder, row))
    }


def finished(folder: str | os.PathLike) -> Sequence[str]:
    """Return the names of the files that an earlier run finished, for messages."""
    found = _readable(folder)
    return _done(found) if found else ()


def files_left(folder: pathlib.Path) -> tuple[str, ...]:
    """Return the files in a folder that its record names, those of still earlier runs too."""
    found = _readable(folder)
    names = [*_done(found), *found.result.earlier_files] if found else []
    return tuple(name for name in dict.fromkeys(names) if (folder / name).is_file())


def _done(found: Record) -> list[str]:
    return [str(row.file) for row in found.result.rows if row.done]


def _readable(folder: str | os.PathLike) -> Record | None:
    try:
        return read(folder)
    except (ValueError, OSError):
        return None


def _is_whole(folder: pathlib.Path, row: VariantRow) -> bool:
    path = folder / str(row.file)
    return path.is_file() and fingerprint.of_file(path) == row.sha256
