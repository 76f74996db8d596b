"""What a file says about itself: its sparsity, and how it was pruned."""

from __future__ import annotations

import json
from typing import Any

from tfprune import strip
from tfprune.version import __version__
from tfprune.weightfiles.flatbuffer import METADATA


def describe(model: Any) -> list[dict[str, str]]:
    """Return the schedule of each wrapped layer and what its masks were chosen by.

    Nothing of a stripped model.
    """
    return [
        {
            "layer": str(layer.layer_name),
            "schedule": repr(layer.pruning_schedule),
            "pattern": str(layer.criterion),
        }
        for layer in strip.pruned_layers(model)
    ]


def entry(sparsity: float, rules: list[dict[str, str]]) -> tuple[str, bytes]:
    """Return the name and the content of the entry in the file.

    Args:
        sparsity: fraction of zeros among the weights.
        rules: see `describe`.
    """
    facts = {"version": __version__, "sparsity": round(sparsity, 6), "rules": rules}
    return METADATA, json.dumps(facts, separators=(",", ":")).encode()
