"""`PruningPolicy`: a user's say in which layers of a model are pruned."""

from __future__ import annotations

import abc
from typing import Any


class PruningPolicy(abc.ABC):
    """Says which layers of a model to prune; pass one as `pruning_policy`.

    Example:

    ```python
    class OnlyConvolutions(tfprune.PruningPolicy):
        def allow_pruning(self, layer):
            return isinstance(layer, keras.layers.Conv2D)

        def ensure_model_supports_pruning(self, model):
            pass
    ```

    Source: tfmot's `PruningPolicy`.
    """

    @abc.abstractmethod
    def allow_pruning(self, layer) -> bool:
        """Tell whether a layer may be pruned."""

    @abc.abstractmethod
    def ensure_model_supports_pruning(self, model) -> None:
        """Raise a `ValueError` if the policy makes no sense for a model."""


def require_policy(policy: Any) -> None:
    """Raise a `TypeError` unless this is a policy, by class or by its methods, or None."""
    asked = ("allow_pruning", "ensure_model_supports_pruning")
    if policy is not None and not all(callable(getattr(policy, name, None)) for name in asked):
        raise TypeError(
            "`pruning_policy` must be a `tfprune.PruningPolicy`, an object with the methods "
            f"`{'` and `'.join(asked)}`. Received: {policy!r}"
        )
