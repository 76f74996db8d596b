"""The steps of one training run, counted from what a callback is told of its batches.

No hook tells all of it: an execution may hold several batches, an end may not be announced (in a
loop after tfmot's guide, at the end of the data), and under JAX batches are told of late.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from tfprune import optimizers, train_function
from tfprune.states import StepCounter


class TrainingRun:
    """Counts the optimizer updates of a run into a `StepCounter`.

    Args:
        model: the model that is trained; None if it is not known yet.
        counter: what is counted into.
        params: what `fit` tells its callbacks; empty in a loop of one's own.
    """

    def __init__(self, model: Any, counter: StepCounter, params: dict[str, Any] | None):
        self.params = params or {}
        self.model = model
        self._counter = counter
        self._batches = 0
        self._open: int | None = None
        self._calls = 0  # of the training function before the open batch
        self._thread = threading.get_ident()
        self._recount = False
        self._iterations_at_begin: int | None = None

    @property
    def in_fit(self) -> bool:
        """Whether `fit` trains, and not a loop of one's own."""
        return "epochs" in self.params

    @property
    def accumulation(self) -> int:
        """How many batches one optimizer update takes."""
        return getattr(optimizers.inner(self.model), "gradient_accumulation_steps", None) or 1

    def begin_batch(self, batch: int) -> None:
        """Note that a batch begins; the one before it is closed already."""
        self._open, self._calls = batch, train_function.calls(self.model)

    def end_batch(self) -> None:
        """Count the batch that was announced, or the several batches of its execution."""
        self._count(self._executed())
        self._open = None

    def close_batch(self) -> None:
        """Deal with a batch whose end was not announced, or beside the training."""
        if self._open is not None:
            if not self.in_fit:
                self._count(1)  # the hook is not called, as in tfmot's guide
            elif self._ran():
                self._count(self._executed())
        self._open = None  # otherwise the data ran out, and the batch never came

    def batch_is_open(self) -> bool:
        """Tell whether a batch was announced whose end was not, as this thread is to know.

        Another thread than that of `fit` may be told of it while `fit` trains on.
        """
        beside = self.in_fit and threading.get_ident() != self._thread
        return self._open is not None and not beside

    def close_if_run(self) -> bool:
        """Close the open batch if it was trained on, and tell whether it was."""
        if not self.batch_is_open() or not self._ran():
            return False
        self.close_batch()
        return True

    def is_last(self, batch: int) -> bool:
        """Tell whether a batch is the last of its epoch, as far as `fit` knows their number."""
        steps = self.params.get("steps")
        return bool(steps) and batch + 1 >= steps  # an execution may be shorter

    def follow_optimizer(self) -> None:
        """Note where the optimizer stands, from which its updates in this run are reckoned."""
        iterations = self._iterations()
        if iterations is not None:
            self._iterations_at_begin = iterations - self._counter.updates
            self._counter.optimizer_counts = self.in_fit

    def optimizer_updates(self) -> int:
        """Return how often the optimizer has updated the weights since this run began."""
        return (self._iterations() or 0) - (self._iterations_at_begin or 0)

    def count_again(self) -> None:
        """Take the optimizer's word where executions of unknown length were counted."""
        if self._recount and self._iterations_at_begin is not None:
            self._counter.updates = self.optimizer_updates()
            self._batches = self._counter.updates * self.accumulation
        self._recount = False

    def end_after(self, begin: int, epoch: int) -> int | None:
        """Return the step at the end of `fit`, from one at the begin of an epoch.

        None in a loop of one's own, or if nobody knows how many batches there are.
        """
        steps = self.params.get("steps")
        if not self.in_fit or not steps:
            return None
        return begin + (self.params["epochs"] - epoch) * steps // self.accumulation

    def length(self) -> str:
        """Return how long `fit` is to train, in words; empty in a loop of one's own."""
        if not self.in_fit:
            return ""
        return f"{self.params['epochs']} epochs of {self.params.get('steps') or 'unknown'} batches"

    def _count(self, batches: int) -> None:
        self._batches += batches
        self._counter.updates = self._batches // self.accumulation

    def _executed(self) -> int:
        """Return how many batches the training function ran between the two hooks."""
        size = getattr(self.model, "steps_per_execution", 1)
        if not self.in_fit or not isinstance(size, int) or size == 1:
            return 1
        # An execution at the end of the data is shorter, which no hook tells.
        steps = self.params.get("steps")
        if steps:
            return max(1, min(size, steps - (self._open or 0)))
        self._recount = True
        return size

    def _ran(self) -> bool:
        """Tell whether the open batch was trained on."""
        return train_function.calls(self.model) > self._calls

    def _iterations(self) -> int | None:
        iterations = getattr(getattr(self.model, "optimizer", None), "iterations", None)
        return None if iterations is None else int(np.asarray(iterations))
