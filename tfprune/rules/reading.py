"""Rules from whatever says what to prune: a list, an allocation, a sparsity, a YAML file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from tfprune import patterns, regrowth, schedules, scores
from tfprune import yaml_nodes as nodes
from tfprune.rules.distribution import Distribution, require_order
from tfprune.rules.rule import LayerClass, Rule, require_expression
from tfprune.schedules import PruningSchedule, check_sparsity
from tfprune.schedules.base import is_number

_KEYS = ("layers", "schedule", "pattern", "score", "regrowth", "skip")
_SPREAD_KEYS = (
    *("method", "sparsity", "schedule", "pattern", "sensitivity"),
    *("layers", "ignore", "floor", "ceiling"),
)


def get(rules: Any) -> list[Rule | Distribution]:
    """Turn rules, an `Allocation`, a schedule, a sparsity, or a YAML file's path into a list.

    A `Distribution` may be the last of it: `spread_out` makes rules of that once there is a model.
    """
    rules = getattr(rules, "rules", rules)
    if isinstance(rules, (Rule, Distribution)):
        return [rules]
    if isinstance(rules, (str, os.PathLike)):
        return load(rules)
    if isinstance(rules, Sequence):
        wrong = [r for r in rules if not isinstance(r, (Rule, Distribution))]
        if wrong or not rules:
            raise ValueError(
                "`rules` must be a list of at least one `tfprune.Rule`. "
                f"Received: {wrong[0] if wrong else rules!r}"
            )
        require_order(rules)
        return list(rules)
    if rules is None:
        raise ValueError(
            "`rules` must say what to prune: a sparsity such as 0.5, a schedule, a list of "
            "`tfprune.Rule`, the path of a YAML file with rules, or a `tfprune.Allocation`. "
            "Received: rules=None"
        )
    if is_number(rules):
        check_sparsity(rules, "rules")  # or the rule would speak of its `schedule`
    return [Rule(schedule=rules)]


def load(path: str | os.PathLike) -> list[Rule | Distribution]:
    """Read rules from a YAML file; errors name the file and the line.

    The file is a list of rules, or has them under `rules:`, beside or instead of which it may have
    a `distribution:` of the layers that they leave.

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
    spread: list[Rule | Distribution] = []
    if isinstance(root, yaml.MappingNode):
        _require_no_figures(root, path)
        fields = nodes.fields(root, ("rules", "distribution"), path)
        if "distribution" in fields:
            spread = [_distribution(fields["distribution"], path)]
            if "rules" not in fields:
                return spread
        root = fields.get("rules")
    if not isinstance(root, yaml.SequenceNode) or not root.value:
        empty = root is None or not root.value
        received = "no rules" if empty else f"{nodes.shown(root)}, {nodes.at(root)}"
        raise ValueError(
            f"{path}: expected a list of rules, each with `layers` and `schedule` (or `skip`), "
            "alone or under the key `rules:`, or a `distribution:` with `method` and `sparsity`. "
            f"Received: {received}"
        )
    return [*(_rule(node, path) for node in root.value), *spread]


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


def _distribution(node, path) -> Distribution:
    fields = nodes.fields(node, _SPREAD_KEYS, path)
    readers: dict[str, Callable] = {
        "method": nodes.text,
        "schedule": _schedule,
        "pattern": lambda node, path: patterns.get(nodes.text(node, path)),
        "sensitivity": lambda node, path: os.path.join(
            os.path.dirname(path), nodes.text(node, path)
        ),
        "layers": _names,
        "ignore": _names,
    }
    arguments = {
        key: nodes.checked(lambda k=key, v=value: readers.get(k, nodes.value)(v, path), value, path)
        for key, value in fields.items()
    }
    made = nodes.checked(lambda: Distribution(**arguments), node, path)
    object.__setattr__(made, "place", f"{path}, {nodes.at(node)}")
    return made


def _names(node, path) -> list[str]:
    """Return a name or names as they are written, those that look like numbers too."""
    if isinstance(node, yaml.SequenceNode):
        return [nodes.text(one, path) for one in node.value]
    return [nodes.text(node, path)]


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
