"""`count`: the parameters and multiplications of a model, layer by layer, zeros left out or not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune import conversion
from tfprune.channels import graph, lengths, structure
from tfprune.channels.facts import Term
from tfprune.channels.structure import Structure
from tfprune.cloning import is_graph
from tfprune.family import family, room
from tfprune.results import Result
from tfprune.strip import pruned_layers

Shape = Sequence[int | None]


@dataclasses.dataclass(frozen=True)
class LayerCount:
    """One row: a layer with weights or multiplications.

    Attributes:
        layer: its path, such as "backbone/conv1".
        kind: its class.
        parameters: its weights, statistics of norms included.
        nonzero: those that are not zero.
        macs: multiply-accumulates for one sample; None if they are not counted.
        nonzero_macs: those with a weight that is not zero; None if they are not counted.
    """

    layer: str
    kind: str
    parameters: int
    nonzero: int
    macs: int | None
    nonzero_macs: int | None


@dataclasses.dataclass(frozen=True)
class Count(Result):
    """The size of a model: print it, or take its figures.

    Attributes:
        model: name of the model.
        parameters: all weights, statistics of norms included, as Keras counts them.
        trainable: those that training changes; where no layer is frozen, what PyTorch counts.
        nonzero: parameters that are not zero.
        macs: multiply-accumulates for one sample.
        nonzero_macs: those with a weight that is not zero: what a runtime that skips zeros does.
        layers: a `LayerCount` for each layer with weights or multiplications.
        not_counted: paths of layers whose multiplications are not in `macs`.
        assumed: what has axes of unknown length, which count as 1; a batch in which nobody knows
            how many samples are, too.
        wrapped: layers that were counted as they will be without their pruning wrappers.

    Example: `tfprune.count(model).macs`

    Source: made by `tfprune.count`.
    """

    model: str
    parameters: int
    trainable: int
    nonzero: int
    macs: int
    nonzero_macs: int
    layers: tuple[LayerCount, ...]
    not_counted: tuple[str, ...]
    assumed: tuple[str, ...]
    wrapped: int

    def table(self) -> Table:
        """Return the table of layers that `print` shows."""
        table = Table(title=f"Size of '{self.model}'", box=box.SIMPLE_HEAD, show_footer=True)
        table.add_column("layer", "total", overflow="fold")
        table.add_column("kind", overflow="fold")
        for name, total in (
            ("parameters", self.parameters),
            ("nonzero", self.nonzero),
            ("MACs", self.macs),
            ("MACs, nonzero", self.nonzero_macs),
        ):
            table.add_column(name, f"{total:,}", justify="right")
        for row in self.layers:
            macs = (row.macs, row.nonzero_macs)
            table.add_row(
                row.layer,
                row.kind,
                f"{row.parameters:,}",
                f"{row.nonzero:,}",
                *("not counted" if n is None else f"{n:,}" for n in macs),
            )
        return table

    def lines(self) -> list[str]:
        """Return what the table must be read with, in words."""
        found = [f"{self.trainable:,} of the parameters are trainable."]
        if self.not_counted:
            found.append(
                f"Not counted are the MACs of {', '.join(self.not_counted)}: no rule is known for "
                "such layers, or for such calls (`tfprune.channel_rule` teaches one)."
            )
        if self.assumed:
            found.append(
                f"Lengths that are not known count as 1: {', '.join(self.assumed)}. Pass "
                "`input_shape` to count at a certain size, and build nested models for it."
            )
        if self.wrapped:
            found.append(
                f"Wrapped for pruning: {self.wrapped} of the layers, whose masked weights count."
            )
        return found

    def __rich__(self) -> Group:
        """Return what rich prints: the table and the notes under it."""
        return Group(self.table(), *(Text(line) for line in self.lines()))


def count(model: keras.Model, input_shape: Shape | Sequence[Shape] | None = None) -> Count:
    """Count the parameters and multiply-accumulates (MACs) of a model, by layer and in total.

    A MAC is one value of a kernel times one activation, or, in attention, one activation times
    another: additions of biases, norms, activation functions and pooling are left out, as they
    are in the figures of papers. A value that is zero counts as no MAC in `nonzero_macs`. What is
    folded into the batch axis (windows of a map, say) counts as often as a sample has it.

    Args:
        model: a Sequential or Functional model, wrapped for pruning or not. Of wrapped layers the
            weights inside count, masked. One of tf_keras is counted as its Keras 3 counterpart.
        input_shape: of one sample, such as (224, 224, 3), where the model leaves lengths open; a
            list of shapes for several inputs. Open lengths count as 1 without it.

    Returns:
        A `Count`; `print` it, take its figures, or save them with `to_json`.

    Example:

    ```python
    size = tfprune.count(keras.applications.MobileNet(weights=None))
    print(size)  # a table
    size.macs  # 568740352
    ```

    Raises:
        TypeError: no Keras model.
        ValueError: a subclassed or unbuilt model, a tf_keras one without counterpart in Keras 3,
            or an `input_shape` that it does not take.

    Source: tfprune's own; the multiplications come from the rules that say which channels go
    together, see `tfprune/channels/README.md`.
    """
    kind = family(model)
    if kind != "tf_keras":
        graph.require_graph(model)
    wrapped = len(pruned_layers(model))
    plain = room(kind or "keras").strip(model) if wrapped else model
    if kind == "tf_keras":
        plain = conversion.to_keras3(plain)
    if input_shape is not None:
        plain = _at_shape(plain, input_shape)
    return _count(structure.read(plain), wrapped)


def _count(read: Structure, wrapped: int) -> Count:
    nonzero = {id(v): _nonzero(v) for v in read.model.weights}
    by_layer: dict[str, list[Term]] = {}
    for term in read.trace.terms:
        by_layer.setdefault(term.layer, []).append(term)
    counted = {id(term.variable) for term in read.trace.terms}
    unknown = {path for path, _ in read.trace.unknown}
    rows, seen = [], set()
    for path, layer in _operations(read, read.model, ""):
        variables = list({id(v): v for v in getattr(layer, "weights", ())}.values())
        missing = path in unknown or _multiplies_unseen(layer, variables, counted)
        terms = by_layer.pop(path, [])
        own = [v for v in variables if id(v) not in seen]  # of shared layers, at their first call
        seen.update(id(v) for v in own)
        if own or terms or missing:
            rows.append(
                LayerCount(
                    layer=path,
                    kind=type(layer).__name__,
                    parameters=sum(_size(v) for v in own),
                    nonzero=sum(nonzero[id(v)] for v in own),
                    macs=None if missing else sum(_macs(t) for t in terms),
                    nonzero_macs=None if missing else sum(_macs(t, nonzero) for t in terms),
                )
            )
    return Count(
        model=read.model.name,
        parameters=sum(_size(v) for v in read.model.weights),
        trainable=sum(_size(v) for v in read.model.trainable_weights),
        nonzero=sum(nonzero.values()),
        macs=sum(row.macs or 0 for row in rows),
        nonzero_macs=sum(row.nonzero_macs or 0 for row in rows),
        layers=tuple(rows),
        not_counted=tuple(row.layer for row in rows if row.macs is None),
        assumed=tuple(lengths.assumed(read.model, read.trace)),
        wrapped=wrapped,
    )


def _operations(read: Structure, model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield (path, layer or operation) of a graph and the graphs in it, each once."""
    seen = set()
    for step in read.trace.steps[id(model)]:
        operation = step.call.operation
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        path = f"{prefix}{operation.name}"
        if is_graph(operation):
            yield from _operations(read, operation, f"{path}/")
        else:
            yield path, operation


def _multiplies_unseen(layer: Any, variables: list[Any], counted: set[int]) -> bool:
    """Tell whether a layer does multiplications that no rule states.

    Its rule gave up, or, for products of activations without weights, states none.
    """
    if isinstance(layer, (keras.layers.Attention, keras.layers.AdditiveAttention)):
        return True
    return any("kernel" in v.name and id(v) not in counted for v in variables)


def _macs(term: Term, nonzero: dict[int, int] | None = None) -> int:
    """Return the multiplications of a term, those with a zero left out if counts are given."""
    macs = term.factor * math.prod(int(variable.shape[axis]) for variable, axis in term.axes)
    if nonzero is None or term.variable is None:
        return macs
    return macs * nonzero[id(term.variable)] // _size(term.variable)


def _at_shape(model: keras.Model, given: Any) -> keras.Model:
    """Return a copy of a model that takes inputs of a certain shape."""
    olds: list[Any] = list(tree.flatten(graph.inputs(model)) or [])
    one = all(n is None or isinstance(n, int) for n in given)
    shapes = [tuple(given)] if one else [tuple(shape) for shape in given]
    fits = len(shapes) == len(olds) and all(
        len(shape) == len(old.shape) - 1
        and all(b in (None, a) for a, b in zip(shape, old.shape[1:], strict=True))
        for shape, old in zip(shapes, olds, strict=True)
    )
    takes = ", ".join(str(tuple(old.shape[1:])) for old in olds)
    message = (
        "`input_shape` must fit what the model takes, the batch axis left out (None is any "
        f"length): {takes}. Received: input_shape={given!r}"
    )
    if not fits:
        raise ValueError(message)
    new = [
        keras.Input(batch_shape=(old.shape[0], *shape), dtype=old.dtype, name=old.name)
        for old, shape in zip(olds, shapes, strict=True)
    ]
    heads = tree.pack_sequence_as(graph.inputs(model), new)
    try:
        copy = keras.models.clone_model(model, input_tensors=heads)
    except ValueError as error:
        raise ValueError(f"{message} ({str(error).strip().splitlines()[0]})") from error
    for before, after in zip(model.variables, copy.variables, strict=True):
        after.assign(before.value)
    return copy


def _size(variable: Any) -> int:
    return math.prod(int(n) for n in variable.shape)


def _nonzero(variable: Any) -> int:
    return int(np.count_nonzero(np.asarray(keras.ops.convert_to_numpy(variable.value))))
