"""Follow channels through a model: every call is visited once, its rule says what belongs together.

Nothing is decided here. A rule states facts ("the rows of this kernel are the channels of that
tensor"), and `atoms.py` finds out what they add up to.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.channels import graph, lengths
from tfprune.channels.graph import Call
from tfprune.channels.track import NONE, Track, along, known, untracked
from tfprune.cloning import is_graph

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


class Visit:
    """One call, as its rule sees it: tracks in, facts stated, tracks out.

    Attributes:
        layer: the layer or operation that is called.
        owner: what stands in the model: the layer, or what wraps it.
        path: its path in the model.
        repeats: how often it runs for one sample: by the steps of a `TimeDistributed`, by what is
            folded into the batch axis.
        tracks: of the tensors among its arguments, in order.
        shapes: of its outputs.
    """

    def __init__(
        self, trace: Trace, graph_: Any, path: str, call: Call, tracks: Sequence[Track]
    ) -> None:
        self.trace, self.graph, self.path, self.call = trace, graph_, path, call
        self.layer = call.operation
        self.owner = call.operation
        self.tracks = list(tracks)
        self.repeats = lengths.rows(self.tracks[0]) if self.tracks else Fraction(1)
        self.shapes = [tuple(x.shape) for x in call.outputs]

    @property
    def track(self) -> Track:
        """The track of the first tensor, the only one of most layers."""
        return self.tracks[0]

    def argument(self, name: str, position: int | None = None) -> Any:
        """Return an argument of the call by its name, tensors replaced by their tracks, or None."""
        signature = inspect.signature(self.layer.call)
        try:
            bound = signature.bind_partial(*self.call.args, **self.call.kwargs)
        except TypeError:
            return None
        if name not in bound.arguments:
            return None
        by_tensor = {id(x): t for x, t in zip(self.call.tensors, self.tracks, strict=True)}
        value = bound.arguments[name]
        return tree.map_structure(lambda x: by_tensor.get(id(x), x), value)

    # -- Facts -----------------------------------------------------------------------------------

    def ids(self, variable: Any, axis: int, role: str = "each", blocks: int = 1) -> np.ndarray:
        """Return the channel numbers along an axis of a variable, the same at every call.

        An axis of length 1 has none: its one channel cannot be removed.

        Args:
            variable: of the layer.
            axis: of the variable.
            role: see `Place`.
            blocks: see `Place`.
        """
        axis %= len(variable.shape)
        key = (id(variable), axis)
        if key not in self.trace.places:
            ids = self.new(int(variable.shape[axis]))
            place = Place(self.path, self.owner, variable, axis, role, ids, blocks)
            self.trace.places[key] = place
        return self.trace.places[key].ids

    def makes(self, variable: Any, axis: int, blocks: int = 1) -> np.ndarray:
        """Return the channel numbers that a kernel makes, along one of its axes."""
        return self.ids(variable, axis, "out", blocks)

    def reads(self, variable: Any, axis: int, ids: np.ndarray, tensor: int | None = 0) -> None:
        """State that a kernel reads channels along one of its axes.

        Args:
            variable: the kernel.
            axis: of the kernel.
            ids: what it reads.
            tensor: which of the call's tensors they come from, for importances that look at
                activations; None for what stays inside the layer.
        """
        self.equate(self.ids(variable, axis, "in"), ids, reads_none(self.path))
        if tensor is not None:
            self.trace.readers.append((self.path, self.graph, self.call.tensors[tensor], ids))

    def new(self, n: int) -> np.ndarray:
        """Return new channel numbers."""
        if n == 1:
            return np.array([NONE])
        start = self.trace.count
        self.trace.count += n
        return np.arange(start, start + n)

    def equate(self, first: np.ndarray, second: np.ndarray, reason: str | None = None) -> None:
        """State that channels are the same, element by element.

        Where only one of the two is a channel, it must stay, for the reason given.
        """
        a, b = np.broadcast_arrays(first, second)
        both = (a >= 0) & (b >= 0)
        if both.any():
            self.trace.equal.append((a[both], b[both]))
        alone = np.concatenate([a[(a >= 0) & (b < 0)], b[(b >= 0) & (a < 0)]])
        self.freeze(alone, reason or f"it meets values without channels in '{self.path}'")

    def freeze(self, ids: np.ndarray | Track, reason: str) -> None:
        """State that channels must stay, and why (the end of "it stays because ...")."""
        ids = ids.ids if isinstance(ids, Track) else ids
        ids = np.unique(ids[ids >= 0])
        if ids.size:
            self.trace.frozen.append((ids, reason))

    def channels(self, track: Track, axis: int = -1) -> np.ndarray:
        """Return the channel numbers along one axis of a tensor, -1 where there are none.

        Channels that lie along another axis too are frozen: this call would mix them.
        """
        rank = len(track.shape)
        axis %= rank
        n = known(track.shape)[axis]
        others = [a for a in track.axes if a != axis]
        if others:
            self.freeze(
                track,
                f"its channels lie along axis {others[0]} where '{self.path}' "
                f"({type(self.layer).__name__}) works along axis {axis}",
            )
            return np.full(n, NONE)
        return np.broadcast_to(track.ids.reshape(-1), (n,))

    def multiplies(self, variable: Any, positions: int) -> None:
        """State that every value of a variable is multiplied with, at so many positions."""
        axes = tuple((variable, axis) for axis in range(len(variable.shape)))
        factor = math.ceil(positions * self.repeats)
        self.trace.terms.append(Term(self.path, variable, factor, axes))

    def multiplies_activations(self, factor: int, axes: Sequence[Axis]) -> None:
        """State a product of activations: `factor` times the lengths of some axes."""
        factor = math.ceil(factor * self.repeats)
        self.trace.terms.append(Term(self.path, None, factor, tuple(axes)))

    # -- What comes out --------------------------------------------------------------------------

    def along(self, ids: np.ndarray, axis: int = -1, output: int = 0) -> Track:
        """Return the track of an output whose channels lie along one axis."""
        return along(self.shapes[output], axis, ids)

    def give_up(self, reason: str) -> list[Track]:
        """Freeze all that comes in; return outputs without channels."""
        for track in self.tracks:
            self.freeze(track, reason)
        self.trace.whole.append((self.owner, reason))
        return [untracked(shape) for shape in self.shapes]

    def same_at_every_call(self) -> None:
        """State that the layer has one configuration, so that each of its calls loses the same."""
        earlier = self.trace.tracked.setdefault(id(self.layer), self.tracks)
        reason = f"'{self.path}' is called on tensors of several shapes"
        for old, new in zip(earlier, self.tracks, strict=True):
            if old.ids.shape == new.ids.shape:
                self.equate(old.ids, new.ids)
            else:
                self.freeze(old, reason)
                self.freeze(new, reason)

    def piece(self, ids: np.ndarray) -> None:
        """State that a slice cuts these channels out, so that some of them must stay."""
        self.trace.pieces.append(np.unique(ids))

    def positions(self, *axes: int, output: int = 0) -> int:
        """Return how many elements an output has without the given axes; unknown lengths are 1."""
        shape = known(self.shapes[output])
        left_out = {axis % len(shape) for axis in axes}
        return math.prod(n for axis, n in enumerate(shape) if axis not in left_out)


def reads_none(path: str) -> str:
    """Return why the channels along the input axis of a layer stay if it reads none of a layer."""
    return f"the channels that '{path}' reads cannot be removed"


Rule = Callable[[Visit], "Sequence[Track] | Track"]


def trace(model: keras.Model, rule_for: Callable[[Any], Rule | None]) -> Trace:
    """Follow the channels of a Sequential or Functional model.

    Args:
        model: see `graph.require_graph`.
        rule_for: returns the rule of a layer or operation, None if none is known.
    """
    found = Trace()
    visitor = _Visitor(found, rule_for)
    tracks = [_given(x.shape) for x in tree.flatten(graph.inputs(model))]
    ends = visitor.run(model, "", tracks)
    for track in ends:
        ids = np.unique(track.ids[track.ids >= 0])
        if ids.size:
            found.frozen.insert(0, (ids, "it is an output of the model"))
    for owner, reason in found.whole:
        for variable in getattr(owner, "variables", ()):
            for axis in range(len(variable.shape)):
                place = found.places.get((id(variable), axis))
                if place is not None:
                    found.frozen.append((place.ids[place.ids >= 0], reason))
    return found


def _given(shape: Sequence[int | None]) -> Track:
    """Return the track of an input of the model, of whose batch one sample is counted."""
    track = untracked(shape)
    return dataclasses.replace(track, share=Fraction(1, known(shape)[0] or 1))


class _Visitor:
    def __init__(self, found: Trace, rule_for: Callable[[Any], Rule | None]) -> None:
        self.found, self.rule_for = found, rule_for

    def run(self, model: keras.Model, prefix: str, tracks: list[Track]) -> list[Track]:
        """Visit the calls of a graph; return the tracks of its outputs."""
        heads = tree.flatten(graph.inputs(model))
        if len(heads) != len(tracks):
            raise ValueError(
                f"The nested model '{prefix}' takes {len(heads)} inputs and is called on "
                f"{len(tracks)} tensors."
            )
        for head, track in zip(heads, tracks, strict=True):
            if head.shape.count(None) > max(track.shape.count(None), 1):
                self.found.unsure.append((f"input of '{prefix[:-1]}'", tuple(head.shape)))
        tracks = [lengths.seen_as(t, x.shape) for x, t in zip(heads, tracks, strict=True)]
        self.found.heads.setdefault(id(model), tracks)
        known_ = {id(x): t for x, t in zip(heads, tracks, strict=True)}
        # A nested model that is called again is visited again, but rebuilt once.
        steps: list[Step] = []
        for call in graph.calls(model):
            inside = tuple(known_[id(x)] for x in call.tensors)
            path = f"{prefix}{call.operation.name}"
            visit = Visit(self.found, model, path, call, inside)
            outside = tuple(self._visit(visit))
            outside = self._shared(visit, outside)
            for tensor, track in zip(call.outputs, outside, strict=True):
                known_[id(tensor)] = track
            steps.append(Step(call, inside, outside))
            self.found.steps.setdefault(id(model), steps)
        return [known_[id(x)] for x in tree.flatten(graph.outputs(model))]

    def _shared(self, visit: Visit, tracks: Sequence[Track]) -> tuple[Track, ...]:
        """Return the tracks of a call's outputs with their shapes and how much of the batch is in.

        A nested model has told that already.
        """
        if is_graph(visit.layer):
            return tuple(map(lengths.seen_as, tracks, visit.shapes))
        found = []
        shares = lengths.shares(visit.layer, visit.tracks, visit.shapes)
        for track, shape, share in zip(tracks, visit.shapes, shares, strict=True):
            if share is None:
                self.found.unsure.append((f"output of '{visit.path}'", shape))
                share = max(t.share for t in visit.tracks)
            found.append(Track(shape, track.ids, share))
        return tuple(found)

    def _visit(self, visit: Visit) -> Sequence[Track]:
        layer = visit.layer
        if is_graph(layer):
            visit.same_at_every_call()
            return self.run(layer, f"{visit.path}/", visit.tracks)
        rule = self.rule_for(layer)
        if rule is None:
            kind = type(layer).__name__
            self.found.unknown.append((visit.path, kind))
            return visit.give_up(
                f"it goes through '{visit.path}', a {kind}, for which no rule is known"
            )
        if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
            return visit.give_up(f"'{visit.path}' holds its weights in another form (int8 or LoRA)")
        _freeze_masks(visit)
        tracks = returned(rule(visit), visit)
        if not all(map(_fits, tracks, visit.shapes)):
            return visit.give_up(f"'{visit.path}' is called in a way that is not known")
        return tracks


def returned(found: Any, visit: Visit) -> list[Track]:
    """Return the tracks that a rule has returned.

    Raises:
        TypeError: it is no track, or not one for each output.
    """
    tracks = [found] if isinstance(found, Track) else found
    listed = isinstance(tracks, (list, tuple)) and all(isinstance(t, Track) for t in tracks)
    if not listed or len(tracks) != len(visit.shapes):
        raise TypeError(
            f"The rule of {type(visit.layer).__name__} must return a track for each output of the "
            f"layer, here {len(visit.shapes)}: `return visit.track` if the channels come out as "
            "they went in, `return visit.along(ids)` if the layer makes them. "
            f"Received: {found!r} for '{visit.path}'"
        )
    return list(tracks)


_MASKS = ("mask", "attention_mask", "query_mask", "key_mask", "value_mask")


def _freeze_masks(visit: Visit) -> None:
    """Rules look at data; what tells which of the data count stays as it is."""
    if len(visit.tracks) > 1 and isinstance(visit.layer, keras.layers.Layer):
        for name in _MASKS:
            for track in tree.flatten(visit.argument(name)):
                if isinstance(track, Track):
                    visit.freeze(track, f"it is a mask of '{visit.path}'")


def _fits(track: Track, shape: Sequence[int | None]) -> bool:
    """Tell whether a track has a number for each element (a constant among them has none)."""
    pairs = zip(track.ids.shape, known(shape), strict=True)
    return all(n == 1 or n == length for n, length in pairs)


def own_name(layer: Any, variable: Any) -> str:
    """Return the name of a variable within its layer, the same in every copy of the model."""
    prefix = f"{layer.path}/" if getattr(layer, "path", None) else ""
    return variable.path.removeprefix(prefix) if prefix else variable.path
