"""A JSON file of what is finished, from which an interrupted run of the same work goes on."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import numpy as np

from tfprune.files import check_target, write_whole

T = TypeVar("T")


def of_arrays(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of arrays: their types, shapes and values, in order."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape};".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


class Record(Generic[T]):
    """What is finished, kept in a file if one is given; rewritten whole after each step.

    Args:
        path: of the file, in a folder that exists; None keeps nothing.
        identity: what tells this work from another, as JSON knows it.
        read: makes of the file's content what is finished.
        kind: what the work is, for messages: "a search".
        other: another work of that kind, and how it may differ.
        elsewhere: what to do instead, for messages.

    Attributes:
        earlier: what an earlier run finished; None if there was none.

    Example:

    ```python
    record = Record("part.json", {"model": "a"}, lambda content: content["done"], *words)
    done = record.earlier or []
    record.write({"done": [*done, 1]})
    ```

    Raises:
        ValueError: the file is of another work, or no such file; it is left as it is.
        OSError: nothing can be written there; see `tfprune.files.check_target`.
    """

    def __init__(
        self,
        path: str | os.PathLike | None,
        identity: dict[str, Any],
        read: Callable[[dict[str, Any]], T],
        kind: str,
        other: str,
        elsewhere: str,
    ) -> None:
        self._path: pathlib.Path | None = None
        self._identity = json.loads(json.dumps(identity))
        self.earlier: T | None = None
        if path is None:
            return
        self._path = check_target(path, overwrite=True)
        if not self._path.exists():
            return
        try:
            content = json.loads(self._path.read_text("utf-8"))
            if not isinstance(content, dict):
                raise ValueError(f"named values are expected, not {repr(content)[:100]}")
            same = content["identity"] == self._identity
            earlier = read(content) if same else None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{str(path)!r} is no record of {kind}, and is left as it is: {_in_words(error)}. "
                f"{elsewhere}. Received: a file of {self._path.stat().st_size:,} bytes"
            ) from None
        if not same:
            raise ValueError(
                f"{str(path)!r} is of {other}, and is left as it is. {elsewhere}, or delete it. "
                f"Received: a record in which {_differing(content['identity'], self._identity)} "
                "differ"
            )
        self.earlier = earlier

    def write(self, content: dict[str, Any]) -> None:
        """Replace what the file holds."""
        if self._path is not None:
            text = json.dumps({"identity": self._identity, **content}, indent=2, allow_nan=False)
            write_whole(self._path, text.encode(), overwrite=True)


def _in_words(error: Exception) -> str:
    """Return what is wrong with a file; of a `KeyError` Python says the key and no more."""
    if isinstance(error, KeyError):
        return f"the entry {error} is missing"
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return f"it holds no JSON ({error})"
    return str(error)


def _differing(there: Any, here: dict[str, Any]) -> str:
    known = there if isinstance(there, dict) else {}
    return ", ".join(key for key in {**here, **known} if here.get(key) != known.get(key))
