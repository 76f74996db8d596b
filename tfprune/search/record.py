"""The folder of a search: every trained model, and `search.json`, which tells what was tried."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import warnings
import zipfile
from typing import Any

import keras

from tfprune import cloning, resumption
from tfprune.cloning import CANNOT_REBUILD
from tfprune.files import write_whole
from tfprune.saved import entries, restored
from tfprune.search.result import UNMEASURED, Trial

RECORD = "search.json"
_UNFINISHED = Trial(0.0, None, None, None, False, "not finished")
"""Stands in the file for a trial that a later one overtook."""


class Record:
    """The trials that are done, in memory and in a folder if one is given.

    Args:
        folder: made if it does not exist; None keeps nothing on disk.
        identity: what tells this search from another, as JSON knows it.
        model: that is pruned.

    Raises:
        ValueError: the folder holds another search, or a file of that name that is none.
        NotADirectoryError: a file is there, or above it.
        OSError: the folder cannot be made.
    """

    def __init__(
        self, folder: str | os.PathLike | None, identity: dict[str, Any], model: keras.Model
    ) -> None:
        self._folder = None if folder is None else pathlib.Path(folder)
        self._model = model
        self._done: dict[int, Trial] = {}
        if self._folder is not None:
            _make(self._folder)
        self._record = resumption.Record(
            None if self._folder is None else self._folder / RECORD,
            identity,
            lambda content: [restored(Trial, trial) for trial in entries(content, "trials")],
            kind="a search",
            other="another search (another model, budget, objective or way of pruning, other data)",
            elsewhere="Choose another folder",
        )

    @property
    def trials(self) -> list[Trial]:
        """Those of this search so far, by their number."""
        return [self._done[number] for number in sorted(self._done)]

    def earlier(self, number: int) -> Trial | None:
        """Return the trial of this number that an earlier run made, None if it made none."""
        done = self._record.earlier or []
        return done[number] if number < len(done) else None

    def usable(self, number: int, sparsity: float) -> Trial | None:
        """Return the trial of this number if its model is there and was pruned so.

        One that failed is not: what it failed of may be mended.
        """
        trial = self.earlier(number)
        if trial is None or not math.isclose(trial.sparsity, sparsity, rel_tol=1e-9):
            return None
        if trial.value is None and trial.failure != UNMEASURED:
            return None
        there = self._folder is not None and trial.file and (self._folder / trial.file).is_file()
        return trial if there else None

    def model(self, trial: Trial) -> keras.Model:
        """Return the kept model of a trial.

        Raises:
            ValueError: its file cannot be read.
        """
        assert self._folder is not None
        path = self._folder / trial.file
        try:
            loaded: Any = keras.models.load_model(path, compile=False)
            return loaded
        except CANNOT_REBUILD:  # a Lambda, or a class that Keras was not told of
            copy = cloning.clone(self._model, cloning.copy_layer, lambda old, new: (old, new))
        try:
            copy.load_weights(path)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"The model of a trial cannot be loaded from {str(path)!r} "
                f"({str(error).strip().splitlines()[0]}). Register its own classes by "
                "`keras.saving.register_keras_serializable`, or delete the file, and it is trained "
                f"again. Received: {trial.file!r}"
            ) from error
        return copy

    def keep(self, number: int, trial: Trial, made: keras.Model | None) -> Trial:
        """Keep a trained model, and that it is there, before anything else is done with it."""
        if self._folder is None or made is None:
            return trial
        name = f"trial-{number + 1}-{trial.sparsity:.4f}.keras"
        try:
            write_whole(self._folder / name, lambda path: made.save(path), overwrite=True)
        except CANNOT_REBUILD as error:
            warnings.warn(
                f"The model of trial {number + 1} cannot be saved, and is not kept in "
                f"the folder ({str(error).strip().splitlines()[0]}). Give its layers a "
                "`get_config` method.",
                stacklevel=2,
            )
            return trial
        trial = dataclasses.replace(trial, file=name)
        self._done[number] = trial
        self._write()
        return trial

    def add(self, number: int, trial: Trial) -> None:
        """Take down a trial as it is in the end."""
        written = self._done.get(number, self.earlier(number))
        self._done[number] = trial
        if trial != written:
            self._write()

    def _write(self) -> None:
        """Write trials; those that an earlier run made and this one has not reached stay."""
        count = max(max(self._done) + 1, len(self._record.earlier or []))
        every = [self._done.get(n) or self.earlier(n) or _UNFINISHED for n in range(count)]
        self._record.write({"trials": [dataclasses.asdict(one) for one in every]})


def _make(folder: pathlib.Path) -> None:
    """Make a folder, and those above it, where they do not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(
            f"The trials of a search are kept in a folder, and {str(folder)!r} is a file or lies "
            f"in one. Choose another path. Received: folder={str(folder)!r}"
        ) from None
    except OSError as error:
        raise type(error)(
            f"The folder {str(folder)!r} for the trials of a search cannot be made "
            f"({error.strerror}). Choose a place that you may write to. "
            f"Received: folder={str(folder)!r}"
        ) from error
