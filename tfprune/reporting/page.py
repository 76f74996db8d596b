"""From items to the page: the order of its sections, as HTML and as Markdown."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Sequence

import jinja2
import markupsafe

from tfprune.reporting import items, pairs
from tfprune.reporting.items import Item, Origin, Pair, Picture, Remark, Skipped, Table

BEFORE_AFTER, SKIPPED, ORIGINS = "Before and after", "Skipped, and why", "Versions and seeds"

HOW = {
    BEFORE_AFTER: "`tfprune quickstart --out RUN_DIR`, or `report(dense=..., pruned=...)`",
    items.LAYERS: "`tfprune.summary(model).to_json('RUN_DIR/summary.json')`",
    items.TRAINING: "`tfprune.PruningSummaries('RUN_DIR/logs')` among the callbacks of `fit`",
    items.VARIANTS: "`tfprune export MODEL --out RUN_DIR/export`",
    items.SPEED: "`tfprune benchmark DENSE.tflite PRUNED.tflite --json RUN_DIR/benchmark.json`",
    items.SENSITIVITY: "`tfprune sensitivity MODEL --data NPZ --json RUN_DIR/sensitivity.json`",
    items.CHANNELS: "`tfprune shrink MODEL --macs 0.5 --out FILE --report RUN_DIR/shrink.json`",
    items.SEARCH: "`tfprune.search(..., folder='RUN_DIR/search')`",
}
"""Each section that may be missing, in the order of the page, and where its figures come from."""

_ORDER = (*HOW, items.SIZES, items.OTHER, SKIPPED, ORIGINS)


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    name: str
    anchor: str
    remarks: tuple[str, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]


@dataclasses.dataclass(frozen=True)
class Page:
    """All of a page.

    Attributes:
        title: its heading.
        sections: in their order.
        missing: (section, how to get it) of what is not there.
        notes: what was not read, and why.
        written: day and program.
    """

    title: str
    sections: tuple[Section, ...]
    missing: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    written: str

    def html(self) -> str:
        """Return the page as HTML that needs nothing else."""
        return _templates().get_template("page.html").render(page=self)

    def markdown(self) -> str:
        """Return the same as Markdown; pictures as what they say."""
        return _templates().get_template("page.md").render(page=self).strip() + "\n"


def compose(title: str, found: Sequence[Item], notes: Sequence[str], written: str) -> Page:
    """Return the page of these items, those of a section together in the order given."""
    by_section: dict[str, list[Item]] = {name: [] for name in _ORDER}
    for item in found:
        if isinstance(item, (Table, Picture, Remark)):
            by_section[item.section].append(item)
    both = [item for item in found if isinstance(item, Pair)]
    by_section[BEFORE_AFTER] += _before_after(both, _energy_asked(found))
    by_section[SKIPPED] += _skipped([item for item in found if isinstance(item, Skipped)])
    by_section[ORIGINS] += _origins([item for item in found if isinstance(item, Origin)])
    sections = tuple(_section(name, held) for name, held in by_section.items() if held)
    missing = tuple((name, how) for name, how in HOW.items() if not by_section[name])
    if by_section[items.SPEED] and not _energy_asked(found):
        missing += (("Energy", f"{HOW[items.SPEED]}, where the machine has a meter"),)
    return Page(title, sections, missing, tuple(dict.fromkeys(notes)), written)


def _section(name: str, held: Sequence[Item]) -> Section:
    return Section(
        name,
        re.sub(r"[^a-z]+", "-", name.lower()).strip("-"),
        tuple(dict.fromkeys(item.text for item in held if isinstance(item, Remark))),
        tuple(item for item in held if isinstance(item, Picture)),
        tuple(item for item in held if isinstance(item, Table)),
    )


def _before_after(both: Sequence[Pair], energy_asked: bool) -> list[Item]:
    columns = ("figure", "before", "after", "change")
    found: list[Item] = [
        Table(BEFORE_AFTER, caption, columns, rows, 3) for caption, rows in pairs.compared(both)
    ]
    missing = pairs.not_compared(both, energy_asked)
    if found and missing:
        found.append(Remark(BEFORE_AFTER, missing))
    return found


def _energy_asked(found: Sequence[Item]) -> bool:
    """Tell whether something was measured in a way that takes energy where there is a meter."""
    return any(
        isinstance(i, Table) and i.section == items.SPEED and items.ENERGY in i.columns
        for i in found
    )


def _skipped(found: Sequence[Skipped]) -> list[Item]:
    rows = tuple(dict.fromkeys((item.what, item.reason, item.source) for item in found))
    if not rows:
        return []
    return [Table(SKIPPED, "What was left as it was", ("what", "because", "from"), rows)]


def _origins(found: Sequence[Origin]) -> list[Item]:
    sources: dict[tuple[str, str], list[str]] = {}
    for item in found:
        held = sources.setdefault((item.name, item.value), [])
        if item.source not in held:
            held.append(item.source)
    if not sources:
        return []
    rows = tuple((*key, ", ".join(held)) for key, held in sources.items())
    caption = "What is needed to do it again"
    return [Table(ORIGINS, caption, ("name", "value", "from"), rows)]


def _templates() -> jinja2.Environment:
    # Names of layers come from the user: in HTML all of them are escaped.
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["md"] = markdown_text
    templates.filters["joints"] = _joints
    templates.filters["code"] = _code
    return templates


def markdown_text(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line, also in a table.

    Example: `markdown_text("a|b*")` is `a\\\\|b\\\\*`.
    """
    escaped = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(str(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _joints(text: str) -> markupsafe.Markup:
    """Return a text as HTML that a narrow cell breaks at the joints of a name, not inside words."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(re.sub(r"(?<=\w)([/_-]|\.(?=[A-Za-z]))(?=\w)", r"\1<wbr>", escaped))


def _code(text: str) -> list[tuple[bool, str]]:
    """Return the parts of a text between backticks and outside, told apart."""
    return [(bool(number % 2), part) for number, part in enumerate(text.split("`")) if part]
