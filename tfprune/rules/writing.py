"""Rules as YAML, as `tfprune.rules.load` reads it."""

from __future__ import annotations

import os
from typing import Any

import yaml

from tfprune import patterns, regrowth
from tfprune.files import write_whole
from tfprune.rules.distribution import Distribution
from tfprune.rules.reading import get
from tfprune.rules.rule import LayerClass, Rule
from tfprune.schedules import PruningSchedule
from tfprune.scores import MAGNITUDE

_WIDTH = 100


def to_yaml(
    rules: Any, path: str | os.PathLike | None = None, overwrite: bool = False, *, note: str = ""
) -> str:
    """Return rules as YAML, and save them if a path is given: `prune(model, path)` reads them.

    Args:
        rules: what `tfprune.prune` takes: a list of `tfprune.Rule`, a `tfprune.Allocation`, the
            result of a search, a schedule or a sparsity. A layer class is written by its name.
        path: of the file to write.
        overwrite: whether a file may be replaced.
        note: lines for the head of the file, as a comment.

    Example:

    ```python
    from tfprune.rules import to_yaml

    to_yaml([tfprune.Rule("conv", 0.5), tfprune.Rule("logits", skip=True)], "rules.yaml")
    pruned = tfprune.prune(model, "rules.yaml")
    ```

    Raises:
        ValueError: a rule with a function, for its layers or as its score, or with a schedule whose
            arguments are no plain values; a distribution by a sensitivity that is in no file.
        OSError: see `tfprune.files.check_target`.
    """
    content: dict[str, Any] = {}
    for one in get(rules):
        if isinstance(one, Rule):
            content.setdefault("rules", []).append(_row(one))
        else:
            content["distribution"] = _distribution(one)
    comment = "".join(f"# {line}\n" for line in note.splitlines())
    text = comment + yaml.safe_dump(
        content, sort_keys=False, default_flow_style=None, width=_WIDTH, allow_unicode=True
    )
    if path is not None:
        write_whole(path, text.encode(), overwrite)
    return text


def _row(rule: Rule) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if rule.layers is not None:
        row["layers"] = _layers(rule)
    if rule.skip:
        return {**row, "skip": True}  # all that the rule says
    assert rule.schedule is not None  # one that does not skip has one
    row["schedule"] = _schedule(rule, rule.schedule)
    if rule.pattern != patterns.Unstructured():
        row["pattern"] = str(rule.pattern)
    if rule.score != MAGNITUDE:
        if rule.score.own:
            raise _refusal(rule, "a score that is a function", "one of tfprune's by its name")
        row["score"] = rule.score.name
    if rule.regrowth is not None:
        row["regrowth"] = _object(regrowth.config(rule.regrowth) or {})
    return row


def _distribution(spread: Distribution) -> dict[str, Any]:
    row = spread.arguments() | {"pattern": str(spread.pattern)}
    if isinstance(spread.sensitivity, (str, os.PathLike)):
        row["sensitivity"] = os.path.abspath(spread.sensitivity)
    elif spread.sensitivity is not None:
        raise ValueError(
            "A distribution by a sensitivity in memory cannot be written: save that by `to_json`, "
            f"and name the file. Received: {type(spread.sensitivity).__name__}"
        )
    for key in ("layers", "ignore"):
        if key in row:
            row[key] = list(row[key])
    if spread.schedule is not None:
        row["schedule"] = _schedule(spread, spread.schedule)
    return row


def _layers(rule: Rule) -> Any:
    layers = rule.layers
    if isinstance(layers, str):
        return layers
    if isinstance(layers, LayerClass):
        return {"class": layers.name}
    if isinstance(layers, type):
        return {"class": layers.__name__}
    raise _refusal(rule, "a function for its layers", "a regular expression or a layer class")


def _schedule(rule: Rule | Distribution, schedule: PruningSchedule) -> dict[str, Any]:
    row = _object(schedule.get_config())
    try:
        yaml.safe_dump(row)
    except yaml.representer.RepresenterError:
        what = "a schedule whose `get_config` holds more than numbers, texts and lists"
        raise _refusal(rule, what, "plain values") from None
    return row


def _object(config: dict[str, Any]) -> dict[str, Any]:
    return {"class": config["class_name"], **config["config"]}


def _refusal(rule: Rule | Distribution, what: str, instead: str) -> ValueError:
    return ValueError(
        f"A rule with {what} cannot be written to a file, which holds no code. Use {instead}, or "
        f"keep the rule in your script. Received: {rule!r}"
    )
