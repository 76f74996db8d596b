"""The trials of a search in TensorBoard: a run for each, side by side under HParams."""

from __future__ import annotations

import gzip
import os
import pathlib
import tempfile
import time
from typing import Any

from tfprune.files import write_whole
from tfprune.search.result import Trial

FOLDER = "logs"
_FILE = "events.out.tfevents.trial"  # always the same: a trial made again replaces its file
_COSTS = {"size": "tflite_bytes", "latency": "latency_ms"}  # of "sparsity" it is `zeros` again


class Logs:
    """A run of TensorBoard for each trial, `logs/trial-1-0.7450` in the folder of the search.

    Each holds what the trial was made with (`hyperparameters`), what it reached (`figures`), and
    its `outcome`; of a failed one the error as a text. Its one file is written whole when the trial
    is judged. A TensorBoard that is open shows new trials by itself, and one that was made again
    once it is started anew.

    Args:
        folder: of the search, which exists; None writes nothing.
        metric: that the budget is about.
        objective: "sparsity", "size" or "latency".

    Example:

    ```python
    logs = Logs("search", "accuracy", "sparsity")
    logs.begin(1)
    logs.write(1, trial)  # then: tfprune board search/logs
    ```

    Source: TensorBoard's HParams plugin (`tensorboard.plugins.hparams`).
    """

    def __init__(self, folder: str | os.PathLike | None, metric: str, objective: str) -> None:
        self._folder = None if folder is None else pathlib.Path(folder)
        self._metric, self._objective = metric, objective
        self._started: dict[int, float] = {}

    def begin(self, number: int) -> None:
        """Take away what an earlier run wrote of a trial that is made again."""
        self._started[number] = time.time()
        if self._folder is None:
            return
        for file in (self._folder / FOLDER).glob(f"trial-{number}-*/{_FILE}"):
            file.unlink()
            if not any(file.parent.iterdir()):  # the user may keep curves of the training there
                file.parent.rmdir()

    def write(self, number: int, trial: Trial) -> None:
        """Write the run of a trial, once: one that an earlier run wrote stays as it is."""
        if self._folder is None:
            return
        run = self._folder / FOLDER / run_name(number, trial)
        if (run / _FILE).exists():
            return
        started = self._started.get(number, time.time())
        run.mkdir(parents=True, exist_ok=True)
        found = figures(trial, self._metric, self._objective)
        if trial.file:
            content = (self._folder / trial.file).read_bytes()
            found["gzip_bytes"] = len(gzip.compress(content, compresslevel=6, mtime=0))
        write_whole(run / _FILE, _events(number, trial, found, started))


def run_name(number: int, trial: Trial) -> str:
    """Return the name of a trial's run, that of its model without the ending."""
    return f"trial-{number}-{trial.sparsity:.4f}"


def hyperparameters(trial: Trial) -> dict[str, Any]:
    """Return what a trial was made with: its sparsity, and what was sampled for it.

    Example: `{"sparsity": 0.7, "sparsity of conv1": 0.5, "sparsity of wide": 0.8}`
    """
    sampled = {
        name if isinstance(value, str) else f"sparsity of {name}": value
        for name, value in trial.settings.items()
    }
    return {"sparsity": trial.sparsity, **sampled}


def figures(trial: Trial, metric: str, objective: str) -> dict[str, float]:
    """Return what was measured of a trial; of one that failed nothing.

    Example: `{"accuracy": 0.98, "zeros": 0.7, "tflite_bytes": 41_232.0}`
    """
    if trial.value is None:
        return {}
    found = {metric: trial.value, "zeros": trial.reached}
    if objective in _COSTS:
        found[_COSTS[objective]] = trial.cost
    return {name: value for name, value in found.items() if value is not None}


def outcome(trial: Trial) -> str:
    """Return how a trial ended, in words that its row can show beside TensorBoard's own status."""
    if trial.failure:
        return "failed"
    return "within the budget" if trial.within else "beyond the budget"


def _events(number: int, trial: Trial, found: dict[str, float], started: float) -> bytes:
    """Return the content of an event file."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api, api_pb2, summary

    status = api_pb2.STATUS_FAILURE if trial.failure else api_pb2.STATUS_SUCCESS
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        writer = tf.summary.create_file_writer(folder)
        with writer.as_default(step=number), tf.summary.record_if(True):
            # Without an id of its own, the run's path tells it from those of other searches.
            row = {**hyperparameters(trial), "outcome": outcome(trial)}
            api.hparams(row, trial_id="", start_time_secs=started)
            for name, value in found.items():
                tf.summary.scalar(name, value)
            if trial.failure:
                tf.summary.text("failure", trial.failure)
            end = summary.session_end_pb(status).SerializeToString()
            tf.summary.experimental.write_raw_pb(end)
        writer.close()
        (file,) = pathlib.Path(folder).iterdir()
        return file.read_bytes()
