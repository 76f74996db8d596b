"""Schedules from what users and saved models write, and with another end."""

from __future__ import annotations

import inspect

from tfprune.schedules.base import CLASSES, PruningSchedule, check_sparsity, is_number
from tfprune.schedules.cuts import ConstantSparsity


def arguments_of(name: str) -> str:
    """Return the constructor arguments of a schedule class by its name, for messages."""
    return str(inspect.signature(CLASSES[name]))


def get(schedule) -> PruningSchedule:
    """Turn a schedule, its config, or a bare number (a constant sparsity) into a schedule.

    Example: `get(0.5)` is `ConstantSparsity(0.5, 0)`;
    `get({"class_name": "OneShot", "config": {"sparsity": 0.5}})` is `OneShot(0.5)`.
    """
    if isinstance(schedule, PruningSchedule):
        return schedule
    if isinstance(schedule, dict) and "class_name" in schedule:
        name = schedule["class_name"]
        if not isinstance(name, str) or name not in CLASSES:
            raise ValueError(
                f"Unknown schedule class. Expected one of {sorted(CLASSES)}; import your own "
                f"subclass of `PruningSchedule` before loading. Received: class_name={name!r}"
            )
        config = schedule.get("config", {})
        if not isinstance(config, dict):
            raise ValueError(
                f"The config of a schedule must be a dict of its arguments: {name}"
                f"{arguments_of(name)}. Received: config={config!r}"
            )
        return CLASSES[name].from_config(config)
    if is_number(schedule):
        return ConstantSparsity(check_sparsity(schedule, "schedule"), 0)
    hint = ""
    if callable(schedule):
        hint = " To use a function, say where it ends: `FunctionSchedule(function, end_step=...)`."
    raise ValueError(
        "Expected a pruning schedule, such as `PolynomialDecay(...)`, `ConstantSparsity(...)`, "
        f"`OneShot(...)`, `Iterative(...)`, or a sparsity in [0, 1).{hint} "
        f"Received: {schedule!r} (of type {type(schedule).__name__})"
    )


_SPARSITIES = (
    *("sparsity", "target_sparsity", "initial_sparsity", "final_sparsity", "sparsities"),
    "function",  # the table of a `FunctionSchedule`
)


def with_final(schedule: PruningSchedule, sparsity: float) -> PruningSchedule:
    """Return a schedule of the same steps that ends at another sparsity, all of it in proportion.

    Example: `with_final(PolynomialDecay(0.4, 0.8, 0, 100), 0.4)` starts at 0.2.

    Raises:
        ValueError: the schedule, of a class of the user's own, keeps its sparsities elsewhere than
            in the arguments named as those of tfprune's schedules.
    """
    final = schedule.final_sparsity
    config = schedule.get_config()["config"]
    if final:
        scale = sparsity / final
        for key in _SPARSITIES:
            if isinstance(config.get(key), (list, tuple)):
                config[key] = [value * scale for value in config[key]]
            elif key in config:
                config[key] = sparsity if config[key] == final else config[key] * scale
        made = type(schedule).from_config(config)
        if made.final_sparsity is not None and abs(made.final_sparsity - sparsity) < 1e-9:
            return made
    raise ValueError(
        "This schedule cannot be brought to another final sparsity: its `get_config` has none of "
        f"the arguments {', '.join(_SPARSITIES)}, or ends at zero. Use `PolynomialDecay`, "
        f"`ConstantSparsity`, `OneShot` or `Iterative`. Received: {schedule!r}"
    )
