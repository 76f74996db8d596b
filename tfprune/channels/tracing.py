"""Follow channels through a model: every call is visited once, and its rule states facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.channels import graph, lengths
from tfprune.channels.facts import Step, Trace
from tfprune.channels.track import Track, known, untracked
from tfprune.channels.visit import Visit, returned
from tfprune.cloning import is_graph

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
