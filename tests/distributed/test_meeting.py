"""Workers meet over real sockets: all come, one is missing, somebody else calls."""

import socket
import threading
import time

import processes
import pytest

from tfprune.meeting import meet


def address():
    return f"127.0.0.1:{processes.free_ports(1)[0]}"


def all_meet(where, count, says, timeout=10.0):
    found = {}

    def one(index):
        found[index] = meet(where, count, index, timeout, says[index])

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in reversed(threads):  # the first worker comes last
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_all_learn_what_each_says():
    said = ["a", "b", "c ä"]
    assert all_meet(address(), 3, said) == dict.fromkeys(range(3), said)


def test_the_port_is_free_after_a_meeting():
    where = address()
    for _ in range(2):
        all_meet(where, 2, ["", ""])
    with socket.create_server(("127.0.0.1", int(where.rpartition(":")[2]))):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")
def test_an_address_of_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
            port = free.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    said = ["a", "b"]
    assert all_meet(f"[::1]:{port}", 2, said) == dict.fromkeys(range(2), said)


def test_one_worker_waits_for_nobody():
    assert meet("nowhere:1", 1, 0, 0.1, "x") == ["x"]


def test_the_first_names_who_is_missing():
    with pytest.raises(TimeoutError, match=r"within 0.3 seconds: worker 1, worker 2 of 3"):
        meet(address(), 3, 0, 0.3)


def test_another_misses_the_first():
    where = address()
    with pytest.raises(
        TimeoutError, match=rf"worker 0 of 2 .*Received: the first worker at {where}"
    ):
        meet(where, 2, 1, 0.3)


def test_strangers_are_sent_away():
    where = address()
    host, _, port = where.rpartition(":")
    found, deep = [], b"[" * 60_000 + b"\n"
    first = threading.Thread(target=lambda: found.append(meet(where, 2, 0, 10.0, "chief")))
    first.start()
    for line in (
        b"GET / HTTP/1.1\r\n",
        b'[0, 2, ""]\n',
        b'[1, 3, ""]\n',
        b"{}\n",
        b"[7, 2, 1]\n",
        deep,
    ):
        for _ in range(100):
            try:
                with socket.create_connection((host, int(port)), timeout=5) as stranger:
                    stranger.sendall(line)
                    assert stranger.recv(10) == b""
                break
            except ConnectionRefusedError:
                threading.Event().wait(0.02)
    assert meet(where, 2, 1, 10.0, "second") == ["chief", "second"]
    first.join()
    assert found == [["chief", "second"]]


def test_a_port_in_use_is_named():
    with socket.create_server(("", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"cannot listen on its port.*Received: 127.0.0.1:{port}"
        ):
            meet(f"127.0.0.1:{port}", 2, 0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("10.0.0.1", 2, 0, 1.0), r"'host:port'.*Received: '10.0.0.1'"),
        (("a:99999", 2, 0, 1.0), r"'host:port'.*Received: 'a:99999'"),
        (("a:1", 2, 2, 1.0), r"Received: worker 2 of 2"),
        (("a:1", 2, -1, 1.0), r"Received: worker -1 of 2"),
        (("a:1", 2, 0, 0), r"Received: timeout=0"),
    ],
)
def test_what_is_no_meeting(arguments, message):
    with pytest.raises(ValueError, match=message):
        meet(*arguments)


def test_who_calls_and_says_nothing_keeps_nobody_out():
    where = address()
    host, _, port = where.rpartition(":")
    found, silent = [], []
    first = threading.Thread(target=lambda: found.append(meet(where, 2, 0, 10.0, "chief")))
    first.start()
    begun = time.monotonic()
    while len(silent) < 3:
        try:
            silent.append(socket.create_connection((host, int(port)), timeout=5))
        except ConnectionRefusedError:
            time.sleep(0.02)
    assert meet(where, 2, 1, 10.0, "second") == ["chief", "second"]
    assert time.monotonic() - begun < 5  # each is listened to for that long
    first.join()
    for stranger in silent:
        stranger.close()


@pytest.mark.parametrize("timeout", ["60", None, 0])
def test_a_timeout_is_a_number_of_seconds(timeout):
    with pytest.raises(ValueError, match=r"`timeout` is a number of seconds above 0. Received"):
        meet("nowhere:1", 2, 0, timeout)
