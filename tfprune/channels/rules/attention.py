"""Attention layers: the stream that they read and write, their heads, and what is in a head."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from keras import layers

from tfprune.channels.rules import table
from tfprune.channels.track import Track, known, untracked
from tfprune.channels.visit import Visit


@dataclasses.dataclass
class _Part:
    """A projection inside an attention layer."""

    kernel: Any = None
    bias: Any = None


def _parts(layer: Any) -> dict[str, _Part]:
    """Return the projections by their names, found through the paths of the variables.

    That is how Keras saves them, and the only public way to them in both kinds of layer.
    """
    found: dict[str, _Part] = {}
    for variable in layer.variables:
        *_, owner, name = ("", *variable.path.split("/"))
        if name in ("kernel", "bias"):
            setattr(found.setdefault(owner, _Part()), name, variable)
    return found


def _inputs(visit: Visit) -> dict[str, Track] | None:
    """Return query, key and value; the key is the value if it is not given."""
    found = {name: visit.argument(name) for name in ("query", "value", "key")}
    if found["key"] is None:
        found["key"] = found["value"]
    return found if all(isinstance(t, Track) for t in found.values()) else None


def _positions(track: Track) -> int:
    return int(np.prod(known(track.shape)[1:-1]))


def _attended(layer: Any, key: Track) -> int:
    """Return how many keys a query meets: those along the axes of attention, of all by default."""
    axes = layer.get_config().get("attention_axes")
    shape = known(key.shape)
    return _positions(key) if axes is None else math.prod(shape[axis] for axis in np.ravel(axes))


def _trace(visit: Visit, heads: dict[str, np.ndarray], dims: dict[str, np.ndarray]) -> list[Track]:
    """State what the kernels read and write.

    Args:
        visit: of an attention layer.
        heads: channel numbers of the heads of query, key and value.
        dims: channel numbers within a head, of query, key and value.
    """
    given, parts = _inputs(visit), _parts(visit.layer)
    assert given is not None
    # A gate is made of the query and multiplied with what the heads give.
    given["gate"], heads["gate"], dims["gate"] = given["query"], heads["query"], dims["value"]
    for name in [one for one in ("query", "key", "value", "gate") if one in parts]:
        part = parts[name]
        tensor = next(n for n, track in enumerate(visit.tracks) if track is given[name])
        visit.reads(part.kernel, 0, visit.channels(given[name], -1), tensor)
        visit.equate(visit.makes(part.kernel, 1), heads[name])
        visit.equate(visit.makes(part.kernel, 2), dims[name])
        if part.bias is not None:
            visit.equate(visit.ids(part.bias, 0), heads[name])
            visit.equate(visit.ids(part.bias, 1), dims[name])
        visit.multiplies(part.kernel, _positions(given[name]))
    end = parts["attention_output"]
    visit.reads(end.kernel, 0, heads["query"], None)
    visit.reads(end.kernel, 1, dims["value"], None)
    visit.multiplies(end.kernel, _positions(given["query"]))
    ids = visit.makes(end.kernel, 2)
    if end.bias is not None:
        visit.equate(visit.ids(end.bias, 0), ids)
    pairs = _positions(given["query"]) * _attended(visit.layer, given["key"])
    kernel, value = parts["query"].kernel, parts["value"].kernel
    visit.multiplies_activations(pairs, [(kernel, 1), (kernel, 2)])
    visit.multiplies_activations(pairs, [(kernel, 1), (value, 2)])
    tracks = [visit.along(ids)]
    if len(visit.shapes) > 1:  # the scores, a map for each head
        tracks.append(visit.along(heads["query"], 1, output=1))
    return tracks


def _multi_head_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    parts = _parts(layer)
    return {
        "num_heads": count(parts["query"].kernel, 1),
        "key_dim": count(parts["query"].kernel, 2),
        "value_dim": count(parts["value"].kernel, 2),
        "output_shape": (count(parts["attention_output"].kernel, 2),),
    }


def _query_factors(layer: Any, count: table.Count) -> list[tuple[Any, float]]:
    """Scores are divided by the root of the key dimension, which is another now."""
    query = _parts(layer)["query"]
    factor = math.sqrt(count(query.kernel, 2) / int(query.kernel.shape[2]))
    return [(v, factor) for v in (query.kernel, query.bias) if v is not None and factor != 1.0]


@table.layers(layers.MultiHeadAttention, config=_multi_head_config, factors=_query_factors)
def multi_head(visit: Visit) -> list[Track]:
    """Every head has a slice of each kernel; key and value dimensions are those of all heads."""
    parts = _parts(visit.layer)
    if _inputs(visit) is None or len(parts["query"].kernel.shape) != 3:
        return visit.give_up(f"'{visit.path}' is called in a way that is not known")
    if len(parts["attention_output"].kernel.shape) != 3:
        return visit.give_up(f"'{visit.path}' has an output of several axes")
    heads = visit.makes(parts["query"].kernel, 1)
    keys = visit.makes(parts["query"].kernel, 2)
    values = visit.makes(parts["value"].kernel, 2)
    return _trace(
        visit,
        {"query": heads, "key": heads, "value": heads},
        {"query": keys, "key": keys, "value": values},
    )


def _grouped_config(layer: Any, count: table.Count, *_: Any) -> dict[str, Any]:
    parts = _parts(layer)
    return {
        "head_dim": count(parts["query"].kernel, 2),
        "num_query_heads": count(parts["query"].kernel, 1),
        "num_key_value_heads": count(parts["key"].kernel, 1),
    }


@table.layers(layers.GroupQueryAttention, config=_grouped_config, factors=_query_factors)
def grouped_query(visit: Visit) -> list[Track]:
    """A key-value head goes with all its query heads; `head_dim` is one for all three."""
    parts = _parts(visit.layer)
    if _inputs(visit) is None:
        return visit.give_up(f"'{visit.path}' is called in a way that is not known")
    few = visit.makes(parts["key"].kernel, 1)
    many = visit.makes(parts["query"].kernel, 1)
    # The output is as wide as the query, without a setting for it.
    given = _inputs(visit)
    if given is not None:
        stream = visit.channels(given["query"], -1)
        visit.equate(visit.makes(parts["attention_output"].kernel, 2), stream)
    if few.size > 1:  # the one key-value head stays whatever reads it
        visit.equate(many, np.repeat(few, many.size // few.size))
    dims = visit.makes(parts["query"].kernel, 2)
    return _trace(
        visit,
        {"query": many, "key": few, "value": few},
        {"query": dims, "key": dims, "value": dims},
    )


@table.layers(layers.Attention)
def dot_attention(visit: Visit) -> list[Track]:
    """Queries meet keys channel by channel, values pass through."""
    given = visit.argument("inputs")
    if not isinstance(given, (list, tuple)) or visit.layer.score_mode != "dot":
        return visit.give_up(f"'{visit.path}' is not plain dot-product attention")
    query, value = given[0], given[1]
    key = given[2] if len(given) > 2 else value
    visit.equate(visit.channels(query, -1), visit.channels(key, -1))
    tracks = [visit.along(visit.channels(value, -1))]
    return tracks + [untracked(shape) for shape in visit.shapes[1:]]
