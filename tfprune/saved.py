"""Dataclasses read back from JSON, every field of the type that it is declared with.

A file may have been damaged, changed by hand or written by another program. Then it must be refused
where it is read: a text among the figures would come out later, as a failure far from its cause.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_LARGEST = 2**63  # of an integer: what counts, sizes and seeds have


def restored(kind: type[T], figures: Any) -> T:
    """Return the dataclass that `dataclasses.asdict` and JSON made these figures from.

    Args:
        kind: the dataclass, whose fields are numbers, texts, booleans, tuples and mappings of
            them, None, or other dataclasses.
        figures: as `json.loads` gives them.

    Example: `restored(Trial, {"sparsity": 0.5, "reached": 0.5, ...})`

    Raises:
        ValueError: a field is missing, unknown, or of another type.
    """
    if not isinstance(figures, Mapping):
        raise ValueError(f"{kind.__name__}: named values are expected. Received: {_short(figures)}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = figures.keys() - fields.keys()
    missing = {name for name, field in fields.items() if _required(field)} - figures.keys()
    for what, names in (("unknown", unknown), ("missing", missing)):
        if names:
            raise ValueError(
                f"{kind.__name__}: {what} {', '.join(sorted(map(repr, names)))}. "
                f"Received: {_short(list(figures))}"
            )
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], v, name) for name, v in figures.items()})


def entries(content: Any, name: str) -> list[Any]:
    """Return the list that a file keeps under a name.

    Example: `entries({"trials": []}, "trials")` is `[]`.

    Raises:
        ValueError: there is none.
    """
    if not isinstance(content, Mapping) or name not in content:
        raise ValueError(f"the entry {name!r} is missing")
    if not isinstance(content[name], list):
        raise ValueError(f"the entry {name!r} must be a list, not {_short(content[name])}")
    return content[name]


def _required(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _value(kind: Any, value: Any, name: str) -> Any:
    """Return a value as its type says, lists as tuples; or raise."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in parts:
            return None
        (kind,) = (part for part in parts if part is not type(None))
        return _value(kind, value, name)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return restored(kind, value)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(parts[0], one, name) for one in value)
    if origin is dict and isinstance(value, dict):
        return {key: _value(parts[1], one, name) for key, one in value.items()}
    if not (kind is Any or (origin is None and _fits(kind, value))):
        words = kind.__name__ if origin is None else str(kind)
        raise ValueError(f"{name!r} must be of the type {words}. Received: {_short(value)}")
    return value


def _fits(kind: Any, value: Any) -> bool:
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and abs(value) <= sys.float_info.max  # which NaN is not, either
    if kind is int and isinstance(value, int) and abs(value) > _LARGEST:
        return False
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


def _short(value: Any) -> str:
    return repr(value)[:100]
