"""Remove whole channels from a Keras 3 model: smaller and faster on every runtime and number type.

README.md in this folder says how it works.
"""

from tfprune.channels.freezing import unfreeze_only
from tfprune.channels.history import replay
from tfprune.channels.report import ShrinkReport
from tfprune.channels.rules import channel_rule
from tfprune.channels.soft import SoftChannelPruning

__all__ = ["ShrinkReport", "SoftChannelPruning", "channel_rule", "replay", "unfreeze_only"]
