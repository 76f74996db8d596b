"""Rules from whatever says what to prune: a list, an allocation, a sparsity, a YAML file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from tfprune import patterns, regrowth, schedules, scores
from tfprune import yaml_nodes as nodes
from tfprune.rules.rule import LayerClass, Rule, require_expression
from tfprune.schedules import PruningSchedule

_KEYS = ("layers", "schedule", "pattern", "score", "regrowth", "skip")


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
    if rules is None:
        raise ValueError(
            "`rules` must say what to prune: a sparsity such as 0.5, a schedule, a list of "
            "`tfprune.Rule`, the path of a YAML file with rules, or a `tfprune.Allocation`. "
            "Received: rules=None"
        )
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
    root = nodes.read(path)
    if isinstance(root, yaml.MappingNode):
        _require_no_figures(root, path)
        fields = nodes.fields(root, ("rules",), path)
        root = fields.get("rules")
    if not isinstance(root, yaml.SequenceNode) or not root.value:
        empty = root is None or not root.value
        received = "no rules" if empty else f"{nodes.shown(root)}, {nodes.at(root)}"
        raise ValueError(
            f"{path}: expected a list of rules, each with `layers` and `schedule` (or `skip`), "
            f"alone or under the key `rules:`. Received: {received}"
        )
    return [_rule(node, path) for node in root.value]


def _require_no_figures(root: yaml.MappingNode, path) -> None:
    """Refuse what `to_json` has saved: JSON is YAML, but figures are no rules."""
    keys = {nodes.text(key, path) for key, _ in root.value if isinstance(key, yaml.ScalarNode)}
    if "rules" not in keys and ("allocation" in keys or {"method", "layers", "pattern"} <= keys):
        raise ValueError(
            f"{path}: expected rules. Save those of an allocation or a search by "
            "`result.to_yaml('rules.yaml')`. Received: figures that `to_json` saved"
        )


def _rule(node, path) -> Rule:
    fields = nodes.fields(node, _KEYS, path)
    arguments: dict[str, Any] = {}
    readers: dict[str, Callable] = {
        "layers": _layers,
        "schedule": _schedule,
        # As written: YAML reads a bare 2:4 as the base-60 number 124.
        "pattern": lambda node, path: patterns.get(nodes.text(node, path)),
        "score": lambda node, path: scores.get(nodes.text(node, path)),
        "regrowth": _regrowth,
        "skip": _skip,
    }
    for key, value in fields.items():
        arguments[key] = nodes.checked(lambda k=key, v=value: readers[k](v, path), value, path)
    rule = nodes.checked(lambda: Rule(**arguments), node, path)
    object.__setattr__(rule, "place", f"{path}, {nodes.at(node)}")
    return rule


def _layers(node, path):
    if isinstance(node, yaml.MappingNode):
        fields = nodes.fields(node, ("class",), path)
        if "class" not in fields:
            raise ValueError("expected a layer class, such as `class: Dense`. Received: {}")
        return LayerClass(nodes.text(fields["class"], path))
    if nodes.value(node, path) is None:
        return None
    require_expression(nodes.text(node, path))
    return node.value


def _skip(node, path):
    value = nodes.value(node, path)
    if not isinstance(value, bool):
        raise ValueError(f"`skip` must be true or false. Received: skip={value!r}")
    return value


def _schedule(node, path) -> PruningSchedule:
    if isinstance(node, yaml.ScalarNode):
        return schedules.get(nodes.value(node, path))
    return _object(node, path, "a schedule", "PolynomialDecay", schedules)


def _regrowth(node, path):
    if isinstance(node, yaml.ScalarNode):
        return regrowth.get(nodes.value(node, path))
    return _object(node, path, "regrowth", "RigL", regrowth)


def _object(node, path, what: str, example: str, room: Any) -> Any:
    """Make what a mapping with a `class` describes; `room` is the module that knows the classes."""
    fields = nodes.fields(node, None, path)
    if "class" not in fields:
        raise ValueError(f"{what} needs its `class: {example}`. Received: {list(fields)}")
    arguments = {k: nodes.value(v, path) for k, v in fields.items() if k != "class"}
    name = nodes.text(fields["class"], path)
    try:
        return room.get({"class_name": name, "config": arguments})
    except TypeError as error:
        said = str(error).rstrip(".")  # from Python 3.13 on it may end in "Did you mean ...?"
        stop = "" if said.endswith("?") else "."
        expected = f"{name}{room.arguments_of(name)}"
        raise ValueError(
            f"{said}{stop} Expected: {expected}. Received: {', '.join(arguments) or 'no arguments'}"
        ) from None
