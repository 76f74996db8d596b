"""The table that says how sparse each weight of a model is, is to be, and why not more."""

from __future__ import annotations

import collections
import dataclasses
import io
import math
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tfprune import decisions, registry
from tfprune.family import require_family
from tfprune.placement import whole
from tfprune.results import Result
from tfprune.strip import pruned_layers


@dataclasses.dataclass(frozen=True)
class WeightSparsity:
    """One row: a weight, its target and what has been reached.

    Attributes:
        layer: name of the layer; its path, such as "encoder/dense", if others have the same name.
        weight: name of the weight in it, empty for a layer listed for its reason only.
        shape: shape of the weight.
        pattern: "unstructured", "2:4", "1x16", empty if dense.
        target: sparsity at the end of the schedule, None if there is none.
        reached: fraction of zeros now.
        nonzero: weights that are not zero.
        size: all weights.
        reason: why it is left dense, empty if it is pruned.
    """

    layer: str
    weight: str
    shape: tuple[int, ...]
    pattern: str
    target: float | None
    reached: float
    nonzero: int
    size: int
    reason: str


@dataclasses.dataclass(frozen=True)
class SparsitySummary(Result):
    """The sparsity of a model: print it, or take its figures.

    Attributes:
        name: name of the model.
        rows: one `WeightSparsity` for each weight that is pruned or could be.
        parameters: all parameters of the model, biases and norms included, masks not.
        nonzero: those that are not zero.
    """

    name: str
    rows: tuple[WeightSparsity, ...]
    parameters: int
    nonzero: int

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the weights in the table."""
        size = sum(row.size for row in self.rows)
        return 1.0 - sum(row.nonzero for row in self.rows) / size if size else 0.0

    def table(self) -> Table:
        """Return the table that `print` shows."""
        table = Table(title=f"Sparsity of {self.name}", title_justify="left", expand=False)
        table.add_column("layer", overflow="fold")
        table.add_column("weight", overflow="fold")
        table.add_column("shape", overflow="fold")
        table.add_column("pattern", overflow="fold")
        for title in ("target", "reached", "nonzero"):
            table.add_column(title, justify="right")
        with_reasons = any(row.reason for row in self.rows)
        if with_reasons:
            table.add_column("left dense because", overflow="fold")
        for row in self.rows:
            cells = [
                row.layer,
                row.weight,
                "x".join(str(n) for n in row.shape),
                row.pattern or "-",
                "-" if row.target is None else f"{row.target:.1%}",
                f"{row.reached:.1%}" if row.size else "-",
                f"{row.nonzero:,} of {row.size:,}" if row.size else "-",
            ]
            table.add_row(*cells, *([row.reason] if with_reasons else []))
        table.caption = (
            f"{self.sparsity:.1%} of these weights are zero; "
            f"{self.nonzero:,} of the model's {self.parameters:,} parameters are not."
        )
        table.caption_justify = "left"
        return table

    text_width = 110

    def __rich__(self) -> Table:
        return self.table()

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        console = Console(file=io.StringIO(), force_jupyter=False, record=True, width=130)
        console.print(self.table())
        return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def plot(self, axes: Any = None) -> Any:
        """Draw reached and target sparsity of each weight as bars; returns matplotlib axes."""
        import matplotlib.pyplot as plt

        rows = [row for row in self.rows if row.size]
        if axes is None:
            axes = plt.subplots(figsize=(7, 0.8 + 0.35 * len(rows)), layout="constrained")[1]
        labels = [f"{row.layer}/{row.weight}" for row in rows]
        axes.barh(labels, [100 * row.reached for row in rows], color="#2a6f97", label="reached")
        targets = [(i, 100 * row.target) for i, row in enumerate(rows) if row.target is not None]
        if targets:
            places, values = zip(*targets, strict=True)
            axes.plot(values, places, "|", color="#e76f51", markersize=14, label="target")
        axes.set(xlim=(0, 100), xlabel="zeros, %", title=f"Sparsity of {self.name}")
        axes.invert_yaxis()
        axes.legend(loc="lower right")
        return axes


def summary(model: Any) -> SparsitySummary:
    """Return the table of a model's sparsity: what each weight reached, its target, or why not.

    Args:
        model: a built model or layer of Keras 3 or tf_keras, wrapped for pruning or plain.

    Returns:
        A `SparsitySummary`; `print` it, or display it in a notebook.

    Raises:
        ValueError: if it is not a Keras object, or not built.

    Example:

    ```python
    print(tfprune.summary(pruned_model))
    ```

    Source: tfprune's own; zeros are counted in the weights, targets are those of the schedules.
    """
    kind = require_family(model, "a model or a layer")
    if not model.built:
        raise ValueError(
            "The model is not built, so it has no weights to count. Call it on data, or "
            f"`model.build(input_shape)`. Received: {model.name!r}"
        )
    paths = _paths(model)
    titles = _titles(paths)
    rows: list[WeightSparsity] = []
    own: set[int] = set()
    wrapped: set[int] = set()
    saved = 0
    for layer in pruned_layers(model):
        inner = layer.layer.layer if kind == "tf_keras" else layer.layer
        outer = layer.layer if kind == "tf_keras" else layer
        own |= {id(v) for v in layer.own_weights}
        wrapped |= {id(v) for v in inner.weights}
        title = titles.get(id(outer)) or str(layer.layer_name)
        final = layer.pruning_schedule.final_sparsity
        for state in layer.states():
            shape = tuple(state.weight.shape)
            target = None
            if final is not None:
                target = layer.pattern.expected_sparsity(shape, state.layout, final, final)
            rows.append(_row(title, state.name, state.weight, layer.pattern, target, ""))
        for name, reason in layer.skipped.items():
            rows.append(WeightSparsity(title, name, (), "", None, 0.0, 0, 0, reason))
    reasons = {d.path: d.reason for d in decisions.recall(model) if d.reason}
    for path, layer in paths:
        if not any(id(v) in wrapped for v in layer.weights):
            rows.extend(_dense_rows(layer, titles[id(layer)], _reason_at(path, reasons), kind))
    weights = {id(v): v for v in model.weights if id(v) not in own}
    for value in weights.values():
        saved += int(np.count_nonzero(_numpy(value)))
    parameters = sum(math.prod(v.shape) for v in weights.values())
    masked_away = sum(_lost(layer) for layer in pruned_layers(model))
    return SparsitySummary(model.name, tuple(rows), parameters, saved - masked_away)


def _reason_at(path: str, reasons: dict[str, str]) -> str | None:
    """Return what was decided about a layer, or about the model that it is nested in."""
    while path not in reasons and "/" in path:
        path = path.rpartition("/")[0]
    return reasons.get(path)


def _dense_rows(layer: Any, title: str, reason: str | None, kind: str) -> list[WeightSparsity]:
    if kind == "tf_keras":
        weights = [(w.name.split(":")[0].rsplit("/", 1)[-1], w) for w in layer.weights]
        weights = [(name, w) for name, w in weights if len(w.shape) >= 2]
    elif registry.reason_against(layer) is None:
        weights = [(w.name, w.variable) for w in registry.prunable_weights(layer)]
    else:
        weights = [(v.name, v) for v in layer.weights if len(v.shape) >= 2]
        reason = reason or registry.reason_against(layer)
    return [_row(title, name, _numpy(w), "", None, reason or "") for name, w in weights]


def _row(layer, name, weight, pattern, target, reason) -> WeightSparsity:
    nonzero = int(np.count_nonzero(weight))
    reached = 1.0 - nonzero / weight.size if weight.size else 0.0
    shape = tuple(int(n) for n in weight.shape)
    pattern = str(pattern) if pattern else ""
    return WeightSparsity(
        layer, name, shape, pattern, target, reached, nonzero, int(weight.size), reason
    )


def _lost(layer: Any) -> int:
    """Count the weights that a mask hides but momentum has moved away from zero."""
    wrapper = layer.layer if hasattr(layer.layer, "pruning_vars") else layer
    return sum(
        int(np.count_nonzero(_numpy(weight) * ~_numpy(mask).astype(bool)))
        for weight, mask, _ in wrapper.pruning_vars
    )


def _paths(model: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return (path, layer) of a model's layers, each once, nested models' in their place.

    The paths are those of the decisions, but for wrapped layers, which carry the wrapper's name.
    """
    if not hasattr(model, "layers"):
        return [(model.name, model)]
    found: dict[int, tuple[str, Any]] = {}
    for layer in model.layers:
        path = prefix + layer.name
        nested = bool(getattr(layer, "layers", None))
        for inner in _paths(layer, path + "/") if nested else [(path, layer)]:
            found.setdefault(id(inner[1]), inner)
    return list(found.values())


def _titles(paths: list[tuple[str, Any]]) -> dict[int, str]:
    """Return, by the id of each layer, its name, or its path if other layers have that name."""
    counts = collections.Counter(_own_name(layer) for _, layer in paths)
    titles = {}
    for path, layer in paths:
        name = _own_name(layer)
        above = "".join(path.rpartition("/")[:2])  # "encoder/" of "encoder/dense"
        titles[id(layer)] = name if counts[name] == 1 else above + name
    return titles


def _own_name(layer: Any) -> str:
    """Return a layer's name without its wrapper's."""
    wrapped = hasattr(layer, "pruning_vars") and hasattr(layer, "layer")
    return layer.layer.name if wrapped else layer.name


def _numpy(variable: Any) -> np.ndarray:
    return np.asarray(whole(variable) if hasattr(variable, "numpy") else variable)
