"""`tfprune board`: TensorBoard on a folder, or one line that says why not."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser

import pytest
from tensorboard import program
from typer.testing import CliRunner

from tfprune import board_command, cli


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """A folder with one run, two folders down; tests only read it."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("logs")
    writer = tf.summary.create_file_writer(str(folder / "deep" / "run1"))
    with writer.as_default(step=0):
        tf.summary.scalar("sparsity/model", 0.5)
    writer.close()
    return folder


@pytest.fixture
def never_waits(monkeypatch):
    """Let the command end at once, as if Ctrl-C were pressed; return what was launched."""
    launched = []

    def interrupted(seconds):
        raise KeyboardInterrupt

    def launch(logdir, host, port):
        launched.append((str(logdir), host, port))
        return "http://there:1/"

    monkeypatch.setattr(board_command, "launch", launch)
    monkeypatch.setattr(board_command.time, "sleep", interrupted)
    return launched


def call(*arguments):
    return CliRunner().invoke(cli.app, ["board", *map(str, arguments)])


def start(*arguments):
    """Start the command in a process of its own, and return it with its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from tfprune.cli import main; main()", "board", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    return process, process.stdout.readline()


@pytest.mark.skipif(sys.platform == "win32", reason="signals need POSIX")
def test_it_prints_its_address_serves_and_ends_with_ctrl_c(logdir):
    process, line = start(str(logdir), "--port", "0")
    try:
        address = line.split(" at ")[1].split()[0]
        assert address.startswith("http://localhost:")
        end = time.monotonic() + 60
        runs = []
        while not runs and time.monotonic() < end:  # it reads runs in the background
            with urllib.request.urlopen(f"{address}data/runs") as answer:
                runs = json.load(answer)
        assert runs == ["deep/run1"]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert errors == ""
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address)


def test_a_port_that_is_taken(logdir):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = call(logdir, "--port", port)
    assert done.exit_code == 1
    assert f"port {port}, it was already in use" in done.stderr
    assert "Choose another `--port`" in done.stderr
    assert f"Received: host='localhost', port={port}" in done.stderr


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "assign requested address"),  # an address for examples, RFC 5737
        ("no.such.host.invalid", "not known|resolution"),
    ],
)
def test_a_host_that_is_not_this_machine(logdir, host, reason):
    done = call(logdir, "--host", host, "--port", 0)
    assert done.exit_code == 1
    assert re.search(rf"cannot be started \(.*({reason})", done.stderr)
    assert f"Received: host={host!r}, port=0" in done.stderr


def test_no_folder_no_run_and_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "There is no folder 'logs'" in call().stderr
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "README.md").write_text("nothing yet")
    done = call()
    assert done.exit_code == 1
    assert "The folder 'logs' holds no run" in done.stderr
    assert f"PruningSummaries('{os.path.join('logs', 'run1')}')" in done.stderr
    assert "this is a file" in call("logs/README.md").stderr


def test_bad_ports_are_bad_usage(logdir):
    assert call(logdir, "--port", 65536).exit_code == 2
    assert call(logdir, "--port", "x").exit_code == 2


def test_a_browser_is_opened_only_when_asked(logdir, never_waits, monkeypatch, capfd):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or len(opened) > 1)
    done = call(logdir)
    assert (done.exit_code, opened) == (0, [])
    assert f"TensorBoard shows {str(logdir)!r} at http://there:1/" in done.stdout
    assert call(logdir, "--open").exit_code == 0  # though there is none
    assert "open the address yourself" in capfd.readouterr().err
    call(logdir, "--open", "--host", "::1", "--port", "7")
    assert capfd.readouterr().err == ""
    assert opened == ["http://there:1/"] * 2
    assert never_waits == [
        *[(str(logdir), "localhost", None)] * 2,
        (str(logdir), "::1", 7),
    ]


def test_what_tensorboard_says_of_a_failure_is_passed_on(logdir, monkeypatch):
    def refuse(self):
        raise program.TensorBoardServerException("no room at the inn")

    monkeypatch.setattr(program.TensorBoard, "launch", refuse)
    with pytest.raises(OSError, match=r"no room at the inn.*Received: host='here', port=None"):
        board_command.launch(logdir, "here", None)
