"""The emulated CPU has no AVX, and what a file does to the process is reported for that file."""

import functools

import emulation
import numpy as np
import pytest


@pytest.fixture
def jobs(tmp_path):
    names = "one", "two", "bad", "three", "crash", "four"
    for name in names:
        (tmp_path / name).write_text(name)
    return {name: (tmp_path / name, [{"x": np.full(3, i)}]) for i, name in enumerate(names)}


WORKER = """
import os
from tfprune import child
from tfprune.export import worker
class Doubling(worker.Worker):
    def load(self, file, path, xnnpack):
        if path.endswith("crash"):
            os.abort()
        if path.endswith("bad"):
            raise ValueError("no such kernel")
        self._runners[file] = self
        return {}
    def get_input_details(self):
        return ["x"]
    def __call__(self, x):
        return {"y": 2 * x}
worker.Worker = Doubling
worker.answer()
"""


def test_a_crash_is_one_file_s_failure(jobs, monkeypatch):
    emulation.require_emulator()
    emulated = functools.partial(emulation.Interpreters, code=WORKER)
    monkeypatch.setattr(emulation, "Interpreters", emulated)
    found = emulation.run_without_avx(jobs)
    assert "no such kernel" in found["bad"].reason
    assert "SIGABRT" in found["crash"].reason
    for name, index in (("one", 0), ("two", 1), ("three", 3), ("four", 5)):
        np.testing.assert_array_equal(found[name][0]["y"], np.full(3, 2 * index))


def test_a_worker_that_does_not_start_is_no_file_s_failure(jobs, monkeypatch):
    emulation.require_emulator()
    emulated = functools.partial(emulation.Interpreters, code="import nothing_of_this_name")
    monkeypatch.setattr(emulation, "Interpreters", emulated)
    with pytest.raises(ChildProcessError, match="nothing_of_this_name"):
        emulation.run_without_avx(jobs)


def test_files_run_under_the_emulator(jobs, monkeypatch):
    emulation.require_emulator()
    if not emulation.IS_PC:
        pytest.skip("files run on this CPU itself")
    avx = "__import__('numpy')._core._multiarray_umath.__cpu_features__['AVX']"
    code = WORKER.replace("2 * x", f"x * float({avx})")
    emulated = functools.partial(emulation.Interpreters, code=code)
    monkeypatch.setattr(emulation, "Interpreters", emulated)
    found = emulation.run_without_avx({"four": jobs["four"]})
    np.testing.assert_array_equal(found["four"][0]["y"], np.zeros(3))


def test_a_file_that_is_no_model(jobs):
    emulation.require_emulator()
    found = emulation.run_without_avx({"one": jobs["one"]})
    assert "not a valid Flatbuffer" in found["one"].reason


def test_without_the_emulator_tests_are_skipped_loudly_or_fail(monkeypatch):
    monkeypatch.setattr(emulation, "HAS_EMULATOR", False)
    monkeypatch.setenv("TFPRUNE_NO_SKIP", "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install qemu-user-static"):
        emulation.require_emulator()
    monkeypatch.delenv("TFPRUNE_NO_SKIP")
    monkeypatch.delenv("CI", raising=False)
    with pytest.warns(UserWarning, match="NO file is run without AVX"):  # noqa: SIM117
        with pytest.raises(pytest.skip.Exception):
            emulation.require_emulator()
