"""Files run in a process of their own: what they do to it is told, and harms nobody else."""

import multiprocessing
import os
import pathlib
import sys
import textwrap

import keras
import numpy as np
import pytest

from tfprune.child import Child
from tfprune.export import ExportMismatch, export_tflite, runtime
from tfprune.export.runtime import DEFAULT, XNNPACK_OFF, Interpreters, RuntimeCrash, RuntimeFailure

L = keras.layers

# The worker, with one line of misbehaviour before each answer; `file`, `do` are of the question.
BROKEN = """
from tfprune import child
from tfprune.export import worker
import os, time
prepare = worker._prepare
def broken():
    reply = prepare()
    def answer(question):
        do, file = question["do"], question["file"]
        {code}
        return reply(question)
    return answer
worker._prepare = broken
worker.answer()
"""


@pytest.fixture
def doubled(tmp_path):
    """A file that doubles its input."""
    x = keras.Input((3,))
    export_tflite(keras.Model(x, x * 2.0), tmp_path / "a.tflite")
    return tmp_path / "a.tflite"


@pytest.fixture
def interpreters(monkeypatch):
    """Return a function that makes the process that exports share, perhaps a broken one."""
    made = []

    def make(code="pass"):
        made.append(Interpreters(code=BROKEN.format(code=code)))
        monkeypatch.setattr(runtime, "_HERE", made[-1])
        return made[-1]

    yield make
    for one in made:
        one.close()


def samples(*values):
    return [{"input": np.full((1, 3), v, "float32")} for v in values]


def answers(found):
    return [float(one["output"][0, 0]) for one in found]


@pytest.mark.parametrize("which", [DEFAULT, XNNPACK_OFF])
def test_outputs_in_order(interpreters, doubled, which):
    assert answers(interpreters().run(doubled, samples(1, 2, 5), which)) == [2, 4, 10]


def test_xnnpack_is_on_or_off(interpreters, doubled):
    one = interpreters()
    one.run(doubled, samples(1), XNNPACK_OFF)
    assert "XNNPACK delegate" not in one.start().said()
    one.run(doubled, samples(1), DEFAULT)
    assert "XNNPACK delegate" in one.start().said()


def test_one_process_for_all_files(interpreters, doubled):
    one = interpreters()
    child = one.start()
    first, second = (one.outputs(doubled, samples(1, 2), DEFAULT) for _ in range(2))
    assert answers([next(first), next(second), next(first), next(second)]) == [2, 2, 4, 4]
    assert one.start() is child


def test_an_input_that_the_graph_does_not_use(interpreters, doubled):
    sample = {**samples(3)[0], "unused": np.zeros(1)}
    assert answers(interpreters().run(doubled, [sample], DEFAULT)) == [6]


def test_a_refused_file_leaves_the_process(interpreters, doubled, tmp_path):
    one = interpreters()
    child = one.start()
    (tmp_path / "bad.tflite").write_bytes(b"\0" * 64)
    with pytest.raises(RuntimeFailure, match=r"\(default\) cannot run the exported file") as caught:
        one.run(tmp_path / "bad.tflite", samples(1), DEFAULT)
    assert not isinstance(caught.value, RuntimeCrash)
    with pytest.raises(RuntimeFailure, match="cannot run"):
        one.run(doubled, [{"input": np.zeros((1, 3), "int32")}], DEFAULT)
    assert answers(one.run(doubled, samples(1), DEFAULT)) == [2]
    assert one.start() is child


@pytest.mark.parametrize(
    ("do", "part"), [("load", "loading"), ("run", "running"), ("close", "freeing")]
)
def test_a_crash_says_where(interpreters, doubled, do, part):
    one = interpreters(f"do == {do!r} and os.abort()")
    words = rf"does not survive the exported file: {part} it crashed the runtime \(SIGABRT\)"
    with pytest.raises(RuntimeCrash, match=words):
        one.run(doubled, samples(1), DEFAULT)


def test_a_crash_that_a_file_before_left_behind_is_not_blamed_on_this_one(
    interpreters, doubled, tmp_path
):
    gone = tmp_path / "gone"
    once = f"file == 1 and not os.path.exists({str(gone)!r})"
    one = interpreters(f"{once} and [open({str(gone)!r}, 'w'), os.abort()]")
    assert answers(one.run(doubled, samples(1), DEFAULT)) == [2]
    assert answers(one.run(doubled, samples(4), DEFAULT)) == [8]  # its number is 1
    assert gone.exists()


def test_a_killed_process_is_replaced(interpreters, doubled):
    one = interpreters()
    one.run(doubled, samples(1), DEFAULT)
    child = one.start()
    child._process.kill()
    child._process.wait()
    assert answers(one.run(doubled, samples(7), DEFAULT)) == [14]


def test_a_hang_ends(interpreters, doubled, monkeypatch):
    monkeypatch.setattr(runtime, "SECONDS", 1.0)
    one = interpreters("do == 'run' and time.sleep(60)")
    with pytest.raises(RuntimeCrash, match=r"running it did not end within 1 seconds"):
        one.run(doubled, samples(1), DEFAULT)


# -- As `export_tflite` meets it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.abort()", r"does not survive.*SIGABRT"),
        ("do == 'run' and time.sleep(60)", "did not end within 2 seconds"),
        ("os.kill(os.getpid(), 9)", "killed from outside"),
    ],
)
def test_an_export_that_crashes_the_runtime(interpreters, cnn, tmp_path, monkeypatch, code, words):
    monkeypatch.setattr(runtime, "SECONDS", 2.0)
    interpreters(code)
    with pytest.raises(ExportMismatch, match=f"{words}.*'float16'.*Nothing was written"):
        export_tflite(cnn, tmp_path / "a.tflite")
    assert os.listdir(tmp_path) == []


def test_exports_share_a_process_that_is_started_once(interpreters, cnn, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(runtime, "Child", lambda *a: started.append(Child(*a)) or started[-1])
    interpreters()
    for name in "abc":
        export_tflite(cnn, tmp_path / f"{name}.tflite")
    assert len(started) == 1


def test_a_bad_argument_starts_nothing(interpreters, cnn, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "Child", None)
    interpreters()
    with pytest.raises(ValueError, match="int4"):
        export_tflite(cnn, tmp_path / "a.tflite", "int4")


@pytest.fixture
def crasher():
    """An int8 model that ai-edge-litert 2.3 crashes on, and inputs to calibrate it with.

    "dead" answers 0 to everything, so that XNNPACK finds no scale for it and refuses the graph; on
    the way out it frees the tables of activations that it has fused, twice.
    """
    x = keras.Input((4, 4, 2))
    y = L.Conv2D(8, 1)(x)
    for kind in ("tanh", "sigmoid", "sigmoid"):
        y = L.Activation(kind)(y)
    y = L.ReLU()(L.Conv2D(8, 3, padding="same", name="dead")(y))
    model = keras.Model(x, L.Activation("sigmoid")(L.Activation("tanh")(L.Conv2D(4, 1)(y))))
    dead = model.get_layer("dead")
    dead.kernel.assign(np.full(dead.kernel.shape, -1.0))
    dead.bias.assign(np.full(8, 1e-9))
    return model, np.random.default_rng(1).normal(size=(16, 4, 4, 2)).astype("float32")


def test_a_real_file_that_crashes_the_runtime(crasher, tmp_path):
    """A later runtime may refuse the file without a crash, which is met in the same way."""
    model, x = crasher
    words = r"(does not survive|cannot run) the exported file.*outputs of a layer were 0.*'dynamic'"
    with pytest.raises(ExportMismatch, match=words):
        export_tflite(model, tmp_path / "a.tflite", "int8", representative_data=x)
    assert os.listdir(tmp_path) == []
    assert export_tflite(model, tmp_path / "a.tflite", "float16").file_bytes > 0


def test_a_script_without_a_main_guard(tmp_path, run_python):
    """Nothing of the user's script is run again, and the child ends with it."""
    code = f"""
    import keras
    import tfprune
    from tfprune.export import runtime
    print("once", flush=True)
    x = keras.Input((3,))
    tfprune.export_tflite(keras.Model(x, x * 2.0), {str(tmp_path / "a.tflite")!r})
    print(runtime.interpreters().start()._process.pid)
    """
    once, pid = run_python(textwrap.dedent(code)).split()
    assert once == "once"
    assert not pathlib.Path(f"/proc/{pid}").exists()


def _in_a_fork(path, results):
    try:
        results.put(answers(runtime.interpreters().run(path, samples(8), DEFAULT)))
    finally:
        runtime.interpreters().close()


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_starts_its_own(interpreters, doubled):
    one = interpreters()
    one.run(doubled, samples(1), DEFAULT)
    child = one.start()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_in_a_fork, args=(doubled, results))
    process.start()
    assert results.get(timeout=60) == [16]
    process.join(60)
    assert one.start() is child
    assert answers(one.run(doubled, samples(2), DEFAULT)) == [4]
