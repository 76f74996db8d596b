"""What each layer type and operation does with channels, one small function each."""

from tfprune.channels.rules import (
    attention,
    convolution,
    elementwise,
    normalization,
    recurrent,
    shape,
    slicing,
)
from tfprune.channels.rules.table import channel_rule, find

__all__ = [
    "attention",
    "channel_rule",
    "convolution",
    "elementwise",
    "find",
    "normalization",
    "recurrent",
    "shape",
    "slicing",
]
