"""`PruningSummaries`: the sparsity of a model in TensorBoard, while it trains."""

from __future__ import annotations

import contextlib
import numbers
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfprune import custom_scalars, decisions, workers
from tfprune.callbacks import FamilyCallback
from tfprune.family import require_family, room
from tfprune.patterns import NM, Pattern
from tfprune.registry import unique
from tfprune.states import WeightState
from tfprune.strip import pruned_layers

_PICTURE_SIZE = 256
_HISTOGRAM_SIZE = 100_000
_THRESHOLD_OF_NM = (
    "The threshold of an N:M pattern is the most magnitude that a group lost in the last update; "
    "there is no point where an update cut nothing more, as when every group has its zeros."
)


class PruningSummaries(FamilyCallback):
    """Writes sparsity, masks and all that TensorBoard shows of a training run.

    At each mask update and each epoch, the last state included, under tags that TensorBoard
    groups by their first word:

    - `sparsity/...`, `target/...`, `threshold/...`, `flipped/...` (fraction of the mask that
      changed since it was last written) for each weight, `sparsity/model` for all together; the
      threshold of an N:M pattern is the most magnitude that a group lost in the last update, and
      has no point after an update that cut nothing more;
    - `surviving_weights/...`: histograms of the weights that are kept (a sample of at most
      100,000 of them);
    - `mask/...`: pictures, white where a weight is kept; inputs run down, outputs across;
    - `rules`: a text page that says which layer is pruned how, and which is left dense and why.

    The tab "Custom Scalars" has a chart for each layer, what was reached on what was asked for.

    Losses and metrics are written too, as by `keras.callbacks.TensorBoard`. Of several workers the
    chief writes.

    Args:
        log_dir: folder of the run; tfprune's own figures go to `metrics` in it.
        update_freq: how often losses and metrics are written: "epoch", "batch" or a number.
        **kwargs: further arguments of `keras.callbacks.TensorBoard`.

    Raises:
        ValueError: if `log_dir` is not a path, or that of a file, or below one; or `update_freq`
            is none of these.

    Example:

    ```python
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries("logs/run1")]
    model.fit(x, y, callbacks=callbacks)  # then: tfprune board
    ```

    Source: tfmot's `PruningSummaries`, which writes at the begin of an epoch only and so misses
    the last one.
    """

    def __init__(self, log_dir: str | os.PathLike, update_freq: Any = "epoch", **kwargs: Any):
        super().__init__()
        if not isinstance(log_dir, (str, os.PathLike)) or not os.fspath(log_dir):
            raise ValueError(
                "`log_dir` must be the path of a folder to write to, for example 'logs/run1'. "
                f"Received: log_dir={log_dir!r}"
            )
        file = next((p for p in (Path(log_dir), *Path(log_dir).parents) if p.is_file()), None)
        if file is not None:
            raise ValueError(
                f"`log_dir` must be a folder to write to, and {str(file)!r} is a file. Choose "
                f"another name. Received: log_dir={os.fspath(log_dir)!r}"
            )
        if update_freq not in ("epoch", "batch") and not _is_count(update_freq):
            raise ValueError(
                "`update_freq` says how often losses are written: 'epoch', 'batch', or a number "
                f"of batches, 1 or more. Received: update_freq={update_freq!r}"
            )
        self.log_dir = os.fspath(log_dir)
        self._arguments = {"update_freq": update_freq, **kwargs}
        self._board: Any = None
        self._writer: Any = None
        self._target: Any = None
        self._layers: list[Any] = []
        self._names: list[str] = []
        self._layout: Any = None
        self._running = False
        self._seen_update: int | None = None
        self._seen_step: int | None = None
        self._seen_masks: dict[str, np.ndarray] = {}

    def set_model(self, model: Any) -> None:
        """Take the model to watch, of either family."""
        import tensorflow as tf

        kind = require_family(model, "a model")
        self._model = self._target = model
        self._layers = []
        if not workers.worker(model).is_chief:  # one run has one writer; all read the state
            self._board, self._writer = FamilyCallback(), tf.summary.create_noop_writer()
            return
        self._board = room(kind).tensorboard(self.log_dir, **self._arguments)
        self._board.set_model(model)
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(os.path.join(self.log_dir, "metrics"))

    def set_params(self, params: dict) -> None:
        """Take the parameters of `fit`."""
        super().set_params(params)
        if self._board is not None:
            self._board.set_params(params)

    def on_train_begin(self, logs=None):
        """Start; the rules are written as soon as the layers they speak of are there."""
        self._seen_update = self._seen_step = None
        self._seen_masks.clear()
        self._running = True
        self._board.on_train_begin(logs)

    def on_epoch_begin(self, epoch, logs=None):
        """Write the state an epoch begins with."""
        self._forward("on_epoch_begin", epoch, logs)
        self._write_if_new()

    def on_train_batch_begin(self, batch, logs=None):
        """Write the state after the mask update of the very first step, which comes before it."""
        self._forward("on_train_batch_begin", batch, logs)
        self._write_if_updated()

    def on_train_batch_end(self, batch, logs=None):
        """Write the state after a mask update."""
        self._forward("on_train_batch_end", batch, logs)
        self._write_if_updated()

    def on_epoch_end(self, epoch, logs=None):
        """Write the state an epoch ends with."""
        self._forward("on_epoch_end", epoch, logs)
        self._write_if_new()

    def on_test_begin(self, logs=None):
        """Pass on to TensorBoard."""
        self._forward("on_test_begin", logs)

    def on_test_end(self, logs=None):
        """Pass on to TensorBoard."""
        self._forward("on_test_end", logs)

    def on_train_end(self, logs=None):
        """Write the final state."""
        self._write_if_new()
        if self._running:
            self._board.on_train_end(logs)
        self._running = False
        self._writer.flush()

    # -- Writing -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        """Write to our own run, always: TensorBoard's callback skips steps by `update_freq`."""
        import tensorflow as tf

        with self._writer.as_default(step=step), tf.summary.record_if(True):
            yield

    def _forward(self, hook: str, *arguments: Any) -> None:
        """Pass a hook on to TensorBoard's callback, which wants `on_train_begin` first."""
        if self._running:
            getattr(self._board, hook)(*arguments)

    def _find_layers(self) -> list[Any]:
        """Return the wrapped layers; those of a model that is not built yet are found later."""
        if not self._layers:
            self._layers = pruned_layers(self._target)
            self._names = unique([layer.layer_name for layer in self._layers])
            if self._layers:
                self._write_rules()
        return self._layers

    def _write_if_updated(self) -> None:
        layers = self._find_layers()
        if layers and _last_update(layers) != self._seen_update:
            self._write(layers)

    def _write_if_new(self) -> None:
        layers = self._find_layers()
        if not layers:
            return
        news = (_last_update(layers), _step(layers))
        if news != (self._seen_update, self._seen_step):
            self._write(layers)

    def _write(self, layers: list[Any]) -> None:
        import tensorflow as tf

        if keras.backend.backend() == "jax" and hasattr(self._target, "jax_state_sync"):
            self._target.jax_state_sync()
        step = _step(layers)
        self._seen_update, self._seen_step = _last_update(layers), step
        kept = size = 0
        weights: dict[str, list[str]] = {name: [] for name in self._names}
        with self._writing(step):
            for layer, layer_name in zip(layers, self._names, strict=True):
                schedule = layer.pruning_schedule
                asked = _asked(layer)
                for state in layer.states():
                    weights[layer_name].append(state.name)
                    name = f"{layer_name}/{state.name}"
                    target = layer.pattern.expected_sparsity(
                        state.weight.shape, state.layout, asked, schedule.final_sparsity
                    )
                    tf.summary.scalar(f"target/{name}", target if asked else 0.0)
                    self._write_weight(name, state, layer.pattern)
                    kept += np.count_nonzero(state.weight)
                    size += state.weight.size
            tf.summary.scalar("sparsity/model", 1.0 - kept / max(1, size))
            self._write_layout(custom_scalars.layout(weights))
        self._writer.flush()

    def _write_weight(self, name: str, state: WeightState, pattern: Pattern) -> None:
        import tensorflow as tf

        tf.summary.scalar(f"sparsity/{name}", state.sparsity)
        # Groups of N:M that lost their weights earlier cost nothing: 0 is the price of no cut.
        if state.threshold or not isinstance(pattern, NM):
            tf.summary.scalar(f"threshold/{name}", state.threshold)
        packed = np.packbits(state.mask)
        before = self._seen_masks.get(name)
        if before is not None:
            flips = np.unpackbits(packed ^ before, count=state.mask.size).sum()
            tf.summary.scalar(f"flipped/{name}", float(flips) / max(1, state.mask.size))
        self._seen_masks[name] = packed
        surviving = state.weight[state.mask].astype(np.float32)
        sample = surviving[:: max(1, -(-surviving.size // _HISTOGRAM_SIZE))]
        tf.summary.histogram(f"surviving_weights/{name}", sample)
        tf.summary.image(f"mask/{name}", _picture(state)[None, :, :, None])

    def _write_layout(self, layout: Any) -> None:
        """Write how curves are grouped, once for all steps and fits with the same weights."""
        import tensorflow as tf
        from tensorboard.plugins.custom_scalar import summary

        if layout != self._layout:
            self._layout = layout
            tf.summary.experimental.write_raw_pb(summary.pb(layout).SerializeToString())

    def _write_rules(self) -> None:
        import tensorflow as tf

        with self._writing(_step(self._layers)):
            tf.summary.text("rules", rules_page(self._target))


def rules_page(model: Any) -> str:
    """Return the table of which layer is pruned how, and which is left dense, in Markdown."""
    lines = ["| layer | pattern | schedule |", "|---|---|---|"]
    lines += [
        f"| {layer.layer_name} | {layer.criterion} | `{layer.pruning_schedule}` |"
        for layer in pruned_layers(model)
    ]
    if any(isinstance(layer.pattern, NM) for layer in pruned_layers(model)):
        lines += ["", _THRESHOLD_OF_NM]
    dense = [d for d in decisions.recall(model) if d.reason]
    if dense:
        lines += ["", "| left dense | because |", "|---|---|"]
        lines += [f"| {d.path} | {d.reason} |" for d in dense]
    return "\n".join(lines)


def _last_update(layers: list[Any]) -> int | None:
    return max(
        (n for n in (layer.last_update_step for layer in layers) if n is not None), default=None
    )


def _asked(layer: Any) -> float:
    """Return the sparsity that the last update was asked for, 0 before the first."""
    schedule, last = layer.pruning_schedule, layer.last_update_step
    step = layer.read_step()
    if last is None and step > 0:  # a loaded model goes on; its updates were in another process
        last = schedule.update_between(-1, step)
    return 0.0 if last is None else schedule.sparsity(last)


def _step(layers: list[Any]) -> int:
    return max(layer.read_step() for layer in layers)


def _picture(state: WeightState) -> np.ndarray:
    """Return the mask as a grey picture, (rows, columns) in [0, 1], not larger than 256 x 256."""
    mask = state.mask
    matrix = np.atleast_2d(mask) if state.layout is None else state.layout.matrix(mask)
    matrix = matrix.reshape(-1, matrix.shape[-1]).astype(np.float32)
    for axis in (0, 1):
        step = -(-matrix.shape[axis] // _PICTURE_SIZE)
        starts = np.arange(0, matrix.shape[axis], step)
        widths = np.diff(np.append(starts, matrix.shape[axis]))
        shape = (-1, 1) if axis == 0 else (1, -1)
        matrix = np.add.reduceat(matrix, starts, axis=axis) / widths.reshape(shape)
    return matrix.astype(np.float32)


def _is_count(value: Any) -> bool:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and int(value) >= 1  # pyright: ignore[reportArgumentType]
