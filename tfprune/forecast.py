"""What a run will reach, before its first step, and what it has reached, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfprune.patterns import NM

_SHORT = 5e-4  # less than the last digit that is shown
_DEFAULT = 0.5


def forecast(layers: Sequence[Any], ends: Sequence[int]) -> str | None:
    """Return what falls short of its schedule's end, and what to do; None if nothing does.

    Args:
        layers: wrapped layers.
        ends: the step of each at the end of the run.
    """
    short = []
    for layer, end in zip(layers, ends, strict=True):
        schedule = layer.pruning_schedule
        final, last = schedule.final_sparsity, schedule.update_between(-1, end)
        reached = 0.0 if last is None else schedule.sparsity(last)
        if final is not None and reached < final - _SHORT:
            short.append((end, f"{layer.layer_name} will be at {reached:.1%}, not {final:.1%}"))
    if not short:
        return None
    return (
        f"The run ends at step {short[0][0]}; {'; '.join(text for _, text in short)}. "
        "Train for longer, end the schedule sooner, or go on in another `fit`: the step is kept."
    )


def fixed_by_pattern(layers: Sequence[Any]) -> str | None:
    """Return which N:M patterns end at fewer zeros than their schedules ask for; None if none do.

    tfmot's default sparsity of 50 % is not taken for a wish.
    """
    told = []
    for layer in layers:
        final, pattern = layer.pruning_schedule.final_sparsity, layer.pattern
        if not isinstance(pattern, NM) or final is None or final == _DEFAULT:
            continue
        most = pattern.zeros / pattern.group
        if final > most + _SHORT:
            told.append(f"{layer.layer_name} will be at {most:.1%}, not {final:.1%}")
    if not told:
        return None
    return (
        "An N:M pattern sets how many zeros there are, and a schedule only when: "
        f"{'; '.join(told)}. "
        "Choose a pattern with more zeros, or let the schedule end at that sparsity."
    )


def reached(layers: Sequence[Any], step: int, missed: Sequence[str]) -> str:
    """Return how many zeros wrapped layers have at a step, and which of them missed their goal.

    Args:
        layers: wrapped layers.
        step: the training step.
        missed: a phrase for each that is less sparse than its schedule's end.
    """
    states = [state for layer in layers for state in layer.states()]
    size = sum(state.weight.size for state in states)
    zeros = sum(round(state.sparsity * state.weight.size) for state in states)
    goal = "; ".join(missed) or "every layer is at its target"
    found = f"{zeros / max(1, size):.1%} zeros in {len(layers)} layers"
    return f"Pruned to {found} at step {step}: {goal}."
