"""One call as its rule sees it: tracks in, facts stated, tracks out.

Nothing is decided here. A rule states facts ("the rows of this kernel are the channels of that
tensor"), and `atoms.py` finds out what they add up to.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from keras import tree

from tfprune.channels import lengths
from tfprune.channels.facts import Axis, Place, Term, Trace
from tfprune.channels.graph import Call
from tfprune.channels.track import NONE, Track, along, known, untracked


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
