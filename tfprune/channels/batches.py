"""The data that a model is run on: batches in one form, checked before they are used.

Data come as Keras takes them in `fit`: arrays, (inputs, labels), a list or dict for several inputs,
or batches of those from a `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.channels import graph
from tfprune.channels.arrays import is_array, kind_of, labels_of, length_of, numbers_of
from tfprune.cloning import at_a_step, leaves

BATCH = 32
"""Samples at a time of data that come as arrays."""
MOST = 2048
"""Samples that are taken of what does not tell its length, such as a generator without end."""
ENDLESS = 100_000
"""Samples of what does not tell its length, at which it is taken for data without end."""


@dataclasses.dataclass(frozen=True)
class Use:
    """What data are for.

    Attributes:
        whole: whether all samples count, or some hundred of what does not tell its length are
            enough.
        advice: what to pass, for messages.
    """

    whole: bool
    advice: str


CALIBRATION = Use(False, "Pass some of the training inputs, a few hundred are enough")
"""To look at a model at work: statistics settle after a few hundred samples."""
MEASURED = Use(True, "Pass held-out inputs with their labels, such as `data=(x_test, y_test)`")
"""To tell how good a model is: a figure of some of the samples would pass for that of all."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some samples.

    Attributes:
        inputs: an array for each input of the model, in the order of `tree.flatten`.
        labels: as the loss takes them, None if there are none.
        weights: of the samples, None if there are none.
    """

    inputs: list[np.ndarray]
    labels: Any
    weights: Any

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.inputs[0])


class Batches:
    """Batches for a model, as often as they are asked for; the first is checked at once.

    Args:
        model: what they are for.
        data: see the top of this file. A tuple is (inputs, labels) or (inputs, labels, weights), a
            list holds the arrays of several inputs.
        labels: whether every batch must have labels.
        use: what they are for. For calibration at most 2,048 samples are used of what does not tell
            its length; to measure, all, and it is read once from end to end beforehand: data
            without end are an error then.

    Attributes:
        fixed: samples in a batch, where the model says how many; None for any number. Of a model
            that says 1 only if it keeps states: others are not run sample by sample for it.

    Example: `sum(batch.size for batch in Batches(model, (x, y)))`

    Raises:
        ValueError: no samples, labels missing, wrong shapes, NaN; another number of samples than a
            model takes that keeps states from batch to batch; no end, where all samples count.
        TypeError: no data at all, or not numbers.
    """

    def __init__(
        self, model: keras.Model, data: Any, labels: bool = False, use: Use = CALIBRATION
    ) -> None:
        struct = graph.inputs(model)
        self._inputs = list(tree.flatten(struct) or [])
        self._names = [x.name for x in self._inputs]
        if isinstance(struct, Mapping) and len(struct) == len(self._inputs):
            self._names = list(tree.flatten({name: name for name in struct}) or [])
        self._labels, self._use = labels, use
        said = self._inputs[0].shape[0]
        self._stateful = any(getattr(at_a_step(one), "stateful", False) for one in leaves(model))
        self.fixed: int | None = said if said != 1 or self._stateful else None
        self._source, self._open = self._opened(data)
        try:
            self._batch(next(iter(self._source())))
        except StopIteration:
            raise ValueError(
                f"`data` holds no batch. {use.advice}. Received: {kind_of(data)} without batches"
            ) from None
        if use.whole and self._open:
            self._require_end(data)

    def __iter__(self) -> Iterator[Batch]:
        """Read the data from the beginning."""
        used = 0
        for given in self._source():
            batch = self._batch(given)
            yield batch
            used += batch.size
            if self._open and not self._use.whole and used >= MOST:
                return

    def _require_end(self, data: Any) -> None:
        """Raise unless data end that do not tell their length."""
        used = 0
        for batch in () if _is_endless(data) else self:
            used += batch.size
            if used > ENDLESS:
                break
        else:
            if used:
                return
        seen = f"none after {used:,} samples" if used else "one that repeats for ever"
        raise ValueError(
            "All samples of `data` are measured, and these have no end. Bound them "
            "(`dataset.take(n)`, `itertools.islice`); pass more than "
            f"{ENDLESS:,} samples as what tells its length: arrays, a `keras.utils.PyDataset`, a "
            f"`tf.data.Dataset` with `assert_cardinality`. Received: {kind_of(data)}, {seen}"
        )

    # -- Where they come from --------------------------------------------------------------------

    def _opened(self, data: Any) -> tuple[Callable[[], Iterable], bool]:
        """Return a function that gives the batches anew, and whether they may never end."""
        if isinstance(data, keras.utils.PyDataset):
            count = data.num_batches
            if count is None:
                return lambda: (data[n] for n in itertools.count()), True  # without end
            return lambda: (data[n] for n in range(count)), False
        if callable(data) and not hasattr(data, "__iter__") and not is_array(data):
            anew: Any = data
            return anew, True
        if is_array(data) or isinstance(data, (tuple, list, Mapping)):
            inputs, labels, weights = self._split(data)
            whole = self._by_input(inputs), labels, weights
            size = self._whole_size(whole)
            for array, wanted in zip(whole[0], self._inputs, strict=True):
                self._checked(array, wanted)
            step = self.fixed or BATCH
            self._require_fixed(size % step or step)  # the last batch
            return lambda: (_slice(whole, n, step) for n in range(0, size, step)), False
        if not hasattr(data, "__iter__"):
            raise TypeError(
                "`data` is an array, (inputs, labels), a list or dict of arrays for several "
                "inputs, or batches of those: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a "
                f"generator. Received: {data!r} (of type {type(data).__name__})"
            )
        source: Any = data
        if iter(source) is source:  # gone once read, and it is read once for each round
            return _Kept(source), True
        return lambda: source, not _tells_length(source)

    def _whole_size(self, whole: tuple) -> int:
        inputs = whole[0]
        size = length_of(inputs[0], "`data`")
        if size == 0:
            raise ValueError(
                f"`data` holds no samples. {self._use.advice}. "
                f"Received: inputs of shape {np.shape(inputs[0])}"
            )
        for part in (*inputs, *(tree.flatten(whole[1:]) or [])):
            if part is not None and length_of(part, "`data`") != size:
                raise ValueError(
                    "The parts of `data` must have one length. Received: "
                    f"{size:,} inputs and {len(part):,} in an array of shape {np.shape(part)}"
                )
        return size

    @staticmethod
    def _split(given: Any) -> tuple[Any, Any, Any]:
        """Return inputs, labels and weights; the latter two are None if they are not given."""
        if isinstance(given, tuple) and not 1 <= len(given) <= 3:
            raise ValueError(
                "A tuple as `data` is (inputs, labels) or (inputs, labels, weights); give several "
                f"inputs as a list or dict. Received: a tuple of {len(given)}"
            )
        parts = given if isinstance(given, tuple) else (given,)
        inputs, labels, weights = (*parts, None, None)[:3]
        return inputs, labels_of(labels), labels_of(weights)

    # -- What is in them -------------------------------------------------------------------------

    def _batch(self, given: Any) -> Batch:
        """Check a batch."""
        if isinstance(given, list):  # Keras takes a batch that is a list for a tuple
            given = tuple(given)
        inputs, labels, weights = self._split(given)
        if self._labels and labels is None:
            raise ValueError(
                "`importance='taylor'` follows the loss back to the weights, and so needs labels: "
                "pass `data=(inputs, labels)`, or batches of both. Received: inputs only"
            )
        arrays = [
            self._checked(array, wanted)
            for array, wanted in zip(self._by_input(inputs), self._inputs, strict=True)
        ]
        sizes = {len(array) for array in arrays}
        sizes |= {
            length_of(part, "the labels") for part in tree.flatten(labels) or [] if part is not None
        }
        if len(sizes) != 1:
            raise ValueError(
                "The inputs and labels of a batch must have one length. "
                f"Received: lengths {', '.join(map(str, sorted(sizes)))}"
            )
        if sizes == {0}:
            raise ValueError("A batch of `data` is empty. Received: 0 samples")
        self._require_fixed(len(arrays[0]))
        return Batch(arrays, labels, weights)

    def _require_fixed(self, size: int) -> None:
        if self._stateful and self.fixed is not None and size != self.fixed:
            raise ValueError(
                f"The model keeps states from batch to batch and takes {self.fixed} samples at a "
                "time. Pass batches of so many, or arrays that it divides. "
                f"Received: a batch of {size}"
            )

    def _by_input(self, given: Any) -> list[Any]:
        """Return what is given for each input of the model."""
        names, count = self._names, len(self._inputs)
        if isinstance(given, Mapping):
            missing = [name for name in names if name not in given]
            if missing:
                raise ValueError(
                    f"The model's inputs are {', '.join(map(repr, names))}, and `data` has none "
                    f"for {', '.join(map(repr, missing))}. Received: {sorted(map(str, given))}"
                )
            return [numbers_of(given[name], f"the input '{name}'") for name in names]
        several = isinstance(given, (list, tuple)) and any(is_array(one) for one in given)
        if count == 1 and not several:
            return [numbers_of(given, f"the input '{names[0]}'")]
        if several and len(given) == count:
            return [numbers_of(one, "an input") for one in given]
        received = f"a {type(given).__name__} of {len(given)}" if not is_array(given) else "one"
        raise ValueError(
            f"The model has {count} inputs: pass a list of so many arrays, or a dict by the names "
            f"{', '.join(map(repr, names))}; a tuple is (inputs, labels). Received: {received}"
        )

    def _checked(self, array: np.ndarray, wanted: Any) -> np.ndarray:
        shape = tuple(wanted.shape)
        fits = array.ndim == len(shape) and all(
            n is None or n == m for n, m in zip(shape[1:], array.shape[1:], strict=True)
        )
        if not fits:
            hint = ""
            if array.ndim == len(shape) - 1:
                hint = " (one sample? put an axis before it: `x[None]`)"
            raise ValueError(
                f"The input '{wanted.name}' of the model has the shape {shape}, the first axis "
                f"being the samples. Received: data of shape {array.shape}{hint}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(
                f"`data` for the input '{wanted.name}' holds NaN or infinite values, and what the "
                "model makes of them means nothing. Leave such samples out, or fill the gaps. "
                f"Received: {np.count_nonzero(~np.isfinite(array))} of them"
            )
        return array


class _Kept:
    """Keeps the batches of an iterator as they are first read, to give them again."""

    def __init__(self, source: Iterator) -> None:
        self._source = source
        self._kept: list[Any] = []

    def __call__(self) -> Iterator:
        yield from self._kept
        for given in self._source:
            self._kept.append(given)
            yield given


def _is_endless(data: Any) -> bool:
    """Tell whether data say themselves that they have no end, as Keras and TensorFlow do."""
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    cardinality = getattr(data, "cardinality", None)
    return callable(cardinality) and int(np.asarray(cardinality())) == -1  # INFINITE_CARDINALITY


def _tells_length(data: Any) -> bool:
    """Tell whether `len` works: that of a dataset without end raises a TypeError."""
    try:
        len(data)
    except (TypeError, NotImplementedError):
        return False
    return True


def _slice(whole: tuple, start: int, step: int) -> Any:
    return tree.map_structure(lambda x: None if x is None else x[start : start + step], whole)
