"""Weights that devices or processes share, and where their masks lie: `keras.distribution`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfprune.split_masks import Part


@contextlib.contextmanager
def laid_out_like(weight: Any) -> Iterator[None]:
    """Give variables made in here the layout of a weight; None keeps them whole on every device.

    Under `keras.distribution.ModelParallel` layouts are found by the path of a variable, and that
    of a mask is another than its weight's.

    Args:
        weight: a variable with a layout of its own.
    """
    over = keras.distribution.distribution()
    if not isinstance(over, keras.distribution.ModelParallel):
        yield
        return
    layouts = keras.distribution.LayoutMap(over.device_mesh)
    if weight is not None:
        layouts[".*"] = over.get_variable_layout(weight)
    like = keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name=over.batch_dim_name, auto_shard_dataset=False
    )
    with like.scope():
        yield


def lay_like(variable: Any, weight: Any) -> None:
    """Give a variable that was made `laid_out_like` a weight that layout, should it be made later.

    Keras makes those of a layer that is built in a traced call when the call is over, and asks for
    their layout only then.
    """
    over = keras.distribution.distribution()
    if (
        isinstance(over, keras.distribution.ModelParallel)
        and getattr(variable, "_layout", 0) is None
    ):
        # Keras has no public way; this is where it looks first.
        variable._layout = over.get_variable_layout(weight)


def whole(variable: Any) -> np.ndarray:
    """Return the value of a variable, put together from all processes if they share it.

    All processes must ask for it then.
    """
    value = getattr(variable, "value", variable)
    if getattr(value, "is_fully_addressable", True) or value.is_fully_replicated:
        return variable.numpy()
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(value, tiled=True))


def read_only(variable: Any) -> np.ndarray:
    """Return the value of a variable as `whole` does, without a copy where there need be none.

    It is for looking at once: not to be written to, nor kept while the variable changes.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return np.asarray(tf.convert_to_tensor(variable.value))  # `numpy()` would copy
    return whole(variable)


def assign(variable: Any, value: Any) -> None:
    """Assign what all processes have worked out alike.

    Left to itself JAX sends it round, to see that it is the same everywhere, each time.
    """
    now: Any = getattr(variable, "value", None)
    if getattr(now, "is_fully_addressable", True):
        variable.assign(value)
        return
    import jax

    whole_value = np.asarray(value, now.dtype)
    variable.assign(
        jax.make_array_from_callback(now.shape, now.sharding, lambda part: whole_value[part])
    )


def is_split(variable: Any) -> bool:
    """Tell whether processes share a variable in parts."""
    value: Any = getattr(variable, "value", None)
    return not (getattr(value, "is_fully_addressable", True) or value.is_fully_replicated)


def are_split_alike(variable: Any, other: Any) -> bool:
    """Tell whether processes share two variables of one shape in the same parts."""
    if not is_split(variable) or not is_split(other):
        return False
    one: Any = variable.value.sharding
    return one.is_equivalent_to(other.value.sharding, len(variable.shape))


def own_parts(variable: Any) -> list[Part]:
    """Return what this process holds of a variable that `is_split`, without a copy on processors.

    It is for looking at once. Of a part that several processes hold, one counts.
    """
    found: dict[tuple[int, ...], Part] = {}
    for shard in variable.value.addressable_shards:
        start = _start(shard.index)
        if start not in found or shard.replica_id == 0:
            found[start] = Part(start, np.asarray(shard.data), shard.replica_id == 0)
    return list(found.values())


def assign_parts(variable: Any, parts: list[Part]) -> None:
    """Assign to a variable that `is_split` what this process holds of its new value."""
    import jax

    now, own = variable.value, {part.start: part.values for part in parts}
    variable.assign(
        jax.make_array_from_callback(now.shape, now.sharding, lambda index: own[_start(index)])
    )


def total(counts: np.ndarray) -> np.ndarray:
    """Return the sum of counts over all processes, which must all ask for it."""
    from jax.experimental import multihost_utils

    halves = np.stack([counts >> 31, counts & (2**31 - 1)]).astype(np.int32)  # JAX cuts int64
    gathered = np.asarray(multihost_utils.process_allgather(halves)).astype(np.int64)
    high, low = gathered.reshape(-1, 2, counts.size).sum(axis=0)
    return (high << 31) + low


def _start(index: Any) -> tuple[int, ...]:
    return tuple(span.start or 0 for span in index)


def cut(variable: Any, mask: Any) -> None:
    """Set a variable to zero where a mask, a variable of its shape, is False."""
    if keras.backend.backend() == "torch":
        from tfprune import torch_masking

        torch_masking.cut(variable, mask)
    else:
        variable.assign(keras.ops.where(mask.value, variable.value, 0))
