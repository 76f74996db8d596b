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
    score: taylor                 # which weights matter
    regrowth: soft                # or {class: RigL, fraction: 0.3}: cut weights may return
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

from tfprune import patterns, regrowth, schedules, scores
from tfprune import yaml_nodes as nodes
from tfprune.criteria import Criterion
from tfprune.family import family
from tfprune.schedules import PruningSchedule

_KEYS = ("layers", "schedule", "pattern", "score", "regrowth", "skip")


@dataclasses.dataclass(frozen=True)
class Rule:
    """How to prune the layers that match.

    Args:
        layers: a regular expression searched in the layer's path ("backbone/conv1"), a layer
            class, a function `layer -> bool`, or None for every layer.
        schedule: a `PruningSchedule`, or a number for a constant sparsity from step 0.
        pattern: "unstructured", "2:4", "1x16", or a pattern object.
        skip: leave these layers dense.
        score: which weights matter (Keras 3 only). "magnitude": large ones. Those that need
            gradients, and so a schedule whose first cut comes after some training steps:
            "movement": those that training moves away from zero; "taylor": those without which
            the loss would change most; "snip": the same, as the steps before the first cut saw it
            and for ever. Or a function `weight -> scores` or `(weight, mean gradient) -> scores`,
            registered with `keras.saving.register_keras_serializable`.
        regrowth: whether cut weights may return (Keras 3 only). None: never; "soft" or a
            `SoftPruning`: they go on learning while they are cut; "rigl" or a `RigL`: those with
            large gradients come in for small weights.

    Raises:
        ValueError: for an invalid regular expression, schedule, pattern, score or regrowth, those
            that do not go with each other, or a rule that says neither how to prune nor to skip.

    Example:

    ```python
    rules = [
        tfprune.Rule("conv1$", schedule=0.5),
        tfprune.Rule("conv2|dense", schedule=tfprune.OneShot(0.5), pattern="2:4"),
        tfprune.Rule("head", schedule=tfprune.OneShot(0.5, step=100), score="movement"),
        tfprune.Rule(keras.layers.Dense, skip=True),
    ]
    ```

    Source: tfprune's own; `tfprune.scores` and `tfprune.regrowth` name the papers of scores and
    regrowth.
    """

    layers: Any = None
    schedule: Any = None
    pattern: Any = "unstructured"
    skip: bool = False
    score: Any = "magnitude"
    regrowth: Any = None
    # File and line of a rule from YAML, for messages: no part of what a rule says.
    place: str = dataclasses.field(default="", init=False, repr=False, compare=False)

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
        criterion = Criterion(self.pattern, self.score, self.regrowth)
        for name in ("pattern", "score", "regrowth"):
            object.__setattr__(self, name, getattr(criterion, name))
        if self.schedule is not None:
            criterion.require(self.schedule)
        if isinstance(self.layers, str):
            _require_expression(self.layers)
        elif self.layers is not None and (not callable(self.layers) or family(self.layers)):
            raise ValueError(
                "`layers` must be a regular expression, a layer class, a function or None. Of one "
                "layer take its name. "
                f"Received: layers={self.layers!r}"
            )

    @property
    def criterion(self) -> Criterion:
        """What masks are chosen by: pattern, score and regrowth."""
        return Criterion(self.pattern, self.score, self.regrowth)

    def matches(self, layer: Any, path: str) -> bool:
        """Tell whether the rule speaks of a layer at a path."""
        if self.layers is None:
            return True
        if isinstance(self.layers, str):
            return re.search(self.layers, path) is not None
        if isinstance(self.layers, type):
            return isinstance(layer, self.layers)
        return bool(self.layers(layer))

    def refusal(self, what: str) -> ValueError:
        """Return the error for a rule that does not fit a model, with its place if it has one."""
        layers = self.layers.__name__ if isinstance(self.layers, type) else repr(self.layers)
        place = f"{self.place}: " if self.place else ""
        return ValueError(f"{place}The rule ({self}) {what} Received: layers={layers}")

    def names(self, path: str) -> bool:
        """Tell whether the rule asks for this very layer, by its plain name or path."""
        return self.layers in (path, path.rsplit("/", 1)[-1])

    def __str__(self) -> str:
        how = "left dense" if self.skip else f"{self.schedule}, {self.criterion}"
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
    _require_expression(nodes.text(node, path))
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
