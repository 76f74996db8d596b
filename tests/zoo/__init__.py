"""Small graphs of every shape that XNNPACK's rules for sparse inference tell apart.

Each is registered with what was measured when all of its weights are encoded as sparse: most
networks that look alike differ in one row of the rules.
"""

from zoo import (
    activations,
    branches,
    decoders,
    entries,
    heads,
    mobiles,
    outputs,
    residuals,
    squeeze_excite,
    tails,
    trunks,
)
from zoo.pruning import prune_to
from zoo.registry import GRAPHS, Graph

__all__ = [
    "GRAPHS",
    "Graph",
    "activations",
    "branches",
    "decoders",
    "entries",
    "heads",
    "mobiles",
    "outputs",
    "prune_to",
    "residuals",
    "squeeze_excite",
    "tails",
    "trunks",
]
