"""Legacy tf_keras models, pruned by tensorflow-model-optimization (tfmot) itself.

The only file that imports tfmot and tf_keras, and it does so lazily: importing tfmot sets
`TF_USE_LEGACY_KERAS` for the whole process and makes `tf.keras` legacy Keras by it, so both are
kept as they were.

tfmot's masks, steps and stripping are used as they are. Where tfmot cannot do what was asked
(an N:M pattern that grows, blocks on convolutions, layers that it does not know), the functions
here say so instead of doing something else. Three of its faults are mended on the way, as far as
that is possible from outside: a schedule's first and last update always happen, a saved N:M model
stays N:M, and stripping re-masks.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from tfprune import layouts
from tfprune import schedules as schedules_
from tfprune.decisions import Decision
from tfprune.patterns import NM, Block, Pattern, Unstructured
from tfprune.schedules import ConstantSparsity, OneShot, PruningSchedule
from tfprune.states import StepCounter, WeightState


@functools.cache
def _tfmot():
    """Import tfmot without letting it switch the rest of the process to legacy Keras."""
    import tensorflow as tf

    # `tf.keras` becomes Keras 3 or tf_keras at its first use, by the variable, and stays so: use
    # it before tfmot does, which sets the variable first.
    getattr(tf.keras, "version", None)
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        from tensorflow_model_optimization.python.core.sparsity import keras as tfmot_keras
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return tfmot_keras


@functools.cache
def _classes():
    """Return tfprune's subclasses of tfmot's schedule and wrapper, made at the first use."""
    import tensorflow as tf
    import tf_keras

    tfmot = _tfmot()

    @tf_keras.utils.register_keras_serializable(package="tfprune")
    class LegacySchedule(tfmot.pruning_schedule.PruningSchedule):
        """A tfprune schedule behind tfmot's interface, called with the step as a tensor."""

        def __init__(self, schedule):
            self.schedule = schedules_.get(schedule)

        def _at(self, step):
            step = int(step)
            due = self.schedule.update_between(step - 1, step) is not None
            # tfmot counts from 1, so an update due at step 0 would never come.
            due = due or (step == 1 and self.schedule.update_between(-1, 0) is not None)
            sparsity = self.schedule.sparsity(step)
            return np.bool_(due and sparsity > 0), np.float32(sparsity)

        def __call__(self, step):
            due, sparsity = tf.numpy_function(self._at, [step], [tf.bool, tf.float32])
            due.set_shape(())
            sparsity.set_shape(())
            return due, sparsity

        def get_config(self):
            # A tf_keras file names the class by its registered name.
            config = {"schedule": self.schedule.get_config()}
            return {"class_name": "tfprune>LegacySchedule", "config": config}

    @tf_keras.utils.register_keras_serializable(package="tfprune")
    class PruneLowMagnitude(tfmot.pruning_wrapper.PruneLowMagnitude):
        """tfmot's wrapper, which also saves its N:M pattern (tfmot's own forgets it)."""

        def add_weight(self, name=None, **kwargs):
            # tfmot's callback starts the step at 0, but it finds only layers that are built. One
            # that is built by the first training step starts there itself.
            if name == "pruning_step" and StepCounter.any_waiting():
                kwargs["initializer"] = "zeros"
            return super().add_weight(name, **kwargs)

        def build(self, input_shape):
            if not self.layer.built:
                self.layer.build(input_shape)
                self.layer.built = True
            # What could not be judged before the layer had its weights.
            reason = _reason_against_pattern(self.layer, _pattern_of(self))
            if reason is not None:
                raise ValueError(f"The layer '{self.layer.name}' cannot be pruned: {reason}.")
            super().build(input_shape)

        def get_config(self):
            return {**super().get_config(), "sparsity_m_by_n": self.sparsity_m_by_n}

    return LegacySchedule, PruneLowMagnitude


def scope():
    """Return tfmot's `prune_scope`, which loads files that tfmot itself has saved.

    Files that tfprune has saved name tfprune's own classes, so these are made here too.
    """
    _classes()
    return _tfmot().prune.prune_scope()


def reason_against(layer: Any, schedule: PruningSchedule, pattern: Pattern) -> str | None:
    """Return why tfmot cannot prune a tf_keras layer so, None if it can."""
    import tf_keras

    tfmot = _tfmot()
    if isinstance(layer, tf_keras.Model):
        return "a model within the model that is not Sequential or Functional: wrap its layers"
    custom = hasattr(layer, "get_prunable_weights")
    if not custom and not tfmot.prune_registry.PruneRegistry.supports(layer):
        return f"tfmot does not know layers of type {type(layer).__name__}"
    if not layer.weights and layer.built:
        return "no weights to prune"
    if isinstance(layer, tf_keras.layers.DepthwiseConv2D):
        return "depthwise kernels are left alone: they are small and lose accuracy"
    at_once = isinstance(schedule, (ConstantSparsity, OneShot)) and schedule.begin_step == 0
    if isinstance(pattern, NM) and not at_once:
        return (
            f"tfmot chooses an N:M mask once, at the first step, and knows no {schedule}; use "
            "`ConstantSparsity(..., begin_step=0)`, or Keras 3, where N:M grows with the schedule"
        )
    return _reason_against_pattern(layer, pattern)


def _reason_against_pattern(layer, pattern: Pattern) -> str | None:
    import tf_keras

    wrong_axis = (tf_keras.layers.Conv2DTranspose, tf_keras.layers.Embedding)
    if isinstance(pattern, NM) and isinstance(layer, wrong_axis):
        return f"tfmot does not group the input channels of {type(layer).__name__}"
    weights = _candidates(layer)
    if weights is None:
        return None
    if not weights:
        return "no weights to prune"
    for shape in (tuple(weight.shape) for weight in weights):
        if isinstance(pattern, Block) and len(shape) != 2:
            return "tfmot lays blocks on 2-D weights only"
        if isinstance(pattern, NM) and len(shape) not in (2, 4):
            return f"tfmot does not group the input channels of {type(layer).__name__}"
        reason = pattern.reason_against(shape, layouts.of_kernel(len(shape)))
        if reason is not None:
            return reason
    return None


def _candidates(layer) -> list | None:
    """Return the weights that tfmot would prune; None before the layer is built."""
    registry = _tfmot().prune_registry.PruneRegistry
    known = hasattr(layer, "get_prunable_weights")
    if known and not layer.built:
        return None
    try:
        return (layer if known else registry.make_prunable(layer)).get_prunable_weights()
    except AttributeError:
        if layer.built:
            raise
        return None


def wrap(layer: Any, schedule: PruningSchedule, pattern: Pattern, **kwargs) -> Any:
    """Return a tf_keras layer in tfmot's wrapper; `reason_against` must have been asked first."""
    legacy_schedule, wrapper = _classes()
    block = pattern if isinstance(pattern, Block) else Block((1, 1))
    return wrapper(
        layer,
        pruning_schedule=legacy_schedule(schedule),
        block_size=block.size,
        block_pooling_type=block.pooling,
        sparsity_m_by_n=(pattern.zeros, pattern.group) if isinstance(pattern, NM) else None,
        **kwargs,
    )


def tensorboard(log_dir: str, **arguments: Any) -> Any:
    """Return tf_keras's own TensorBoard callback."""
    import tf_keras

    return tf_keras.callbacks.TensorBoard(log_dir, **arguments)


def is_wrapped(layer: Any) -> bool:
    """Tell whether a tf_keras layer is tfmot's pruning wrapper, without importing tfmot for it."""
    return any(
        kind.__name__ == "PruneLowMagnitude" and kind.__module__.startswith("tensorflow_model")
        for kind in type(layer).__mro__
    )


def is_graph(model: Any) -> bool:
    """Tell whether a tf_keras object is a Sequential or Functional model."""
    return any(kind.__name__ == "Functional" for kind in type(model).__mro__)


def is_left_alone(layer: Any) -> bool:
    """Tell whether nobody would expect this layer to be pruned: no matrix, a norm, depthwise."""
    import tf_keras

    if isinstance(layer, tf_keras.layers.DepthwiseConv2D):
        return True
    return not any(len(w.shape) >= 2 for w in layer.weights)


def is_model(obj: Any) -> bool:
    """Tell whether an object is a tf_keras model, of whatever kind."""
    import tf_keras

    return isinstance(obj, tf_keras.Model)


def wrap_model(model: Any, chosen: dict[int, Decision]) -> Any:
    """Return a model in which the chosen layers are wrapped, nested models included.

    As in tfmot, layers are shared with the original.
    """
    import tf_keras

    def replace(layer: Any) -> Any:
        if is_graph(layer):
            return wrap_model(layer, chosen)
        decision = chosen.get(id(layer))
        if decision is None or decision.reason:
            return layer
        return wrap(layer, decision.schedule, decision.pattern)

    return tf_keras.models.clone_model(model, clone_function=replace)


def strip(model: Any) -> Any:
    """Re-mask a tf_keras model or wrapped layer, then take tfmot's wrappers off."""
    if not is_wrapped(model) and not is_graph(model):
        raise ValueError(
            "Cannot strip a subclassed model: only its class knows how its layers are put "
            "together. Build the same model with plain layers and hand over the weights:\n\n"
            "    plain.dense.set_weights(tfprune.strip_pruning(model.dense).get_weights())\n\n"
            f"Received: {type(model).__name__}"
        )
    for layer in pruned_layers(model):
        layer.apply_masks()
    return model.layer if is_wrapped(model) else _tfmot().prune.strip_pruning(model)


def _pattern_of(wrapper: Any) -> Pattern:
    if wrapper.sparsity_m_by_n:
        return NM(*wrapper.sparsity_m_by_n)
    size = tuple(wrapper.block_size)
    return Unstructured() if size == (1, 1) else Block(size, wrapper.block_pooling_type)


def pruned_layers(model: Any) -> list[LegacyPrunedLayer]:
    """Return the wrapped layers of a tf_keras model behind the doors of the Keras 3 wrapper."""
    import tf_keras

    inside = [model, *getattr(model, "submodules", ())]
    found = [m for m in inside if isinstance(m, tf_keras.layers.Layer) and is_wrapped(m)]
    # `submodules` come in the order of attribute names, `weights` in that of the layers.
    order = {id(weight): index for index, weight in enumerate(model.weights)}
    built = sorted((m for m in found if m.built), key=lambda m: order[id(m.pruning_step)])
    return [LegacyPrunedLayer(layer) for layer in built]


class LegacyPrunedLayer:
    """One of tfmot's wrapped layers, with the doors of tfprune's own wrapper."""

    def __init__(self, layer: Any):
        self.layer = layer
        self.name = layer.name
        self.layer_name = layer.layer.name
        schedule = layer.pruning_schedule
        self.pruning_schedule = getattr(schedule, "schedule", None) or schedules_.get(
            schedule.get_config()
        )
        self.pattern = _pattern_of(layer)
        self.skipped: dict[str, str] = {}

    def start(self) -> None:
        """Set the step of a layer that was never trained from -1 to 0, as tfmot's callback does."""
        if int(self.layer.pruning_step.numpy()) == -1:
            self.layer.pruning_step.assign(0)

    def read_step(self) -> int:
        """Return the number of training steps seen; tfmot counts them in the graph."""
        return max(0, int(self.layer.pruning_step.numpy()))

    @property
    def last_update_step(self) -> int | None:
        """The step of the last mask update, by the schedule."""
        step = self.read_step()
        if isinstance(self.pattern, NM):
            return 1 if step >= 1 else None
        if step == 0:  # tfmot counts from 1: an update due at step 0 happens at step 1
            return None
        due = self.pruning_schedule.update_between(-1, step)
        return 1 if due == 0 else due

    def apply_masks(self) -> None:
        """Set the weights to zero where their masks are."""
        for weight, mask, _ in self.layer.pruning_vars:
            weight.assign(weight * mask)

    def states(self) -> list[WeightState]:
        """Return the pruned weights, masked, as numpy arrays."""
        paths = [weight.name.split(":")[0].split("/") for weight, *_ in self.layer.pruning_vars]
        names = [path[-1] for path in paths]
        if len(set(names)) < len(names):  # the kernels of an attention layer: query/kernel, ...
            names = ["/".join(path[-2:]) for path in paths]
        return [
            WeightState(
                name=name,
                weight=weight.numpy() * mask.numpy(),
                mask=mask.numpy().astype(bool),
                threshold=float(threshold.numpy()),
                layout=layouts.of_kernel(len(weight.shape)),
            )
            for name, (weight, mask, threshold) in zip(names, self.layer.pruning_vars, strict=True)
        ]
