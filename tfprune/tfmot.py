"""tfmot itself: loaded only here, and its schedule and wrapper mended as far as they can be.

Importing tfmot sets `TF_USE_LEGACY_KERAS` for the whole process and makes `tf.keras` legacy Keras
by it, so both are kept as they were. Four of tfmot's faults are mended on the way: a schedule's
first and last update always happen, a saved N:M model stays N:M, a model that is built by its
first training step can be pruned, and several workers mask their weights without sending them.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

from tfprune import decisions, layouts
from tfprune import schedules as schedules_
from tfprune.patterns import NM, Block, Pattern, Unstructured
from tfprune.schedules import ConstantSparsity, PruningSchedule
from tfprune.states import StepCounter


@functools.cache
def tfmot_keras():
    """Import tfmot without letting it switch the rest of the process to legacy Keras."""
    import tensorflow as tf

    # `tf.keras` becomes Keras 3 or tf_keras at its first use, by the variable, and stays so: use
    # it before tfmot does, which sets the variable first.
    getattr(tf.keras, "version", None)
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        from tensorflow_model_optimization.python.core.sparsity import keras as tfmot
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
    return tfmot


@functools.cache
def classes():
    """Return tfprune's subclasses of tfmot's schedule and wrapper, made at the first use."""
    import tensorflow as tf
    import tf_keras

    tfmot = tfmot_keras()

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

        @functools.cached_property
        def _table(self):
            """The sparsity of each update, outside of any graph: one that is long is kept once."""
            with tf.init_scope():
                return tf.constant(_sparsities(self.schedule))

        def __call__(self, step):
            if not is_tabular(self.schedule):
                # XLA's error shows this name where nobody could warn in time (see `start`).
                with tf.name_scope("a_PruningSchedule_of_your_own_cannot_be_compiled_by_XLA"):
                    due, sparsity = tf.numpy_function(self._at, [step], [tf.bool, tf.float32])
                due.set_shape(())
                sparsity.set_shape(())
                return due, sparsity
            begin, end, frequency = (tf.constant(n, tf.int64) for n in _steps_of(self.schedule))
            step = tf.cast(step, tf.int64)
            last = tf.cast(tf.size(self._table) - 1, tf.int64)
            index = tf.clip_by_value((step - begin) // frequency, 0, last)
            due = (step >= begin) & ((step - begin) % frequency == 0)
            if _steps_of(self.schedule)[1] >= 0:
                index = tf.where(step >= end, last, index)
                due = (due & (step <= end)) | (step == end)
            if _steps_of(self.schedule)[0] == 0:  # see `_at`
                due |= step == 1
            sparsity = tf.gather(self._table, index)
            return due & (sparsity > 0), sparsity

        def get_config(self):
            # A tf_keras file names the class by its registered name.
            config = {"schedule": self.schedule.get_config()}
            return {"class_name": "tfprune>LegacySchedule", "config": config}

    class LocalMasking(tfmot.pruning_impl.Pruning):
        """tfmot's masking, by each replica for itself: weights and masks are the same on all.

        tfmot takes the mean over the replicas of every masked weight at every step, which sends
        all weights to all workers and back.
        """

        def _weight_assign_objs(self):
            replica = tf.distribute.get_replica_context()
            if replica is None:
                return super()._weight_assign_objs()

            def mask_weight(weight, mask):
                return weight.assign(tf.cast(tf.multiply(weight, mask), weight.dtype))

            def update_all(distribution, pairs):
                update = distribution.extended.update
                return tf.group([update(w, mask_weight, args=(mask,)) for w, mask in pairs])

            pairs = [(weight, mask) for weight, mask, _ in self._pruning_vars]
            return [replica.merge_call(update_all, args=(pairs,))] if pairs else []

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
            reason = reason_against_pattern(self.layer, pattern_of(self))
            if reason is not None:
                raise decisions.refusal(self.layer, reason)
            super().build(input_shape)
            self.pruning_obj = LocalMasking(
                training_step_fn=lambda: self.pruning_step,
                pruning_vars=self.pruning_vars,
                pruning_schedule=self.pruning_schedule,
                block_size=self.block_size,
                sparsity_m_by_n=self.sparsity_m_by_n,
                block_pooling_type=self.block_pooling_type,
            )

        def get_config(self):
            return {**super().get_config(), "sparsity_m_by_n": self.sparsity_m_by_n}

    return LegacySchedule, PruneLowMagnitude


def is_tabular(schedule: PruningSchedule) -> bool:
    """Tell whether the updates of a schedule can be written down: tfprune's own all can.

    A class of the user's may answer by whatever it likes, and is asked anew at every step.
    """
    return all(
        getattr(type(schedule), name).__module__.startswith(f"{schedules_.__name__}.")
        for name in ("__call__", "sparsity", "update_between")
    )


def _steps_of(schedule: PruningSchedule) -> tuple[int, int, int]:
    """Return `begin_step`, `end_step` (-1: for ever) and `frequency`; tfprune's own have them."""
    begin, end, frequency = schedule.begin_step, schedule.end_step, schedule.frequency
    assert begin is not None
    assert end is not None
    assert frequency is not None
    return begin, end, frequency


def _sparsities(schedule: PruningSchedule) -> np.ndarray:
    """Return the sparsity of each update of one of tfprune's own schedules, as float32."""
    begin, end, frequency = _steps_of(schedule)
    if end < 0 or isinstance(schedule, ConstantSparsity):  # however long it is
        steps = [begin]
    else:
        steps = [*range(begin, end, frequency), end]
    # What is due at step 0 happens in the first step, as tfmot counts from 1.
    return np.array([schedule.sparsity(max(1, step)) for step in steps], np.float32)


def reason_against_pattern(layer, pattern: Pattern) -> str | None:
    """Return why tfmot cannot lay a pattern on a layer's weights, None if it can."""
    import tf_keras

    wrong_axis = (tf_keras.layers.Conv2DTranspose, tf_keras.layers.Embedding)
    if isinstance(pattern, NM) and isinstance(layer, wrong_axis):
        return f"tfmot does not group the input channels of {type(layer).__name__}"
    weights = candidates(layer)
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
        blocked = isinstance(pattern, Block) and pattern.size != (1, 1)
        if blocked and any(n <= of for n, of in zip(shape, pattern.size, strict=True)):
            return (
                f"tfmot cannot lay blocks as high or as wide as the weight, {shape[0]}x{shape[1]}"
            )
    return None


def candidates(layer) -> list | None:
    """Return the weights that tfmot would prune; None before the layer is built."""
    registry = tfmot_keras().prune_registry.PruneRegistry
    known = hasattr(layer, "get_prunable_weights")
    if known and not layer.built:
        return None
    try:
        return (layer if known else registry.make_prunable(layer)).get_prunable_weights()
    except AttributeError:
        if layer.built:
            raise
        return None


def pattern_of(wrapper: Any) -> Pattern:
    """Return the pattern that the arguments of one of tfmot's wrappers mean."""
    if wrapper.sparsity_m_by_n:
        return NM(*wrapper.sparsity_m_by_n)
    size = tuple(wrapper.block_size)
    return Unstructured() if size == (1, 1) else Block(size, wrapper.block_pooling_type)
