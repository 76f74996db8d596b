"""Small graphs with their families of channels, worked out by hand."""

from channels.graphs import attention, convolutions, moves, sequences, sharing
from channels.graphs.cases import CASES

__all__ = ["CASES", "attention", "convolutions", "moves", "sequences", "sharing"]
