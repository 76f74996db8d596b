"""`Distribution`: one sparsity for all layers that no rule speaks of, as the end of a list."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Any

from tfprune import patterns, schedules
from tfprune.paths import listed
from tfprune.rules.rule import Rule
from tfprune.schedules import check_sparsity


@dataclasses.dataclass(frozen=True)
class Distribution:
    """One sparsity, spread over the layers that no rule before it matches.

    It stands at the end of a list of rules, or alone. What each layer gets is worked out when a
    model is pruned, from its weights then, as by `tfprune.allocate`.

    Args:
        method: how, as in `tfprune.allocate`: "uniform", "erk", "global", "lamp", "sensitivity",
            "size", "latency".
        sparsity: fraction of zeros over all layers that take part.
        schedule: how each layer gets to its own sparsity: a schedule whose final sparsity is
            replaced; if None, gradually over the run (tf_keras: at once).
        pattern: where zeros may stand.
        sensitivity: for the method of that name, a `tfprune.Sensitivity` or the path of the JSON
            that it was saved to; in YAML a relative path begins at the folder of the rules' file.
        layers: paths of the only layers that take part.
        ignore: paths of layers that stay dense.
        floor: least sparsity of every layer, or of those named in a dict.
        ceiling: greatest sparsity of every layer, or of those named in a dict.

    Raises:
        ValueError: a sparsity out of range, or an invalid schedule or pattern. What only a model
            can tell (an unknown method or layer, no room) is raised when one is pruned.

    Example:

    ```python
    pruned = tfprune.prune(model, [
        tfprune.Rule("conv1", schedule=0.5),
        tfprune.Rule("logits", skip=True),
        tfprune.Distribution("erk", 0.9),  # of all other layers
    ])
    ```

    In YAML `distribution: {method: erk, sparsity: 0.9}`, beside `rules:` or without.

    Source: tfprune's own; the methods' papers are named in `tfprune.allocation`.
    """

    method: str = "global"
    sparsity: float = 0.9
    schedule: Any = None
    pattern: Any = "unstructured"
    sensitivity: Any = None
    layers: Any = None
    ignore: Any = ()
    floor: Any = None
    ceiling: Any = None
    # File and line of one from YAML, for messages: no part of what it says.
    place: str = dataclasses.field(default="", init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "sparsity", check_sparsity(self.sparsity, "sparsity"))
        if self.schedule is not None:
            object.__setattr__(self, "schedule", schedules.get(self.schedule))
        object.__setattr__(self, "pattern", patterns.get(self.pattern))
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(listed(self.layers)))
        object.__setattr__(self, "ignore", tuple(listed(self.ignore)))

    def arguments(self) -> dict[str, Any]:
        """Return what was said, by the names of `allocate`'s arguments, and nothing else."""
        names = [field.name for field in dataclasses.fields(self) if field.init]
        said = {name: getattr(self, name) for name in names}
        return {name: value for name, value in said.items() if value is not None}


def require_order(rules: Sequence[Rule | Distribution]) -> None:
    """Raise a `ValueError` unless a distribution is the only one and the last of its list."""
    early = [one for one in rules[:-1] if isinstance(one, Distribution)]
    if early:
        raise ValueError(
            "A `Distribution` takes all layers that the rules before it leave, so that it is the "
            f"last of its list, and there is one at most. Received: {early[0]!r} before others"
        )


def spread_out(model: Any, rules: Sequence[Rule | Distribution]) -> list[Rule]:
    """Return rules in which a distribution gave way to one rule for each layer of a model.

    Args:
        model: built, of either family.
        rules: as `get` returns them.

    Raises:
        ValueError: as `tfprune.allocate` does.
    """
    own = [rule for rule in rules if isinstance(rule, Rule)]
    spread = [one for one in rules if isinstance(one, Distribution)]
    if spread:
        # By name, and when it is asked for: methods that weigh files and phones stand floors above.
        distribute = importlib.import_module("tfprune.allocate").distribute
        own += distribute(model, spread[0], own).rules
    return own
