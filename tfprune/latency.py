"""Prune what makes a model faster on phones: the policy for XNNPACK's sparse kernels."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfprune import strip
from tfprune.export.convert import named
from tfprune.export.graph import Graph, read_graphs
from tfprune.export.matching import is_weight
from tfprune.export.precision import sublayers
from tfprune.export.xnnpack.verdict import FAST, Verdict, counted, judge, judge_pruned, pointwise
from tfprune.policy import PruningPolicy

_THRESHOLD = 2 / 3


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far a model is from the sparse kernels: print it, or take its figures.

    Attributes:
        layers: names of the layers whose weights count: 1x1 convolutions, and Dense layers on a
            single pixel between them, which XNNPACK counts as such.
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

    Raises:
        ValueError: by `prune_low_magnitude`, with the first reason against sparse kernels and how
            to change the model; nothing is wrapped then. `distance` raises the same.

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
        self._counted = [layer for layer, _ in _owners(model, graph, _sparse_filters(graph))]

    def distance(self, model: Any) -> Distance:
        """Return how far a model is from the threshold.

        Args:
            model: built, wrapped, or stripped.

        Raises:
            ValueError: sparse kernels would not run it, however many zeros it had.
        """
        plain = strip.without_wrappers(model)
        graph = _graph(plain)
        _require_fast(plain, graph)
        sizes = counted(graph)
        zeros = sum(n - int(np.count_nonzero(graph.values(i))) for i, n in sizes.items())
        weights = sum(sizes.values())
        missing = max(0, weights * 2 // 3 + 1 - zeros)
        names = tuple(layer.name for layer, _ in _owners(plain, graph, list(sizes), _matrix))
        return Distance(names, weights, zeros, missing)


class FastPath:
    """The layers of a model whose zeros sparse kernels skip, and what zeros in each spare.

    Args:
        model: built, without wrappers, of either family.

    Attributes:
        layers: (layer, positions): its kernel is multiplied at so many pixels.

    Raises:
        ValueError: sparse kernels would not run the model, however many zeros it had.

    Example: `sum(positions for _, positions in FastPath(model).layers)`
    """

    def __init__(self, model: Any) -> None:
        self._graph = _graph(model)
        _require_fast(model, self._graph)
        self._filters = _float_filters(self._graph)
        self._owners = _owners(model, self._graph, _sparse_filters(self._graph))
        self.layers = [(layer, self._positions(index)) for layer, index in self._owners]

    def verdict(self, zeros: Mapping[int, int]) -> Verdict:
        """Return what would become of the model, were so many weights zero.

        Args:
            zeros: {id of a layer: zeros of its kernel}; other layers are as they are.
        """
        by_filter = {index: zeros[id(one)] for one, index in self._owners if id(one) in zeros}
        return judge(self._graph, self._filters, by_filter)

    def _positions(self, index: int) -> int:
        """Return at how many pixels a filter is computed; a free length counts as one."""
        outputs = [operation.outputs[0] for operation, _ in self._graph.consumers(index)]
        shapes = [self._graph.tensors[one].shape[1:-1] for one in outputs]
        return sum(math.prod(max(n, 1) for n in shape) for shape in shapes)


def _require_fast(model: Any, graph: Graph) -> None:
    verdict = judge_pruned(graph)
    if verdict.kind != FAST:
        raise ValueError(
            f"Zeros would not make the model '{model.name}' faster with XNNPACK: {verdict.reason}. "
            f"To change that, {verdict.advice}. Received: model={model.name!r}"
        )


def _graph(model: Any) -> Graph:
    return read_graphs(*named(model))[0]


def _float_filters(graph: Graph) -> list[int]:
    """Return the constants that are weights of 1x1 convolutions."""
    return [one.tensor for one in pointwise(graph, ())]


def _sparse_filters(graph: Graph) -> list[int]:
    """Return those of them that would run sparse, were enough weights zero."""
    sizes = counted(graph)
    return [index for index in _float_filters(graph) if index in sizes]


def _kernel(layer: Any) -> np.ndarray | None:
    """Return the kernel of a 1x1 convolution, or of a separable one, as (inputs, outputs)."""
    for name in ("kernel", "pointwise_kernel"):
        kernel = getattr(layer, name, None)
        if kernel is not None and len(kernel.shape) == 4 and tuple(kernel.shape[:2]) == (1, 1):
            return np.asarray(kernel.numpy()).reshape(tuple(kernel.shape[2:]))
    return None


def _matrix(layer: Any) -> np.ndarray | None:
    """Return the kernel of a 1x1 convolution or of a Dense layer, as (inputs, outputs)."""
    kernel = getattr(layer, "kernel", None)
    if kernel is not None and len(kernel.shape) == 2:
        return np.asarray(kernel.numpy())
    return _kernel(layer)


def _owners(
    model: Any, graph: Graph, filters: list[int], kernel_of: Callable = _kernel
) -> list[tuple[Any, int]]:
    """Return the layers whose kernels are these constants of the file, each with its constant."""
    found = []
    for layer in sublayers(model):
        kernel = kernel_of(layer)
        if kernel is None:
            continue
        mine = (i for i in filters if is_weight(kernel.T, graph.values(i)))
        found.extend((layer, index) for index in itertools.islice(mine, 1))
    return found
