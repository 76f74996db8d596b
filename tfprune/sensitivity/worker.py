"""The child process of a parallel measurement: a copy of the model, asked for one level at a time.

TensorFlow takes seconds to start, so that one child answers for many levels.
"""

from __future__ import annotations

import pathlib
import pickle
from collections.abc import Callable
from typing import Any

from tfprune import child


def answer(threads: int) -> None:
    """Answer the parent until it closes the pipe; run by the child only.

    Args:
        threads: that TensorFlow may use here, since other processes run beside.
    """
    # Whatever a user's metric raises is an answer; only a crash ends the process.
    child.serve(lambda: _prepare(threads), (Exception,))


def _prepare(threads: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    from tfprune import parcels

    parcels.limit_threads(threads)
    from tfprune.sensitivity.bench import Bench

    state: dict[str, Any] = {"batch": None}

    def reply(question: dict[str, Any]) -> dict[str, Any]:
        if "folder" in question:
            model, values = parcels.unpack(question["folder"])
            state["bench"] = Bench(model, *values)
            return {}
        bench = state["bench"]
        if state["batch"] != question["batch"]:
            bench.take(pickle.loads(pathlib.Path(question["batch"]).read_bytes()))
            state["batch"] = question["batch"]
        if question["trial"] is None:
            return {"value": bench.dense}
        return {"value": bench.pruned(question["trial"], question["level"])}

    return reply
