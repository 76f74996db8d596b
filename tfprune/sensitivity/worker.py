"""The child process of a parallel measurement: a copy of the model, asked for one level at a time.

TensorFlow takes seconds to start, so that one child answers for many levels.
"""

from __future__ import annotations

import pathlib
import pickle
from collections.abc import Callable
from typing import Any

from tfprune import child

MODEL, OBJECTS, ARGUMENTS = "model.keras", "objects.pickle", "arguments.pickle"
"""Files in the folder of a measurement."""


def answer(threads: int) -> None:
    """Answer the parent until it closes the pipe; run by the child only.

    Args:
        threads: that TensorFlow may use here, since other processes run beside.
    """
    # Whatever a user's metric raises is an answer; only a crash ends the process.
    child.serve(lambda: _prepare(threads), (Exception,))


def _prepare(threads: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    from tfprune.sensitivity.bench import Bench

    state: dict[str, Any] = {"batch": None}

    def load(folder: str) -> Bench:
        files = pathlib.Path(folder)
        # Classes first: unpickling them imports the modules in which they are registered.
        objects = pickle.loads((files / OBJECTS).read_bytes())
        metric, pattern, layers = pickle.loads((files / ARGUMENTS).read_bytes())
        model: Any = keras.models.load_model(
            files / MODEL, custom_objects=objects, compile=metric == "loss", safe_mode=False
        )
        return Bench(model, metric, pattern, layers)

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        if "folder" in question:
            state["bench"] = load(question["folder"])
            return {}
        bench = state["bench"]
        if state["batch"] != question["batch"]:
            bench.take(pickle.loads(pathlib.Path(question["batch"]).read_bytes()))
            state["batch"] = question["batch"]
        if question["trial"] is None:
            return {"value": bench.dense}
        return {"value": bench.pruned(question["trial"], question["level"])}

    return reply
