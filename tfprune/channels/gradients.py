"""How the loss would change without each channel, by the first term of its Taylor series."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfprune.channels import graph
from tfprune.channels.batches import Batches
from tfprune.channels.structure import Structure

BACKENDS = ("tensorflow", "jax", "torch")
_STATISTICS = ("moving_mean", "moving_variance")


def require_loss(model: keras.Model) -> None:
    """Raise unless there is a loss to follow back, on a backend that can.

    Raises:
        RuntimeError: a backend that cannot train.
        ValueError: the model is not compiled with a loss.
    """
    backend = keras.backend.backend()
    if backend not in BACKENDS:
        raise RuntimeError(
            "`importance='taylor'` needs gradients, which it takes from TensorFlow, JAX or "
            "PyTorch. Save the model, set KERAS_BACKEND to one of them and start again, or use "
            f"another importance. Received: the backend {backend!r}"
        )
    own = type(model).compute_loss is not keras.Model.compute_loss
    if not model.compiled or (not own and getattr(model, "loss", None) is None):
        raise ValueError(
            "`importance='taylor'` follows the model's loss back to its weights: compile it first, "
            "such as `model.compile('sgd', 'sparse_categorical_crossentropy')`. "
            f"Received: the model '{model.name}', compiled without a loss or not at all"
        )


def measure(structure: Structure, batches: Batches, compiled: keras.Model) -> dict[int, np.ndarray]:
    """Return |weight * gradient|, summed over each position of each place, by the place's number.

    The mean over the batches; the gradient is that of the loss of one batch, in inference. Neither
    the weights nor the metrics of the model change.

    Args:
        structure: of the model to run.
        batches: with labels.
        compiled: the model whose loss is meant: this one, or the larger one that it was cut from.

    Source: Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning".
    """
    places = [
        (number, place)
        for number, place in enumerate(structure.atoms.places)
        if place.variable.path.rsplit("/", 1)[-1] not in _STATISTICS
    ]
    variables = list({id(place.variable): place.variable for _, place in places}.values())
    position = {id(variable): n for n, variable in enumerate(variables)}
    gradients = _gradients(structure.model, compiled, variables)
    totals = {number: np.zeros(place.ids.size) for number, place in places}
    count = 0
    with _metrics_kept(compiled):
        _make_loss(structure.model, compiled, next(iter(batches)))
        for batch in batches:
            found = gradients(_inputs(structure.model, batch.inputs), batch.labels, batch.weights)
            products = [
                np.abs(_numpy(gradient) * _numpy(variable.value))
                for gradient, variable in zip(found, variables, strict=True)
            ]
            for number, place in places:
                product = products[position[id(place.variable)]]
                others = tuple(a for a in range(product.ndim) if a != place.axis)
                totals[number] += batch.size * product.sum(others, dtype=float)
            count += batch.size
    return {number: total / count for number, total in totals.items()}


def _gradients(model: keras.Model, compiled: keras.Model, variables: list[Any]) -> Callable:
    """Return a function (inputs, labels, weights) -> gradients of the loss by the variables."""

    def loss(values: list[Any], inputs: Any, labels: Any, weights: Any) -> Any:
        # Values stand in for the variables, frozen ones too, so that nothing is written anywhere.
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return _loss(model, compiled, inputs, labels, weights)

    if keras.backend.backend() == "jax":
        import jax

        slope = jax.jit(jax.grad(loss))
        return lambda *given: slope([variable.value for variable in variables], *given)

    if keras.backend.backend() == "torch":
        return _by_autograd(loss, variables)

    import tensorflow as tf

    def by_tape(*given: Any) -> list[Any]:
        values = [tf.convert_to_tensor(variable.value) for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            total = loss(values, *given)
        found = tape.gradient(total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(one) for one in found]

    return by_tape


def _by_autograd(loss: Callable, variables: list[Any]) -> Callable:
    import torch

    def gradients(*given: Any) -> list[Any]:
        values = [variable.value.detach().clone().requires_grad_() for variable in variables]
        total = loss(values, *given)
        # That of what the loss does not depend on is None without it.
        return list(torch.autograd.grad(total, values, allow_unused=True, materialize_grads=True))

    return gradients


def _loss(model: keras.Model, compiled: keras.Model, inputs: Any, labels: Any, weights: Any) -> Any:
    """Return the loss on labels; penalties of weights and activations are taken out of it."""
    outputs = model(inputs, training=False)
    given = {"x": inputs, "y": labels, "y_pred": outputs, "sample_weight": weights}
    try:
        total: Any = compiled.compute_loss(**given)
    except _refusals() as error:
        first = [*str(error).strip().splitlines(), type(error).__name__][0]
        raise _unfit(compiled, labels, first[:200]) from error
    for penalty in compiled.losses:
        total = total - ops.sum(penalty)
    return total


def _make_loss(model: keras.Model, compiled: keras.Model, batch: Any) -> None:
    """Have Keras make what a loss needs at its first call; that cannot be done in a scope."""
    given = _inputs(model, batch.inputs), batch.labels, batch.weights
    total: Any = ops.convert_to_numpy(_loss(model, compiled, *given))
    if np.isnan(total).any():  # infinite: the model overflows, as its scores will tell
        raise _unfit(compiled, batch.labels, "it is NaN")


def _refusals() -> tuple[type[Exception], ...]:
    """Return what a loss raises, on each backend, for labels that are not its own."""
    known = (ValueError, TypeError, IndexError, RuntimeError)
    if keras.backend.backend() != "tensorflow":
        return known
    import tensorflow as tf

    return (*known, tf.errors.InvalidArgumentError)


def _unfit(compiled: keras.Model, labels: Any, found: str) -> ValueError:
    """Return the error for labels on which the compiled loss gives no number."""

    def told(value: Any) -> str:
        shape, kind = tuple(getattr(value, "shape", ())), getattr(value, "dtype", type(value))
        return f"{kind} labels of shape {shape}"

    loss = getattr(compiled, "loss", None)
    name = loss if isinstance(loss, (str, dict, list)) else getattr(loss, "name", None)
    name = name or getattr(loss, "__name__", type(loss).__name__)
    each = "; ".join(map(told, tree.flatten(labels)))
    return ValueError(
        f"The compiled loss {name!r} gives no number for the labels in `data` ({found}). "
        "`importance='taylor'` takes labels as `fit` does: class numbers from 0 for a sparse loss, "
        "one-hot rows for a categorical one, none of them NaN; or what the model predicts is NaN. "
        f"Received: {each}"
    )


def _inputs(model: keras.Model, arrays: list[np.ndarray]) -> Any:
    """Return arrays as the model takes its inputs."""
    struct = graph.inputs(model)
    heads = tree.flatten(struct) or []
    tensors = [ops.convert_to_tensor(a, dtype=h.dtype) for a, h in zip(arrays, heads, strict=True)]
    return tree.pack_sequence_as(struct, tensors)


@contextlib.contextmanager
def _metrics_kept(model: keras.Model) -> Iterator[None]:
    """Set the metrics of a model back to what they were: Keras counts when it computes a loss."""
    before = {id(v): _numpy(v.value) for metric in model.metrics for v in metric.variables}
    try:
        yield
    finally:
        for variable in (v for metric in model.metrics for v in metric.variables):
            variable.assign(before.get(id(variable), np.zeros(variable.shape)))


def _numpy(value: Any) -> np.ndarray:
    return np.array(ops.convert_to_numpy(value), np.float32)
