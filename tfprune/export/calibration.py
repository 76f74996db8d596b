"""Bring the data that users hold (arrays, generators, datasets) into single-batch samples."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfprune.export.interface import Arrays, Input, Interface

CALIBRATION_SAMPLES = 300
"""At most so many samples calibrate: ranges settle within 100 to 500 by TensorFlow's guide."""


def samples(data: Any, interface: Interface, name: str, limit: int) -> list[Arrays]:
    """Return at most `limit` samples, each one array of the file's batch size for each input.

    Args:
        data: a batch (an array; for several inputs a list or dict of arrays, nested as the model
            takes them), or batches or single samples in a list, an iterator, a generator, a
            function that returns one, a `tf.data.Dataset` or a Keras `PyDataset`. A pair (x, y)
            or triple (x, y, weight) stands for its x. Nothing is read past `limit`; from one
            large batch, samples are taken at even distances.
        interface: what the model takes.
        name: of the argument, for messages.
        limit: how many samples at most.

    Raises:
        TypeError: `data` is none of these.
        ValueError: it is empty, does not fit the inputs, or holds NaN or infinite values.
    """
    batch = interface.batch
    found: list[Arrays] = []
    for element in _elements(data, interface, name):
        flat = _arrays(element, interface, name)
        count = len(flat[0]) // batch
        if not count:
            continue
        picks = np.unique(np.linspace(0, count - 1, min(count, limit - len(found))).astype(int))
        found += [[array[i * batch : (i + 1) * batch] for array in flat] for i in picks]
        if len(found) >= limit:
            break
    if not found:
        few = f" (the model takes batches of {batch})" if batch > 1 else ""
        raise ValueError(
            f"`{name}` holds no samples{few}. Pass at least one, better a hundred, of "
            f"{interface.describe()}. Received: {name}={_short(data)}"
        )
    return found


def check_variety(found: list[Arrays], interface: Interface, name: str) -> None:
    """Raise or warn if samples are too much alike to choose the ranges of activations from.

    Args:
        found: what `samples` returned.
        interface: what the model takes.
        name: of the argument, for messages.

    Raises:
        ValueError: every input holds a single value, such as 0, in all samples.
    """
    constant = {}
    for index, one in enumerate(interface.inputs):
        arrays = [sample[index] for sample in found if sample[index].size]
        if arrays and len({value for a in arrays for value in (a.min(), a.max())}) == 1:
            constant[one.name] = arrays[0].flat[0]
    values = ", ".join(f"{value:g} throughout '{key}'" for key, value in constant.items())
    advice = "Pass inputs like those in use, a hundred different samples for example"
    if len(constant) == len(interface.inputs):
        raise ValueError(
            f"`{name}` holds a single value, so there are no ranges to choose from it, and the "
            f"file would answer nothing. {advice}. Received: {values}, in {len(found)} samples"
        )
    if constant:
        warnings.warn(
            f"`{name}` holds {values}, so what the model makes of other values there may come out "
            f"wrong. {advice}, unless the model never gets anything else.",
            stacklevel=4,
        )
    if len(found) > 1 and all(_equal(found[0], sample) for sample in found[1:]):
        warnings.warn(
            f"The {len(found)} samples of `{name}` are all equal, so the ranges chosen from them "
            f"suit one input only. {advice}.",
            stacklevel=4,
        )


def _equal(first: Arrays, second: Arrays) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _elements(given: Any, interface: Interface, name: str) -> Iterator[Any]:
    """Yield batches or single samples, whatever the data came in."""
    is_function = callable(given) and not hasattr(given, "__iter__")
    data: Any = given() if is_function and not hasattr(given, "__getitem__") else given
    if data is None or isinstance(data, (str, bytes, bool, int, float)):
        raise TypeError(
            f"`{name}` must be an array, a list or dict of arrays for several inputs, a generator "
            f"or a `tf.data.Dataset`. Received: {name}={data!r}"
        )
    if _is_array(data) or isinstance(data, dict):
        yield data
    elif isinstance(data, (list, tuple)):
        several = _exact(data, interface) is None and all(_fits(part, interface) for part in data)
        yield from data if several else [data]
    elif hasattr(data, "__iter__"):
        yield from data
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):  # keras.utils.PyDataset
        yield from (data[index] for index in range(len(data)))
    else:
        raise TypeError(
            f"`{name}` must be an array, a list or dict of arrays for several inputs, a generator "
            f"or a `tf.data.Dataset`. Received: {name}={_short(data)}"
        )


def _is_array(data: Any) -> bool:
    return hasattr(data, "shape") and hasattr(data, "dtype") and not callable(data)


def _fits(element: Any, interface: Interface) -> bool:
    return _candidate(element, interface) is not None


def _candidate(element: Any, interface: Interface) -> Arrays | None:
    """Return the flat arrays of an element, with a batch axis, None if it fits in no way."""
    found = _exact(element, interface)
    if found is None and isinstance(element, (list, tuple)) and element:
        found = _exact(element[0], interface)  # (x, y) or (x, y, weight)
    return found


def _exact(form: Any, interface: Interface) -> Arrays | None:
    flats = (_flat_list(form, interface), interface.flatten(form), _by_name(form, interface))
    for flat in flats:
        if flat is None or not all(_is_array(part) for part in flat):
            continue
        shapes = [tuple(part.shape) for part in flat]
        if _all_fit(interface.inputs, shapes) and len({shape[0] for shape in shapes}) == 1:
            return [_numpy(part) for part in flat]
        if _all_fit(interface.inputs, [(1, *shape) for shape in shapes]):
            return [_numpy(part)[None] for part in flat]
    return None


def _flat_list(form: Any, interface: Interface) -> list[Any] | None:
    if _is_array(form):
        form = [form]
    if isinstance(form, (list, tuple)) and len(form) == len(interface.inputs):
        return list(form)
    return None


def _by_name(form: Any, interface: Interface) -> list[Any] | None:
    names = [one.name for one in interface.inputs]
    if isinstance(form, dict) and set(form) == set(names):
        return [form[name] for name in names]
    return None


def _all_fit(inputs: tuple[Input, ...], shapes: list[tuple[int, ...]]) -> bool:
    return all(one.fits(shape) for one, shape in zip(inputs, shapes, strict=True))


def _numpy(part: Any) -> np.ndarray:
    return part.numpy() if hasattr(part, "numpy") else np.asarray(part)


def _arrays(element: Any, interface: Interface, name: str) -> Arrays:
    flat = _candidate(element, interface)
    if flat is None:
        raise ValueError(
            f"`{name}` does not fit the inputs of the model: {interface.describe()}. A dict has "
            f"the names of the inputs for keys. Received: {_short(element)}"
        )
    return [_cast(array, one, name) for array, one in zip(flat, interface.inputs, strict=True)]


def _cast(array: np.ndarray, one: Input, name: str) -> np.ndarray:
    wanted = np.dtype(one.dtype)
    if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
        raise ValueError(
            f"`{name}` must hold numbers for the input {one}. Received: dtype {array.dtype}"
        )
    if array.dtype.kind not in "iub":
        array = array.astype("float32") if array.dtype.name == "bfloat16" else array
        if not np.isfinite(array).all():
            raise ValueError(
                f"`{name}` holds NaN or infinite values for the input '{one.name}'; leave those "
                f"samples out. Received: {np.count_nonzero(~np.isfinite(array))} such values "
                "in one batch"
            )
    done = array.astype(wanted)
    if wanted.kind in "iub" and not np.array_equal(done, array):
        raise ValueError(
            f"`{name}` holds values that do not fit the input {one}. "
            f"Received: dtype {array.dtype}, from {array.min()} to {array.max()}"
        )
    return done


def _short(data: Any) -> str:
    """Describe data by its shapes rather than by its numbers."""
    if _is_array(data):
        return f"an array of shape {tuple(data.shape)} and dtype {data.dtype}"
    if isinstance(data, dict):
        return "{" + ", ".join(f"{k!r}: {_short(v)}" for k, v in data.items()) + "}"
    if isinstance(data, (list, tuple)):
        more = ", ..." if len(data) > 4 else ""
        return f"{type(data).__name__} of {len(data)}: " + ", ".join(map(_short, data[:4])) + more
    return repr(data) if isinstance(data, (int, float, str, type(None))) else f"{type(data)}"
