"""Legacy tf_keras models, pruned by tensorflow-model-optimization (tfmot) itself.

tfmot's masks, steps and stripping are used as they are. Where tfmot cannot do what was asked
(an N:M pattern that grows, blocks on convolutions, layers that it does not know), the functions
here say so instead of doing something else. Stripping masks once more, which tfmot does not.

tf_keras and tfmot (by `tfprune.tfmot`) are imported when they are needed, and nowhere else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfprune import layouts
from tfprune import schedules as schedules_
from tfprune.criteria import Criterion
from tfprune.decisions import Decision
from tfprune.patterns import NM, Block, Pattern
from tfprune.schedules import ConstantSparsity, OneShot, PruningSchedule
from tfprune.states import WeightState
from tfprune.tfmot import (
    candidates,
    classes,
    is_tabular,
    pattern_of,
    reason_against_pattern,
    tfmot_keras,
)


def scope():
    """Return tfmot's `prune_scope`, which loads files that tfmot itself has saved.

    Files that tfprune has saved name tfprune's own classes, so these are made here too.
    """
    classes()
    return tfmot_keras().prune.prune_scope()


def reason_against(layer: Any, schedule: PruningSchedule, pattern: Pattern) -> str | None:
    """Return why tfmot cannot prune a tf_keras layer so, None if it can."""
    import tf_keras

    tfmot = tfmot_keras()
    if isinstance(layer, tf_keras.Model):
        return "a model within the model that is not Sequential or Functional: wrap its layers"
    custom = hasattr(layer, "get_prunable_weights")
    if not custom and not tfmot.prune_registry.PruneRegistry.supports(layer):
        return f"tfmot does not know layers of type {type(layer).__name__}"
    if schedule.needs_run:
        return (
            f"tfmot's wrappers must know the steps of {type(schedule).__name__} before training: "
            "use PolynomialDecay"
        )
    if not layer.weights and layer.built:
        return "no weights to prune"
    if _not_finite(layer.weights):
        return "its weights hold NaN or infinite values: training has diverged"
    if isinstance(layer, tf_keras.layers.DepthwiseConv2D):
        return "depthwise kernels are left alone: they are small and lose accuracy"
    at_once = isinstance(schedule, (ConstantSparsity, OneShot)) and schedule.begin_step == 0
    if isinstance(pattern, NM) and not at_once:
        return (
            f"tfmot chooses an N:M mask once, at the first step, and knows no {schedule}; use "
            "`ConstantSparsity(..., begin_step=0)`, or Keras 3, where N:M grows with the schedule"
        )
    return reason_against_pattern(layer, pattern)


def _not_finite(weights: Any) -> list[str]:
    """Return the names of the weights that hold NaN or infinite values."""
    import tensorflow as tf

    if not tf.executing_eagerly():  # a layer made inside of a graph has no values to look at
        return []
    floating = [weight for weight in weights if weight.dtype.is_floating]
    finite = [bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in floating]
    return [w.name.split(":")[0] for w, good in zip(floating, finite, strict=True) if not good]


def prunable_arrays(layer: Any) -> list[np.ndarray]:
    """Return the weights of a built layer that tfmot would prune."""
    return [w.numpy() for w in candidates(layer) or []]


def wrap(layer: Any, schedule: PruningSchedule, criterion: Criterion, **kwargs) -> Any:
    """Return a tf_keras layer in tfmot's wrapper; `reason_against` must have been asked first."""
    legacy_schedule, wrapper = classes()
    pattern = criterion.pattern
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
        if decision is None or decision.criterion is None:
            return layer
        return wrap(layer, decision.schedule, decision.criterion)

    return tf_keras.models.clone_model(model, clone_function=replace)


def can_strip(model: Any) -> bool:
    """Tell whether every wrapper is a layer of the graph: tfmot looks no further."""
    if is_wrapped(model):
        return True
    return is_graph(model) and {id(m) for m in _wrappers(model)} <= _in_graph(model)


def _in_graph(model: Any) -> set[int]:
    """Return the ids of the layers of a model and of the models nested in it."""
    found: set[int] = set()
    for layer in model.layers:
        found |= _in_graph(layer) if is_graph(layer) else {id(layer)}
    return found


def strip(model: Any) -> Any:
    """Re-mask a tf_keras model or wrapped layer, then take tfmot's wrappers off."""
    for layer in pruned_layers(model):
        layer.apply_masks()
    return model.layer if is_wrapped(model) else tfmot_keras().prune.strip_pruning(model)


class _NoMasking:
    """Stands in for tfmot's `Pruning` of a wrapper whose weights are masked already."""

    def weight_mask_op(self) -> Any:
        import tensorflow as tf

        return tf.no_op()


@contextlib.contextmanager
def without_masking(model: Any) -> Iterator[None]:
    """Let a tf_keras model be traced for inference without writing to its weights.

    tfmot's wrappers assign the masked weights in every call, in inference too, which a graph that
    is to be exported must not do. Call `apply_masks` of its `pruned_layers` before.
    """
    held = [(wrapper, wrapper.pruning_obj) for wrapper in _wrappers(model)]
    try:
        for wrapper, _ in held:
            wrapper.pruning_obj = _NoMasking()
        yield
    finally:
        for wrapper, pruning in held:
            wrapper.pruning_obj = pruning


def pruned_layers(model: Any) -> list[LegacyPrunedLayer]:
    """Return the wrapped layers of a tf_keras model behind the doors of the Keras 3 wrapper."""
    # `submodules` come in the order of attribute names, `weights` in that of the layers.
    order = {id(weight): index for index, weight in enumerate(model.weights)}
    built = sorted(_wrappers(model), key=lambda m: order[id(m.pruning_step)])
    compiled = bool(getattr(model, "jit_compile", False))
    return [LegacyPrunedLayer(layer, compiled) for layer in built]


@contextlib.contextmanager
def masked(layers: list[LegacyPrunedLayer]) -> Iterator[None]:
    """Let weights be zero where their masks are, from now on: here none may return."""
    for layer in layers:
        layer.apply_masks()
    yield


def _wrappers(model: Any) -> list[Any]:
    """Return the wrappers that are built, in no particular order."""
    import tf_keras

    inside = [model, *getattr(model, "submodules", ())]
    return [m for m in inside if isinstance(m, tf_keras.layers.Layer) and is_wrapped(m) and m.built]


class LegacyPrunedLayer:
    """One of tfmot's wrapped layers, with the doors of tfprune's own wrapper.

    Args:
        layer: the wrapped layer.
        compiled: whether its model trains under XLA (`jit_compile=True`).
    """

    def __init__(self, layer: Any, compiled: bool = False):
        self.layer = layer
        self._compiled = compiled
        self.name = layer.name
        self.layer_name = layer.layer.name
        schedule = layer.pruning_schedule
        self.pruning_schedule = getattr(schedule, "schedule", None) or schedules_.get(
            schedule.get_config()
        )
        self.criterion = Criterion(pattern_of(layer))
        self.pattern = self.criterion.pattern
        self.skipped: dict[str, str] = {}

    def start(self) -> None:
        """Set the step of a layer that was never trained from -1 to 0, as tfmot's callback does.

        Raises:
            ValueError: XLA is to compile a schedule that it cannot.
        """
        ours = hasattr(self.layer.pruning_schedule, "schedule") and not isinstance(self.pattern, NM)
        if self._compiled and ours and not is_tabular(self.pruning_schedule):
            kind = type(self.pruning_schedule).__name__
            raise ValueError(
                f"XLA (`jit_compile=True`) cannot call the schedule {kind}, a class of your own: "
                "it is Python code, asked anew at every step. Compile the model without "
                "`jit_compile`, or write the schedule down before: `FunctionSchedule("
                "schedule.sparsity, end_step=..., frequency=...)`. "
                f"Received: the layer '{self.layer_name}' with {kind}"
            )
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

    @property
    def own_weights(self) -> list[Any]:
        """The variables of tfmot's wrapper, without those of the layer inside."""
        inside = {id(v) for v in self.layer.layer.weights}
        return [v for v in self.layer.weights if id(v) not in inside]

    @property
    def pruning_vars(self) -> list[tuple[Any, Any, Any]]:
        """The (weight, mask, threshold) variables of tfmot's wrapper."""
        return self.layer.pruning_vars

    def apply_masks(self) -> None:
        """Set the weights to zero where their masks are.

        Raises:
            ValueError: a weight holds NaN or infinite values, of which no mask makes a zero.
        """
        bad = _not_finite(weight for weight, _, _ in self.pruning_vars)
        if bad:
            raise ValueError(
                "Cannot prune weights that are NaN or infinite: training has diverged. Lower the "
                "learning rate or clip gradients, and start again from weights that are finite. "
                f"Received: such values in {', '.join(bad)}"
            )
        for weight, mask, _ in self.pruning_vars:
            weight.assign(weight * mask)

    def states(self) -> list[WeightState]:
        """Return the pruned weights, masked, as numpy arrays."""
        paths = [weight.name.split(":")[0].split("/") for weight, *_ in self.pruning_vars]
        names = [path[-1] for path in paths]
        if len(set(names)) < len(names):  # the kernels of an attention layer: query/kernel, ...
            names = ["/".join(path[-2:]) for path in paths]
        return [
            WeightState(
                name=name,
                weight=np.where(mask.numpy(), weight.numpy(), 0),
                mask=mask.numpy().astype(bool),
                threshold=float(threshold.numpy()),
                layout=layouts.of_kernel(len(weight.shape)),
            )
            for name, (weight, mask, threshold) in zip(names, self.pruning_vars, strict=True)
        ]
