"""Show on the standard error what is being done, if anybody is watching."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")


class Steps:
    """A bar for the whole work, and one for the samples of the current step.

    Args:
        total: number of steps.
        shown: False draws nothing; nor is anything drawn where there is no terminal.

    Example:

    ```python
    with Steps(2, shown=True) as steps:
        steps.begin("float32: converting")
        for sample in steps.over(samples, "float32: accuracy"):
            ...
    ```
    """

    def __init__(self, total: int, shown: bool):
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
            transient=True,
        )
        self._whole = self._progress.add_task("starting", total=total)

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()

    def begin(self, text: str) -> None:
        """Say what is being done now."""
        self._progress.update(self._whole, description=escape(text))

    def finish(self) -> None:
        """Count one step as done."""
        self._progress.advance(self._whole)

    def over(self, items: Sequence[T], text: str) -> Iterator[T]:
        """Yield the items, with a bar of their own."""
        task = self._progress.add_task(escape(text), total=len(items))
        try:
            for item in items:
                yield item
                self._progress.advance(task)
        finally:
            self._progress.remove_task(task)
