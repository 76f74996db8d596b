"""`PruneLowMagnitude` for Keras 3: an ordinary layer that runs another one with masked weights.

How it works, and why so:

- The masks, the thresholds and the step are non-trainable weights of the wrapper. So `.keras`
  files, `.weights.h5` files, checkpoints and distribution strategies carry them without any help.
  A mask takes one byte a weight, as a training step reads it, and one bit in a file.
- The forward pass calls the wrapped layer inside a `keras.StatelessScope` in which each pruned
  weight stands for `weight * mask`. That is a public Keras call which works on every backend and
  under XLA, and gradients of pruned weights are zero. The call goes through `layer(...)`, not
  `layer.call(...)`, so that dtype policies, masks, losses and `training` keep their meaning.
- While the callback vouches that cut weights are zero (`zeros_hold`), only the gradient is masked:
  the forward pass would multiply zeros by zero, and cost a pass over the weights. PyTorch masks it
  where it reaches the weight, in place (`torch_masking.py`), so that the layer runs as it is.
- Scores by gradients, soft pruning and RigL need more than that, and only then is there more: a
  gradient that is recorded or let through on its way, and weights of the wrapper to keep it.
- New masks are computed on the host, in numpy, by the callback `UpdatePruningStep`, not in the
  graph: exact, fast, and the training step itself costs one multiplication more.
"""

from __future__ import annotations

import inspect
import weakref
from typing import Any

import keras
import numpy as np

from tfprune import decisions, gradients, masks, patterns, registry, score_functions, signatures
from tfprune import regrowth as regrowth_
from tfprune import schedules as schedules_
from tfprune.criteria import Criterion
from tfprune.masked import MaskedWeight
from tfprune.patterns import Pattern
from tfprune.placement import assign, is_split
from tfprune.schedules import ConstantSparsity
from tfprune.states import PruningStep, StepCounter, WeightState
from tfprune.substitution import run_with
from tfprune.version import __version__

# Wrappers by the id of their step variable: a public way to find them at any depth of any model,
# subclassed ones too, since `model.variables` sees through every nesting.
_WRAPPERS: weakref.WeakValueDictionary[int, PruneLowMagnitude] = weakref.WeakValueDictionary()

_FORMAT = 2  # of `get_config` and of the file: an older tfprune does not know a higher one
_NO_CALLBACK = (
    "The layer '{name}' is wrapped for pruning but trained without the callback "
    "`UpdatePruningStep`, so it would never be pruned. Add it: "
    "`model.fit(..., callbacks=[tfprune.UpdatePruningStep()])`. In a loop of your own, call "
    "its hooks as the README shows: `set_model`, `on_train_begin`, `on_train_batch_begin`, "
    "`on_epoch_end`."
)


@keras.saving.register_keras_serializable(package="tfprune")
class PruneLowMagnitude(keras.layers.Wrapper):
    """Wraps a Keras 3 layer so that its smallest weights become zero while it trains.

    `prune_low_magnitude` and `prune` make these for you. Train with the callback
    `UpdatePruningStep`, and take the wrapper off with `strip_pruning`.

    Args:
        layer: the layer to prune.
        pruning_schedule: a `PruningSchedule`: when to prune, and how much.
        block_size: (height, width) of blocks to zero together, `(1, 1)` for single weights.
        block_pooling_type: "AVG" or "MAX", the score of a block.
        sparsity_m_by_n: `(m, n)` for m zeros in every n neighbouring input channels.
        pattern: the same choice as one object or name ("2:4", "1x16"); leave it or the three
            above at their defaults.
        score: which weights matter: "magnitude", "movement", "taylor", "snip" or a function, which
            must be registered with `keras.saving.register_keras_serializable`.
        regrowth: whether cut weights may return: None (never), "soft", "rigl", or an object.

    Raises:
        ValueError: if the layer cannot be pruned (the message says why), or the choices do not go
            with each other.

    Example:

    ```python
    layer = tfprune.PruneLowMagnitude(keras.layers.Dense(10), tfprune.ConstantSparsity(0.5, 0))
    model = keras.Sequential([keras.Input((20,)), layer])
    ```

    Source: tfmot's `PruneLowMagnitude`, the name of the wrapper (`prune_low_magnitude_dense`)
    included.
    """

    def __init__(
        self,
        layer,
        pruning_schedule=None,
        block_size=(1, 1),
        block_pooling_type="AVG",
        sparsity_m_by_n=None,
        pattern=None,
        score="magnitude",
        regrowth=None,
        **kwargs,
    ):
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                "`PruneLowMagnitude` wraps a Keras 3 layer, for example `keras.layers.Dense(10)`. "
                f"Received: {layer!r} (of type {type(layer).__name__})"
            )
        if isinstance(layer, PruneLowMagnitude):
            raise ValueError(f"The layer is wrapped for pruning already. Received: {layer.name!r}")
        reason = registry.reason_against(layer)
        if reason is not None:
            raise decisions.refusal(layer, reason)
        if pruning_schedule is None:
            pruning_schedule = ConstantSparsity(0.5, 0)
        self._signature = signatures.with_training(inspect.signature(layer.call))
        # The inner layer casts; this one must see weights in their full precision.
        kwargs.setdefault("dtype", layer.variable_dtype)
        kwargs.setdefault("name", f"prune_low_magnitude_{layer.name}")
        kwargs.setdefault("trainable", layer.trainable)
        super().__init__(layer, autocast=False, **kwargs)
        self.pruning_schedule = schedules_.get(pruning_schedule)
        if pattern is None:
            pattern = patterns.from_tfmot(block_size, block_pooling_type, sparsity_m_by_n)
        self.criterion = Criterion(pattern, score_functions.loaded(score), regrowth)
        self._check_criterion()
        self.supports_masking = layer.supports_masking
        self.supports_jit = layer.supports_jit
        self.skipped: dict[str, str] = {}
        self._last_update: int | None = None
        self._saved_update: Any = None
        self._may_return: Any = None
        self.gradient_scale = _as_it_is
        self.refused_training = False
        self.finished = False
        self._finished_at: int | None = None
        self._zeros_hold = self._unmasked = False
        self.traced_unmasked = False
        self._variable_count = 0
        self._call_shapes: dict[str, Any] | None = None
        self._masked: list[MaskedWeight] = []
        # `keras.Sequential([prune_low_magnitude(Dense(2, input_shape=(3,)))])` of tfmot's guides is
        # built at once. Keras has no public way to ask for that shape.
        shape = getattr(layer, "_input_shape_arg", None)
        if shape is not None:
            self._input_shape_arg = shape
        if layer.built:
            self._check_pattern(registry.prunable_weights(layer))

    # -- Building ------------------------------------------------------------------------------

    def __call__(self, *args, **kwargs):
        """Run the wrapped layer, with whatever arguments it takes."""
        if self._unmasked and kwargs.get("training") and self.may_train():
            if not self.traced_unmasked:  # Keras takes its time to set what is set already
                self.traced_unmasked = True
            return self.layer(*args, **kwargs)
        if not self.built and not self.layer.built:
            self._call_shapes = signatures.shapes_of(self.layer.call, args, kwargs)
        return super().__call__(*args, **kwargs)

    def build(self, input_shape=None):
        """Build the wrapped layer, then make its masks."""
        if not self.layer.built:
            if self._call_shapes:
                self.layer.build(**signatures.arguments_for(self.layer.build, self._call_shapes))
            else:
                self.layer.build(input_shape)
            self.layer.built = True
        weights = self._check_pattern(registry.prunable_weights(self.layer))
        self._variable_count = len(self.layer.variables)
        self._masked = [MaskedWeight(self, weight, self.criterion) for weight in weights]
        self.pruning_step = self.add_weight(
            name="pruning_step",
            shape=(),
            initializer=keras.initializers.Constant(-1),
            dtype="int32",
            trainable=False,
        )
        self._step = PruningStep(self.pruning_step, assign)
        if not self.criterion.plain:
            self._saved_update = self.add_weight(
                name="last_update",
                shape=(),
                initializer=keras.initializers.Constant(-1),
                dtype="int32",
                trainable=False,
            )
        if self.criterion.soft:
            self._may_return = self.add_weight(
                name="may_return", shape=(), initializer="ones", dtype="bool", trainable=False
            )
        _WRAPPERS[id(self.pruning_step)] = self
        self.built = True

    def _check_criterion(self):
        """Raise if the choices do not go with each other, or with the backend, or into a file."""
        self.criterion.require(self.pruning_schedule)
        reason = score_functions.reason_against(self.criterion.score)
        if self.criterion.record is not None:
            reason = reason or gradients.reason_against()
        if reason is not None:
            raise ValueError(
                f"The layer '{self.layer.name}' cannot be pruned so: {reason}. "
                f"Received: {self.criterion}"
            )

    def _check_pattern(self, weights):
        """Return the weights that the pattern fits, and keep the reasons against the others."""
        self.skipped = {}
        for weight in weights:
            reason = self.pattern.reason_against(tuple(weight.variable.shape), weight.layout)
            if reason is not None:
                self.skipped[weight.name] = reason
        if len(self.skipped) == len(weights):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.skipped.items())
            reason = f"'{self.pattern}' fits none of its weights: {reasons}"
            raise decisions.refusal(self.layer, reason if reasons else "no weights to prune")
        return [w for w in weights if w.name not in self.skipped]

    # -- Running -------------------------------------------------------------------------------

    @property
    def call(self):
        """Run the wrapped layer with `weight * mask` in the place of each pruned weight.

        It has the signature of the wrapped layer's `call`, by which Keras sorts arguments, shapes
        and masks.
        """

        def call(*args, **kwargs):
            return self._run(*args, **kwargs)

        call.__signature__ = self._signature  # type: ignore[attr-defined]
        return call

    def _run(self, *args, training=None, **kwargs):
        if training is not None:
            kwargs["training"] = training
        if training and not self.may_train():
            self.refused_training = True
            self.refuse_training()
        if len(self.layer.variables) != self._variable_count:
            raise ValueError(
                f"The layer '{self.layer.name}' was changed after it was wrapped for pruning "
                f"({registry.reason_against(self.layer) or 'its variables are others now'}). "
                "Strip it first: `tfprune.strip_pruning`."
            )
        values = {id(v): v.value for v in self.layer.variables}
        for weight in self._masked:
            values[id(weight.variable)] = self._stand_in(weight, values, training)
        outputs, losses = run_with(self.layer, values, args, kwargs)
        if losses:
            self.add_loss(losses)
        return outputs

    def _stand_in(self, weight: MaskedWeight, values: dict[int, Any], training: Any) -> Any:
        """Return what the layer computes with in the place of a weight."""
        value = values[id(weight.variable)]
        spare = bool(training and self.zeros_hold)
        self.traced_unmasked = self.traced_unmasked or spare
        # Whoever has not said that this is no training may have forgotten to say that it is.
        if training is not False and (self.criterion.record or self.criterion.soft):
            return weight.watched(value, spare, self._may_return, self.gradient_scale)
        return weight.spared(value) if spare else weight.product(value)

    def compute_output_spec(self, *args, **kwargs):
        """Return what the wrapped layer returns, shape and dtype."""
        if "training" not in inspect.signature(self.layer.call).parameters:
            kwargs.pop("training", None)
        return self.layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        """Return the output shape of the wrapped layer."""
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs, previous_mask=None):
        """Return the Keras mask (of timesteps) that the wrapped layer passes on."""
        return self.layer.compute_mask(inputs, previous_mask)

    # -- Pruning: the door that callbacks, summaries and strip_pruning go through ----------------

    def may_train(self) -> bool:
        """Tell whether a callback prunes this layer, or it is pruned as far as it will be."""
        followed = self._step.is_followed()
        return followed or self.finished or not self.trainable or StepCounter.any_waiting(self)

    @property
    def zeros_hold(self) -> bool:
        """Whether cut weights are zero and stay so, for which the callback answers."""
        return self._zeros_hold

    @zeros_hold.setter
    def zeros_hold(self, holds: bool) -> None:
        self._zeros_hold = holds
        on_arrival = all([weight.cut_on_arrival(holds) for weight in self._masked])
        self._unmasked = on_arrival and self.criterion.record is None

    def finish(self, reached: bool) -> None:
        """Note whether the layer is pruned as far as it will be: then it may train without us."""
        self.finished = reached
        self._finished_at = self.read_step() if reached else None

    def confirm_finished(self) -> None:
        """Doubt that the layer is finished if other weights came since, once.

        `EarlyStopping(restore_best_weights=True)` brings back those of an earlier step when
        training has ended.
        """
        if self._finished_at is not None:
            self.finished = self.finished and self.read_step() == self._finished_at
            self._finished_at = None

    def refuse_training(self) -> None:
        """Raise the error that names the missing callback."""
        raise ValueError(_NO_CALLBACK.format(name=self.layer.name))

    @property
    def stateful(self) -> bool:
        """Whether the wrapped layer carries states from one batch to the next, as an RNN may."""
        return bool(getattr(self.layer, "stateful", False))

    def reset_state(self) -> None:
        """Reset the states of a stateful RNN inside."""
        if hasattr(self.layer, "reset_state"):
            self.layer.reset_state()

    reset_states = reset_state

    @property
    def pruning_vars(self) -> list[tuple[Any, Any, Any]]:
        """The (weight, mask, threshold) variables, as tfmot has them."""
        return [(w.variable, w.mask, w.threshold) for w in self._masked]

    @property
    def pattern(self) -> Pattern:
        """Where zeros may stand."""
        return self.criterion.pattern

    @property
    def layer_name(self) -> str:
        """Name of the wrapped layer."""
        return self.layer.name

    @property
    def own_weights(self) -> list[Any]:
        """The wrapper's variables, without those of the layer inside."""
        more = [v for v in (self._saved_update, self._may_return) if v is not None]
        masks = [v for w in self._masked for v in (w.mask, w.threshold, *w.own)]
        return [*masks, self.pruning_step, *more]

    @property
    def last_update_step(self) -> int | None:
        """The step of the last update of the masks; None if there was none, or nobody knows.

        It is saved with the weights where doing an update again would change something.
        """
        if self._saved_update is None:
            return self._last_update
        saved = int(self._saved_update.numpy())
        return None if saved < 0 else saved

    def cuts_for_good(self) -> bool:
        """Tell whether cut weights are to be zero; those that may return keep their values."""
        return self._may_return is None or not bool(self._may_return.numpy())

    def attach(self, counter: StepCounter) -> int:
        """Follow a callback's count of updates, from the stored step on, and return that step."""
        self.finished = False
        return self._step.attach(counter)

    def detach(self) -> None:
        """Store the step and stop following the callback."""
        self._step.detach()
        self.zeros_hold = False

    def read_step(self) -> int:
        """Return the number of training steps seen; 0 before the first."""
        return self._step.read()

    def store_step(self) -> None:
        """Write the number of training steps seen to its variable: at saves and ends of epochs."""
        self._step.store()

    def update_masks(self, step: int) -> None:
        """Choose new masks for the sparsity that the schedule asks for at a step.

        A weight once cut stays cut, unless `regrowth` lets it return. Weights are set to zero where
        their mask is; with soft pruning at the last update only. A sparsity of zero leaves
        everything as it is.
        """
        schedule = self.pruning_schedule
        if schedule.sparsity(step) != 0.0:
            for weight in self._masked:
                try:
                    weight.choose(schedule, step)
                except ValueError as error:
                    raise ValueError(f"{self.layer.name}: {error}") from None
            end = schedule.end_step
            if self._may_return is not None and end is not None and 0 <= end <= step:
                assign(self._may_return, False)
            self.settle()
        self._last_update = step
        if self._saved_update is not None:
            assign(self._saved_update, step)

    def settle(self) -> None:
        """Set the weights to zero where their masks are, unless they may return."""
        if self.cuts_for_good():
            self.apply_masks()

    def apply_masks(self) -> None:
        """Set the weights to zero where their masks are; optimizers with momentum move them."""
        for weight in self._masked:
            weight.apply()

    def cut_weights_are_zero(self) -> bool:
        """Tell whether every weight is zero where its mask is."""
        return all(weight.is_applied() for weight in self._masked)

    def states(self) -> list[WeightState]:
        """Return the pruned weights, masked, as numpy arrays."""
        return [weight.state() for weight in self._masked]

    # -- Saving --------------------------------------------------------------------------------

    def get_config(self):
        """Return everything needed to make the wrapper again, what chooses its masks included."""
        config = super().get_config()
        config["format"] = _FORMAT
        config["pruning_schedule"] = self.pruning_schedule.get_config()
        config["pattern"] = str(self.pattern)
        config["score"] = score_functions.saved(self.criterion.score)
        config["regrowth"] = regrowth_.config(self.criterion.regrowth)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Return the wrapper that a configuration tells of.

        Raises:
            ValueError: it was written by a newer tfprune, in a format that this one does not know.
        """
        config = {**config}
        written = config.pop("format", 1)
        if not isinstance(written, int) or written > _FORMAT:
            raise ValueError(
                f"The model was written by a newer tfprune than this one ({__version__}), which "
                "cannot tell what its pruning means: `pip install --upgrade tfprune`. "
                f"Received: the layer {config.get('name')!r} in format {written!r}, where "
                f"{_FORMAT} is expected"
            )
        return super().from_config(config, custom_objects)

    def save_own_variables(self, store):
        """Save masks, in one bit a weight, thresholds, and the step as it is now.

        Raises:
            ValueError: other processes hold parts of the weights.
        """
        if any(is_split(weight.mask) for weight in self._masked):
            raise ValueError(
                "Keras cannot save a weight of which other processes hold a part. Call "
                "`tfprune.stripped_weights(model)` on all of them, and save what it returns on "
                f"the first. Received: the layer '{self.layer_name}', in shards"
            )
        if self.built:
            self.store_step()
        for key, variable, is_mask in self._saved_variables():
            store[key] = masks.packed(variable.numpy()) if is_mask else variable

    def load_own_variables(self, store):
        """Load what `save_own_variables` or an older tfprune, with one byte a weight, has saved."""
        self.finished = False  # as far as is known, these weights may be those of any step
        saved = {key: store[key] for key in store.keys()}  # noqa: SIM118 - not a dict
        for key, variable, is_mask in self._saved_variables():
            if is_mask and key in saved and saved[key].dtype == np.uint8:
                saved[key] = masks.unpacked(np.asarray(saved[key]), tuple(variable.shape))
        super().load_own_variables(saved)

    def _saved_variables(self) -> list[tuple[str, Any, bool]]:
        """Return the wrapper's own variables with their keys in a file, and which are masks."""
        by_key: dict[str, Any] = {}
        super().save_own_variables(by_key)  # Keras chooses the keys
        of_masks = {id(weight.mask) for weight in self._masked}
        return [(key, variable, id(variable) in of_masks) for key, variable in by_key.items()]

    def get_build_config(self):
        """Return the build config of the wrapped layer, which may need several shapes."""
        return {"layer": self.layer.get_build_config()}

    def build_from_config(self, config):
        """Build the wrapped layer from its own build config, then the masks."""
        if not self.layer.built and config.get("layer"):
            self.layer.build_from_config(config["layer"])
        if self.layer.built and not self.built:
            self.build(None)


def wrappers(model) -> list[PruneLowMagnitude]:
    """Return the built pruning wrappers anywhere in a model or layer, in order, each once."""
    if isinstance(model, PruneLowMagnitude) and model.built:
        return [model]
    found = (_WRAPPERS.get(id(v)) for v in model.non_trainable_variables)
    return list(dict.fromkeys(w for w in found if w is not None))


def _as_it_is() -> float:
    """Return by what a loss is multiplied that nobody scales."""
    return 1.0
