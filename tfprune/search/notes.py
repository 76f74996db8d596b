"""What else there is to know of a search, beside why its trial was chosen."""

from __future__ import annotations

from collections.abc import Iterator

import keras

from tfprune.search.failures import telling
from tfprune.search.result import Trial


def notes(
    model: keras.Model, trials: list[Trial], again: list[int], between: tuple[float, float]
) -> list[str]:
    """Return what else there is to know: trials that failed, are short, or of an earlier run.

    And whether it was not the budget that ended the search.
    """
    short = [number for number, trial in enumerate(trials, 1) if trial.short]
    found = [*_failures(trials), *_never_beyond(trials, between)]
    if not model.trainable_weights:
        found.append(
            "No weight of the model trains, as it was frozen before the search: set "
            "`model.trainable = True`, unless that is meant."
        )
    if short:
        found.append(
            f"{_numbered(short)} fewer zeros than asked for: `train` has to fit the model that it "
            "is given, with `tfprune.UpdatePruningStep()`, up to the end of the schedule."
        )
    if again:
        found.append(
            f"{_numbered(again)} been taken from the folder, as `train` made them in an earlier "
            "run."
        )
    return found


def _failures(trials: list[Trial]) -> Iterator[str]:
    """Yield which trials failed, and what was not tried for that; nothing if none has a value."""
    failed = {number: trial for number, trial in enumerate(trials, 1) if trial.value is None}
    done = [trial for trial in trials if trial.value is not None]
    if not failed or not done:
        return
    last = "the last: " * (len(failed) > 1) + telling(failed[max(failed)].failure)
    yield f"{_numbered(list(failed))} failed ({last})."
    sparsest = max(done, key=lambda trial: trial.sparsity)
    if sparsest.within and max(one.sparsity for one in failed.values()) > sparsest.sparsity:
        yield (
            f"So nothing sparser than {sparsest.sparsity:.1%} was measured. With `folder` a second "
            "call makes again what failed."
        )


def _never_beyond(trials: list[Trial], between: tuple[float, float]) -> Iterator[str]:
    """Yield that a sparser model may be inside the budget too, if no trial was beyond it."""
    done = [trial for trial in trials if trial.value is not None]
    if not done or not all(trial.within for trial in done):
        return
    sparsest = max(trials, key=lambda trial: trial.sparsity)
    if sparsest.value is not None:  # what failed there is told already
        yield (
            f"No trial was beyond the budget, and nothing sparser than {sparsest.sparsity:.1%} was "
            f"tried: for that raise the end of `between` ({between[1]:g}) or `trials` "
            f"({len(trials)})."
        )


def _numbered(trials: list[int]) -> str:
    several = len(trials) > 1
    return f"Trial{'s' * several} {', '.join(map(str, trials))} {'have' if several else 'has'}"
