"""What puts tensors together and takes them apart: concatenations, splits, slices, padding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from tfprune.channels import track as tracks_
from tfprune.channels.rules import table
from tfprune.channels.rules.elementwise import combine, constants
from tfprune.channels.track import NONE, Track, known, untracked
from tfprune.channels.visit import Visit


def _joined(visit: Visit, axis: int) -> Track:
    if any(track.shape for track in constants(visit)):
        return visit.give_up(f"'{visit.path}' puts a constant beside channels")[0]
    rank = len(visit.shapes[0])
    axis %= rank
    lying = {a for track in visit.tracks for a in track.axes}
    if lying - {axis}:
        if axis in lying:
            return visit.give_up(f"'{visit.path}' puts channels along several axes together")[0]
        # Sequences put one after the other: position by position, channels are the same.
        cut = [Track(_with(t.shape, axis, 1), t.ids) for t in visit.tracks]
        return combine_as(visit, cut)
    return tracks_.concatenate(visit.tracks, axis, visit.shapes[0])


def _with(shape: Sequence[int | None], axis: int, n: int) -> tuple[int | None, ...]:
    return tuple(n if a == axis else m for a, m in enumerate(shape))


def combine_as(visit: Visit, tracks: list[Track]) -> Track:
    """Return the track of tensors whose channels are the same, one for one."""
    return Track(visit.shapes[0], combine(visit, tracks).ids)


@table.layers(layers.Concatenate)
@table.operations("Concatenate")
def concatenate(visit: Visit) -> Track:
    """Channels come one after the other."""
    return _joined(visit, visit.layer.axis)


def _sections(op: Any, count: table.Count, inputs: Any, outputs: Any) -> dict[str, Any]:
    axis = op.axis % len(inputs[0])
    ends = list(itertools.accumulate(shape[axis] or 0 for shape in outputs[:-1]))
    if None in [shape[axis] for shape in outputs]:
        return {}
    equal = isinstance(op.indices_or_sections, int) and len({s[axis] for s in outputs}) == 1
    return {} if equal else {"indices_or_sections": tuple(ends)}


@table.operations("Split", config=_sections)
def split(visit: Visit) -> list[Track]:
    """Cut into pieces along an axis."""
    rank = len(visit.track.shape)
    axis = visit.layer.axis % rank
    if axis not in visit.track.axes:
        return [Track(shape, visit.track.ids) for shape in visit.shapes]
    lengths = [known(shape)[axis] for shape in visit.shapes]
    pieces = np.split(visit.track.ids, np.cumsum(lengths)[:-1], axis)
    for piece in pieces:
        visit.piece(piece)
    return [Track(s, p) for s, p in zip(visit.shapes, pieces, strict=True)]


@table.operations("GetItem")
def get_item(visit: Visit) -> Track:
    """Take a slice; `sliced_key` says how the slice reads afterwards."""
    track = visit.track
    key = expand_key(
        visit.call.args[1] if len(visit.call.args) > 1 else visit.call.kwargs["key"],
        len(track.shape),
    )
    if key is None:
        return visit.give_up(f"'{visit.path}' takes elements by an array or a tensor")[0]
    own: list[Any] = []
    axis = 0
    for part in key:
        if part is None:
            own.append(None)
            continue
        if axis in track.axes:
            if isinstance(part, slice) and part.step not in (None, 1):
                return visit.give_up(f"'{visit.path}' takes every {part.step}th channel")[0]
            own.append(part)
            if isinstance(part, slice):
                visit.piece(track.ids.take(range(*part.indices(track.ids.shape[axis])), axis))
        else:
            own.append(slice(None) if isinstance(part, slice) else 0)
        if isinstance(part, int) and axis in track.axes:
            visit.freeze(track.ids.take(part, axis), f"'{visit.path}' takes this very channel")
        axis += 1
    ids = track.ids[tuple(own)]
    if ids.size == 0:
        return untracked(visit.shapes[0])
    # What is outside the slice goes no further; what is inside does.
    return Track(visit.shapes[0], ids)


def expand_key(key: Any, rank: int) -> list[Any] | None:
    """Return a key with an entry for each axis (and None for each new one), None if it has arrays.

    Example: `expand_key((..., slice(0, 4)), 3)` is `[slice(None), slice(None), slice(0, 4)]`.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    if not all(p is None or p is Ellipsis or isinstance(p, (int, slice)) for p in parts):
        return None
    bounds = [b for p in parts if isinstance(p, slice) for b in (p.start, p.stop, p.step)]
    if not all(b is None or isinstance(b, int) for b in bounds):
        return None
    missing = rank - sum(p is not None and p is not Ellipsis for p in parts)
    if Ellipsis not in parts:
        parts.append(Ellipsis)
    place = parts.index(Ellipsis)
    return [*parts[:place], *[slice(None)] * missing, *parts[place + 1 :]]


def sliced_key(key: Any, track: Track, keep: np.ndarray) -> Any:
    """Return the key that takes the same elements after removal.

    Args:
        key: as the model had it.
        track: of the tensor that is sliced.
        keep: True for each channel number that stays.
    """
    parts = expand_key(key, len(track.shape))
    if parts is None:
        return key
    left = np.where(track.ids < 0, True, keep[track.ids])
    found: list[Any] = []
    axis = 0
    for part in parts:
        if part is None:
            found.append(None)
            continue
        if axis in track.axes and not left.all():
            line = left.any(axis=tuple(a for a in range(left.ndim) if a != axis))
            before = np.concatenate([[0], np.cumsum(line)])
            if isinstance(part, slice):
                start, stop, _ = part.indices(line.size)
                found.append(slice(int(before[start]), int(before[max(start, stop)])))
            else:
                found.append(int(before[part % line.size]))
        else:
            found.append(part)
        axis += 1
    return tuple(found)


@table.operations("Pad")
def pad(visit: Visit) -> Track:
    """Zeros around; those beside channels are channels that cannot be removed."""
    widths = np.broadcast_to(np.asarray(visit.layer.pad_width), (len(visit.track.shape), 2))
    constant = visit.layer.mode == "constant"
    if not constant and any(widths[a].any() for a in visit.track.axes):
        return visit.give_up(f"'{visit.path}' repeats channels at the edge")[0]
    own = [tuple(w) if a in visit.track.axes else (0, 0) for a, w in enumerate(widths.tolist())]
    return Track(visit.shapes[0], np.pad(visit.track.ids, own, constant_values=NONE))
