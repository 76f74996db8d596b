"""One pruned weight with its mask: what stands in its place, and how its mask is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from tfprune.criteria import Criterion
from tfprune.gradients import GradientRecord
from tfprune.placement import (
    are_split_alike,
    assign,
    assign_parts,
    cut,
    laid_out_like,
    lay_like,
    own_parts,
    read_only,
    total,
    whole,
)
from tfprune.schedules import PruningSchedule
from tfprune.states import WeightState
from tfprune.substitution import cut_gradient, with_gradient

if TYPE_CHECKING:  # it may be what is loading Keras, and Keras this file
    from tfprune.registry import PrunableWeight


class MaskedWeight:
    """A weight of a wrapped layer, and the wrapper's variables that go with it.

    Args:
        layer: the wrapper, which keeps the variables.
        prunable: the weight.
        criterion: by what its mask is chosen.

    Attributes:
        variable: the weight.
        mask: True where it is kept, one byte each.
        threshold: the score at which it was cut.
        record: what its gradients were, None if nothing asks for them.
    """

    def __init__(self, layer: Any, prunable: PrunableWeight, criterion: Criterion):
        self._prunable, self._criterion = prunable, criterion
        self.name, self.variable = prunable.name, prunable.variable
        name, shape = prunable.name.replace("/", "_"), prunable.variable.shape
        with laid_out_like(prunable.variable):
            self.mask = layer.add_weight(
                name=f"{name}_mask", shape=shape, initializer="ones", dtype="bool", trainable=False
            )
        lay_like(self.mask, prunable.variable)
        with laid_out_like(None):
            self.threshold = layer.add_weight(
                name=f"{name}_threshold", shape=(), initializer="zeros", dtype="float32",
                trainable=False,
            )  # fmt: skip
        self._unhook: Callable[[], None] | None = None
        self.record: GradientRecord | None = None
        if criterion.record is not None:
            self.record = GradientRecord(layer, name, shape, criterion.record, criterion.since)

    @property
    def own(self) -> list[Any]:
        """The variables of the wrapper that say what its gradients were."""
        return [] if self.record is None else self.record.variables

    # -- In the training step ------------------------------------------------------------------

    def product(self, value: Any) -> Any:
        """Return `value * mask`; its gradient is masked too."""
        return ops.multiply(value, ops.cast(self.mask.value, value.dtype))

    def spared(self, value: Any) -> Any:
        """Return a value that is zero where it is cut already, with a masked gradient."""
        if self._unhook is not None:
            return value
        mask = self.mask.value
        return with_gradient(value, lambda v: v, lambda v, g: cut_gradient(g, mask))

    def cut_on_arrival(self, wanted: bool) -> bool:
        """Have the gradient masked where it reaches the weight, or no more; tell if it is.

        A backend other than PyTorch cannot.
        """
        if self._unhook is not None:
            self._unhook()
            self._unhook = None
        # A weight that was frozen has no gradient for PyTorch to tell of.
        if wanted and self.variable.trainable and keras.backend.backend() == "torch":
            from tfprune import torch_masking

            self._unhook = torch_masking.cut_on_arrival(self.variable, self.mask)
        return self._unhook is not None

    def watched(self, value: Any, spare: bool, may_return: Any, scale: Callable[[], Any]) -> Any:
        """Return `value * mask`, and look after its gradient: record it, let cut weights learn.

        Args:
            value: the weight.
            spare: whether it is zero where it is cut, so that it need not be masked.
            may_return: a variable, True while cut weights have a gradient; None if they never do.
            scale: by what the loss is multiplied.
        """
        mask, decay = self.mask.value, self._criterion.decay

        def backward(value, gradient):
            if self.record is not None:
                self.record.add(value, gradient, scale())
            if may_return is None:
                return cut_gradient(gradient, mask)
            if decay:
                lost = ops.where(mask, 0, value)
                pull = ops.multiply(lost, ops.cast(decay * scale(), value.dtype))
                gradient = gradient + pull
            return ops.where(ops.logical_or(mask, may_return.value), gradient, 0)

        kept = ops.cast(mask, value.dtype)
        return with_gradient(value, lambda v: v if spare else ops.multiply(v, kept), backward)

    # -- Between training steps ----------------------------------------------------------------

    def choose(self, schedule: PruningSchedule, step: int) -> None:
        """Choose the mask for a step of the schedule.

        Raises:
            ValueError: the weight is not finite, or no gradient has been seen that is needed.
        """
        if self._criterion.takes_parts and are_split_alike(self.mask, self.variable):
            self._choose_by_parts(schedule.sparsity(step))
            return
        mask, recorded = read_only(self.mask), None
        if self.record is not None and self._criterion.needs_gradients(mask):
            recorded = self.record.read()
            if recorded is None:
                raise ValueError(
                    f"the masks are chosen by gradients ({self._criterion}), and none of the "
                    f"weight '{self.name}' has come by since the last update. A layer with "
                    "`trainable=False` has none; in a loop of your own, call the model inside of "
                    "the tape, with `training=True`"
                )
        new, limit = self._criterion.mask(
            read_only(self.variable), mask, recorded, self._prunable.layout, schedule, step
        )
        if self._criterion.grows:
            self.apply()  # what comes in starts at zero, wherever momentum has moved it
        assign(self.mask, new)
        assign(self.threshold, limit)
        if self.record is not None:
            self.record.used()

    def _choose_by_parts(self, sparsity: float) -> None:
        """Choose the mask where it lies: no process holds the whole weight."""
        new, limit = self._criterion.masks_of_parts(
            own_parts(self.variable),
            own_parts(self.mask),
            tuple(self.variable.shape),
            sparsity,
            total,
        )
        assign_parts(self.mask, new)
        assign(self.threshold, limit)

    def apply(self) -> None:
        """Set the weight to zero where its mask is."""
        cut(self.variable, self.mask)

    def is_applied(self) -> bool:
        """Tell whether the weight is zero where its mask is."""
        alive = ops.not_equal(self.variable.value, 0)
        return not bool(ops.any(ops.logical_and(alive, ~self.mask.value)))

    def state(self) -> WeightState:
        """Return the weight, masked, as numpy arrays."""
        mask = whole(self.mask)
        return WeightState(
            name=self.name,
            weight=whole(self.variable) * mask,
            mask=mask,
            threshold=float(self.threshold.numpy()),
            layout=self._prunable.layout,
        )
