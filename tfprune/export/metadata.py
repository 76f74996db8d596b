"""What a file says about itself: its sparsity, and how it was pruned."""

from __future__ import annotations

import json

from tfprune.version import __version__
from tfprune.weightfiles.flatbuffer import METADATA


def entry(sparsity: float, rules: list[dict[str, str]]) -> tuple[str, bytes]:
    """Return the name and the content of the entry in the file.

    Args:
        sparsity: fraction of zeros among the weights.
        rules: see `strip.pruned_with`.
    """
    facts = {"version": __version__, "sparsity": round(sparsity, 6), "rules": rules}
    return METADATA, json.dumps(facts, separators=(",", ":")).encode()
