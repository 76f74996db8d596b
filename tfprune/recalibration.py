"""`recalibrate_batch_norm`: measure anew what batch normalization subtracts and divides by."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from rich import box
from rich.table import Table

from tfprune.channels import running
from tfprune.channels.batches import Batches
from tfprune.family import room
from tfprune.paths import walk
from tfprune.results import Result


@dataclasses.dataclass(frozen=True)
class RecalibratedNorm:
    """One batch normalization.

    Attributes:
        layer: its path.
        channels: that it normalizes.
        shift: how far the means moved, in the standard deviations of before; the mean over the
            channels.
        spread: new variance over old, the median of the channels.
    """

    layer: str
    channels: int
    shift: float
    spread: float


@dataclasses.dataclass(frozen=True)
class Recalibration(Result):
    """What the statistics of batch normalization were, and are.

    Attributes:
        model: its name.
        samples: how many they were measured on.
        norms: a row for each layer, in the order in which they run.

    Example: `print(tfprune.recalibrate_batch_norm(model, x))`

    Source: made by `tfprune.recalibrate_batch_norm`.
    """

    model: str
    samples: int
    norms: tuple[RecalibratedNorm, ...]

    def __rich__(self) -> Table:
        """Return the table that rich prints."""
        title = f"Norms of '{self.model}', measured anew on {self.samples:,} samples"
        table = Table(title=title, box=box.SIMPLE_HEAD)
        table.add_column("layer", overflow="fold")
        for name in ("channels", "means moved by", "variance"):
            table.add_column(name, justify="right")
        for row in self.norms:
            moved = f"{row.shift:.2f} std"
            table.add_row(row.layer, str(row.channels), moved, f"x{row.spread:.2f}")
        return table


def recalibrate_batch_norm(model: keras.Model, data: Any) -> Recalibration:
    """Measure the moving mean and variance of every batch normalization anew, in place.

    Pruning changes what flows into a norm, whose statistics are still those of before. Each norm is
    measured in turn, behind the norms that were measured before it, over all samples at once: the
    result does not depend on how the data are cut into batches, as a moving average does. Steps
    of a sequence that a mask leaves out count like all others. Nothing else changes: weights,
    optimizer and compilation stay as they are. If anything fails, so do the statistics.

    Args:
        model: a built Sequential or Functional model of Keras 3, nested models included; wrapped
            for pruning or not.
        data: inputs like those in use, a few hundred: an array, a list or dict of arrays for
            several inputs, or batches of those from a generator or a `tf.data.Dataset` (2,048
            samples at most of what does not tell its length). Labels are passed over.

    Returns:
        A `Recalibration`: how far the statistics of each norm moved.

    Example:

    ```python
    small, report = tfprune.shrink(model, macs=0.7)
    print(tfprune.recalibrate_batch_norm(small, x_train[:1000]))
    ```

    Raises:
        ValueError: no such model, none that holds batch normalization, data that are empty, do not
            fit or are not finite, or a single value for each channel, which has no variance.
        TypeError: data that are no numbers.

    Source: the re-estimation of BatchNorm statistics after compression in Li et al. 2020,
    "EagleEye"; `torch.optim.swa_utils.update_bn` does it with statistics of single batches.
    """
    running.require_graph(model, "recalibrate_batch_norm")
    norms = batch_norms(model)
    if not norms:
        raise ValueError(
            f"The model '{model.name}' has no batch normalization whose inputs can be measured "
            "(one inside another layer is not found), so there is nothing to recalibrate."
        )
    return recalibrate(model, Batches(model, data))


def batch_norms(model: keras.Model) -> list[tuple[str, Any]]:
    """Return the batch normalizations of a graph, (path, layer), in the order of their calls."""
    paths: dict[int, str] = {}
    for path, layer in walk(model, room("keras")):
        paths.setdefault(id(layer), path)
    found = {id(one): one for one in running.operations(model)}
    norms = [one for one in found.values() if isinstance(one, keras.layers.BatchNormalization)]
    return [(paths[id(norm)], norm) for norm in norms]


def recalibrate(
    model: keras.Model, batches: Batches, tell: Callable[[str], None] | None = None
) -> Recalibration:
    """Do as `recalibrate_batch_norm` does; `tell` is called with the path of each norm."""
    norms = batch_norms(model)
    variables = [v for _, norm in norms for v in (norm.moving_mean, norm.moving_variance)]
    before = [np.array(keras.ops.convert_to_numpy(v.value)) for v in variables]
    rows, samples, finished = [], 0, False
    try:
        for path, norm in norms:
            if tell is not None:
                tell(path)
            with running.states_kept(model):
                mean, variance, samples = _statistics(model, batches, path, norm)
            old = [np.asarray(keras.ops.convert_to_numpy(v.value), float) for v in _pair(norm)]
            deviation = np.sqrt(old[1] + norm.epsilon)
            shift = float(np.mean(np.abs(mean - old[0]) / deviation))
            ratio = float(np.median((variance + norm.epsilon) / (old[1] + norm.epsilon)))
            rows.append(RecalibratedNorm(path, int(mean.size), shift, ratio))
            norm.moving_mean.assign(mean)
            norm.moving_variance.assign(variance)
        finished = True
    finally:
        if not finished:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
    return Recalibration(model.name, samples, tuple(rows))


def _pair(norm: Any) -> tuple[Any, Any]:
    return norm.moving_mean, norm.moving_variance


def _statistics(
    model: keras.Model, batches: Batches, path: str, norm: Any
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return mean and variance of each channel over all batches, and the number of samples."""
    sums, squares, values, samples = 0.0, 0.0, 0, 0
    for batch in batches:
        samples += batch.size
        for x in running.inputs_of(norm, model, batch):
            flat = np.moveaxis(x, norm.axis, -1).reshape(-1, x.shape[norm.axis])
            sums = sums + flat.sum(axis=0, dtype=np.float64)
            squares = squares + np.square(flat, dtype=np.float64).sum(axis=0)
            values += len(flat)
    mean = np.asarray(sums / values)
    variance = np.maximum(squares / values - mean**2, 0.0)
    if values < 2:
        raise ValueError(
            "`data` holds a single sample, which has no variance. Pass a few hundred. "
            f"Received: one value for each channel of '{path}'"
        )
    if not np.isfinite(variance).all():
        raise ValueError(
            f"What flows into '{path}' is not finite on these data, so it has no mean. Check the "
            f"range of the inputs. Received: mean {mean}"
        )
    return mean, variance, samples
