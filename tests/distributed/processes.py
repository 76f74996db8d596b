"""Starts a few processes on loopback and never leaves one behind."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent.parent


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def together(code, folder, timeout=400, may_fail=False, **environment):
    """Run code in two processes, which find their place in ADDRESSES and INDEX.

    Returns:
        The last line that each printed, read as JSON; with `may_fail` None of one that failed.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    running, logs = [], []
    try:
        for index in range(2):
            task = {"type": "worker", "index": index}
            logs.append(pathlib.Path(folder, f"worker{index}.log"))
            environ = {
                **os.environ,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": str(ROOT),
                "ADDRESSES": ",".join(addresses),
                "INDEX": str(index),
                "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task}),
                **environment,
            }
            with logs[-1].open("wb") as log:
                running.append(
                    subprocess.Popen(
                        [sys.executable, "-c", code],
                        cwd=folder,
                        env=environ,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )
        deadline = time.monotonic() + timeout
        while any(one.poll() is None for one in running) and time.monotonic() < deadline:
            if any(one.poll() for one in running):
                deadline = min(deadline, time.monotonic() + 20)  # the other may wait for ever
            time.sleep(0.2)
    finally:
        for one in running:
            one.kill()
            one.wait()
    if may_fail:
        return [
            None if one.returncode else last(log) for one, log in zip(running, logs, strict=True)
        ]
    said = "\n".join(log.read_text("utf-8", "replace")[-3000:] for log in logs)
    assert [one.returncode for one in running] == [0, 0], said
    return [last(log) for log in logs]


def last(log):
    return json.loads(log.read_text("utf-8", "replace").strip().splitlines()[-1])


def example(name, folder, workers=2, options=("--fast",)):
    """Run an example of `examples/distributed` by its one command; return each worker's figures."""
    environ = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    script = ROOT / "examples" / "distributed" / f"{name}.py"
    log = folder.parent / f"{name}.log"
    with log.open("wb") as file:
        running = subprocess.Popen(
            [
                *(sys.executable, str(script), "--json", "figures", "--timeout", "200"),
                *("--workers", str(workers), *options),
            ],
            cwd=folder,
            env={**environ, "PYTHONPATH": str(ROOT)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = running.wait(timeout=400)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)  # its workers too
            running.wait()
    assert status == 0, log.read_text("utf-8", "replace")[-4000:]
    return [json.loads((folder / f"figures.{index}").read_text()) for index in range(workers)]


def check_example(found, folder):
    """Assert that an example has ended as one machine would, and left one file."""
    assert found[0] == found[1]
    kept = [29, 7_373, 128]  # a fifth of 144, 36,864 and 640, rounded
    sizes = [9 * 16, 6 * 6 * 16 * 64, 64 * 10]
    sparsity = [1 - few / size for few, size in zip(kept, sizes, strict=True)]
    np.testing.assert_allclose(found[0]["sparsity"], sparsity)
    assert found[0]["step"] == 8  # 256 images, 64 a step for both workers, two epochs
    names = {path.name for path in folder.iterdir()}
    assert names == {"figures.0", "figures.1", "small.keras"}


def check_accuracy(name, folder, library):
    """Assert that two workers end with the sparsity and accuracy that one process ends with."""
    from tfprune import datasets

    data = datasets.load("digits")
    accuracies, sparsities = [], []
    for workers in (1, 2):
        there = folder / str(workers)
        there.mkdir()
        sparsities.append(example(name, there, workers, ())[0]["sparsity"])
        model = library.models.load_model(there / "small.keras", compile=False)
        right = model.predict(data.x_test, verbose=0).argmax(axis=1) == data.y_test
        accuracies.append(float(right.mean()))
    assert sparsities[0] == sparsities[1]
    assert min(accuracies) > 0.85, accuracies
    assert abs(accuracies[0] - accuracies[1]) < 0.04, accuracies
