"""Prove that the zeros of the Keras model are zeros in the exported file."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np

from tfprune.weightfiles.constants import Constant

_PROBES = 4096
_NEVER_PRUNED = ("bias", "gamma", "beta")  # those of attention and GRU are matrices


def used_weights(model: Any, function: Any) -> dict[str, np.ndarray]:
    """Return the kernels and tables, by path, that the traced model reads; no biases or norms."""
    read = {id(v) for v in function.variables}
    found: dict[str, np.ndarray] = {}
    for variable in model.variables:
        inner = getattr(variable, "value", None)  # Keras 3 holds the variable of TensorFlow
        handle = inner if inner is not None and not callable(inner) else variable
        if id(handle) not in read or len(variable.shape) < 2:
            continue
        values = np.asarray(variable.numpy())
        path = getattr(variable, "path", None) or variable.name.split(":")[0]
        if values.dtype.kind == "f" and not path.endswith(_NEVER_PRUNED):
            found[path if path not in found else f"{path} ({len(found)})"] = values
    return found


def check_zeros(
    weights: dict[str, np.ndarray], constants: list[Constant]
) -> tuple[dict[int, str], list[str]]:
    """Return {index of a constant: path of the weight it holds} and the weights not found.

    A weight is found in the file if a constant of its size, read in some order of the weight's
    axes, is zero wherever the weight is. A weight that the converter has cut up (the gates of an
    LSTM) is checked by the number of zeros. A weight with zeros that is in the file in neither
    form was computed away, as a table of positions is. Two weights may be in one constant, of
    which the first is named.

    Raises:
        ValueError: a zero of the Keras model is not zero in the file.
    """
    numbered = _numbered(weights, constants)
    matched: dict[int, str] = {}
    unmatched: dict[str, np.ndarray] = {}
    for path, values in sorted(weights.items(), key=lambda kv: -np.count_nonzero(kv[1] == 0)):
        candidates = [
            i for i, c in enumerate(constants) if i not in matched and c.size == values.size
        ]
        index = _find(values == 0, candidates, constants, path, numbered)
        if index is not None:
            matched[index] = path
        elif (values == 0).any():
            unmatched[path] = values
    left = [c for i, c in enumerate(constants) if i not in matched]
    lost, absent = [], []
    for path, values in unmatched.items():
        layer = path.rsplit("/", 1)[0]
        same_size = [c for c in left if c.size == values.size]
        if not any(c.is_weight for c in same_size) and _is_shared(values == 0, matched, constants):
            continue
        # A ConvLSTM's two kernels become eight under one name, so they are counted together.
        whole = [v for p, v in unmatched.items() if p.rsplit("/", 1)[0] == layer]
        pieces = [c for c in left if c.is_weight and _same_layer(path, c.name, numbered)]
        wanted = sum(int(np.count_nonzero(v == 0)) for v in whole)
        if same_size:
            wanted = int(np.count_nonzero(values == 0))
            lost.append(f"{path} ({wanted} zeros, {max(c.zeros for c in same_size)} in the file)")
        elif sum(c.size for c in pieces) != sum(v.size for v in whole):
            absent.append(path)
        elif (there := sum(c.zeros for c in pieces)) < wanted:
            lost.append(f"{layer} ({wanted} zeros, {there} in the file)")
    if lost:
        raise ValueError(
            "Zeros of the Keras model are not zero in the exported file, so the file would be "
            f"less sparse than the model: {'; '.join(lost)}. Nothing was written. Please report "
            "this with the model."
        )
    return matched, absent


def _find(
    zero: np.ndarray, candidates: list[int], constants: list[Constant], path: str, numbered: bool
) -> int | None:
    named = [i for i in candidates if _same_layer(path, constants[i].name, numbered)]
    if not zero.any():  # any constant would do, so only the name can tell
        return named[0] if named else None
    for index in [*named, *(i for i in candidates if i not in named)]:
        if constants[index].sparse or _covers(constants[index].is_zero, zero):
            return index
    return None


def _is_shared(zero: np.ndarray, matched: dict[int, str], constants: list[Constant]) -> bool:
    """Tell whether a constant that holds another weight may hold this one too.

    The converter stores equal constants once, and in int8, with a scale for each output, kernels
    that keep one weight for each output in the same places are equal.
    """
    sizes = (constants[i] for i in matched if constants[i].size == zero.size)
    return any(_covers(one.is_zero, zero) for one in sizes)


def _covers(file_zero: np.ndarray, zero: np.ndarray) -> bool:
    """Tell whether the file is zero wherever the weight is, in some order of its axes."""
    where = np.argwhere(zero)
    probes = where[np.linspace(0, len(where) - 1, min(len(where), _PROBES)).astype(int)]
    for order in itertools.permutations(range(zero.ndim)):
        shape = [zero.shape[axis] for axis in order]
        flat = np.ravel_multi_index(tuple(probes[:, axis] for axis in order), shape)
        if file_zero[flat].all() and file_zero[zero.transpose(order).reshape(-1)].all():
            return True
    return False


def _same_layer(path: str, name: str, numbered: bool) -> bool:
    """Tell whether a tensor's name passes through the layers of a weight's path."""
    parts = re.split(r"[/;]", name)
    if numbered:
        parts = [re.sub(r"_\d+$", "", part) for part in parts]
    return all(layer in parts for layer in path.split("/")[:-1])


def _numbered(weights: dict[str, np.ndarray], constants: list[Constant]) -> bool:
    """Tell whether tensors carry one more number than layers: `dense` gives `dense_1/MatMul`.

    Keras 3 does so, tf_keras does not; whichever explains more weights is the case.
    """

    def explained(numbered: bool) -> int:
        return sum(
            any(c.size == v.size and _same_layer(path, c.name, numbered) for c in constants)
            for path, v in weights.items()
        )

    return explained(True) >= explained(False)
