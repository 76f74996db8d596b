"""What zeros in each layer save: bytes of the exported file, or multiplications on phones.

Two things are known of a layer at each of some levels of sparsity: what is saved, in bytes or
multiplications, and what is lost: minus the logarithm of the part of its squared magnitude that is
kept. A part, since the scale of a kernel before a norm means nothing; the logarithm, since what
layers keep multiplies, and a network ends where one of them keeps nothing. Zeros pay where little
is lost for much.

Source of the loss: Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning",
whose score of a weight is the slope of this.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tfprune import conversion, layouts, masks, registry
from tfprune.export.convert import converted
from tfprune.export.graph import Graph, Tensor, read_graphs
from tfprune.export.matching import is_weight
from tfprune.export.sparse import OVERHEAD, candidates
from tfprune.export.xnnpack.verdict import FAST, WRONG, judge
from tfprune.family import family, room
from tfprune.latency import FastPath
from tfprune.layouts import Layout
from tfprune.paths import walk
from tfprune.patterns import Pattern
from tfprune.weightfiles.sparse_tensor import encoded_bytes

LEVELS = (*np.arange(0.05, 0.9, 0.05).tolist(), *(1.0 - np.geomspace(0.1, 0.001, 14)).tolist())


class Savings(Protocol):
    """What is asked of either kind."""

    def refusal(self, path: str) -> str:
        """Return why no zeros of a layer save anything, empty if some do."""
        ...

    def saved(self, path: str, sparsity: float) -> float:
        """Return what is saved by so many zeros in a layer."""
        ...

    def lost(self, path: str, sparsity: float) -> float:
        """Return minus the logarithm of the part of a layer's squared magnitude that is kept."""
        ...

    def words(self, path: str, sparsity: float) -> str:
        """Return what is saved, for the user."""
        ...

    def check(self, sparsities: Mapping[str, float]) -> None:
        """Raise a ValueError if nothing would be saved after all."""
        ...


@dataclasses.dataclass(frozen=True)
class _Weight:
    """A weight, and where it lies in the file.

    Attributes:
        values: as Keras has them.
        layout: which axes are its inputs and outputs.
        graph: number of the subgraph of the file; -1 if it was not found there.
        tensor: the constant in it; None if it was not found.
        refusal: why it cannot be in sparse encoding, empty if it can.
    """

    values: np.ndarray
    layout: Layout | None
    graph: int = -1
    tensor: Tensor | None = None
    refusal: str = ""

    def mask(self, pattern: Pattern, sparsity: float) -> np.ndarray:
        """Return what pruning leaves, True where a weight stays."""
        return pattern.mask(masks.magnitudes(self.values), self.layout, sparsity, sparsity)[0]


def _lost(weights: Sequence[_Weight], pattern: Pattern, sparsity: float) -> float:
    """Return minus the logarithm of the part of the squared magnitude of weights that is kept."""
    total = kept = 0.0
    for one in weights:
        squares = np.square(one.values, dtype=np.float64)
        total += float(squares.sum())
        kept += float(squares.sum(where=one.mask(pattern, sparsity)))
    return -math.log(kept / total) if kept else 0.0  # a kernel that starts at zero loses nothing


class SmallerFile:
    """Bytes that zeros save in the float32 `.tflite` file, by the rules of `export_tflite`.

    The model is converted in memory, to see which of its weights can be in sparse encoding.

    Args:
        model: built, without wrappers, of either family.
        paths: of the layers to look at.
        pattern: where zeros may stand.

    Raises:
        ValueError: the model cannot be converted.
    """

    def __init__(self, model: Any, paths: Sequence[str], pattern: Pattern) -> None:
        self._pattern, self._name = pattern, model.name
        keras3 = conversion.to_keras3(model) if family(model) == "tf_keras" else model
        self._graphs = read_graphs(converted(keras3))
        known = list(candidates(self._graphs))
        layers = dict(walk(keras3, room("keras")))
        self._weights = {
            path: [_located(one, known) for one in registry.prunable_weights(layers[path])]
            for path in paths
        }

    def refusal(self, path: str) -> str:
        """Return why no zeros of a layer save bytes, empty if some do."""
        own = self._weights[path]
        if all(one.refusal for one in own):
            return f"its zeros take as many bytes as other values: {own[0].refusal}"
        if self.saved(path, 1.0) <= 0:
            dense = sum(one.values.size * 4 for one in own)
            return f"it is small: {dense:,} bytes, and sparse encoding alone takes {OVERHEAD}"
        return ""

    def saved(self, path: str, sparsity: float) -> float:
        """Return the bytes that zeros save."""
        dense, stored = self._bytes(path, sparsity)
        return float(dense - stored)

    def lost(self, path: str, sparsity: float) -> float:
        """Return minus the logarithm of the part of a layer's squared magnitude that is kept."""
        return _lost(self._weights[path], self._pattern, sparsity)

    def words(self, path: str, sparsity: float) -> str:
        """Return the bytes before and after."""
        dense, stored = self._bytes(path, sparsity)
        if stored >= dense:
            return f"{dense:,} bytes: so few zeros take more in sparse encoding"
        return f"{dense:,} -> {stored:,} bytes"

    def check(self, sparsities: Mapping[str, float]) -> None:
        """Raise if sparse encoding would make the file wrong on phones, so that none is used."""
        for number, graph in enumerate(self._graphs):
            zeros = {}
            for path, sparsity in sparsities.items():
                for one in self._weights[path]:
                    if one.graph == number and one.tensor and self._stored(one, sparsity)[1]:
                        zeros[one.tensor.index] = round(one.values.size * sparsity)
            verdict = judge(graph, set(zeros), zeros) if zeros else None
            if verdict is not None and verdict.kind == WRONG:
                raise ValueError(
                    f"The zeros of the model '{self._name}' would save no bytes: sparse encoding "
                    f"would make the file wrong on phones, so that `export_tflite` leaves it out "
                    f"({verdict.reason}). To change that, {verdict.advice}. Or choose another "
                    "method, such as 'global'. Received: method='size'"
                )

    def _bytes(self, path: str, sparsity: float) -> tuple[int, int]:
        """Return what the weights of a layer take without and with sparse encoding."""
        own = self._weights[path]
        stored = [self._stored(one, sparsity)[0] for one in own]
        return sum(one.values.size * 4 for one in own), sum(stored)

    def _stored(self, weight: _Weight, sparsity: float) -> tuple[int, bool]:
        """Return what a weight takes in the file, and whether that is in sparse encoding."""
        dense = weight.values.size * 4
        if weight.refusal or weight.tensor is None or weight.layout is None or sparsity <= 0.0:
            return dense, False
        left = (weight.values * weight.mask(self._pattern, sparsity)).astype(np.float32)
        shape = [max(n, 1) for n in weight.tensor.shape]
        sparse = encoded_bytes(weight.layout.rows(left).reshape(shape)) + OVERHEAD
        return min(dense, sparse), sparse < dense


class FasterKernels:
    """Multiplications that zeros spare XNNPACK's sparse kernels, in layers of the fast path.

    Args:
        model: built, without wrappers, of either family.
        paths: of the layers to look at.
        pattern: where zeros may stand.

    Raises:
        ValueError: sparse kernels would not run the model, however many zeros it had.
    """

    def __init__(self, model: Any, paths: Sequence[str], pattern: Pattern) -> None:
        self._pattern = pattern
        self._fast = FastPath(model)
        positions = {id(layer): count for layer, count in self._fast.layers}
        keras_ = room(family(model) or "keras")
        self._layers = {
            path: layer
            for path, layer in walk(model, keras_)
            if path in paths and id(layer) in positions
        }
        self._positions = {path: positions[id(one)] for path, one in self._layers.items()}
        self._weights = {
            path: [_Weight(a, layouts.of_kernel(a.ndim)) for a in keras_.prunable_arrays(one)]
            for path, one in self._layers.items()
        }

    def refusal(self, path: str) -> str:
        """Return why no zeros of a layer save multiplications, empty if some do."""
        return "" if path in self._layers else "it is no 1x1 convolution that sparse kernels run"

    def saved(self, path: str, sparsity: float) -> float:
        """Return the multiplications that zeros save."""
        if path not in self._layers:
            return 0.0
        return float(self._positions[path] * self._zeros(path, sparsity))

    def lost(self, path: str, sparsity: float) -> float:
        """Return minus the logarithm of the part of a layer's squared magnitude that is kept."""
        return _lost(self._weights[path], self._pattern, sparsity)

    def words(self, path: str, sparsity: float) -> str:
        """Return the multiplications before and after."""
        every = self._positions[path] * sum(one.values.size for one in self._weights[path])
        return f"{every:,} -> {every - self.saved(path, sparsity):,.0f} multiplications"

    def check(self, sparsities: Mapping[str, float]) -> None:
        """Raise if there would be too few zeros for sparse kernels."""
        chosen = {path: s for path, s in sparsities.items() if path in self._layers}
        zeros = {id(self._layers[path]): self._zeros(path, s) for path, s in chosen.items()}
        verdict = self._fast.verdict(zeros)
        if verdict.kind != FAST:
            raise ValueError(
                f"So many zeros would not make the model faster: {verdict.reason}. Ask for a "
                "sparsity well above two thirds, and leave out fewer layers. "
                "Received: method='latency'"
            )

    def _zeros(self, path: str, sparsity: float) -> int:
        own = self._weights[path]
        kept = [np.count_nonzero(one.values * one.mask(self._pattern, sparsity)) for one in own]
        return sum(one.values.size for one in own) - int(sum(kept))


def _located(
    weight: registry.PrunableWeight, known: Sequence[tuple[int, Graph, Tensor, str]]
) -> _Weight:
    """Find a weight among the constants of a file."""
    values = np.asarray(weight.variable.numpy(), np.float32)
    if weight.layout is None:
        return _Weight(values, None, refusal="it is no matrix")
    outputs = int(np.prod([values.shape[axis] for axis in weight.layout.outputs]))
    rows = weight.layout.rows(values).reshape(outputs, -1)
    for number, graph, tensor, reason in known:
        if tensor.size == rows.size and is_weight(rows, graph.values(tensor.index)):
            return _Weight(values, weight.layout, number, tensor, reason)
    return _Weight(values, weight.layout, refusal="the file does not hold it in one piece")
