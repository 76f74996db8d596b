"""`SoftChannelPruning`: channels that are zero at the end of each epoch, and may return."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from tfprune.channels import selection, structure, targets
from tfprune.channels.admission import admit
from tfprune.channels.history import History, history
from tfprune.channels.scoring import NEED_DATA, Importance, Scorer
from tfprune.channels.selection import Limits
from tfprune.channels.structure import Structure

_OWN = frozenset({"bias"})
"""What a layer adds to the channels that its kernel makes."""


class SoftChannelPruning(keras.callbacks.Callback):
    """Zeroes the least important channels at each epoch's end, and lets training bring them back.

    What makes a channel is zeroed: its column in every kernel, and its bias. Norms are left as they
    are, since a kernel behind a scale of zero would have no gradient and never return. So the model
    keeps its size and chooses anew each time; `history` says which channels were zero last, and
    `replay` removes those.

    Args:
        ratio: fraction of each layer's channels to zero, such as 0.3.
        importance: as for `shrink`, but for those that need data.
        every: epochs from one time to the next.
        ignore: names of layers whose channels all stay.
        layers: names of the only layers whose channels are zeroed.
        seed: of "random".

    Attributes:
        history: what is zero now, in the form that `replay` takes; empty before the first time.

    Example:

    ```python
    soft = tfprune.SoftChannelPruning(0.3)
    model.fit(x, y, epochs=20, callbacks=[soft])
    small = tfprune.replay(model, soft.history)
    ```

    In a loop of your own call `soft.set_model(model)` and `soft.on_train_begin()` once, and
    `soft.on_epoch_end(epoch)` after each epoch.

    Raises:
        ValueError, TypeError: an argument is out of range; at the beginning of training, a layer
            is unknown or the model is one that `shrink` refuses.

    Source: He et al. 2018, "Soft Filter Pruning for Accelerating Deep CNNs".
    """

    def __init__(
        self,
        ratio: float,
        importance: Importance = "l2",
        every: int = 1,
        ignore: Iterable[str] = (),
        layers: Iterable[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(ratio, bool) or not isinstance(ratio, numbers.Real) or not 0 < ratio < 1:
            raise ValueError(
                "`ratio` is the fraction of each layer's channels to zero, between 0 and 1, both "
                f"left out. Received: ratio={ratio!r}"
            )
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"`every` is a number of epochs, 1 or more. Received: every={every!r}")
        if importance in NEED_DATA:
            raise ValueError(
                "`SoftChannelPruning` looks at weights only: use 'l2' (as in the paper), 'l1', "
                f"'fpgm', 'gamma', 'random' or a function. Received: importance={importance!r}"
            )
        self.ratio, self.importance, self.every, self.seed = float(ratio), importance, every, seed
        self.ignore, self.layers = ignore, layers
        self.history: History = []
        self._read: Structure | None = None
        self._may_go = np.empty(0, bool)
        self._scorer: Scorer | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Read the model's channels."""
        model = self.model
        if model is None:
            raise ValueError(
                "The callback has no model. In a loop of your own call "
                "`callback.set_model(model)` before `on_train_begin()`."
            )
        admit(model)
        self._read = structure.read(model)
        self._may_go = targets.candidates(self._read, self.layers, self.ignore)
        self._scorer = Scorer(self.importance, model, seed=self.seed)
        self.history = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Choose anew which channels are zero, every so many epochs."""
        if (epoch + 1) % self.every == 0:
            self._zero()

    def _zero(self) -> None:
        if self._read is None or self._scorer is None:
            raise ValueError(
                "The callback was not told that training begins: call `on_train_begin()` after "
                "`set_model(model)` in a loop of your own."
            )
        self._sync()
        read, atoms = self._read, self._read.atoms
        limits = Limits(max_ratio=1.0)
        order = selection.order(atoms, self._scorer.scores(read), self._may_go, "local", limits)
        removed = order.up_to(self.ratio)
        keep = atoms.keep(removed)
        for place in atoms.places:
            makes = place.role == "out" or place.name.rsplit("/", 1)[-1] in _OWN
            lost = np.flatnonzero((place.ids >= 0) & ~keep[place.ids])
            if makes and lost.size:
                value = np.array(keras.ops.convert_to_numpy(place.variable.value))
                np.moveaxis(value, place.axis, 0)[lost] = 0
                place.variable.assign(value)
        self.history = history(read, removed) if removed.size else []

    def _sync(self) -> None:
        """Bring the weights back into the model: under JAX they live outside it in an epoch."""
        sync = getattr(self.model, "jax_state_sync", None)
        if sync is not None and keras.backend.backend() == "jax":
            sync()
