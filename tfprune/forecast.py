"""What a run will reach, before its first step, and what it has reached, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tfprune.patterns import NM, Pattern

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
    rows = [(x.layer_name, x.pattern, x.pruning_schedule.final_sparsity) for x in layers]
    short = short_by_pattern([row for row in rows if row[2] != _DEFAULT])
    if not short:
        return None
    return (
        f"An N:M pattern sets how many zeros there are, and a schedule only when: {short}. "
        "Choose a pattern with more zeros, or let the schedule end at that sparsity."
    )


def short_by_pattern(layers: Iterable[tuple[str, Pattern, float | None]]) -> str:
    """Return which N:M patterns give fewer zeros than were asked for, empty if none do.

    Args:
        layers: of each its path, pattern and the sparsity asked for.

    Example: of `[("conv", NM(2, 4), 0.9)]` it is "conv will be at 50.0%, not 90.0%".
    """
    told = []
    for name, pattern, final in layers:
        if not isinstance(pattern, NM) or final is None:
            continue
        most = pattern.zeros / pattern.group
        if final > most + _SHORT:
            told.append(f"{name} will be at {most:.1%}, not {final:.1%}")
    return "; ".join(told)


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
