"""What a `Distribution` among rules gives each layer of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfprune.allocate.allocating import allocate, prunable, usual
from tfprune.allocate.result import Allocation
from tfprune.family import require_family, room
from tfprune.paths import walk
from tfprune.rules import Distribution, Rule


def distribute(model: Any, wanted: Distribution, rules: Sequence[Rule]) -> Allocation:
    """Spread a sparsity over the layers of a model that rules do not match.

    Args:
        model: as of `allocate`.
        wanted: how.
        rules: those before it; what they match takes no part.

    Example: `distribute(model, Distribution("erk", 0.9), [Rule("logits", skip=True)])`

    Raises:
        ValueError: as `allocate` does, with file and line if the distribution has them.
    """
    try:
        schedule = usual(model, wanted.schedule)
        able = prunable(model, schedule, wanted.pattern)
        keras_ = room(require_family(model, "a model"))
        taken = [
            path
            for path, layer in walk(model, keras_)
            if path in able and any(rule.matches(layer, path) for rule in rules)
        ]
        if len(taken) == len(able):
            raise ValueError(
                "The rules take every layer that can be pruned and leave none to spread a sparsity "
                "over. Leave the distribution out, or let the rules match fewer layers. "
                f"Received: {wanted!r}"
            )
        arguments = wanted.arguments()
        arguments |= {"schedule": schedule, "ignore": [*wanted.ignore, *taken]}
        return allocate(model, **arguments)
    except ValueError as error:
        if not wanted.place:
            raise
        raise ValueError(f"{wanted.place}: {error}") from None
