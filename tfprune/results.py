"""What every result can do: show itself as text, and turn itself into JSON."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from typing import Any, ClassVar

from rich.console import Console

from tfprune.files import write_whole


class Result:
    """Base of the dataclasses that functions hand back; a subclass says what rich prints of it."""

    text_width: ClassVar[int] = 100
    """Characters in a line of `str(result)`, whatever the terminal."""

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def to_json(self, path: str | os.PathLike | None = None, overwrite: bool = False) -> str:
        """Return the figures as JSON, and save them if a path is given.

        Raises:
            OSError: see `tfprune.files.check_target`.
        """
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
        if path is not None:
            write_whole(path, text.encode(), overwrite)
        return text

    def __str__(self) -> str:
        buffer = io.StringIO()
        width = self.text_width
        Console(file=buffer, force_jupyter=False, width=width, color_system=None).print(self)
        return buffer.getvalue().rstrip()
