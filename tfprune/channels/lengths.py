"""Lengths that nobody knows before a model runs: what they hide, and where they count as 1.

A batch axis of unknown length may hide more than samples. Windows of a map that are reshaped into
it are computed for every sample, and multiplications are counted for one sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import keras
from keras import tree

from tfprune.channels import graph
from tfprune.channels.track import Shape, Track, known

if TYPE_CHECKING:
    from tfprune.channels.facts import Trace


def rows(track: Track) -> Fraction:
    """Return how many positions along its first axis a tensor has for one sample.

    Example: 16 for 4x4 windows of a 16x16 map, reshaped to (-1, 4, 4, channels).
    """
    return track.share * known(track.shape)[0] if track.shape else track.share


def seen_as(track: Track, shape: Shape) -> Track:
    """Return a track with another shape of its tensor, of which more or less is known.

    The inputs of a nested model leave the batch open where it is called on a batch of known length.
    """
    first = known(shape)[0] if shape else 1
    return Track(tuple(shape), track.ids, rows(track) / first if first else track.share)


def shares(
    operation: Any, inputs: Sequence[Track], shapes: Sequence[Shape]
) -> list[Fraction | None]:
    """Return, for each output of a call, what `Track.share` says; None if nothing tells.

    Args:
        operation: the layer or operation.
        inputs: the tracks of the tensors that it is called on.
        shapes: of its outputs.
    """
    return [_share(operation, inputs, shape, len(shapes)) for shape in shapes]


def _share(operation: Any, inputs: Sequence[Track], shape: Shape, outputs: int) -> Fraction | None:
    widest = max(inputs, key=lambda t: (_known_size(t.shape), t.share), default=None)
    if widest is None:
        return Fraction(1)
    same = widest.share
    if isinstance(operation, keras.layers.Layer) and not _joins(operation):
        return same  # it keeps the batch axis
    if None not in shape:  # nothing is hidden; the batch must not get lost
        return same if all(None not in t.shape for t in inputs) else None
    times = _times(operation, outputs)
    size = _known_size(shape)
    if times is None or not size:
        return same
    return times * sum(t.share * _known_size(t.shape) for t in inputs) / size


def _known_size(shape: Shape) -> int:
    return math.prod(known(shape))


def _joins(operation: Any) -> bool:
    return type(operation).__name__ == "Concatenate"


def _times(operation: Any, outputs: int) -> Fraction | None:
    """Return how many of the values that go in each output has; None if that is not plain."""
    kind = type(operation).__name__
    if kind in ("Reshape", "Ravel", "Stack") or _joins(operation):
        return Fraction(1)
    if kind == "Split" and isinstance(operation.indices_or_sections, int):
        return Fraction(1, outputs)
    if kind == "Repeat" and isinstance(operation.repeats, int):
        return Fraction(operation.repeats)
    if kind == "Tile":
        return Fraction(math.prod(tree.flatten(operation.repeats)))
    return None


def assumed(model: keras.Model, trace: Trace) -> Iterator[str]:
    """Yield where lengths are not known, so that they count as 1: inputs, and what operations make.

    Args:
        model: the model.
        trace: of the model.

    Example: `list(assumed(model, trace))` is `["input 'image' (None, None, None, 3)"]`.
    """
    for tensor in tree.flatten(graph.inputs(model)) or []:
        if None in tensor.shape[1:]:
            yield f"input '{tensor.name}' {tuple(tensor.shape)}"
    yield from (f"{what} {shape}" for what, shape in trace.unsure)
    for steps in trace.steps.values():
        for step in steps:
            most = max((track.shape.count(None) for track in step.inputs), default=0)
            for track in step.outputs:
                if track.shape.count(None) > max(most, 1):
                    yield f"output of '{step.call.operation.name}' {track.shape}"
