"""`report`: one page about a run, out of what it saved and of the results at hand."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text

from tfprune.doctor import doctor
from tfprune.files import check_target, write_whole
from tfprune.reporting import folder as folders
from tfprune.reporting import page as pages
from tfprune.reporting import readers
from tfprune.reporting.items import Item, Origin, Pair
from tfprune.reporting.kinds import KEYS, kind_of
from tfprune.results import Result
from tfprune.version import __version__

NAME = "report.html"


@dataclasses.dataclass(frozen=True)
class Report(Result):
    """A page that was written: print it to see what is on it.

    Attributes:
        html: path of the page.
        markdown: path of the same as Markdown.
        sections: what it shows, in order.
        missing: (section, how to get it) of what it does not show.
        notes: what was not read, and why.

    Example: `print(tfprune.report("tfprune-quickstart"))`

    Source: made by `tfprune.report`.
    """

    html: str
    markdown: str
    sections: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def __rich__(self) -> Group:
        """Return what rich prints."""
        found = [f"Wrote {self.html} and {self.markdown}", f"  shows: {', '.join(self.sections)}"]
        found += [f"  not shown: {name}. From {how}" for name, how in self.missing]
        found += [f"  note: {note}" for note in self.notes]
        return Group(*map(Text, found))


def report(
    run_dir: str | os.PathLike | None = None,
    *,
    dense: Any = None,
    pruned: Any = None,
    results: Sequence[Any] = (),
    out: str | os.PathLike | None = None,
    title: str | None = None,
    overwrite: bool = False,
) -> Report:
    """Write one page about a run, as HTML that needs no network, and as Markdown.

    It shows before and after, the sparsity of each layer, the curves of training, sensitivity,
    channels, exported files, latency, a search, what was skipped and why, versions and seeds: what
    it finds. At its end stands what else could be shown and how to get it. A file that is foreign
    or damaged becomes a note there.

    Args:
        run_dir: folder of the run: results saved as JSON (also one folder down), TensorBoard
            events, `model.keras` or `pruned.keras`, `dense.keras`, `.tflite` files.
        dense: the model before pruning, or its file.
        pruned: the model after, or its file.
        results: further results, such as of `benchmark`, `sensitivity`, `shrink` or `search`. They
            are believed before what lies in the folder.
        out: path of the page; `report.html` in `run_dir` if it is not given. The Markdown lies
            beside it.
        title: its heading.
        overwrite: whether an earlier page and Markdown may be replaced.

    Returns:
        A `Report`: where the page is, what is on it.

    Raises:
        ValueError: nothing to report on, no place for the page, or a model that cannot be counted.
        TypeError: a result that is none of tfprune's, or another argument of the wrong type.
        OSError: see `tfprune.files.check_target`; or there is no such folder, or nothing of a run
            in it.

    Example:

    ```python
    tfprune.report("tfprune-quickstart")
    tfprune.report(dense=model, pruned=small, results=[shrunk, measured], out="page.html")
    ```

    Source: tfprune's own; each figure is one that a result, model or event file holds, and the page
    says which.
    """
    _require_types(results, out, title)
    results = list(results)
    if run_dir is None and dense is None and pruned is None and not results:
        raise ValueError(
            "There is nothing to report on: pass the folder of a run, models, or results. "
            "Received: run_dir=None, dense=None, pruned=None, results=()"
        )
    folder = None if run_dir is None else folders.check_folder(run_dir)
    target = _target(folder, out)
    markdown = target.with_suffix(".md")
    for path in (target, markdown):
        check_target(path, overwrite)
    told = [
        (*_figures(result), source)
        for result, source in zip(results, _sources(results), strict=True)
    ]
    given = [item for one in told for item in readers.read(*one)]
    found = folders.Found()
    if folder is not None:
        found = folders.read(folder, [figures for _, figures, _ in told])
    notes = list(found.notes)
    both, one = _sizes(dense, pruned, found, notes)
    if folder is not None and not (both or given or found.items or one):
        raise _nothing(folder, notes)
    name = "a run" if folder is None else folder.resolve().name
    page = pages.compose(
        title or f"Pruning report: {name}",
        [*both, *given, *found.items, *one, *_installed()],
        notes,
        f"Written by tfprune {__version__} on {datetime.date.today().isoformat()}.",
    )
    html, text = page.html(), page.markdown()
    # Names of files may hold bytes that are no text.
    write_whole(target, html.encode(errors="backslashreplace"), overwrite)
    write_whole(markdown, text.encode(errors="backslashreplace"), overwrite)
    return Report(
        str(target),
        str(markdown),
        tuple(section.name for section in page.sections),
        page.missing,
        page.notes,
    )


def _require_types(results: Any, out: Any, title: Any) -> None:
    if isinstance(results, (str, bytes)) or not isinstance(results, Iterable):
        raise TypeError(
            "`results` must be a list of results, such as `[tfprune.benchmark(...)]`, also of one "
            f"alone. Received: results={_short(results)}"
        )
    if out is not None and not isinstance(out, (str, os.PathLike)):
        raise TypeError(
            "`out` must be the path of the page, such as 'report.html', or None for that in "
            f"`run_dir`. Received: out={_short(out)}"
        )
    if title is not None and not isinstance(title, str):
        raise TypeError(
            "`title` must be a text, or None for the name of the folder. "
            f"Received: title={_short(title)}"
        )


def _short(value: Any) -> str:
    return repr(value)[:100]


def _target(folder: pathlib.Path | None, out: str | os.PathLike | None) -> pathlib.Path:
    if out is not None:
        target = pathlib.Path(out).expanduser()
        if target.suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"The page must end in .html; its Markdown lies beside it. "
                f"Received: out={str(out)!r}"
            )
        return target
    if folder is None:
        raise ValueError(
            "Without the folder of a run the page has no place: pass `out='report.html'`. "
            "Received: run_dir=None, out=None"
        )
    return folder / NAME


def _nothing(folder: pathlib.Path, notes: Sequence[str]) -> FileNotFoundError:
    seen = "; ".join(["", *dict.fromkeys(notes)])
    return FileNotFoundError(
        "There is nothing of a run in this folder. Looked for: results that tfprune saved (*.json "
        "here and one folder down), TensorBoard events at any depth, "
        f"{', '.join([*folders.PRUNED, *folders.DENSE])}, *.tflite. `tfprune quickstart --out DIR` "
        f"makes a folder with most of them. Received: run_dir={str(folder)!r}{seen}"
    )


def _figures(result: Any) -> tuple[str, dict[str, Any]]:
    """Return the kind of a result object, and what JSON would keep of it."""
    figures = json.loads(result.to_json()) if isinstance(result, Result) else None
    kind = kind_of(figures)
    if figures is None or kind is None:
        raise TypeError(
            f"`results` must be results of tfprune ({', '.join(KEYS)}), such as "
            "`tfprune.benchmark` returns, or files of a run in `run_dir`. "
            f"Received: {type(result).__name__}"
        )
    return kind, figures


def _sources(results: Sequence[Any]) -> list[str]:
    """Return a name for each result; those of one kind are numbered, to be told apart."""
    names = [type(result).__name__ for result in results]
    return [
        name if names.count(name) == 1 else f"{name} {names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def _sizes(
    dense: Any, pruned: Any, found: folders.Found, notes: list[str]
) -> tuple[list[Item], list[Item]]:
    """Return what two models tell together, and what one tells alone, which others know better.

    The models are those given, or else those in the folder.
    """
    counted = {"dense": _counted(dense), "pruned": _counted(pruned)}
    names = {"dense": _called(dense, "dense"), "pruned": _called(pruned, "pruned")}
    for role, path in (("dense", found.dense), ("pruned", found.pruned)):
        if counted[role] is None and path is not None:
            try:
                counted[role], names[role] = _counted(path), path.name
            except ValueError as error:
                notes.append(f"{path.name} was not counted: {error}")
    both: list[Item] = []
    one: list[Item] = []
    if counted["dense"] is not None and counted["pruned"] is not None:
        models = names["dense"], names["pruned"]
        both += readers.two_counts(counted["dense"], counted["pruned"], models)
    elif counted["dense"] is not None:
        one += readers.two_counts(counted["dense"], None, (names["dense"], "no model is known"))
    if counted["pruned"] is not None:
        one += readers.read("count", counted["pruned"], names["pruned"])
    if pruned is not None and not isinstance(pruned, (str, os.PathLike)):
        import tfprune

        figures = json.loads(tfprune.summary(pruned).to_json())
        found_in_it = readers.read("summary", figures, names["pruned"])
        one += [item for item in found_in_it if not isinstance(item, Pair)]  # the count has it
    if both:  # the same figures of the pruned model, beside what they were: once is enough
        one = [item for item in one if not isinstance(item, Pair)]
    return both, one


def _called(model: Any, role: str) -> str:
    """Return what the page calls a model: the name of its file if it is one."""
    if isinstance(model, (str, os.PathLike)):
        return pathlib.Path(model).name
    return f"the {role} model"


def _counted(model: Any) -> dict[str, Any] | None:
    if model is None:
        return None
    from tfprune.count import count
    from tfprune.variants import model_file

    if isinstance(model, (str, os.PathLike)):
        model = model_file.load(model_file.check_file(model))
    return json.loads(count(model).to_json())


def _installed() -> Iterator[Item]:
    health = doctor()
    yield Origin("tfprune", __version__, "installed when this page was written")
    yield Origin("system", health.python, "installed when this page was written")
    yield from readers.versions(health.versions, "installed when this page was written")
