"""Starts a few processes on loopback and never leaves one behind."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent.parent


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def together(code, folder, timeout=150, may_fail=False, **environment):
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
                deadline = min(deadline, time.monotonic() + 5)  # the other may wait for ever
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
