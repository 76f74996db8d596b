"""`Rule`: which layers are pruned how."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from tfprune import schedules
from tfprune.criteria import Criterion
from tfprune.family import family
from tfprune.patterns import Unstructured
from tfprune.scores import MAGNITUDE


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
            require_expression(self.layers)
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

    def __repr__(self) -> str:
        parts = [] if self.layers is None else [_shown(self.layers)]
        if self.skip:
            parts.append("skip=True")
        else:
            parts.append(f"schedule={self.schedule!r}")
        if self.pattern != Unstructured():
            parts.append(f"pattern='{self.pattern}'")
        if self.score != MAGNITUDE:
            parts.append(f"score={self.score.name if self.score.own else repr(self.score.name)}")
        if self.regrowth is not None:
            parts.append(f"regrowth={self.regrowth!r}")
        return f"Rule({', '.join(parts)})"

    def __str__(self) -> str:
        how = "left dense" if self.skip else f"{self.schedule}, {self.criterion}"
        layers = self.layers.__name__ if isinstance(self.layers, type) else self.layers
        return f"{'all layers' if layers is None else layers}: {how}"


def _shown(layers: Any) -> str:
    """Return what a rule matches as it is written in Python."""
    named = isinstance(layers, (str, LayerClass))
    return repr(layers) if named else getattr(layers, "__qualname__", repr(layers))


@dataclasses.dataclass(frozen=True)
class LayerClass:
    """Matches layers by the name of their class or of one they derive from, in either family.

    Example: `Rule(LayerClass("Dense"), schedule=0.5)`; in YAML `layers: {class: Dense}`.
    """

    name: str

    def __call__(self, layer: Any) -> bool:
        """Tell whether the layer is of that class."""
        return any(kind.__name__ == self.name for kind in type(layer).__mro__)


def require_expression(text: str) -> None:
    """Raise a `ValueError` if a text is no regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(
            f"`layers` is not a valid regular expression: {error}. To match a name as it stands, "
            f"use `re.escape(name)`. Received: layers={text!r}"
        ) from None
