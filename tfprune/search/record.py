"""The folder of a search: every trained model, and `search.json`, which tells what was tried."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import keras

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
        self._identity = identity
        self.trials: list[Trial] = []
        self._earlier: list[Trial] = []
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / RECORD
        if not path.exists():
            return
        try:
            content = json.loads(path.read_text("utf-8"))
            same = content["searched"] == json.loads(json.dumps(identity))
            self._earlier = [Trial(**trial) for trial in content["trials"]]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{str(path)!r} is no record of a search, and is left as it is: {error}. Choose "
                "another folder."
            ) from None
        if not same:
            raise ValueError(
                f"{str(path)!r} is of another search (another model, budget, objective or way of "
                "pruning), and is left as it is. Choose another folder, or delete it."
            )

    def trial(self, number: int, sparsity: float) -> Trial | None:
        """Return an earlier trial if it is the one that is due."""
        if number < len(self._earlier) and self._earlier[number].sparsity == sparsity:
            self.trials.append(self._earlier[number])
            return self._earlier[number]
        return None

    def model(self, trial: Trial) -> keras.Model | None:
        """Return the model of an earlier trial."""
        if self._folder is None or not trial.file:
            return None
        loaded: Any = keras.models.load_model(self._folder / trial.file)
        return loaded

    def add(self, number: int, trial: Trial, made: keras.Model | None) -> Trial:
        """Keep a trial; its model first, so that the record names no file that is not there."""
        if self._folder is not None:
            if made is not None:
                name = f"trial-{number + 1}-{trial.sparsity:.4f}.keras"
                write_whole(self._folder / name, lambda path: made.save(path), overwrite=True)
                trial = dataclasses.replace(trial, file=name)
            done = [*self.trials, trial]
            content = {
                "searched": self._identity,
                "trials": [dataclasses.asdict(one) for one in done],
            }
            text = json.dumps(content, indent=2, allow_nan=False)
            write_whole(self._folder / RECORD, text.encode(), overwrite=True)
        self.trials.append(trial)
        return trial
