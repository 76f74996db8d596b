"""Start the processes of an example on this machine, show the first one's output, and wait.

On real machines nothing is launched: start the script itself on each, with `--index`.
"""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time


def free_ports(count: int) -> list[int]:
    """Return ports of this machine that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    return ports


def local(script: str, arguments: list[str], addresses: list[str]) -> int:
    """Run a script once for each address; when one fails the others are stopped.

    Returns:
        0 if all went well, else the exit status of the one that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        running = []
        try:
            for index in range(len(addresses)):
                place = ["--cluster", ",".join(addresses), "--index", str(index)]
                log = pathlib.Path(folder, f"worker{index}.log")
                with log.open("wb") as file:
                    output = None if index == 0 else file
                    running.append(
                        subprocess.Popen(
                            [sys.executable, script, *arguments, *place],
                            stdout=output,
                            stderr=output and subprocess.STDOUT,
                            env=dict(os.environ),
                        )
                    )
            while True:
                found = [process.poll() for process in running]
                failed = [index for index, status in enumerate(found) if status]
                if failed:
                    return _failed(failed[0], found[failed[0]] or 1, folder)
                if None not in found:
                    return 0
                time.sleep(0.2)
        finally:
            for process in running:
                process.kill()  # TensorFlow does not end at a polite request
                process.wait()


def _failed(index: int, status: int, folder: str) -> int:
    if index:
        text = pathlib.Path(folder, f"worker{index}.log").read_text("utf-8", "replace")
        print(f"Worker {index} failed:\n{text[-3000:]}", file=sys.stderr)
    return status
