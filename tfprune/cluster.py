"""A Ray cluster that shares the work of this process: how it is reached, and what its workers run.

Ray is loaded when it is asked for. Models, data and functions travel as bytes, and are read when
the worker has learnt which backend of Keras they need.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tfprune import child

SECONDS = 30.0
"""Time limit for reaching a cluster."""

_NO_USAGE = {"RAY_USAGE_STATS_ENABLED": "0"}  # a cluster of ours tells Ray's makers nothing
_ONE = {"CPU": 1.0}
_limited = False  # of a worker's process: threads are set before TensorFlow first runs


class Cluster:
    """A connection to a Ray cluster; a context manager, which ends it.

    A program that has called `ray.init` itself keeps its connection, before and after.

    Args:
        address: "auto" for the cluster that this machine belongs to, "host:port" of another one;
            None starts one of this machine's own processors.
        processes: how many work at a time; None as many as the cluster has room for.
        resources: that each of them takes, in Ray's words, such as {"CPU": 2, "GPU": 1}; one CPU
            if None. Its threads are as many as its CPUs.
        seconds: time limit for reaching it.

    Attributes:
        ray: the module.

    Example:

    ```python
    with Cluster("auto", None, {"GPU": 1}) as cluster:
        task = cluster.remote("json", "loads")
        found = cluster.ray.get(task.remote("1"))
    ```

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no such cluster, or it does not answer in time.
        ValueError: an argument is out of range.

    Source: Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications".
    """

    def __init__(
        self,
        address: str | None,
        processes: int | None,
        resources: Mapping[str, float] | None,
        seconds: float = SECONDS,
    ) -> None:
        check(address, processes, resources)
        self.ray = _ray()
        self._address, self._processes, self._seconds = address, processes, seconds
        self.resources = dict(_ONE if resources is None else resources)
        self._mine = False

    def __enter__(self) -> Cluster:
        """Connect, and return itself."""
        if self.ray.is_initialized():
            return self
        if self._address not in (None, "local"):
            _require_reachable(str(self._address), self._seconds)
        self._mine = True
        # Only where a cluster begins is there a dashboard to be left out.
        own = {"include_dashboard": False} if self._address in (None, "local") else {}
        with settings(**_NO_USAGE):
            self.ray.init(
                address=self._address or "local",
                logging_level="ERROR",
                log_to_driver=False,
                **own,
            )
        if own and self.lack:
            there = self._there()
            self.ray.shutdown()
            raise ValueError(
                "The cluster that was started on this machine will never have what each trial is "
                "to take. Ask for less, or pass the `address` of a cluster that has it. "
                f"Received: resources={self.resources!r}, on a machine with {there}"
            )
        return self

    def __exit__(self, *error: object) -> None:
        """Disconnect, which ends what still runs."""
        if self._mine:
            self.ray.shutdown()

    def _there(self) -> str:
        """Return what the cluster has, in words, without what Ray counts for itself."""
        found = self.ray.cluster_resources()
        return ", ".join(f"{name}: {found[name]:g}" for name in ("CPU", "GPU") if name in found)

    @property
    def places(self) -> int:
        """How many can work at a time now, one at least."""
        if self._processes is not None:
            return self._processes
        there = self.ray.cluster_resources()
        asked = {name: amount for name, amount in self.resources.items() if amount}
        return max(1, int(min(there.get(name, 0.0) / amount for name, amount in asked.items())))

    @property
    def lack(self) -> str:
        """What no node has, in words, while work waits for one that does; empty if there is one."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for node in nodes:
            if all(node.get(name, 0.0) >= amount for name, amount in self.resources.items()):
                return ""
        asked = ", ".join(f"{name}: {amount:g}" for name, amount in self.resources.items())
        return f"None of the {len(nodes)} nodes of the cluster has {{{asked}}}: waiting for one"

    def place(self, backend: str | None) -> Place:
        """Return what a worker is made ready by; see `remote`."""
        return Place(backend, max(1, int(self.resources.get("CPU", 1))), tuple(sys.path))

    def remote(self, module: str, function: str, backend: str | None = None) -> Any:
        """Return a function of a module as a Ray task, which is not run again by itself.

        Args:
            module: that a worker imports, once `backend` is set.
            function: its name; what it returns is what the task gives.
            backend: of Keras; None if the module needs none.
        """
        others = {k: v for k, v in self.resources.items() if k not in ("CPU", "GPU")}
        place = self.place(backend)

        def task(*arguments: Any) -> Any:
            return call(module, function, place, *arguments)

        return self.ray.remote(
            num_cpus=self.resources.get("CPU", 0),
            num_gpus=self.resources.get("GPU", 0),
            resources=others,
            max_retries=0,
        )(task)


@dataclasses.dataclass(frozen=True)
class Place:
    """What a worker needs before Keras is loaded there.

    Attributes:
        backend: of Keras; None if it is not used.
        threads: that it may use, since others work beside.
        path: where this process looks for modules; what of it is there is looked at last.
    """

    backend: str | None
    threads: int
    path: tuple[str, ...]


def call(module: str, function: str, place: Place, *arguments: Any) -> Any:
    """Call a function by its name in a process that has not loaded Keras yet; run by workers."""
    global _limited
    sys.path += [part for part in place.path if part not in sys.path and os.path.exists(part)]
    if place.backend is not None:
        os.environ["KERAS_BACKEND"] = place.backend
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if not _limited:
            from tfprune import parcels  # which loads Keras

            parcels.limit_threads(place.threads)
            _limited = True
    return getattr(importlib.import_module(module), function)(*arguments)


def check(address: Any, processes: Any, resources: Any) -> None:
    """Raise if arguments of a cluster are out of range."""
    if address is not None and (not isinstance(address, str) or not address):
        raise ValueError(
            "`address` is that of a Ray cluster: 'auto', 'host:port', or None to start one here. "
            f"Received: address={address!r}"
        )
    whole = isinstance(processes, int) and not isinstance(processes, bool)
    if processes is not None and not (whole and processes >= 1):
        raise ValueError(
            f"`processes` is a whole number, 1 or more. Received: processes={processes!r}"
        )
    if resources is None:
        return
    good = isinstance(resources, Mapping) and all(
        isinstance(name, str) and isinstance(amount, (int, float)) and 0 <= amount < math.inf
        for name, amount in resources.items()
    )
    if not good or not any(resources.values()):
        raise ValueError(
            "`resources` says what each trial takes of the cluster, such as {'CPU': 2, 'GPU': 1}. "
            f"Received: resources={resources!r}"
        )


def require_none(engine: str, address: Any, resources: Any) -> None:
    """Raise if what is for a cluster was passed with another engine."""
    if address is not None or resources is not None:
        raise ValueError(
            "`address` and `resources` are for engine='ray'. "
            f"Received: engine={engine!r}, address={address!r}, resources={resources!r}"
        )


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "engine='ray' needs Ray, which is not installed: run `pip install 'tfprune[ray]'`, on "
            "each machine of the cluster. Received: engine='ray'"
        ) from error
    return ray


def _require_reachable(address: str, seconds: float) -> None:
    """Raise unless a cluster answers.

    Ray's own attempt takes minutes, and cannot be stopped; so a process that can be tries first.
    """
    code = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, address],
            capture_output=True,
            timeout=seconds,
            env={**child.environment(), **_NO_USAGE},
            check=False,
        )
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = lines[-1] if done.returncode and lines else ""
        if not done.returncode:
            return
    except subprocess.TimeoutExpired:
        why = f"no answer within {seconds:g} seconds"
    raise ConnectionError(
        f"The Ray cluster cannot be reached: {why}. Start one by `ray start --head` on one machine "
        "and `ray start --address=HOST:6379` on the others, this one among them, or leave "
        f"`address` out to use this machine alone. Received: address={address!r}"
    )


@contextlib.contextmanager
def settings(**values: str) -> Iterator[None]:
    """Set environment variables that Ray reads, and put them back.

    Example: `with settings(RAY_AIR_NEW_OUTPUT="0"): tuner.fit()`
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
