"""Give the arrays of a `.keras` file the names of their layers and variables.

Such a file stores `layers/dense_1/vars/0`: a counter for each class of layer, and a number for each
variable. The names that the user chose stand in attributes (Keras 3.5 and later) or can be counted
out from the configuration.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

WRAPPER = "prune_low_magnitude"
# (kind of layer, its variables), where they are not (kernel, bias).
_VARIABLES = (
    (r"embedding", ("embeddings",)),
    (r"separable_conv", ("depthwise_kernel", "pointwise_kernel", "bias")),
    (r"(_cell|/cell)$", ("kernel", "recurrent_kernel", "bias")),
    (r"batch_normalization$", ("gamma", "beta", "moving_mean", "moving_variance")),
    (r"normalization$", ("gamma", "beta")),
)


def layers_of(config: Any) -> dict[str, dict]:
    """Return {name: {class_name, config}} of every layer in a configuration, at any depth."""
    found: dict[str, dict] = {}
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            inner = part.get("config")
            if isinstance(inner, dict) and isinstance(inner.get("name"), str):
                found.setdefault(inner["name"], part)
            pending += reversed(list(part.values()))
        elif isinstance(part, list):
            pending += reversed(part)
    return found


def titles_from(config: Any) -> dict[str, str]:
    """Return {path of a group: name of its layer} as Keras counts layers when it saves.

    Example: the second Dense layer of a model, named "out", gives `{"layers/dense_1": "out"}`.
    """
    titles: dict[str, str] = {}
    pending: list[tuple[str, Any]] = [("", config)]
    while pending:
        prefix, part = pending.pop()
        inner = part.get("config") if isinstance(part, dict) else None
        layers = inner.get("layers") if isinstance(inner, dict) else None
        counts: dict[str, int] = {}
        for layer in layers if isinstance(layers, list) else []:
            if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
                continue
            kind = _snake(str(layer.get("class_name", "")))
            counts[kind] = counts.get(kind, -1) + 1
            key = f"{kind}_{counts[kind]}" if counts[kind] else kind
            path = f"{prefix}/layers/{key}".lstrip("/")
            titles[path] = str(layer["config"].get("name", key))
            wrapped = layer["config"].get("layer")
            if isinstance(wrapped, dict) and isinstance(wrapped.get("config"), dict):
                titles[f"{path}/layer"] = str(wrapped["config"].get("name", "layer"))
            pending.append((path, layer))
    return titles


def _snake(name: str) -> str:
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def kind_of(group: str) -> str:
    """Return a path without counters and containers: `layers/dense_1` is `dense`."""
    parts = [re.sub(r"_\d+$", "", part) for part in group.split("/")]
    return "/".join(part for part in parts if part not in ("layers", "layer", ""))


def layer_name(group: str, titles: dict[str, str], wrappers: set[str]) -> str:
    """Return the names of the layers on the way to a group, without pruning wrappers."""
    shown, path = [], ""
    for part in group.split("/"):
        path = f"{path}/{part}".lstrip("/")
        if path in titles and path not in wrappers:
            shown.append(titles[path])
        elif path not in wrappers and part not in ("layers", "layer", ""):
            shown.append(part)
    return "/".join(shown)


def variable(kind: str, title: str, values: np.ndarray, before: list[np.ndarray]) -> str:
    """Return the name of a variable from the kind of its layer and those stored before it."""
    index = len(before)
    for expression, found in _VARIABLES:
        if re.search(expression, kind) or re.search(expression, title):
            return found[index] if index < len(found) else str(index)
    if index == 0:
        return "kernel" if values.ndim >= 2 else "0"
    # A kernel (d, h, k) of attention has a bias (h, k).
    rank = values.ndim
    kernel = before[0]
    is_bias = index == 1 and (rank == 1 or values.shape == kernel.shape[kernel.ndim - rank :])
    return "bias" if is_bias and kernel.ndim > rank else str(index)


def natural(path: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts `vars/2` before `vars/10`."""
    pieces = re.findall(r"(\d+)|(\D+)", path)
    return [(0, int(number), "") if number else (1, 0, text) for number, text in pieces]
