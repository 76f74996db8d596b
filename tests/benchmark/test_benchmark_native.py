"""ai-edge-litert in child processes: real runs, crashes, hangs."""

import json

import numpy as np
import pytest

import tfprune
from tfprune.benchmarking import BenchmarkFailure, benchmarker, native
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.inputs import seeded_inputs
from tfprune.benchmarking.model import read_model


@pytest.fixture(scope="module")
def result(made):
    return tfprune.benchmark([made["one"], made["other"], made["int8"]], runs=20)


def test_figures_of_every_file(result, made):
    assert [file.path for file in result.files] == [str(made[n]) for n in ("one", "other", "int8")]
    for file in result.files:
        assert file.failure is None
        assert len(file.milliseconds) == file.runs == 20
        assert 0 < file.p5_ms <= file.median_ms <= file.p95_ms
        assert file.median_ms == pytest.approx(np.median(file.milliseconds))
        assert file.speedup == pytest.approx(result.files[0].median_ms / file.median_ms)
        assert file.load_ms > 0
        assert file.first_ms > 0
    assert result.files[0].speedup == 1
    assert result.failed == ()


def test_outputs_agree_with_xnnpack_off(result):
    assert [file.tolerance for file in result.files] == [5e-5, 5e-5, 0.25]
    assert all(file.max_rel_error <= file.tolerance for file in result.files)


def test_memory_is_that_of_the_file(result):
    """A matrix of 1 MiB is mapped, and packed once more; the libraries' 100 MB do not count."""
    assert 2**20 < result.files[0].peak_memory_bytes < 30 * 2**20


def test_memory_does_not_depend_on_the_parent(made, result):
    """A child inherits its parent's `ru_maxrss`; this parent holds TensorFlow and 300 MB more."""
    ballast = np.ones(300 * 2**17)
    again = tfprune.benchmark(made["one"], runs=1)
    assert again.files[0].peak_memory_bytes == pytest.approx(
        result.files[0].peak_memory_bytes, rel=0.5
    )
    assert ballast[-1] == 1


def test_the_outputs_are_those_of_the_matrix(made):
    model = read_model(made["one"])
    [x] = seeded_inputs(model)
    kernel = np.random.default_rng(0).standard_normal((256, 1024)).astype("float32")
    [got] = native.plain_outputs(model, [x], 60.0)
    assert np.allclose(got, np.maximum(x @ kernel, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("xnnpack", [True, False])
def test_xnnpack_is_on_or_off(made, xnnpack):
    """The runtime says on its standard error when it makes the delegate."""
    model = read_model(made["one"])
    runner = native.NativeRunner(model, seeded_inputs(model), 1, 60.0, xnnpack=xnnpack)
    try:
        runner.load()
        assert ("XNNPACK delegate" in runner._child.said()) is xnnpack
    finally:
        runner.close()


def test_a_shape_and_a_signature_of_ones_own(made):
    shapes = {"tokens": (1, 3)}
    assert tfprune.benchmark(made["tokens"], runs=5, shapes=shapes).files[0].max_rel_error < 5e-5
    for name, factor in (("double", 2), ("triple", 3)):
        model = read_model(made["two"], name)
        [x] = seeded_inputs(model)
        [got] = native.plain_outputs(model, [x], 60.0)
        assert np.allclose(got, factor * x), name
    done = tfprune.benchmark(made["two"], runs=5, signature="triple")
    assert done.files[0].max_rel_error < 5e-5


def test_a_custom_operation_is_a_row_and_the_others_keep_theirs(made):
    done = tfprune.benchmark([made["custom"], made["one"]], runs=5)
    failed, other = done.files
    assert "Mystery" in failed.failure
    assert "custom operations (Mystery)" in failed.failure
    assert other.median_ms > 0
    assert other.speedup is None  # there is nothing to compare with
    assert done.failed == (failed,)
    assert "FAILED" in str(done)


def test_no_file_at_all_is_an_error(made):
    with pytest.raises(BenchmarkFailure, match=r"The file could not be measured.*Mystery"):
        tfprune.benchmark(made["custom"], runs=5)


def broken_worker(monkeypatch, code):
    """Let children run this code before each answer about a run."""
    monkeypatch.setattr(
        native,
        "_CHILD",
        "from tfprune.benchmarking import worker\nimport os, sys, time\n"
        "run = worker.Worker.run\n"
        "def broken(self, count):\n"
        f"    {code}\n"
        "    return run(self, count)\n"
        "worker.Worker.run = broken\n"
        "worker.answer()",
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("os.kill(os.getpid(), 11)", "crashed the runtime (SIGSEGV)"),
        ("print('so sorry', file=sys.stderr); os._exit(3)", "exit code 3: so sorry"),
        ("raise RuntimeError('a node failed')", "failed: a node failed"),
        ("print('chatter', flush=True); os.write(1, b'more'); raise ValueError('x')", "failed: x"),
    ],
)
def test_a_child_that_breaks(monkeypatch, made, code, said):
    broken_worker(monkeypatch, code)
    with pytest.raises(BenchmarkFailure) as caught:
        tfprune.benchmark(made["one"], runs=5)
    assert said in str(caught.value)


def test_a_crash_of_one_file_leaves_the_others(monkeypatch, made):
    code = "'one.tfl' in self._question['path'] and count == 6 and os.kill(os.getpid(), 11)"
    broken_worker(monkeypatch, code)
    one, other = tfprune.benchmark([made["one"], made["other"]], runs=10).files
    assert "6 runs crashed the runtime (SIGSEGV)" in one.failure
    assert (other.failure, other.runs) == (None, 10)


def test_a_hang_ends_at_the_time_limit(monkeypatch, made):
    broken_worker(monkeypatch, "time.sleep(60)")
    model = read_model(made["one"])
    runner = native.NativeRunner(model, seeded_inputs(model), 1, 2.0)
    try:
        runner.load()
        with pytest.raises(FileFailure, match=r"did not end within 2 seconds.*time_limit"):
            runner.run(1)
        assert runner._child._process.wait(10) == -9
    finally:
        runner.close()


def test_nothing_is_left_behind(made):
    import os

    model = read_model(made["one"])
    runner = native.NativeRunner(model, seeded_inputs(model), 1, 60.0)
    runner.load()
    process, folder = runner._child._process, runner._folder
    assert os.path.isdir(folder)
    runner.close()
    assert process.returncode is not None
    assert not os.path.exists(folder)


def test_wrong_outputs_are_told(monkeypatch, made):
    plain = native.plain_outputs

    def shifted(*arguments):
        [values] = plain(*arguments)
        return (values + 0.001 * values.max(),)

    monkeypatch.setattr(native, "plain_outputs", shifted)
    done = tfprune.benchmark(made["one"], runs=5)
    [file] = done.files
    assert file.wrong
    assert file.max_rel_error == pytest.approx(0.001, rel=0.01)
    assert done.failed == (file,)
    assert "WRONG" in str(done)


def test_a_file_that_plain_kernels_refuse_is_not_compared(monkeypatch, made):
    def refuse(*arguments):
        raise FileFailure("it crashed")

    monkeypatch.setattr(native, "plain_outputs", refuse)
    done = tfprune.benchmark(made["one"], runs=5)
    assert done.files[0].max_rel_error is None
    assert done.files[0].median_ms > 0
    assert any("not compared with XNNPACK off: there, it crashed" in n for n in done.notes)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"files": []}, ValueError, "empty list"),
        ({"files": 3}, TypeError, "files=|Received: 3"),
        ({"files": ["nowhere.tflite"]}, FileNotFoundError, "nowhere"),
        ({"runtime": "ios"}, ValueError, "'native', 'wasm', 'adb'"),
        ({"threads": 0}, ValueError, "threads=0"),
        ({"runs": 0}, ValueError, "runs=0"),
        ({"runs": 2.5}, TypeError, "runs=2.5"),
        ({"warmup": 4}, ValueError, "5 or more"),
        ({"warmup": True}, TypeError, "warmup=True"),
        ({"time_limit": 0}, ValueError, "time_limit=0"),
        ({"time_limit": "1"}, ValueError, "time_limit='1'"),
        ({"serial": "R58"}, ValueError, "runtime='adb'"),
        ({"browser": "chrome"}, ValueError, "runtime='wasm'"),
        ({"shapes": [1]}, TypeError, "dictionary"),
        ({"shapes": {"x": "1x256"}}, TypeError, "whole numbers"),
        ({"shapes": {"y": (1, 256)}}, ValueError, r"No file has an input 'y'.*'x'"),
        ({"signature": "none"}, ValueError, "no signature 'none'"),
    ],
)
def test_bad_arguments_run_nothing(monkeypatch, made, arguments, error, said):
    monkeypatch.setattr(native, "Machine", None)
    with pytest.raises(error, match=said) as caught:
        tfprune.benchmark(**{"files": made["one"], **arguments})
    assert "Received: " in str(caught.value)


def test_one_bad_file_is_found_before_any_runs(monkeypatch, made):
    monkeypatch.setattr(benchmarker, "_place", None)
    with pytest.raises(ValueError, match="cut short"):
        tfprune.benchmark([made["one"], made["cut"]])


def test_the_report(result, tmp_path):
    text = str(result)
    assert "int8.tflite" in text
    assert "CPU: " in text
    assert "energy: " in text
    assert max(len(line) for line in text.splitlines()) <= 100
    result.to_json(tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found == result.to_dict()
    assert found["files"][1]["median_ms"] == result.files[1].median_ms
    assert found["versions"]["tfprune"] == tfprune.__version__
    with pytest.raises(FileExistsError):
        result.to_json(tmp_path / "out.json")


def test_few_runs_are_noted(made):
    [note] = tfprune.benchmark(made["one"], runs=1).notes
    assert "fewer than 20 runs" in note
