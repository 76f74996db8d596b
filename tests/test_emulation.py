"""The emulated CPU has no AVX, and what a file does to the process is reported for that file."""

import subprocess
import sys

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
import os, signal, sys
import numpy as np
folder = sys.argv[1]
open(os.path.join(folder, "started"), "w").close()
for line in open(os.path.join(folder, "files.txt")):
    number, path = line.split()
    if path.endswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.endswith("bad"):
        open(f"{folder}/{number}.failed.txt", "w").write("no such kernel")
        continue
    x = np.load(f"{folder}/{number}.in.npz")["0 x"]
    np.savez(f"{folder}/{number}.out.npz", **{"0 y": 2 * x})
"""


def test_a_crash_is_one_file_s_failure(jobs, tmp_path, monkeypatch):
    emulation.require_emulator()
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    monkeypatch.setattr(emulation, "_WORKER", worker)
    found = emulation.run_without_avx(jobs)
    assert found["bad"].reason == "no such kernel"
    assert found["crash"].reason.startswith("SIGSEGV")
    for name, index in (("one", 0), ("two", 1), ("three", 3), ("four", 5)):
        np.testing.assert_array_equal(found[name][0]["y"], np.full(3, 2 * index))


def test_a_worker_that_does_not_start_is_no_file_s_failure(jobs, tmp_path, monkeypatch):
    emulation.require_emulator()
    worker = tmp_path / "worker.py"
    worker.write_text("import nothing_of_this_name")
    monkeypatch.setattr(emulation, "_WORKER", worker)
    with pytest.raises(RuntimeError, match="nothing_of_this_name"):
        emulation.run_without_avx(jobs)


def test_the_emulated_cpu_has_no_avx():
    emulation.require_emulator()
    if not emulation.IS_PC:
        pytest.skip("no x86, so no AVX to be without")
    code = "from numpy._core._multiarray_umath import __cpu_features__ as f; print(f['AVX'])"
    command = [str(emulation.EMULATOR), "-cpu", emulation.CPU, sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "False"


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
