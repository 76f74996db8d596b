"""A JSON file of what is finished, from which an interrupted run goes on."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from tfprune.files import write_whole

T = TypeVar("T")


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
        self._path = None if path is None else pathlib.Path(path)
        self._identity = json.loads(json.dumps(identity))
        self.earlier: T | None = None
        if self._path is None or not self._path.exists():
            return
        try:
            content = json.loads(self._path.read_text("utf-8"))
            same = content["identity"] == self._identity
            earlier = read(content) if same else None
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(path)!r} is no record of {kind}, and is left as it is: {error}. {elsewhere}."
            ) from None
        if not same:
            raise ValueError(
                f"{str(path)!r} is of {other}, and is left as it is. {elsewhere}, or delete it."
            )
        self.earlier = earlier

    def write(self, content: dict[str, Any]) -> None:
        """Replace what the file holds."""
        if self._path is not None:
            text = json.dumps({"identity": self._identity, **content}, indent=2, allow_nan=False)
            write_whole(self._path, text.encode(), overwrite=True)
