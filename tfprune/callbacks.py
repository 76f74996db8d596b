"""`UpdatePruningStep`: decides when masks change, and never lets a run end unpruned in silence.

Steps are optimizer updates, counted by the hooks (`training_run.py`), so that no variable has to be
read at every step: in `fit` one for each batch (`steps_per_execution` and Keras's own gradient
accumulation taken into account), in a loop of one's own one for each pair of batch hooks.
"""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import keras

from tfprune import agreement, forecast, optimizers, train_function
from tfprune.family import require_family
from tfprune.state_sync import after_each_sync, undo
from tfprune.states import StepCounter
from tfprune.strip import pruned_layers, shortfalls
from tfprune.training_run import TrainingRun


class FamilyCallback(keras.callbacks.Callback):
    """A Keras 3 callback that legacy tf_keras takes too: it asks three questions more."""

    def _implements_train_batch_hooks(self) -> bool:
        return True

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def _implements_predict_batch_hooks(self) -> bool:
        return False


class UpdatePruningStep(FamilyCallback):
    """Updates the masks of a wrapped model while it trains; training one needs this callback.

    Before the first step it works out what sparsity the run will reach and warns if that is short
    of the schedule's end; at the end it says what was reached. Masks change before the training
    step at which the schedule asks for it, at its first and last step always; at the end of each
    epoch weights are masked again, so that what is saved is sparse (but for soft pruning, which
    keeps cut weights until its last update).

    Args:
        verbose: print what was reached at the end of `fit`; None follows `fit`'s own `verbose`.
        steps: how many training steps a loop of your own will run, for schedules that take the
            run as their measure (`Gradual`, and so `prune(model, 0.9)`) and for the forecast;
            `fit` tells it.

    Raises:
        ValueError: `steps` is no number of steps.

    Example:

    ```python
    model.fit(x, y, callbacks=[tfprune.UpdatePruningStep()])
    ```

    Behind it in the list, `EarlyStopping(restore_best_weights=True)` brings back weights of an
    earlier step after it has said what was reached: put that one first.

    In a loop of your own:

    ```python
    callback = tfprune.UpdatePruningStep(steps=epochs * len(batches))
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(epochs):
        for x, y in batches:
            callback.on_train_batch_begin(-1)
            train_step(x, y)  # one optimizer update
        callback.on_epoch_end(epoch)
    callback.on_train_end()
    ```

    Source: tfmot's `UpdatePruningStep`.
    """

    def __init__(self, verbose: bool | None = None, steps: int | None = None):
        super().__init__()
        if steps is not None and (
            isinstance(steps, bool) or not isinstance(steps, numbers.Integral) or steps < 1
        ):
            raise ValueError(
                "`steps` is the number of training steps in a loop of your own, 1 or more. "
                f"Received: steps={steps!r}"
            )
        self.verbose = verbose
        self.steps = None if steps is None else int(steps)
        self._target: Any = None
        self._legacy = False
        self._reset()

    def _reset(self) -> None:
        self._layers: list[Any] = []
        self._checked: dict[int, int] = {}  # by id of the layer: updates up to here are done
        self._counter = StepCounter(self)
        self._run = TrainingRun(self._target, self._counter, self.params)
        self._epoch = 0
        self._compared = False
        self._forecast_warned = False

    @property
    def async_safe(self) -> bool:
        """Whether Keras may start a step before it has told of the end of the last: under JAX."""
        return keras.backend.backend() == "jax"

    def set_model(self, model: Any) -> None:
        """Take the model to look after, of either family."""
        self._legacy = require_family(model, "a model") == "tf_keras"
        self._target = model
        self._model = model
        self.set_params({})  # `fit` sets them next; those of an earlier `fit` say nothing here
        self._run.model = model

    def set_params(self, params: dict[str, Any] | None) -> None:
        """Take what `fit` tells of the run."""
        super().set_params(params)
        self._run.params = params or {}

    # -- Hooks ---------------------------------------------------------------------------------

    def on_train_begin(self, logs=None):
        """Find the wrapped layers; those of a model that is not built yet are found later."""
        self._reset()
        if self._target is None:
            raise ValueError(
                "The callback has no model. In a loop of your own call "
                "`callback.set_model(model)` before `on_train_begin()`."
            )
        self._counter.wait()

    def on_epoch_begin(self, epoch, logs=None):
        """Say what the run will reach, before its first step."""
        self._epoch = epoch
        if self._layers:
            self._settle()  # what other callbacks load between epochs need not be masked
        self._find_layers()
        self._compare_workers()

    def on_train_batch_begin(self, batch, logs=None):
        """Update the masks if the schedule asks for it before this step."""
        self._run.close_batch()
        self._find_layers()
        self._compare_workers()
        self._update()
        self._run.begin_batch(batch)

    def on_train_batch_end(self, batch, logs=None):
        """Count the step, and update the masks if the schedule asks for it now."""
        if not self._run.batch_is_open():
            return
        self._run.end_batch()
        self._find_layers()
        self._update()
        if self._run.is_last(batch) and not self._legacy:
            self._store_steps()  # at the end of an epoch others may copy the weights

    def _on_state_sync(self):
        """Do what is due after the last step of an epoch, before other callbacks look at it."""
        if not self._run.close_if_run():
            return
        self._run.count_again()
        self._update()
        self._store_steps()

    def on_epoch_end(self, epoch=None, logs=None, batch=None):
        """Mask the weights again, so that a model saved now is sparse."""
        del batch  # tfmot calls the argument so
        self._run.close_batch()
        self._sync()
        self._find_layers()
        self._run.count_again()
        self._update()
        self._settle()

    def on_train_end(self, logs=None):
        """Mask the weights once more, and say what was reached."""
        undo(self._target)
        if not self._find_layers():
            self._counter.stop_waiting()
            warnings.warn(
                "`UpdatePruningStep` found no layer wrapped for pruning in the model, so nothing "
                "was pruned. Wrap the model first: `tfprune.prune_low_magnitude(model)`.",
                stacklevel=2,
            )
            return
        self._update()
        self._settle()
        self._report()
        if not self._legacy:
            for layer in self._layers:
                layer.detach()
                ends = layer.pruning_schedule.final_sparsity is not None
                layer.finish(ends and not shortfalls([layer]))
        self.set_params({})

    def holds(self, layer: Any) -> bool:
        """Tell whether a wrapper is in the model of this callback."""
        return any(layer is one for one in pruned_layers(self._target))

    def optimizer_updates(self) -> int:
        """Return how often the optimizer has updated the weights since this run began."""
        return self._run.optimizer_updates()

    # -- Pruning -------------------------------------------------------------------------------

    def _find_layers(self) -> list[Any]:
        """Attach to the wrapped layers; a subclassed model has none before its first step."""
        if self._layers or self._target is None:
            return self._layers
        found = pruned_layers(self._target)
        if found:
            self._counter.stop_waiting()
            agreement.require_place(self._target)
            if self._run.in_fit and not self._legacy:
                optimizers.require_match(self._target)
            self._measure_run(found)  # before any layer follows a run that cannot begin
        self._layers = found
        for layer in self._layers:
            if self._legacy:
                layer.start()
                continue
            step = layer.attach(self._counter)
            # Whether a checkpoint was taken before or after the update of its own step is not
            # known; doing that again changes nothing.
            self._checked[id(layer)] = step if layer.last_update_step == step else step - 1
        if self._layers:
            self._compared = False
            self._compare_workers()
            if not self._legacy:
                self._trust()
                self._run.follow_optimizer()
                if self._run.in_fit:
                    after_each_sync(self._target, self._on_state_sync)
            self._forecast()
        return self._layers

    def _compare_workers(self) -> None:
        """Let workers compare where they begin: one with nothing wrapped must say so too."""
        if not self._compared:
            self._compared = True
            agreement.require_same_state(self._target, self._layers, self._run.length())

    def _measure_run(self, layers: list[Any]) -> None:
        """Put the schedule for this run in the place of those that take the run as their measure.

        A layer that has seen steps already, with such a schedule, has its weights from a checkpoint
        of a run that began at step 0.
        """
        waiting = [layer for layer in layers if layer.pruning_schedule.needs_run]
        schedules = [
            layer.pruning_schedule.over(0, self._end_after(layer.read_step())) for layer in waiting
        ]
        for layer, schedule in zip(waiting, schedules, strict=True):
            layer.pruning_schedule = schedule

    def _trust(self) -> None:
        """Spare the forward pass the masks in layers whose cut weights stay at zero in this run."""
        for layer in self._layers:
            layer.settle()
            layer.gradient_scale = optimizers.gradient_scale(self._target)
            self._trust_zeros_of(layer)
        train_function.refresh(self._target, self._layers)

    def _trust_zeros_of(self, layer: Any) -> None:
        weights = [weight for weight, _, _ in layer.pruning_vars]
        layer.zeros_hold = (
            self._run.in_fit
            and layer.cuts_for_good()
            and optimizers.keeps_zeros(self._target, weights)
        )
        optimizers.cut_momentum(self._target, layer)

    def _update(self) -> None:
        """Update the masks of every layer for which an update has come due."""
        if self._legacy:  # tfmot's wrappers do it themselves, in the graph
            return
        due = []
        for layer in self._layers:
            step = layer.read_step()
            after = min(self._checked[id(layer)], step)  # an earlier state may have been loaded
            at = layer.pruning_schedule.update_between(after, step) if step > after else None
            self._checked[id(layer)] = step
            if at is not None:
                due.append((layer, at))
        if due:
            self._sync()
            for layer, at in due:
                may_return = not layer.cuts_for_good()
                layer.update_masks(at)
                if may_return and layer.cuts_for_good():
                    self._trust_zeros_of(layer)
                optimizers.cut_momentum(self._target, layer)

    def _settle(self) -> None:
        """Bring everything to rest: weights masked, momentum cut, steps stored."""
        if self._legacy:
            for layer in self._layers:
                layer.apply_masks()
            return
        self._sync()
        for layer in self._layers:
            optimizers.doubt(layer)
            layer.settle()
            optimizers.cut_momentum(self._target, layer)
        self._store_steps()
        train_function.refresh(self._target, self._layers)

    def _store_steps(self) -> None:
        self._sync()
        for layer in self._layers:
            layer.store_step()

    def _sync(self) -> None:
        """Bring the weights back into the model: under JAX they live outside it in an epoch."""
        sync = getattr(self._target, "jax_state_sync", None)
        if sync is not None and keras.backend.backend() == "jax":
            sync()

    # -- Saying so -----------------------------------------------------------------------------

    def _end_after(self, begin: int) -> int | None:
        """Return the step at the end of a run that begins at a step, None if nothing tells."""
        if self._run.in_fit:
            return self._run.end_after(begin, self._epoch)
        return None if self.steps is None else begin + self.steps

    def _forecast(self) -> None:
        fixed = forecast.fixed_by_pattern(self._layers)
        if fixed is not None:
            warnings.warn(fixed, stacklevel=2)
        ends = [self._end_after(each.read_step() - self._counter.updates) for each in self._layers]
        known = [end for end in ends if end is not None]
        text = forecast.forecast(self._layers, known) if len(known) == len(ends) else None
        if text is not None:
            self._forecast_warned = True
            warnings.warn(text, stacklevel=2)

    def _report(self) -> None:
        missed = shortfalls(self._layers)
        step = self._layers[0].read_step()
        if missed and not self._forecast_warned:
            warnings.warn(
                f"Training ended at step {step} short of the schedule: " + "; ".join(missed) + ".",
                stacklevel=3,
            )
        chatty = self.params and self.params.get("verbose", 0)
        if chatty if self.verbose is None else self.verbose:
            print(forecast.reached(self._layers, step, missed))
