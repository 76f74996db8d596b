"""`BatchNormRegularizer`: pushes BatchNorm scales towards zero while a model trains."""

from __future__ import annotations

import math
import numbers
from typing import Any

import keras

from tfprune import cloning


@keras.saving.register_keras_serializable(package="tfprune")
class BatchNormRegularizer(keras.regularizers.Regularizer):
    """Adds `strength` times the sum of |gamma| to the loss: the first step of Network Slimming.

    A channel that the model can do without ends with a scale near zero, and
    `shrink(importance="gamma")` removes it. For a model that exists, `apply` returns a copy that
    is trained so, and `remove` one that is not: fine-tune without it.

    Args:
        strength: factor of the sum; 1e-4 to 1e-5 in the paper. More leaves more scales at zero.

    Example:

    ```python
    slim = tfprune.BatchNormRegularizer(1e-4).apply(model)
    slim.compile("sgd", "sparse_categorical_crossentropy")
    slim.fit(x, y, epochs=20)
    small, report = tfprune.shrink(slim, channels=0.5, importance="gamma")
    small = tfprune.BatchNormRegularizer.remove(small)  # compile it, and train it on
    ```

    In a model of your own: `BatchNormalization(gamma_regularizer=BatchNormRegularizer(1e-4))`.

    Raises:
        ValueError: the strength is negative or not finite.
        TypeError: it is no number.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming".
    """

    def __init__(self, strength: float = 1e-4) -> None:
        if isinstance(strength, bool) or not isinstance(strength, numbers.Real):
            raise TypeError(
                "`strength` must be a number. "
                f"Received: strength={strength!r} (of type {type(strength).__name__})"
            )
        if not 0 <= float(strength) < math.inf:
            raise ValueError(
                "`strength` is the factor of the sum of |gamma| in the loss, 0 or more, such as "
                f"1e-4. Received: strength={strength!r}"
            )
        self.strength = float(strength)

    def __call__(self, x: Any) -> Any:
        """Return the penalty of a gamma, a scalar."""
        total: Any = keras.ops.sum(keras.ops.abs(x))
        return self.strength * total

    def get_config(self) -> dict[str, Any]:
        """Return what a saved model keeps."""
        return {"strength": self.strength}

    def apply(self, model: keras.Model) -> keras.Model:
        """Return a copy of a model, weights and all, whose BatchNorms are all penalised so.

        Args:
            model: a Sequential or Functional model, nested ones included; it is not changed. What
                its BatchNorms had as `gamma_regularizer` is replaced.

        Returns:
            The copy, which is not compiled, so that no training step is kept that leaves the
            penalty out.

        Example: `slim = tfprune.BatchNormRegularizer(1e-4).apply(model)`

        Raises:
            ValueError: it is another kind of model, or no BatchNorm in it has a gamma.
        """
        _require_graph(model)
        with_gamma = [layer for layer in cloning.leaves(model) if _has_gamma(layer)]
        if not with_gamma:
            raise ValueError(
                f"The model '{model.name}' has no BatchNormalization with a gamma (`scale=True`), "
                "so there is nothing to penalise. Rank its channels by another importance, such "
                f"as 'l2'. Received: {len(model.layers)} layers without one"
            )
        return _with(model, lambda layer: self if _has_gamma(layer) else None)

    @staticmethod
    def remove(model: keras.Model) -> keras.Model:
        """Return a copy of a model without these penalties, to fine-tune; it is not compiled.

        Example: `plain = tfprune.BatchNormRegularizer.remove(slim)`

        Raises:
            ValueError: it is not a Sequential or Functional model.
        """
        _require_graph(model)

        def kept(norm: Any) -> Any:
            own = norm.gamma_regularizer
            return None if isinstance(own, BatchNormRegularizer) else own

        return _with(model, kept)


def _has_gamma(layer: Any) -> bool:
    norm = cloning.at_a_step(layer)
    return isinstance(norm, keras.layers.BatchNormalization) and norm.scale


def _require_graph(model: Any) -> None:
    if not cloning.is_graph(model):
        raise ValueError(
            "Only a Sequential or Functional model of Keras 3 can be copied; in a model of your "
            "own class pass `gamma_regularizer=tfprune.BatchNormRegularizer(1e-4)` to each "
            f"BatchNormalization. Received: {model!r} (of type {type(model).__name__})"
        )


def _with(model: keras.Model, regularizer: Any) -> keras.Model:
    """Return a copy of a model in which each BatchNorm has the regularizer a function gives."""

    def replace(layer: Any) -> Any:
        copy = cloning.copy_layer(layer)
        old, new = cloning.at_a_step(layer), cloning.at_a_step(copy)
        if isinstance(old, keras.layers.BatchNormalization):
            new.gamma_regularizer = regularizer(old)  # read when the copy is built
            if new.built and new.scale:  # as what is wrapped is already
                new.gamma.regularizer = new.gamma_regularizer
        return copy

    return cloning.clone(model, replace, lambda old, new: (old, new))
