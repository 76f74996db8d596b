"""Which layer is pruned how: a list of rules, the first that matches a layer wins.

The YAML form is a thin layer that builds the same objects:

```yaml
rules:
  - layers: conv1$                # a regular expression, searched in the layer's path
    schedule: 0.5                 # a constant sparsity
  - layers: conv2|dense_wide
    schedule: {class: PolynomialDecay, initial_sparsity: 0.0, final_sparsity: 0.5,
               begin_step: 0, end_step: 1000}
    pattern: 2:4
  - layers: {class: Dense}
    skip: true
```
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from tfprune import patterns, schedules
from tfprune.schedules import PruningSchedule

_KEYS = ("layers", "schedule", "pattern", "skip")

# A file is refused when its values, aliases followed, are more or nested deeper than this. A few
# lines of aliases can stand for billions of values, or for themselves.
_MOST_VALUES = 100_000
_DEEPEST = 20


@dataclasses.dataclass(frozen=True)
class Rule:
    """How to prune the layers that match.

    Args:
        layers: a regular expression searched in the layer's path ("backbone/conv1"), a layer
            class, a function `layer -> bool`, or None for every layer.
        schedule: a `PruningSchedule`, or a number for a constant sparsity from step 0.
        pattern: "unstructured", "2:4", "1x16", or a pattern object.
        skip: leave these layers dense.

    Raises:
        ValueError: for an invalid regular expression, schedule or pattern, or a rule that says
            neither how to prune nor to skip.

    Example:

    ```python
    rules = [
        tfprune.Rule("conv1$", schedule=0.5),
        tfprune.Rule("conv2|dense", schedule=tfprune.OneShot(0.5), pattern="2:4"),
        tfprune.Rule(keras.layers.Dense, skip=True),
    ]
    ```
    """

    layers: Any = None
    schedule: Any = None
    pattern: Any = "unstructured"
    skip: bool = False

    def __post_init__(self):
        if not isinstance(self.skip, bool):
            raise ValueError(f"`skip` must be True or False. Received: skip={self.skip!r}")
        if self.skip and self.schedule is not None:
            raise ValueError(
                "A rule either skips its layers or prunes them by a schedule; drop one of the two. "
                f"Received: skip=True, schedule={self.schedule!r}"
            )
        if not self.skip:
            if self.schedule is None:
                raise ValueError(
                    "A rule needs a `schedule` (a PruningSchedule, or a sparsity such as 0.5), or "
                    f"`skip=True`. Received: layers={self.layers!r}"
                )
            object.__setattr__(self, "schedule", schedules.get(self.schedule))
        object.__setattr__(self, "pattern", patterns.get(self.pattern))
        if isinstance(self.layers, str):
            _require_expression(self.layers)
        elif self.layers is not None and not callable(self.layers):
            raise ValueError(
                "`layers` must be a regular expression, a layer class, a function or None. "
                f"Received: layers={self.layers!r}"
            )

    def matches(self, layer: Any, path: str) -> bool:
        """Tell whether the rule speaks of a layer at a path."""
        if self.layers is None:
            return True
        if isinstance(self.layers, str):
            return re.search(self.layers, path) is not None
        if isinstance(self.layers, type):
            return isinstance(layer, self.layers)
        return bool(self.layers(layer))

    def names(self, path: str) -> bool:
        """Tell whether the rule asks for this very layer, by its plain name or path."""
        return self.layers in (path, path.rsplit("/", 1)[-1])

    def __str__(self) -> str:
        how = "left dense" if self.skip else f"{self.schedule}, {self.pattern}"
        layers = self.layers.__name__ if isinstance(self.layers, type) else self.layers
        return f"{'all layers' if layers is None else layers}: {how}"


@dataclasses.dataclass(frozen=True)
class LayerClass:
    """Matches layers by the name of their class or of one they derive from, in either family.

    Example: `Rule(LayerClass("Dense"), schedule=0.5)`; in YAML `layers: {class: Dense}`.
    """

    name: str

    def __call__(self, layer: Any) -> bool:
        """Tell whether the layer is of that class."""
        return any(kind.__name__ == self.name for kind in type(layer).__mro__)


def _require_expression(text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(
            f"`layers` is not a valid regular expression: {error}. To match a name as it stands, "
            f"use `re.escape(name)`. Received: layers={text!r}"
        ) from None


def get(rules: Any) -> list[Rule]:
    """Turn rules, an `Allocation`, a schedule, a sparsity, or a YAML file's path into a list."""
    rules = getattr(rules, "rules", rules)
    if isinstance(rules, Rule):
        return [rules]
    if isinstance(rules, (str, os.PathLike)):
        return load(rules)
    if isinstance(rules, Sequence):
        wrong = [r for r in rules if not isinstance(r, Rule)]
        if wrong or not rules:
            raise ValueError(
                "`rules` must be a list of at least one `tfprune.Rule`. "
                f"Received: {wrong[0] if wrong else rules!r}"
            )
        return list(rules)
    return [Rule(schedule=rules)]


def load(path: str | os.PathLike) -> list[Rule]:
    """Read rules from a YAML file; errors name the file and the line.

    Example: `tfprune.prune(model, "rules.yaml")`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for broken YAML, an unknown key or a bad value, or a tag such as
            `!!python/object`, which is never followed.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"No rules file here. Pass the path of a YAML file, or a list of `tfprune.Rule`. "
            f"Received: {os.fspath(path)!r}"
        )
    try:
        with open(path, encoding="utf-8") as file:
            root = yaml.compose(file, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the file is not text in UTF-8: {error}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: the file is not valid YAML: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: the values are nested too deep for a list of rules") from None
    if root is not None:
        _require_plain(root, path)
    if isinstance(root, yaml.MappingNode):
        fields = _fields(root, ("rules",), path)
        root = fields.get("rules")
    if not isinstance(root, yaml.SequenceNode) or not root.value:
        raise ValueError(
            f"{path}: expected a list of rules, each with `layers` and `schedule` (or `skip`), "
            "alone or under the key `rules:`. Received: "
            + ("no rules" if root is None or not root.value else f"{_shown(root)}, {_at(root)}")
        )
    return [_rule(node, path) for node in root.value]


def _require_plain(root, path) -> None:
    """Refuse tags that ask for objects, and aliases that stand for an endless tree."""
    waiting = [(root, 0)]
    seen = 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _DEEPEST:
            raise ValueError(
                f"{path}, {_at(node)}: too many values for a list of rules; aliases (`*name`) can "
                f"repeat them without end. Received: over {_MOST_VALUES} or {_DEEPEST} levels deep"
            )
        if "/" in node.tag or not node.tag.startswith("tag:yaml.org,2002:"):
            raise ValueError(
                f"{path}, {_at(node)}: expected plain values; tags that make objects are not "
                f"followed. Received: {node.tag!r}"
            )
        if isinstance(node, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        if isinstance(node, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in node.value]


def _rule(node, path) -> Rule:
    fields = _fields(node, _KEYS, path)
    arguments: dict[str, Any] = {}
    readers: dict[str, Callable] = {
        "layers": _layers,
        "schedule": _schedule,
        # As written: YAML reads a bare 2:4 as the base-60 number 124.
        "pattern": lambda node, path: patterns.get(_text(node, path)),
        "skip": _skip,
    }
    for key, value in fields.items():
        arguments[key] = _checked(lambda k=key, v=value: readers[k](v, path), value, path)
    return _checked(lambda: Rule(**arguments), node, path)


def _layers(node, path):
    if isinstance(node, yaml.MappingNode):
        fields = _fields(node, ("class",), path)
        if "class" not in fields:
            raise ValueError("expected a layer class, such as `class: Dense`. Received: {}")
        return LayerClass(_text(fields["class"], path))
    if _value(node, path) is None:
        return None
    _require_expression(_text(node, path))
    return node.value


def _skip(node, path):
    value = _value(node, path)
    if not isinstance(value, bool):
        raise ValueError(f"`skip` must be true or false. Received: skip={value!r}")
    return value


def _schedule(node, path) -> PruningSchedule:
    if isinstance(node, yaml.ScalarNode):
        return schedules.get(_value(node, path))
    fields = _fields(node, None, path)
    if "class" not in fields:
        raise ValueError(f"a schedule needs its `class: PolynomialDecay`. Received: {list(fields)}")
    arguments = {k: _value(v, path) for k, v in fields.items() if k != "class"}
    name = _text(fields["class"], path)
    try:
        return schedules.get({"class_name": name, "config": arguments})
    except TypeError as error:
        said = str(error).rstrip(".")  # from Python 3.13 on it may end in "Did you mean ...?"
        stop = "" if said.endswith("?") else "."
        expected = f"{name}{schedules.arguments_of(name)}"
        raise ValueError(f"{said}{stop} Expected: {expected}") from None


def _fields(node, allowed: tuple[str, ...] | None, path) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{path}, {_at(node)}: expected `key: value`. Received: {_shown(node)}")
    fields: dict[str, Any] = {}
    for key, value in node.value:
        name = _text(key, path)
        if allowed is not None and name not in allowed:
            raise ValueError(
                f"{path}, {_at(key)}: unknown key. Expected one of {', '.join(allowed)}. "
                f"Received: {name!r}"
            )
        if name in fields:
            raise ValueError(f"{path}, {_at(key)}: a key stands twice. Received: {name!r}")
        fields[name] = value
    return fields


def _text(node, path) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{path}, {_at(node)}: expected a plain value. Received: {_shown(node)}")
    return node.value


def _value(node, path):
    try:
        return yaml.SafeLoader("").construct_object(node, deep=True)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}, {_at(node)}: not a value: {error}") from None


def _checked(make: Callable, node, path):
    """Run `make`, adding file and line to the message of a bad value."""
    try:
        return make()
    except ValueError as error:
        message = str(error)
        if message.startswith(f"{path}, line"):
            raise
        raise ValueError(f"{path}, {_at(node)}: {message}") from None


def _at(node) -> str:
    return f"line {node.start_mark.line + 1}"


def _shown(node) -> str:
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else f"a {node.id}"
