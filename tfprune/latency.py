"""Prune what makes a model faster on phones: the policy for XNNPACK's sparse kernels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfprune import strip
from tfprune.export.convert import named
from tfprune.export.graph import Graph, read_graphs
from tfprune.export.precision import sublayers
from tfprune.export.xnnpack.verdict import FAST, judge, pointwise
from tfprune.prune import PruningPolicy

_THRESHOLD = 2 / 3


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far a model is from the sparse kernels: print it, or take its figures.

    Attributes:
        layers: names of the layers whose weights count.
        weights: of those layers, together.
        zeros: of those weights.
        missing: how many more of them must be zero.
    """

    layers: tuple[str, ...]
    weights: int
    zeros: int
    missing: int

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the weights that count."""
        return self.zeros / self.weights if self.weights else 0.0

    def __str__(self) -> str:
        start = (
            f"{self.sparsity:.1%} of the {self.weights:,} weights of {len(self.layers)} 1x1 "
            f"convolutions are zero; XNNPACK's sparse kernels run above {_THRESHOLD:.1%}"
        )
        return f"{start}: {self.missing:,} to go" if self.missing else f"{start}: reached"


class PruneForLatencyOnXNNPack(PruningPolicy):
    """Prune the 1x1 convolutions that run faster with zeros on phones, and no other layer.

    Before anything is wrapped, the model is converted in memory and looked at with the rules of
    `tfprune explain`, as if its 1x1 convolutions were pruned. If sparse kernels would not run, or
    would give wrong results, the first reason is raised together with how to change the model.

    Use it with a sparsity well above two thirds, the threshold over all these layers together.

    Example:

    ```python
    policy = tfprune.PruneForLatencyOnXNNPack()
    pruned = tfprune.prune_low_magnitude(
        model, tfprune.PolynomialDecay(0.0, 0.9, 0, 1000), pruning_policy=policy
    )
    print(policy.distance(pruned))
    ```

    Source: Elsen et al., "Fast Sparse ConvNets" (CVPR 2020), and XNNPACK's `src/subgraph.c`.
    tfmot's policy of this name follows the rules of 2021; among others it demands `keepdims=True`
    of the global average pooling, with which today's runtime may refuse to load the model.
    """

    def __init__(self) -> None:
        self._counted: list[Any] | None = None

    def allow_pruning(self, layer: Any) -> bool:
        """Tell whether a layer is a 1x1 convolution that counts.

        Without a model, any 1x1 convolution with a stride of 1 and one group does.
        """
        if self._counted is not None:
            return any(layer is one for one in self._counted)
        once = tuple(getattr(layer, "strides", ())) == (1, 1)
        return once and getattr(layer, "groups", 1) == 1 and _kernel(layer) is not None

    def ensure_model_supports_pruning(self, model: Any) -> None:
        """Raise unless sparse kernels would run the model, pruned and exported.

        Raises:
            ValueError: the first reason against it, and how to change the model.
        """
        graph = _graph(model)
        _require_fast(model, graph)
        self._counted = _layers_of(model, graph, _counted_filters(graph))

    def distance(self, model: Any) -> Distance:
        """Return how far a model is from the threshold.

        Args:
            model: built, wrapped, or stripped.

        Raises:
            ValueError: sparse kernels would not run it, however many zeros it had.
        """
        plain = _plain(model)
        graph = _graph(plain)
        _require_fast(plain, graph)
        counted = _counted_filters(graph)
        sizes = {index: _size(graph, index) for index in counted}
        zeros = sum(n - int(np.count_nonzero(graph.values(i))) for i, n in sizes.items())
        weights = sum(sizes.values())
        missing = max(0, weights * 2 // 3 + 1 - zeros)
        names = tuple(layer.name for layer in _layers_of(plain, graph, counted))
        return Distance(names, weights, zeros, missing)


def _require_fast(model: Any, graph: Graph) -> None:
    filters = _float_filters(graph)
    verdict = judge(graph, filters, {index: _size(graph, index) for index in filters})
    if verdict.kind != FAST:
        raise ValueError(
            f"Zeros would not make the model '{model.name}' faster with XNNPACK: {verdict.reason}. "
            f"To change that, {verdict.advice}. Received: model={model.name!r}"
        )


def _plain(model: Any) -> Any:
    return strip.strip_pruning(model) if strip.pruned_layers(model) else model


def _graph(model: Any) -> Graph:
    return read_graphs(*named(model))[0]


def _size(graph: Graph, index: int) -> int:
    return graph.constant(index).size


def _float_filters(graph: Graph) -> list[int]:
    """Return the constants that are weights of 1x1 convolutions."""
    return [one.tensor for one in pointwise(graph, ())]


def _counted_filters(graph: Graph) -> list[int]:
    """Return those of them that would run sparse, were all of them zero."""
    filters = _float_filters(graph)
    zeros = {index: _size(graph, index) for index in filters}
    return [one.tensor for one in pointwise(graph, filters, zeros) if one.sparse]


def _kernel(layer: Any) -> np.ndarray | None:
    """Return the kernel of a 1x1 convolution, or of a separable one, as (inputs, outputs)."""
    for name in ("kernel", "pointwise_kernel"):
        kernel = getattr(layer, name, None)
        if kernel is not None and len(kernel.shape) == 4 and tuple(kernel.shape[:2]) == (1, 1):
            return np.asarray(kernel.numpy()).reshape(tuple(kernel.shape[2:]))
    return None


def _layers_of(model: Any, graph: Graph, filters: list[int]) -> list[Any]:
    """Return the layers whose kernels are these constants of the file.

    The converter folds batch normalization into them, which scales each output channel, so it is
    the direction of each channel's weights that is compared.
    """
    wanted = [_directions(graph.values(i).reshape(graph.constant(i).shape[0], -1)) for i in filters]
    found = []
    for layer in sublayers(model):
        kernel = _kernel(layer)
        if kernel is None:
            continue
        own = _directions(kernel.T)
        if any(_alike(own, other) for other in wanted):
            found.append(layer)
    return found


def _directions(rows: np.ndarray) -> np.ndarray:
    """Return each row divided by its entry that is largest in size; rows of zeros stay."""
    rows = rows.astype("float64")
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    return np.divide(rows, largest, out=np.zeros_like(rows), where=largest != 0)


def _alike(own: np.ndarray, other: np.ndarray) -> bool:
    if own.shape != other.shape:
        return False
    folded = other.any(axis=1)  # a channel that batch normalization scales by zero tells nothing
    return bool(np.allclose(own[folded], other[folded], atol=1e-4))
