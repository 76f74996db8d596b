"""What `shrink` is asked for: how much to remove, and of which layers."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tfprune.channels.structure import Structure

KINDS = ("channels", "macs", "params", "latency_ms")


class ImpossibleTarget(ValueError):
    """The target of `shrink` cannot be met; the message says what can be, and what is in the way.

    Example: `tfprune.shrink(model, macs=0.001)` raises it where 2 % of the MACs must stay.

    Source: raised by `tfprune.shrink`.
    """


@dataclasses.dataclass(frozen=True)
class Target:
    """The one thing that is asked for.

    Attributes:
        kind: "channels", "macs", "params" or "latency_ms".
        value: fraction to remove (channels), fraction to keep (macs, params), or milliseconds.
        by_layer: for channels, the fraction to remove of each named layer.
    """

    kind: str
    value: float = 0.0
    by_layer: Mapping[str, float] | None = None

    def __str__(self) -> str:
        if self.by_layer is not None:
            return "channels=" + str(dict(self.by_layer))
        return f"{self.kind}={self.value:g}"


def target(**given: Any) -> Target:
    """Return the target among the arguments of `shrink`.

    Example: `target(channels=None, macs=0.5, params=None, latency_ms=None)`

    Raises:
        ValueError: none is given or several are, or a value is out of range.
        TypeError: a value is no number.
    """
    chosen = {kind: value for kind, value in given.items() if value is not None}
    if len(chosen) != 1:
        raise ValueError(
            "Say by one of `channels`, `macs`, `params` or `latency_ms` how far to shrink, such as "
            f"`macs=0.5` for half the multiplications. Received: {chosen or 'none of them'}"
        )
    ((kind, value),) = chosen.items()
    if kind == "channels" and isinstance(value, Mapping):
        if not value:
            raise ValueError("`channels` names no layer. Received: channels={}")
        ratios = {str(k): _fraction(f"channels[{k!r}]", v) for k, v in value.items()}
        return Target(kind, by_layer=ratios)
    if kind == "latency_ms":
        return Target(kind, _number("latency_ms", value, 0.0, math.inf))
    return Target(kind, _fraction(kind, value))


def _fraction(name: str, value: Any) -> float:
    return _number(name, value, 0.0, 1.0)


def _number(name: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"`{name}` must be a number. Received: {name}={value!r} "
            f"(of type {type(value).__name__})"
        )
    number = float(value)
    if not low < number < high:
        wanted = f"between {low:g} and {high:g}, both left out" if high < math.inf else "above 0"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return number


def layer_places(structure: Structure, names: Iterable[str]) -> dict[str, list[int]]:
    """Return the numbers of the places where each named layer makes channels.

    Raises:
        ValueError: no layer has that name, or it makes no channels; similar names are listed.
    """
    by_name: dict[str, list[int]] = {}
    for number, place in enumerate(structure.atoms.places):
        if place.role == "out" or (len(place.variable.shape) > 2 and place.role == "each"):
            for name in {place.layer, place.layer.rsplit("/", 1)[-1]}:
                by_name.setdefault(name, []).append(number)
    for name in names:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 3, 0.4) or sorted(by_name)[:5]
            every = {
                p
                for step in structure.trace.steps.values()
                for p in (s.call.operation.name for s in step)
            }
            what = "makes no channels of its own" if name in every else "is not in the model"
            raise ValueError(
                f"The layer {name!r} {what}. Layers whose channels can be removed are named like "
                f"{', '.join(map(repr, near))}. Received: {name!r}"
            )
    return {name: by_name[name] for name in names}


def candidates(
    structure: Structure, layers: Iterable[str] | None, ignore: Iterable[str]
) -> np.ndarray:
    """Return whether each atom may go: in the named layers if any are, in no ignored one."""
    atoms = structure.atoms
    may_go = np.ones(atoms.count, bool)
    if layers is not None:
        may_go = _atoms_at(structure, layer_places(structure, _names("layers", layers)))
    ignored = layer_places(structure, _names("ignore", ignore))
    return may_go & ~_atoms_at(structure, ignored)


def _names(argument: str, given: Any) -> list[str]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(
            f"`{argument}` is a list of layer names, such as ['conv1']. "
            f"Received: {argument}={given!r}"
        )
    names = list(given)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"`{argument}` holds layer names (str). Received: {argument}={given!r}")
    return names


def _atoms_at(structure: Structure, places: Mapping[str, list[int]]) -> np.ndarray:
    found = np.zeros(structure.atoms.count, bool)
    for numbers_ in places.values():
        for number in numbers_:
            ids = structure.atoms.places[number].ids
            atom = structure.atoms.of[ids[ids >= 0]]
            found[atom[atom >= 0]] = True
    return found
