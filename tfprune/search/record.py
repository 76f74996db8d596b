"""The folder of a search: every trained model, and `search.json`, which tells what was tried."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import keras

from tfprune import resumption
from tfprune.files import write_whole
from tfprune.search.result import Trial

RECORD = "search.json"


class Record:
    """The trials that are done, in memory and in a folder if one is given.

    Args:
        folder: made if it does not exist; None keeps nothing on disk.
        identity: what tells this search from another, as JSON knows it.

    Attributes:
        trials: those of this search so far.

    Raises:
        ValueError: the folder holds another search, or a file of that name that is none.
    """

    def __init__(self, folder: str | os.PathLike | None, identity: dict[str, Any]) -> None:
        self._folder = None if folder is None else pathlib.Path(folder)
        self.trials: list[Trial] = []
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._record = resumption.Record(
            None if self._folder is None else self._folder / RECORD,
            identity,
            lambda content: [Trial(**trial) for trial in content["trials"]],
            kind="a search",
            other="another search (another model, budget, objective or way of pruning)",
            elsewhere="Choose another folder",
        )

    def earlier(self, number: int) -> Trial | None:
        """Return the trial of this number that an earlier run made, None if it made none."""
        done = self._record.earlier or []
        return done[number] if number < len(done) else None

    def model(self, trial: Trial) -> keras.Model | None:
        """Return the model of an earlier trial."""
        if self._folder is None or not trial.file:
            return None
        loaded: Any = keras.models.load_model(self._folder / trial.file)
        return loaded

    def add(self, trial: Trial, made: keras.Model | None) -> Trial:
        """Keep a trial; its model first, so that the record names no file that is not there."""
        if self._folder is not None and made is not None:
            name = f"trial-{len(self.trials) + 1}-{trial.sparsity:.4f}.keras"
            write_whole(self._folder / name, lambda path: made.save(path), overwrite=True)
            trial = dataclasses.replace(trial, file=name)
        self.trials.append(trial)
        if trial != self.earlier(len(self.trials) - 1):
            self._record.write({"trials": [dataclasses.asdict(one) for one in self.trials]})
        return trial
