"""Which weights of a Keras 3 layer can be pruned, and which of their axes are inputs.

To add a layer type, add a row to `_KERNELS`; a layer of your own offers `get_prunable_weights`
instead (see `PrunableLayer`). Depthwise kernels, norms and biases are left alone: they are small,
and pruning them costs accuracy for nothing.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import layers, ops

from tfprune import layouts
from tfprune.cloning import is_graph
from tfprune.layouts import Layout


class PrunableLayer(abc.ABC):
    """Mix-in for a layer of your own that says which of its weights to prune.

    Any layer with a method `get_prunable_weights` is treated the same; the class is tfmot's.

    Example:

    ```python
    class MyDense(keras.layers.Dense, tfprune.PrunableLayer):
        def get_prunable_weights(self):
            return [self.kernel, self.bias]
    ```

    Source: tfmot's `PrunableLayer`.
    """

    @abc.abstractmethod
    def get_prunable_weights(self) -> list:
        """Return the weights (Keras variables) to prune; called once the layer is built."""


@dataclasses.dataclass(frozen=True)
class PrunableWeight:
    """A weight that may be pruned: its name within the layer, its variable, its axes."""

    name: str
    variable: Any
    layout: Layout | None


def _kernel(layer, variable) -> Layout | None:
    del layer
    return layouts.of_kernel(len(variable.shape))


def _transposed_kernel(layer, variable) -> Layout | None:
    del layer
    return layouts.of_transposed_kernel(len(variable.shape))


def _embedding(layer, variable) -> Layout | None:
    del layer, variable
    return layouts.of_embedding()


def _einsum(layer, variable) -> Layout | None:
    return layouts.of_einsum(layer.equation, len(variable.shape))


# Layer class -> (attribute that holds the weight, its layout).
_KERNELS: dict[type, tuple[str, Callable[[Any, Any], Layout | None]]] = {
    layers.Dense: ("kernel", _kernel),
    layers.Conv1D: ("kernel", _kernel),
    layers.Conv2D: ("kernel", _kernel),
    layers.Conv3D: ("kernel", _kernel),
    layers.Conv1DTranspose: ("kernel", _transposed_kernel),
    layers.Conv2DTranspose: ("kernel", _transposed_kernel),
    layers.Conv3DTranspose: ("kernel", _transposed_kernel),
    layers.SeparableConv1D: ("pointwise_kernel", _kernel),
    layers.SeparableConv2D: ("pointwise_kernel", _kernel),
    layers.Embedding: ("embeddings", _embedding),
    layers.EinsumDense: ("kernel", _einsum),
}

_ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
# Sub-layers of the attention layers -> layout of their kernels, (dim, heads, head_dim) and back.
_ATTENTION_KERNELS = {
    "query": Layout((0,), (1, 2)),
    "key": Layout((0,), (1, 2)),
    "value": Layout((0,), (1, 2)),
    "gate": Layout((0,), (1, 2)),
    "attention_output": Layout((0, 1), (2,)),
}

_CELLS = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell)
_RNN = (
    layers.RNN,
    layers.SimpleRNN,
    layers.LSTM,
    layers.GRU,
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_NORMS = (
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.GroupNormalization,
    layers.UnitNormalization,
    layers.SpectralNormalization,
    layers.Normalization,
)


def prunable_weights(layer: keras.layers.Layer) -> list[PrunableWeight]:
    """Return the weights of a built layer that may be pruned; call `reason_against` first.

    Example: for a `Bidirectional(LSTM(4))` the names are `forward/kernel`,
    `forward/recurrent_kernel`, `backward/kernel` and `backward/recurrent_kernel`.
    """
    return list(_weights(layer, ""))


def reason_against(layer: keras.layers.Layer) -> str | None:
    """Return why a layer cannot be pruned, None if it can; works on unbuilt layers too."""
    name = type(layer).__name__
    if isinstance(layer, keras.Model):
        if is_graph(layer):
            return "it is a model: wrap it by itself"
        return "a model within the model that is not Sequential or Functional: wrap its layers"
    if not _is_known(layer):
        if isinstance(layer, _DEPTHWISE):
            return "depthwise kernels are left alone: they are small and lose accuracy"
        if isinstance(layer, _NORMS):
            return "norms are left alone"
        if layer.built and not layer.trainable_variables:
            return "no weights to prune"
        return f"layers of type {name} are not known; give it a `get_prunable_weights` method"
    if getattr(layer, "quantization_mode", None) is not None:
        return "it is quantized already: prune first, quantize on export"
    if layer.built:
        variables = layer.variables
        if any("lora_" in v.path.rsplit("/", 1)[-1] for v in variables):
            return "LoRA is enabled: its dense update would be merged into the zeros"
        if any(not _is_float(w.variable) for w in _weights(layer, "")):
            return "it is quantized already: prune first, quantize on export"
        if not any(True for _ in _weights(layer, "")):
            return "no weights to prune"
        if not all(bool(ops.all(ops.isfinite(w.variable.value))) for w in _weights(layer, "")):
            return "its weights hold NaN or infinite values: training has diverged"
    return None


def is_left_alone(layer: keras.layers.Layer) -> bool:
    """Tell whether nobody would expect this layer to be pruned: no weights, a norm, depthwise."""
    if isinstance(layer, (*_DEPTHWISE, *_NORMS)):
        return True
    return not any(len(v.shape) >= 2 for v in layer.trainable_variables + layer.variables)


def _is_known(layer) -> bool:
    if hasattr(layer, "get_prunable_weights"):
        return True
    if isinstance(layer, layers.TimeDistributed):
        return _is_known(layer.layer)
    if isinstance(layer, layers.Bidirectional):
        return _is_known(layer.forward_layer) and _is_known(layer.backward_layer)
    if isinstance(layer, _RNN):
        return all(_is_known_cell(cell, layer) for cell in _cells(layer))
    return isinstance(layer, (*_KERNELS, *_ATTENTION))


def _is_known_cell(cell, layer) -> bool:
    if hasattr(cell, "get_prunable_weights") or isinstance(cell, _CELLS):
        return True
    # The cells of the ConvLSTM layers are not public classes.
    return isinstance(layer, (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D))


def _cells(layer) -> list:
    cell = layer.cell
    return list(cell.cells) if isinstance(cell, layers.StackedRNNCells) else [cell]


def _weights(layer, prefix: str) -> Iterator[PrunableWeight]:
    if hasattr(layer, "get_prunable_weights"):
        variables = _offered(layer)
        for name, variable in zip(_names(variables), variables, strict=True):
            layout = layouts.of_kernel(len(variable.shape))
            yield PrunableWeight(prefix + name, variable, layout)
    elif isinstance(layer, layers.TimeDistributed):
        yield from _weights(layer.layer, prefix)
    elif isinstance(layer, layers.Bidirectional):
        yield from _weights(layer.forward_layer, prefix + "forward/")
        yield from _weights(layer.backward_layer, prefix + "backward/")
    elif isinstance(layer, _RNN):
        cells = _cells(layer)
        for index, cell in enumerate(cells):
            yield from _cell_weights(cell, f"{prefix}cell_{index}/" if len(cells) > 1 else prefix)
    elif isinstance(layer, _ATTENTION):
        for variable in layer.variables:
            *_, owner, name = ("", *variable.path.split("/"))
            if name == "kernel" and owner in _ATTENTION_KERNELS:
                yield PrunableWeight(f"{prefix}{owner}/kernel", variable, _ATTENTION_KERNELS[owner])
    else:
        for kind, (attribute, layout) in _KERNELS.items():
            if isinstance(layer, kind):
                variable = getattr(layer, attribute)
                yield PrunableWeight(prefix + attribute, variable, layout(layer, variable))
                return


def _offered(layer) -> list:
    """Return what a layer of the user's own offers for pruning, checked."""
    offered = layer.get_prunable_weights()
    own = {id(v) for v in layer.variables}
    if not isinstance(offered, (list, tuple)) or not {id(v) for v in offered} <= own:
        raise ValueError(
            f"`get_prunable_weights` of the layer '{layer.name}' must return a list of its "
            "variables (`keras.Variable`), such as `[self.kernel]`, leaving out those that are "
            f"None. Received: {offered!r}"
        )
    return list(offered)


def _names(variables: list) -> list[str]:
    """Return the variables' names, with the layers they are in where names alone are not unique.

    Example: two layers within the layer have `first/kernel` and `second/kernel`.
    """
    names = [v.name for v in variables]
    if len(set(names)) == len(names):
        return names
    return unique(["/".join(v.path.split("/")[-2:]) for v in variables])


def unique(names: list[str]) -> list[str]:
    """Number the names that come again, as layers of two nested models may be named alike.

    Example: `unique(["dense", "conv", "dense"])` is `["dense", "conv", "dense_1"]`.
    """
    found: list[str] = []
    for name in names:
        numbered = (f"{name}_{n}" for n in itertools.count(1))
        found.append(next(n for n in itertools.chain([name], numbered) if n not in found))
    return found


def _cell_weights(cell, prefix: str) -> Iterator[PrunableWeight]:
    if hasattr(cell, "get_prunable_weights"):
        yield from _weights(cell, prefix)
        return
    for attribute in ("kernel", "recurrent_kernel"):
        variable = getattr(cell, attribute)
        yield PrunableWeight(prefix + attribute, variable, _kernel(cell, variable))


def _is_float(variable) -> bool:
    return "float" in keras.backend.standardize_dtype(variable.dtype)
