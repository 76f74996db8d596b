"""What a trace of a model holds: where channels lie, which are the same, which must stay."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfprune.channels.graph import Call
from tfprune.channels.track import Track

Axis = tuple[Any, int]
"""A variable, and one of its axes."""


@dataclasses.dataclass(frozen=True)
class Place:
    """An axis of a variable, along which channels lie.

    Attributes:
        layer: path of the layer, such as "backbone/conv1".
        owner: the layer itself.
        variable: the variable.
        axis: of the variable.
        role: "in" where a kernel reads channels, "out" where it makes them, "each" where a value
            belongs to one (a bias, a norm, a depthwise kernel).
        ids: channel number of each position.
        blocks: how often a channel lies here because a layer has so many gates.
    """

    layer: str
    owner: Any
    variable: Any
    axis: int
    role: str
    ids: np.ndarray
    blocks: int = 1

    @property
    def name(self) -> str:
        """Name of the variable in its layer, such as "kernel" or "forward_lstm/kernel"."""
        return own_name(self.owner, self.variable)

    @property
    def turn(self) -> int | None:
        """Which of its layer's variables it is, from 0: the same where a copy names it anew."""
        found = (n for n, one in enumerate(self.owner.variables) if one is self.variable)
        return next(found, None)


@dataclasses.dataclass(frozen=True)
class Term:
    """Some of the multiplications of one call: `factor` times the lengths of axes.

    Attributes:
        layer: path of the layer.
        variable: whose values are multiplied with, so that its zeros count for nothing; None for
            products of activations.
        factor: how often, for lengths of 1.
        axes: those of which the lengths are multiplied.
    """

    layer: str
    variable: Any
    factor: int
    axes: tuple[Axis, ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """A call and the tracks of what went in and came out, as the model was read."""

    call: Call
    inputs: tuple[Track, ...]
    outputs: tuple[Track, ...]


@dataclasses.dataclass
class Trace:
    """All that is known of a model's channels.

    Attributes:
        count: number of channel numbers given out.
        places: the axes of variables along which channels lie.
        equal: pairs of arrays of channel numbers which stay or go together.
        frozen: channel numbers that must stay, and why.
        terms: the multiplications.
        steps: by the id of a graph (nested ones too), its calls, in order.
        heads: by the id of a graph, the tracks of its inputs.
        readers: (layer path, graph, symbolic tensor, channel numbers) of what kernels read.
        pieces: channel numbers that one slice or split cuts out.
        tracked: by the id of a layer with one configuration for all its calls, what went in.
        unknown: (layer path, type) of what no rule is known for.
        unsure: (what, its shape) of tensors with lengths that hide nobody knows what.
        whole: (layer, reason) of calls that were given up: none of their weights may be cut, even
            if other calls are understood.
    """

    count: int = 0
    places: dict[tuple[int, int], Place] = dataclasses.field(default_factory=dict)
    equal: list[tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=list)
    frozen: list[tuple[np.ndarray, str]] = dataclasses.field(default_factory=list)
    terms: list[Term] = dataclasses.field(default_factory=list)
    steps: dict[int, list[Step]] = dataclasses.field(default_factory=dict)
    heads: dict[int, list[Track]] = dataclasses.field(default_factory=dict)
    readers: list[tuple[str, Any, Any, np.ndarray]] = dataclasses.field(default_factory=list)
    pieces: list[np.ndarray] = dataclasses.field(default_factory=list)
    tracked: dict[int, list[Track]] = dataclasses.field(default_factory=dict)
    unknown: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    unsure: list[tuple[str, tuple[int | None, ...]]] = dataclasses.field(default_factory=list)
    whole: list[tuple[Any, str]] = dataclasses.field(default_factory=list)


def own_name(layer: Any, variable: Any) -> str:
    """Return the name of a variable within its layer, the same in every copy of the model."""
    prefix = f"{layer.path}/" if getattr(layer, "path", None) else ""
    return variable.path.removeprefix(prefix) if prefix else variable.path
