"""One sparsity for a whole model, shared out: by which schedule, and how much to each layer."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfprune import allocation
from tfprune.decisions import Decision
from tfprune.schedules import (
    ConstantSparsity,
    Gradual,
    PruningSchedule,
    check_sparsity,
    with_final,
)


def usual_schedule(kind: str, sparsity: Any) -> PruningSchedule:
    """Return the schedule for one who names a sparsity only.

    Gradual over the run in Keras 3; at once in tf_keras, as tfmot's wrappers must know their steps
    beforehand.

    Args:
        kind: "keras" or "tf_keras".
        sparsity: fraction of zeros at the end, a number.

    Raises:
        ValueError: it is out of range.
    """
    sparsity = check_sparsity(sparsity, "sparsity")
    return ConstantSparsity(sparsity, 0) if kind == "tf_keras" else Gradual(sparsity)


def share_out(
    chosen: dict[int, Decision], layers: dict[int, Any], sparsity: float, keras_: Any
) -> dict[int, Decision]:
    """Return decisions in which each layer has its own sparsity, by one threshold of magnitude.

    Args:
        chosen: what was decided about each layer, by its id.
        layers: the layers, by their ids.
        sparsity: of all weights that are to be pruned, together.
        keras_: the room of the model's family.
    """
    taking_part = [key for key, decision in chosen.items() if decision.reason is None]
    if not taking_part or sparsity == 0.0:
        return chosen
    kernels = [keras_.prunable_arrays(layers[key]) for key in taking_part]
    shared = dict(chosen)
    for key, own in zip(taking_part, allocation.by_magnitude(kernels, sparsity), strict=True):
        decision = chosen[key]
        if own > 0.0:
            shared[key] = dataclasses.replace(decision, schedule=with_final(decision.schedule, own))
        else:
            reason = "none of its weights is among the smallest of the model"
            shared[key] = Decision(decision.path, reason=reason, expected=True)
    return shared
