"""XNNPACK's rules for sparse inference over the graph of a `.tflite` file; see ../README.md."""

from tfprune.export.xnnpack.verdict import Pointwise, Verdict, channel_block, judge, pointwise

__all__ = ["Pointwise", "Verdict", "channel_block", "judge", "pointwise"]
