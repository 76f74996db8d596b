"""What flows into the kernels of a model: a statistic of every channel, over the user's data.

The model is run call by call, nested models and shared layers included, so that a tensor that is
computed twice is measured twice. Only sums are kept; a tensor is let go once its last reader ran.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops, tree

from tfprune.channels import graph, running
from tfprune.channels.batches import Batches
from tfprune.channels.structure import Structure
from tfprune.channels.track import Track
from tfprune.cloning import is_graph

Statistic = Callable[[Any], Any]
"""A float32 tensor -> a tensor of that shape, which is averaged over everything but channels."""


def magnitude(values: Any) -> Any:
    """Return absolute values: their mean is the mean activation (Molchanov et al. 2017)."""
    return ops.abs(values)


def alive(values: Any) -> Any:
    """Return 1 where a value is not zero: its mean is 1 - APoZ (Hu et al. 2016)."""
    return ops.cast(ops.not_equal(values, 0.0), "float32")


STATISTICS: dict[str, Statistic] = {"activation": magnitude, "apoz": alive}


@dataclasses.dataclass
class Means:
    """The mean of a statistic for each channel of one tensor that kernels read.

    Attributes:
        reader: path of a layer that reads it, for messages.
        ids: channel number of each element, as in a `Track`.
        total: sum over the samples so far, of the shape of `ids`.
        count: samples so far.
    """

    reader: str
    ids: np.ndarray
    total: np.ndarray
    count: int = 0

    def values(self) -> np.ndarray:
        """Return the mean of each element of `ids`."""
        return self.total / self.count


def measure(structure: Structure, batches: Batches, statistic: Statistic) -> list[Means]:
    """Run a model on data, in inference, and return the means of what its kernels read.

    Example: `measure(read(model), Batches(model, x), magnitude)`
    """
    run = _Run(structure, statistic)
    for batch in batches:
        run.graph(structure.model, running.tensors(structure.model, batch))
    return list(run.found.values())


class _Run:
    def __init__(self, structure: Structure, statistic: Statistic) -> None:
        self._trace, self._statistic = structure.trace, statistic
        self._readers = {(id(g), id(x)): path for path, g, x, _ in structure.trace.readers}
        self.found: dict[tuple[int, int], Means] = {}

    def graph(self, model: Any, tensors: list[Any]) -> list[Any]:
        """Run a graph; return its outputs, flat."""
        steps = self._trace.steps[id(model)]
        ends = [id(x) for x in tree.flatten(graph.outputs(model)) or []]
        heads = tree.flatten(graph.inputs(model)) or []
        last = {id(x): n for n, step in enumerate(steps) for x in step.call.tensors}
        values: dict[int, Any] = {}

        def arrive(symbols: Any, tracks: Any, results: Any) -> None:
            for symbol, track, result in zip(symbols, tracks, results, strict=True):
                values[id(symbol)] = result
                self._measure(model, symbol, track, result)

        arrive(heads, self._trace.heads[id(model)], tensors)
        for n, step in enumerate(steps):
            arrive(step.call.outputs, step.outputs, self._call(step.call, values))
            for one in {id(x) for x in step.call.tensors}:
                if last[one] == n and one not in ends:
                    del values[one]
        return [values[one] for one in ends]

    def _call(self, call: graph.Call, values: dict[int, Any]) -> list[Any]:
        operation = call.operation
        if is_graph(operation):
            return self.graph(operation, [values[id(x)] for x in call.tensors])
        return running.in_inference(call, values)

    def _measure(self, model: Any, symbol: Any, track: Track, tensor: Any) -> None:
        key = (id(model), id(symbol))
        if key not in self._readers or not track.tracked:
            return
        axes = tuple(axis for axis in range(track.ids.ndim) if axis not in track.axes)
        values = self._statistic(ops.cast(tensor, "float32"))
        means = np.asarray(ops.convert_to_numpy(ops.mean(values, axes, keepdims=True)), float)
        samples = int(tensor.shape[0])
        if key not in self.found:
            zeros = np.zeros(track.ids.shape)
            self.found[key] = Means(self._readers[key], track.ids, zeros)
        self.found[key].total += means * samples
        self.found[key].count += samples
