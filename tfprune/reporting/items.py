"""What a page is made of: figures before and after, tables, pictures, sentences."""

from __future__ import annotations

import dataclasses

LAYERS = "Sparsity of each layer"
SIZES = "Parameters and MACs"
TRAINING = "Sparsity and accuracy over training"
SENSITIVITY = "Sensitivity"
CHANNELS = "Channel widths"
VARIANTS = "Exported files"
SPEED = "Latency, memory and energy"
SEARCH = "Search"
OTHER = "Other results"

ENERGY = "energy"
"""The column of a table of speeds by which one tells that energy was asked for."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """One figure of a pair of models; None where it is not known.

    Attributes:
        figure: a key of `tfprune.reporting.pairs.ROWS`.
        before: of the first model, in the unit of that row.
        after: of the second one.
        models: what the two are. Pairs of the same models and source stand in one table.
        source: where the figures come from.
    """

    figure: str
    before: float | None
    after: float | None
    models: tuple[str, str]
    source: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under a caption; the first cell of a row names it.

    Attributes:
        section: heading under which it stands.
        caption: what it shows.
        columns: their titles.
        rows: texts, as many as columns.
        numeric: how many columns, from the second on, hold numbers.
    """

    section: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: int = 0


@dataclasses.dataclass(frozen=True)
class Picture:
    """A plot, and the same in a sentence.

    Attributes:
        section: heading under which it stands.
        alt: what one who cannot see it must know.
        light: address of the picture for a light screen, with the picture in it.
        dark: the same for a dark one.
    """

    section: str
    alt: str
    light: str
    dark: str


@dataclasses.dataclass(frozen=True)
class Remark:
    """A sentence in a section."""

    section: str
    text: str


@dataclasses.dataclass(frozen=True)
class Skipped:
    """What was left as it was, and why."""

    what: str
    reason: str
    source: str


@dataclasses.dataclass(frozen=True)
class Origin:
    """What is needed to do it again: a version, or a seed."""

    name: str
    value: str
    source: str


Item = Pair | Table | Picture | Remark | Skipped | Origin
