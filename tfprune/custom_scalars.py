"""How TensorBoard's tab "Custom Scalars" lays out the sparsity of a model: layer by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MODEL, LAYERS = "Whole model", "Layer by layer"


def layout(weights: Mapping[str, Sequence[str]]) -> Any:
    """Return the layout of the curves that `PruningSummaries` writes.

    Charts of the whole model first, then one for each layer, in which the curve of what was
    reached lies on that of what was asked for. TensorBoard merges layouts of several runs by the
    titles, so that models with the same layers share their charts.

    Args:
        weights: names of the pruned weights, by that of their layer.

    Returns:
        A `tensorboard.plugins.custom_scalar.layout_pb2.Layout`.

    Example: `layout({"conv": ["kernel"], "lstm": ["kernel", "recurrent_kernel"]})`

    Source: TensorBoard's custom scalars plugin, which takes tags as regular expressions.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2

    def chart(title: str, *tags: str) -> Any:
        lines = layout_pb2.MultilineChartContent(tag=[f"^{tag}$" for tag in tags])
        return layout_pb2.Chart(title=title, multiline=lines)

    every = "(?!model$).+"
    whole = [
        chart("sparsity of the model", "sparsity/model"),
        chart("sparsity of each weight", f"sparsity/{every}"),
        chart("fraction of each mask that changed", f"flipped/{every}"),
        chart("threshold of each weight", f"threshold/{every}"),
    ]
    layers = [
        chart(
            layer,
            *(
                f"{group}/{re.escape(f'{layer}/{name}')}"
                for name in names
                for group in ("sparsity", "target")
            ),
        )
        for layer, names in weights.items()
    ]
    return layout_pb2.Layout(
        category=[
            layout_pb2.Category(title=MODEL, chart=whole),
            layout_pb2.Category(title=LAYERS, chart=layers),
        ]
    )
