"""A case is a small graph and the families of channels in it, worked out by hand.

A family is written as "4: a.kernel3 a.bias norm.* b.kernel2x9": four atoms, each of which lies once
along axis 3 of the kernel of `a`, once in its bias and in all four weights of `norm`, and nine
times along axis 2 of the kernel of `b`. Axes are left out where there is one only.
"""

import collections
import dataclasses
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfprune.channels.structure import Structure

OUTPUT = "it is an output of the model"
LAST = {"y.kernel1": (3, OUTPUT)}
"""What is frozen in a graph that ends with `Dense(3, name="y")`, and nothing else."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A small graph and what is expected of it.

    Attributes:
        name: of the function that builds it.
        build: returns the model.
        families: see the top of this file.
        frozen: by the place where a kernel makes channels, how many must stay and (part of) why.
        ties: (place, position, other place, positions): where the atom of a channel lies.
        also: layers whose outputs must be zeroed in the masked model.
        unknown: types for which no rule is known.
    """

    name: str
    build: Callable[[], Any]
    families: tuple[str, ...]
    frozen: dict[str, tuple[int, str]]
    ties: tuple[tuple[str, int, str, list[int]], ...]
    also: tuple[str, ...]
    unknown: tuple[str, ...]


CASES: dict[str, Case] = {}

CELL = re.compile(r"(\w*_(lstm|gru|rnn)_cell(_\d+)?|(lstm|gru|simple_rnn)_cell(_\d+)?)/")
"""What Keras puts before the variables of a recurrent layer."""


def case(*families, frozen=LAST, ties=(), also=(), unknown=()):
    """Decorate the function that builds a graph with what is expected of it."""

    def add(build):
        assert build.__name__ not in CASES
        CASES[build.__name__] = Case(
            build.__name__, build, families, frozen, tuple(ties), also, unknown
        )
        return build

    return add


def finish(inputs, x, name="y"):
    """Return a model that ends with three values."""
    if len(x.shape) > 2:
        x = getattr(keras.layers, f"GlobalAveragePooling{len(x.shape) - 2}D")()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name=name)(x))


def image(size=6, channels=3):
    """Return a symbolic image."""
    return keras.Input((size, size, channels))


def conv(x, filters, name, kernel=3, **options):
    """Call a convolution that keeps the size."""
    options = {"padding": "same", **options}
    return keras.layers.Conv2D(filters, kernel, name=name, **options)(x)


def norm(x, name, **options):
    """Call a batch normalization."""
    return keras.layers.BatchNormalization(name=name, **options)(x)


# -- What is found ---------------------------------------------------------------------------------


def named(place):
    """Return "layer.variable" with the axis behind it if there are several."""
    axis = place.axis if len(place.variable.shape) > 1 else ""
    return f"{place.layer}.{CELL.sub('', place.name)}{axis}"


def families_of(structure: Structure) -> list[str]:
    """Return the families of a model as they are written in a case."""
    atoms, found = structure.atoms, []
    for family, size in enumerate(atoms.sizes()):
        first = int(np.flatnonzero(atoms.family == family)[0])
        lies = [
            (named(atoms.places[p]), int(n))
            for p, n in zip(atoms.place, atoms.times, strict=True)
            if p >= 0
        ]
        mine = [one for one, a in zip(lies, atoms.atom, strict=True) if a == first]
        found.append(f"{size}: {' '.join(sorted(_short(mine)))}")
    return sorted(found)


def _short(lies):
    of_norms = collections.Counter(
        (name.split(".")[0], times)
        for name, times in lies
        if name.endswith((".gamma", ".beta", ".moving_mean", ".moving_variance"))
    )
    for name, times in lies:
        layer = name.split(".")[0]
        whole = of_norms.get((layer, times)) == 4
        if not whole or name.endswith(".gamma"):
            text = f"{layer}.*" if whole else name
            yield text if times == 1 else f"{text}x{times}"


def as_written(family: str) -> str:
    """Return a written family with its places sorted."""
    size, places = family.split(": ")
    return f"{size}: {' '.join(sorted(places.split()))}"


def frozen_in(structure: Structure) -> dict[str, tuple[int, str]]:
    """Return, for each place where a kernel makes channels, how many must stay and why."""
    found = {}
    for place in structure.outputs():
        count = int((~structure.free(place)).sum())
        if count:
            reason = structure.atoms.reason(place.ids) or "it is the only channel"
            found[named(place)] = (count, reason)
    return found


def positions_of(structure: Structure, place: str, position: int, other: str) -> list[int]:
    """Return where the atom of a channel lies at another place."""
    by_name = {named(p): p for p in structure.atoms.places}
    atom = structure.atoms.of[by_name[place].ids[position]]
    assert atom >= 0
    return np.flatnonzero(structure.atoms.of[by_name[other].ids] == atom).tolist()
