"""Which optimizers leave a cut weight at zero, and how their momentum is cut with it.

A training step costs one pass over the weights less when the forward pass need not mask them. That
is right only while a cut weight *is* zero and stays so: its gradient is masked, and an update must
not move it by what it remembers. For the optimizers named here a zero weight with a zero gradient
and no momentum does not move, whatever their other slots hold (`update_step` in Keras says so, and
`tests/test_optimizers.py` tries every one). Anything else (an optimizer of one's own, a moving
average that overwrites weights, a constraint, a regularizer or a `train_step` of one's own) is not
trusted: there the forward pass masks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfprune.cloning import is_graph
from tfprune.placement import cut

_STILL = tuple(
    getattr(keras.optimizers, name)
    for name in (
        *("SGD", "Adam", "AdamW", "Nadam", "Adamax", "Lion"),
        *("RMSprop", "Adagrad", "Adadelta"),
    )
)
_KEEP_ZEROS = tuple(
    getattr(keras.constraints, name) for name in ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")
)
_NO_PUSH = tuple(getattr(keras.regularizers, name) for name in ("L1", "L2", "L1L2"))
_MOVING_SLOTS = ("momentum", "gradient_accumulator")  # these move a weight without a gradient
_SLOTS = (  # of all optimizers of Keras that keep one of the shape of each weight
    *(*_MOVING_SLOTS, "velocity", "velocity_hat", "norm", "accumulator", "linear", "average"),
    *("accumulated_grad", "accumulated_delta_var", "average_gradient"),
)
_ENDS = tuple(f"_{slot}" for slot in _SLOTS)
_ALMOST_ZERO = 1e-30  # its root, 1e-15, is nothing beside Adam's epsilon, 1e-7


def keeps_zeros(model: Any, weights: list[Any]) -> bool:
    """Tell whether `fit` of a model leaves these weights at zero where they are cut.

    The optimizer of a Sequential or Functional model is built if it is not, as `fit` would do a
    little later. Elsewhere variables may still be to come, so that an unbuilt one is not trusted.

    Args:
        model: a compiled Keras 3 model.
        weights: variables, masked, with masked gradients and momentum cut by `cut_momentum`.
    """
    optimizer = inner(model)
    kind = _kind(optimizer)
    _build(model)
    if kind not in _STILL or optimizer.use_ema or not optimizer.built:
        return False
    if type(model).train_step is not keras.Model.train_step:
        return False
    if any(type(w.constraint) not in (type(None), *_KEEP_ZEROS) for w in weights):
        return False
    if any(type(w.regularizer) not in (type(None), *_NO_PUSH) for w in weights):
        return False
    momentum = kind not in (keras.optimizers.Adagrad, keras.optimizers.Adadelta)
    if kind in (keras.optimizers.SGD, keras.optimizers.RMSprop):
        momentum = optimizer.momentum > 0
    expected = momentum + bool(optimizer.gradient_accumulation_steps)
    # Two weights of one path (layers of one name in nested models) cannot be told apart.
    return all(len(_slots(optimizer, weight, _MOVING_SLOTS)) == expected for weight in weights)


def doubt(layer: Any) -> None:
    """Let a wrapped layer mask from now on, should something else have moved a cut weight.

    Such as a weight that is used outside its layer too, where no mask meets its gradient.
    """
    layer.zeros_hold = layer.zeros_hold and layer.cut_weights_are_zero()


def cut_momentum(model: Any, layer: Any) -> None:
    """Set to zero what the optimizer remembers of the cut weights of a layer that is trusted.

    On PyTorch the mean squares of Adam are kept from zero, though not so that any weight could
    tell: the root of a zero takes seven times as long there as that of another number.
    """
    for weight, mask, _ in layer.pruning_vars if layer.zeros_hold else []:
        for slot in _slots(inner(model), weight, _MOVING_SLOTS):
            cut(slot, mask)
        if keras.backend.backend() == "torch" and isinstance(inner(model), keras.optimizers.Adam):
            for slot in _slots(inner(model), weight, ("velocity",)):
                slot.value.clamp_(min=_ALMOST_ZERO)  # in place


def require_match(model: Any) -> None:
    """Raise if the optimizer of a model remembers variables that are not those it trains.

    TensorFlow and PyTorch would stop at the first step; JAX would take one variable's momentum for
    another's, since it goes by their order. A `train_step` of one's own may give the optimizer what
    it likes: there only the names of what it remembers are judged.

    Raises:
        ValueError: it was built for another model, its state comes from one, or other layers were
            frozen when it was built.
    """
    optimizer = inner(model)
    if optimizer is None or not optimizer.built:
        return
    received = _strange_slot(model, optimizer)
    if received is None and type(model).train_step is keras.Model.train_step:
        received = _strange_weight(model, optimizer)
    if received is not None:
        raise ValueError(
            f"The optimizer '{optimizer.name}' holds the state of other weights than those that "
            f"the model '{model.name}' trains: it was built for another model, or while other "
            "layers were frozen. Compile with a new optimizer, "
            f"`model.compile(keras.optimizers.Adam(...), ...)`. Received: an optimizer {received}"
        )


def _strange_slot(model: Any, optimizer: Any) -> str | None:
    """Return a slot whose name and shape fit no variable of the model; None if all fit."""
    # Layers of one name in nested models have weights of one path.
    known = {
        (f"{v.path.replace('/', '_')}_{slot}", tuple(v.shape))
        for v in model.variables
        for slot in _SLOTS
    }
    weights = {v.name for v in model.variables}  # Adafactor calls some slots as their weights
    for v in optimizer.variables:
        named = v.name.endswith(_ENDS) and v.name not in weights
        if named and (v.name, tuple(v.shape)) not in known:
            return f"with {v.name!r} of shape {tuple(v.shape)}"
    return None


def _strange_weight(model: Any, optimizer: Any) -> str | None:
    """Return where the model trains a variable that the optimizer was not built for.

    TensorFlow and PyTorch look each one up, so that some may have been frozen since; JAX takes them
    one after the other.
    """
    built_for = getattr(optimizer, "_trainable_variables", None)  # Keras has no public name for it
    if built_for is None:
        return None
    trained = model.trainable_variables
    if keras.backend.backend() != "jax":
        known = {id(v) for v in built_for}
        return next((f"without {v.path!r}" for v in trained if id(v) not in known), None)
    for one, other in zip(built_for, trained, strict=False):
        if one is not other:
            return f"with the state of {one.path!r} in the place of that of {other.path!r}"
    if len(built_for) != len(trained):
        return f"with the state of {len(built_for)} weights, for a model that trains {len(trained)}"
    return None


def gradient_scale(model: Any) -> Callable[[], Any]:
    """Return what tells, in the training step, by what the loss is multiplied.

    That is the scale that keeps the gradients of float16 from vanishing, over the number of
    replicas that share a batch. It is 1 for an optimizer that is not built before the first step.
    """
    _build(model)
    strategy = getattr(model, "distribute_strategy", None)
    share = 1.0 / getattr(strategy, "num_replicas_in_sync", 1)
    scale = getattr(getattr(model, "optimizer", None), "dynamic_scale", None)
    return lambda: share if scale is None else ops.multiply(ops.cast(scale.value, "float32"), share)


def _build(model: Any) -> None:
    """Build the optimizer of a graph, whose variables are all there."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built and is_graph(model):
        optimizer.build(model.trainable_variables)


def inner(model: Any) -> Any:
    """Return the optimizer of a model, out of the one that scales the loss for float16."""
    optimizer = getattr(model, "optimizer", None)
    return getattr(optimizer, "inner_optimizer", optimizer)


def _kind(optimizer: Any) -> type:
    """Return the public class of an optimizer: on PyTorch Keras makes one of its own of it."""
    made = type(optimizer)
    if made.__module__.split(".")[0] != "keras":  # a subclass of one's own may do anything
        return made
    return next((k for k in made.__mro__ if k in _STILL and k.__name__ == made.__name__), made)


def _slots(optimizer: Any, weight: Any, kinds: tuple[str, ...]) -> list[Any]:
    """Return the slots of a weight that have these names."""
    path = weight.path.replace("/", "_")
    names = {f"{path}_{slot}" for slot in kinds}
    return [
        v for v in optimizer.variables if v.name in names and tuple(v.shape) == tuple(weight.shape)
    ]
