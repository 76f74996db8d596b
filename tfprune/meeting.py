"""Workers of a cluster meet over TCP before they start, so that a missing one is an error in time.

TensorFlow waits for its workers for ever, and JAX ends the process without an exception. So the
first worker listens here for a stated time, the others call it, and all learn who came, and who
means to do something else. What is said are short lines of text; nothing received is ever run.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time

_LINE = 65_536
_PAUSE = 0.2
_PATIENCE = 5.0  # seconds that a caller may be silent


def meet(address: str, count: int, index: int, timeout: float, says: str = "") -> list[str]:
    """Wait until all workers are there, and return what each said, by its index.

    Args:
        address: "host:port" of the first worker, free on it until the meeting is over.
        count: how many workers there are.
        index: which of them this process is; the first is 0.
        timeout: seconds to wait.
        says: one short text for all others, such as the seed of the run.

    Returns:
        `count` texts, the same for everybody.

    Raises:
        ValueError: an address, a count or an index that is none.
        TimeoutError: somebody did not come in time; the message says who.
        OSError: the first worker cannot listen there.

    Example: `meet("10.0.0.1:12345", count=2, index=0, timeout=60)` returns `["", ""]` once the
    second worker has called with `index=1`.
    """
    host, port = _checked(address, count, index, timeout)
    if count == 1:
        return [says]
    deadline = time.monotonic() + timeout
    if index == 0:
        return _listen(host, port, count, deadline, timeout, says)
    return _call(host, port, count, index, deadline, timeout, says)


def _checked(address: str, count: int, index: int, timeout: float) -> tuple[str, int]:
    host, _, port = str(address).rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65_536:
        raise ValueError(
            "A worker is reached at 'host:port', for example '10.0.0.1:12345'. "
            f"Received: {address!r}"
        )
    if not isinstance(count, int) or not isinstance(index, int) or not 0 <= index < count:
        raise ValueError(
            "Workers are counted from 0: of n workers, the index of each is 0 to n - 1. "
            f"Received: worker {index!r} of {count!r}"
        )
    if not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValueError(f"`timeout` is a number of seconds above 0. Received: timeout={timeout!r}")
    return host.strip("[]"), int(port)


def _listen(
    host: str, port: int, count: int, deadline: float, timeout: float, says: str
) -> list[str]:
    """Be the first worker: wait for the others, then tell all of them what was said."""
    came: dict[int, tuple[socket.socket, str]] = {}
    introduced: queue.SimpleQueue[tuple[int, socket.socket, str]] = queue.SimpleQueue()
    try:
        kind = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server(("", port), family=kind, backlog=count)
    except OSError as error:
        raise OSError(
            error.errno,
            f"The first worker cannot listen on its port: {error.strerror}. Choose one that is "
            f"free, and give it to every worker. Received: {host}:{port}",
        ) from None
    with server:
        server.settimeout(_PAUSE)
        try:
            while len(came) < count - 1:
                if time.monotonic() >= deadline:
                    missing = sorted(set(range(1, count)) - set(came))
                    raise TimeoutError(_late(f"{host}:{port}", count, missing, timeout))
                with contextlib.suppress(TimeoutError):
                    caller, _ = server.accept()
                    # A thread each: who calls and says nothing must not keep the others out.
                    threading.Thread(
                        target=_receive, args=(caller, count, introduced), daemon=True
                    ).start()
                while not introduced.empty():
                    who, caller, what = introduced.get()
                    earlier = came.get(who)  # a worker that was started anew
                    came[who] = (caller, what)
                    if earlier is not None:
                        earlier[0].close()
            said = [says, *(came[index][1] for index in range(1, count))]
            for caller, _ in came.values():
                with contextlib.suppress(OSError):  # whoever is gone by now is missed later
                    caller.sendall(_line(said))
            for caller, _ in came.values():  # who closes first keeps the port busy for a while
                with contextlib.suppress(OSError):
                    caller.recv(1)
            return said
        finally:
            for caller, _ in came.values():
                caller.close()


def _receive(caller: socket.socket, count: int, introduced: queue.SimpleQueue) -> None:
    """Put a caller into the queue once it has said who it is; send away who is no worker."""
    caller.settimeout(_PATIENCE)
    found = _introduction(caller, count)
    if found is None:
        caller.close()
    else:
        introduced.put((found[0], caller, found[1]))


def _introduction(caller: socket.socket, count: int) -> tuple[int, str] | None:
    """Return the index and the words of a caller; None if it is no worker of this cluster."""
    try:
        found = json.loads(_read_line(caller))
        index, of, says = found
    except (OSError, ValueError, TypeError, RecursionError):
        return None  # a scanner of ports, or a worker that was stopped
    known = isinstance(index, int) and isinstance(says, str) and of == count
    return (index, says) if known and 0 < index < count else None


def _call(
    host: str, port: int, count: int, index: int, deadline: float, timeout: float, says: str
) -> list[str]:
    """Be another worker: call the first until it answers."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(_late(f"{host}:{port}", count, [0], timeout))
        try:
            with socket.create_connection((host, port), timeout=left) as first:
                first.settimeout(max(0.1, deadline - time.monotonic()))
                first.sendall(_line([index, count, says]))
                said = json.loads(_read_line(first))
                return [str(text) for text in said]
        except (OSError, ValueError):  # not there yet, or gone before all had come
            time.sleep(_PAUSE)


def _line(content: list) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _read_line(end: socket.socket) -> str:
    with end.makefile("rb") as file:
        return file.readline(_LINE).decode("utf-8")


def _late(address: str, count: int, missing: list[int], timeout: float) -> str:
    who = ", ".join(f"worker {index}" for index in missing)
    return (
        f"The cluster did not come together within {timeout:g} seconds: {who} of {count} (counted "
        "from 0) is missing. Start the same script on each machine, with the same addresses and an "
        "index of its own, and let the first worker's port through the firewall. "
        f"Received: the first worker at {address}"
    )
