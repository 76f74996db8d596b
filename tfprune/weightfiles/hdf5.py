"""Read the weights in an HDF5 file of Keras: the one inside `.keras`, `.weights.h5`, legacy `.h5`.

What belongs to training is left out: the optimizer's state, and the masks, thresholds and steps of
pruning wrappers. Masks are applied to the weights that they belong to.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from typing import Any

import numpy as np

from tfprune import layouts
from tfprune.masks import unpacked
from tfprune.weightfiles import names, unpacking
from tfprune.weightfiles.names import WRAPPER
from tfprune.weightfiles.result import FileWeight, nm_pattern

_OPTIMIZER = re.compile(r"_?optimizer(_weights)?(/|$)")
_STATE = re.compile(
    r"(^|_)(mask|threshold|pruning_step|gradient|gradient_steps|last_update|may_return)(_\d+)?$"
)
_MASKS = (np.dtype(bool), np.dtype(np.uint8))  # one byte a weight, or one bit
_VECTORS = ("bias", "gamma", "beta")  # those of attention and GRU are matrices


@dataclasses.dataclass
class _Array:
    """One array on its way to a row.

    `wrapper` is the path of the pruning wrapper around it; `role` is "weight", "mask" or "state",
    the last two for what a wrapper adds.
    """

    name: str
    kind: str
    values: np.ndarray
    wrapper: str | None
    role: str


def read(content: bytes, config: Any = None) -> tuple[list[FileWeight], int, bool]:
    """Return rows, the number of values that are in none, and whether masks were applied.

    Args:
        content: the HDF5 file.
        config: the configuration of the model, decoded from JSON, where it is known; a legacy
            file brings its own. It gives names and the axes of kernels.
    """
    import h5py

    with h5py.File(io.BytesIO(content), "r") as file:
        root: Any = file.get("model_weights", file)
        if config is None and "model_config" in file.attrs:
            attributes: Any = file.attrs
            config = json.loads(attributes["model_config"])
        found: list[tuple[str, Any]] = []
        root.visititems(lambda path, item: found.append((path, item)))
        datasets = {path: item for path, item in found if isinstance(item, h5py.Dataset)}
        _check_sizes(datasets, len(content))
        # Those of the optimizer are read too: what loads the model must not be the first to do so.
        arrays = {path: _values(item) for path, item in datasets.items()}
        arrays = {path: array for path, array in arrays.items() if not _OPTIMIZER.match(path)}
        titles = {path: _title(item) for path, item in found if isinstance(item, h5py.Group)}
    numbered = any(re.search(r"(^|/)vars/\d+$", path) for path in arrays)
    titles = names.titles_from(config) | {k: v for k, v in titles.items() if v}
    entries = _numbered(arrays, titles) if numbered else _legacy(arrays)
    masked = _apply_masks(entries)
    layers = names.layers_of(config)
    order = {name: position for position, name in enumerate(layers)}
    entries.sort(key=lambda e: order.get(e.name.split("/")[0], len(order)))
    rows, other = [], 0
    for entry in entries:
        if entry.role != "weight":
            continue
        if entry.values.ndim < 2 or entry.name.rsplit("/", 1)[-1] in _VECTORS:
            other += entry.values.size
        else:
            rows.append(_row(entry, layers))
    return rows, other, masked


def _row(entry: _Array, layers: dict[str, dict]) -> FileWeight:
    values = entry.values
    zero = values == 0
    nonzero = zero.size - int(np.count_nonzero(zero))
    pattern = nm_pattern(zero, _layout(entry, layers))
    return FileWeight(entry.name, values.shape, str(values.dtype), zero.size, nonzero, pattern)


def _check_sizes(datasets: dict[str, Any], size: int) -> None:
    """Raise if arrays claim more than a file of that size holds, or lie in another file."""
    total = 0
    for path, data in datasets.items():
        if data.is_virtual or data.external:
            raise ValueError(f"the array {path} lies in another file, which is not opened")
        wanted = math.prod(data.shape) * data.dtype.itemsize
        if wanted > size and not data.chunks:
            raise ValueError(f"the array {path} claims {wanted:,} bytes")
        total += wanted
    unpacking.require_plausible("it", total, size)


def _values(data: Any) -> np.ndarray:
    if data.dtype.kind not in "fiub":
        return np.empty(0, "float32")  # text, such as a vocabulary
    return np.asarray(data[()])


def _title(group: Any) -> str | None:
    """Return the name of a group's layer, which Keras (since 3.5) keeps beside its `vars`."""
    own = group.get("vars")
    name = own.attrs.get("name") if own is not None else None
    return name.decode() if isinstance(name, bytes) else name


def _numbered(arrays: dict[str, np.ndarray], titles: dict[str, str]) -> list[_Array]:
    """Read the layout of `.keras` and `.weights.h5`: `layers/dense/vars/0`."""
    groups = {path.rpartition("vars/")[0].strip("/") for path in arrays}
    wrappers, with_booleans = set(), set()
    for path, values in arrays.items():
        owner = path.rpartition("vars/")[0].strip("/")
        known = values.dtype in _MASKS or owner.rsplit("/", 1)[-1].startswith(WRAPPER)
        if known and any(group.startswith(f"{owner}/layer") for group in groups):
            wrappers.add(owner)
            with_booleans |= {owner} if values.dtype in _MASKS else set()
    entries = []
    for path in sorted(arrays, key=names.natural):
        group, _, index = path.rpartition("vars/")
        group, values = group.strip("/"), arrays[path]
        if group in wrappers:
            # Gradients that tfprune's own wrapper keeps may all be zero; its masks are not floats.
            may_be = values.dtype in _MASKS or group not in with_booleans
            role = "mask" if may_be and _is_mask(values) else "state"
            entries.append(_Array(path, "", values, group, role))
            continue
        kind = names.kind_of(group)
        before = [arrays[f"{group}/vars/{i}".lstrip("/")] for i in range(int(index))]
        layer = names.layer_name(group, titles, wrappers)
        variable = names.variable(kind, titles.get(group, ""), values, before)
        wrapper = max((w for w in wrappers if group.startswith(f"{w}/")), key=len, default=None)
        name = f"{layer}/{variable}".lstrip("/")
        entries.append(_Array(name, kind, values, wrapper, "weight"))
    return entries


def _legacy(arrays: dict[str, np.ndarray]) -> list[_Array]:
    """Read the layout of legacy `.h5` files: `dense/dense/kernel:0`."""
    entries = []
    for path, values in arrays.items():
        top, *parts = [re.sub(r":\d+$", "", part) for part in path.split("/")]
        if top in parts:
            parts = parts[parts.index(top) :]
        wrapper = top if top.startswith(WRAPPER) else None
        role = "weight"
        if wrapper and parts and (state := _STATE.search(parts[-1])):
            role = "mask" if state[2] == "mask" and _is_mask(values) else "state"
        if len(parts) > 2:  # Keras 3 names the wrapper and the layer, tf_keras the wrapper alone
            parts = [part for part in parts if not part.startswith(WRAPPER)]
        name = "/".join(re.sub(rf"^{WRAPPER}_", "", part) for part in parts or [top])
        entries.append(_Array(name, names.kind_of(name), values, wrapper, role))
    return entries


def _is_mask(values: np.ndarray) -> bool:
    if values.dtype == np.uint8:  # packed
        return values.ndim == 1
    return values.ndim > 0 and bool(((values == 0) | (values == 1)).all())


def _kept(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return where a weight of that shape is kept, None if it is not the mask of such a one."""
    if mask.dtype == np.uint8:
        try:
            return unpacked(mask, shape)
        except ValueError:
            return None
    return mask.astype(bool) if mask.shape == shape else None


def _misfit(pair: tuple[_Array, np.ndarray]) -> tuple[bool, float]:
    """Return how badly a mask fits a weight: least for kernels whose cut weights are zero.

    Kernels of one shape are those of attention, or both directions of an RNN. A packed mask may
    also have the size of a bias, all zeros.
    """
    entry, keep = pair
    return entry.values.ndim < 2, float(np.abs(entry.values[~keep].astype("float64")).sum())


def _apply_masks(entries: list[_Array]) -> bool:
    """Multiply weights by their masks, each by the one of its shape that it fits best."""
    free = [e for e in entries if e.wrapper and e.role == "weight"]
    masks = [e for e in entries if e.role == "mask"]
    for mask in masks:
        fits = [
            (entry, keep)
            for entry in free
            if entry.wrapper == mask.wrapper
            and (keep := _kept(mask.values, entry.values.shape)) is not None
        ]
        if not fits:
            raise ValueError(f"no weight belongs to the mask {mask.name}, {mask.values.shape}")
        best, keep = min(fits, key=_misfit)
        best.values = np.where(keep, best.values, best.values.dtype.type(0))
        free.remove(best)
    return bool(masks)


def _layout(entry: _Array, layers: dict[str, dict]) -> layouts.Layout | None:
    """Return the axes of a kernel from the kind of its layer."""
    rank = entry.values.ndim
    parts = entry.name.split("/")[:-1]
    layer = next((layers[part] for part in reversed(parts) if part in layers), {})
    kind = f"{entry.kind} {layer.get('class_name', '')}".lower().replace("_", "")
    if "attention" in kind and rank == 3:
        is_output = "attentionoutput" in entry.name.replace("_", "") or "outputdense" in kind
        return layouts.Layout((0, 1), (2,)) if is_output else layouts.Layout((0,), (1, 2))
    if "embedding" in kind:
        return layouts.of_embedding() if rank == 2 else None
    if "depthwise" in kind or "depthwise" in entry.name:
        return None  # one input channel each
    if "transpose" in kind:
        return layouts.of_transposed_kernel(rank)
    if "einsum" in kind:
        equation = layer.get("config", {}).get("equation")
        return layouts.of_einsum(equation, rank) if equation else None
    return layouts.of_kernel(rank)
