"""When to prune and how much: a schedule maps a training step to (is it time, sparsity).

A *step* is one optimizer update; step 0 is before the first. Every schedule offers

- ``schedule(step)``: the pair tfmot's schedules return, ``(should_prune, sparsity)``;
- ``schedule.update_between(after, step)``: the last update due in ``(after, step]``, so that a loop
  which jumps over steps (``steps_per_execution``) misses none;
- ``schedule.final_sparsity``: the sparsity a full run ends at.

Unlike tfmot, an update at ``begin_step`` and one at ``end_step`` always happen.
Plain integers and floats in, plain integers and floats out: numpy is not even needed here.
"""

from tfprune.schedules.base import PruningSchedule, check_sparsity
from tfprune.schedules.cuts import ConstantSparsity, Iterative, OneShot
from tfprune.schedules.decay import Gradual, PolynomialDecay
from tfprune.schedules.function import FunctionSchedule
from tfprune.schedules.lookup import arguments_of, get, with_final

__all__ = [
    "ConstantSparsity",
    "FunctionSchedule",
    "Gradual",
    "Iterative",
    "OneShot",
    "PolynomialDecay",
    "PruningSchedule",
    "arguments_of",
    "check_sparsity",
    "get",
    "with_final",
]
