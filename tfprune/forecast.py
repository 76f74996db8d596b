"""What a run will reach, before its first step, and what it has reached, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tfprune.layouts import Layout
from tfprune.patterns import NM, Pattern

_SHORT = 5e-4  # less than the last digit that is shown
_DEFAULT = 0.5

Shapes = Sequence[tuple[tuple[int, ...], Layout | None]]


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
    rows = []
    for layer in layers:
        pattern, final = layer.pattern, layer.pruning_schedule.final_sparsity
        if not isinstance(pattern, NM) or final is None:
            continue
        wish = min(final, pattern.zeros / pattern.group) if final == _DEFAULT else final
        shapes = [(state.weight.shape, state.layout) for state in layer.states()]
        rows.append((layer.layer_name, pattern, wish, shapes))
    short = short_by_pattern(rows)
    if not short:
        return None
    return (
        f"An N:M pattern sets how many zeros there are, and a schedule only when: {short}. "
        "Choose a pattern with more zeros, or let the schedule end at that sparsity."
    )


def short_by_pattern(layers: Iterable[tuple[str, Pattern, float | None, Shapes]]) -> str:
    """Return which N:M patterns give fewer zeros than were asked for, empty if none do.

    Either the whole pattern has fewer, or the last group of each row is too short to lose as many.

    Args:
        layers: of each its path, pattern, the sparsity asked for, and the shapes and layouts of
            its weights.

    Example: of `[("conv", NM(2, 4), 0.9, [((3, 3, 8, 8), layout)])]` it is "conv will be at 50.0%,
    not 90.0%".
    """
    told = []
    for name, pattern, final, weights in layers:
        if not isinstance(pattern, NM) or final is None:
            continue
        given, why = _by_shape(pattern, final, weights)
        if final > given + _SHORT:
            told.append(f"{name} will be at {given:.1%}, not {final:.1%}{why}")
    return "; ".join(told)


def _by_shape(pattern: NM, final: float, weights: Shapes) -> tuple[float, str]:
    """Return the sparsity that a pattern gives to weights, and why that is less than its own."""
    zeros = size = 0.0
    ragged: dict[int, None] = {}
    for shape, layout in weights:
        if layout is None or pattern.reason_against(shape, layout) is not None:
            continue
        each = pattern.expected_sparsity(shape, layout, final, final)
        zeros += each * math.prod(shape)
        size += math.prod(shape)
        if each < pattern.zeros / pattern.group - _SHORT:
            ragged[layout.input_size(shape)] = None
    given = zeros / size if size else pattern.zeros / pattern.group
    inputs = " and ".join(map(str, ragged))
    return given, f" ({inputs} inputs are no multiple of {pattern.group})" if ragged else ""


def reached(layers: Sequence[Any], step: int, missed: Sequence[str]) -> str:
    """Return how many zeros wrapped layers have at a step, and which of them missed their goal.

    Args:
        layers: wrapped layers.
        step: the training step.
        missed: a phrase for each that is less sparse than its schedule's end.
    """
    size = zeros = 0
    for layer in layers:  # one after the other: copies of all might not fit into memory
        for state in layer.states():
            size += state.weight.size
            zeros += round(state.sparsity * state.weight.size)
    goal = "; ".join(missed) or "every layer is at its target"
    found = f"{zeros / max(1, size):.1%} zeros in {len(layers)} layers"
    return f"Pruned to {found} at step {step}: {goal}."
