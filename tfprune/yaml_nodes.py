"""Read a YAML file node by node, so that every mistake is told with its file and line.

Nothing in a file can run code, and no file is endless: tags that make objects are refused, and so
are aliases that stand for a tree without end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import yaml

# A file is refused when its values, aliases followed, are more or nested deeper than this. A few
# lines of aliases can stand for billions of values, or for themselves.
_MOST_VALUES = 100_000
_DEEPEST = 20


def read(path: str | os.PathLike) -> yaml.Node | None:
    """Return the tree of a YAML file, None if it is empty.

    Raises:
        ValueError: for a file that is no YAML, asks for objects by tags, or has no end.
    """
    try:
        with open(path, encoding="utf-8") as file:
            root = yaml.compose(file, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        wrong = bytes(error.object[error.start : error.end])
        raise ValueError(
            f"{path}: the file is not text in UTF-8: {error}. Save it as UTF-8. Received: {wrong!r}"
        ) from None
    except yaml.YAMLError as error:
        raise ValueError(
            f"{path}: the file is not valid YAML: {error}. Received: {_place(error)}"
        ) from None
    except RecursionError:
        raise ValueError(
            f"{path}: the values are nested too deep for a list of rules. "
            f"Received: over {_DEEPEST} levels"
        ) from None
    if root is not None:
        _require_plain(root, path)
    return root


def _require_plain(root, path) -> None:
    """Refuse tags that ask for objects, and aliases that stand for an endless tree."""
    waiting = [(root, 0)]
    seen = 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _DEEPEST:
            raise ValueError(
                f"{path}, {at(node)}: too many values for a list of rules; aliases (`*name`) can "
                f"repeat them without end. Received: over {_MOST_VALUES} or {_DEEPEST} levels deep"
            )
        if "/" in node.tag or not node.tag.startswith("tag:yaml.org,2002:"):
            raise ValueError(
                f"{path}, {at(node)}: expected plain values; tags that make objects are not "
                f"followed. Received: {node.tag!r}"
            )
        if isinstance(node, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        if isinstance(node, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in node.value]


def fields(node, allowed: tuple[str, ...] | None, path) -> dict[str, Any]:
    """Return the values of a mapping by their keys, each of which stands once."""
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{path}, {at(node)}: expected `key: value`. Received: {shown(node)}")
    found: dict[str, Any] = {}
    for key, value in node.value:
        name = text(key, path)
        if allowed is not None and name not in allowed:
            raise ValueError(
                f"{path}, {at(key)}: unknown key. Expected one of {', '.join(allowed)}. "
                f"Received: {name!r}"
            )
        if name in found:
            raise ValueError(f"{path}, {at(key)}: a key stands twice. Received: {name!r}")
        found[name] = value
    return found


def text(node, path) -> str:
    """Return a scalar as it is written."""
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{path}, {at(node)}: expected a plain value. Received: {shown(node)}")
    return node.value


def value(node, path):
    """Return what YAML makes of a node: numbers, texts, lists."""
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise ValueError(
            f"{path}, {at(node)}: not a value: {error}. Received: {shown(node)}"
        ) from None


def checked(make: Callable, node, path):
    """Run `make`, adding file and line to the message of a bad value."""
    try:
        return make()
    except ValueError as error:
        message = str(error)
        if message.startswith(f"{path}, line"):
            raise
        raise ValueError(f"{path}, {at(node)}: {message}") from None


def at(node) -> str:
    """Return the place of a node, for messages."""
    return f"line {node.start_mark.line + 1}"


def shown(node) -> str:
    """Return a node in a few words, for messages."""
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else f"a {node.id}"


def _place(error: yaml.YAMLError) -> str:
    """Return where YAML ends to be YAML."""
    mark = getattr(error, "problem_mark", None)
    return "a file of other text" if mark is None else f"what stands in line {mark.line + 1}"
