"""A child answers, refuses, ends, hangs; the parent hears which, and lives."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tfprune import child
from tfprune.child import Child, ChildEnd, ChildRefusal, ChildTimeout

CODE = """
import os, sys, time
from tfprune import child
def prepare():
    print("chatter of native code", flush=True)
    def answer(question):
        return eval(question["run"]) or {"pid": os.getpid()}
    return answer
child.serve(prepare, (ValueError,))
"""


@pytest.fixture
def start():
    started = []

    def make(code=CODE, command=()):
        started.append(Child(code, "the runtime", command))
        return started[-1]

    yield make
    for one in started:
        one.close()


def test_it_answers_and_what_it_prints_is_no_answer(start):
    one = start()
    assert one.ask({"run": "{'x': 1}"}, 30.0) == {"x": 1}
    assert one.ask({"run": "print('more', flush=True)"}, 30.0)["pid"] == one._process.pid
    assert one.asked == 2
    assert one.said().split("\n")[:2] == ["chatter of native code", "more"]


def test_a_refusal_is_an_answer(start):
    one = start()
    with pytest.raises(ChildRefusal, match=r"^failed: invalid literal"):
        one.ask({"run": "int('x')"}, 30.0)
    assert one.ask({"run": "{'x': 2}"}, 30.0) == {"x": 2}


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("os.abort()", r"^crashed the runtime \(SIGABRT\)"),
        ("os.kill(os.getpid(), 11)", r"^crashed the runtime \(SIGSEGV\)"),
        ("os.kill(os.getpid(), 9)", r"^was killed from outside \(SIGKILL\), as.*out of memory"),
        ("os._exit(3)", "^ended its process with exit code 3$"),
        ("[print('so sorry', file=sys.stderr, flush=True), os._exit(0)]", "exit code 0: so sorry"),
        ("{}[1]", "exit code 1: KeyError: 1"),
    ],
)
def test_an_end_says_how(start, run, words):
    one = start()
    one.ask({"run": "print('old words', file=sys.stderr, flush=True)"}, 30.0)
    with pytest.raises(ChildEnd, match=words) as caught:
        one.ask({"run": run}, 30.0)
    assert "old words" not in str(caught.value)
    assert not one.alive
    with pytest.raises(ChildEnd):
        one.ask({"run": "{}"}, 30.0)


def test_a_child_killed_between_questions(start):
    one = start()
    one.ask({"run": "None"}, 30.0)
    os.kill(one._process.pid, signal.SIGKILL)
    with pytest.raises(ChildEnd, match="SIGKILL"):
        one.ask({"run": "None"}, 30.0)


def test_a_hang_ends_at_the_time_limit(start):
    one = start()
    one.ask({"run": "None"}, 30.0)
    begin = time.monotonic()
    with pytest.raises(ChildTimeout, match=r"did not end within 0\.5 seconds, and was stopped"):
        one.ask({"run": "time.sleep(60)"}, 0.5)
    assert time.monotonic() - begin < 20
    assert not one.alive


def test_an_interrupted_question_is_not_answered_to_the_next(start, monkeypatch):
    one = start()
    one.ask({"run": "None"}, 30.0)

    def interrupt(timeout):
        raise KeyboardInterrupt

    monkeypatch.setattr(one._answers, "get", interrupt)
    with pytest.raises(KeyboardInterrupt):
        one.ask({"run": "None"}, 30.0)
    assert not one.alive


def test_ctrl_c_is_the_parents_to_decide(start):
    one = start()
    one.ask({"run": "None"}, 30.0)
    os.kill(one._process.pid, signal.SIGINT)
    assert one.ask({"run": "{'x': 3}"}, 30.0) == {"x": 3}


def test_a_child_that_cannot_start_blames_no_question(start):
    one = start("import nothing_of_this_name")
    with pytest.raises(ChildProcessError, match=r"could not start.*nothing_of_this_name.*Received"):
        one.ask({"run": "None"}, 30.0)


def test_close_ends_it_and_its_files(start):
    one = start()
    one.ask({"run": "None"}, 30.0)
    one.close()
    assert one._process.returncode is not None
    assert one._process.stdin.closed
    assert one._process.stdout.closed
    one.close()


def test_it_ends_with_its_parent(tmp_path):
    """Even with one that has no time to say so."""
    code = (
        "import os\nfrom tfprune.child import Child\n"
        f"one = Child({CODE!r}, 'the runtime')\n"
        "print(one.ask({'run': 'None'}, 30.0)['pid'], flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child.environment()
    )
    pid = int(done.stdout)
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended its process with exit code 0"),
        (-6, "crashed it (SIGABRT)"),
        (-200, "crashed it (signal 200)"),
        (0xC0000005, "crashed it (exception 0xc0000005)"),  # Windows: access violation
    ],
)
def test_endings(code, words):
    assert child.ending(code, "it") == words
