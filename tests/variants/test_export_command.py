"""The `export` command: exit codes, what it prints, what it leaves."""

import os
import pathlib
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import tfprune
from tfprune import cli
from tfprune.variants import record


def call(*arguments):
    return CliRunner().invoke(cli.app, ["export", *map(str, arguments)])


def test_a_table_on_the_standard_output(files, tmp_path, measured):
    out = tmp_path / "out"
    done = call(
        *(files / "net.keras", "--out", out, "--variants", "float32,float16,int8"),
        *("--eval", files / "test.npz", "--objective", "size"),
    )
    assert (done.exit_code, done.stderr.strip()) == (0, "")
    assert "0.7500" in done.stdout
    assert "left out int8" in done.stdout
    assert "best (size): float16." in done.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        *("net-float16.tflite", "net-float32.tflite", "variants.json")
    ]
    again = call(files / "net.keras", "--out", out)
    assert again.exit_code == 1
    assert "--resume" in again.stderr


def test_no_variant_meets_the_objective(files, tmp_path, measured, monkeypatch):
    from tfprune import metrics

    scores = iter([0.9, 0.8, 0.7])
    monkeypatch.setattr(metrics, "score", lambda *_: next(scores))
    done = call(
        *(files / "net.keras", "--out", tmp_path, "--variants", "float32,float16"),
        *("--eval", files / "test.npz", "--max-accuracy-drop", "0.05"),
    )
    assert done.exit_code == 1
    assert "float32 came closest: accuracy 0.8000, a drop of 0.1000" in done.stderr
    assert "float16" in done.stdout, "the table is there all the same"
    assert (tmp_path / "net-float32.tflite").is_file()


def test_a_failed_variant_exits_with_1(files, tmp_path, measured, monkeypatch):
    from tfprune.export import verify

    def refuse(quantize, *arguments):
        if quantize == "float16":
            raise verify.ExportMismatch("it differs")
        return compare(quantize, *arguments)

    compare = verify.compare
    monkeypatch.setattr(verify, "compare", refuse)
    done = call(files / "net.keras", "--out", tmp_path, "--variants", "float32,float16")
    assert done.exit_code == 1
    assert "failed float16: it differs" in done.stdout
    assert "best (balanced): float32" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.keras"],
        ["a.keras", "--out", "o", "--variants", "int4"],
        ["a.keras", "--out", "o", "--objective", "speed"],
        ["a.keras", "--out", "o", "--max-accuracy-drop", "-1"],
        ["a.keras", "--out", "o", "--runs", "0"],
        ["a.keras", "--out", "o", "--overwrite", "--resume"],
    ],
)
def test_bad_usage_exits_with_2(arguments):
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.keras"], "no.keras"),
        (["{files}/test.npz"], ".keras"),
        (["{files}/net.keras", "--data", "no.npz"], "no.npz"),
        (["{files}/net.keras", "--eval", "{files}/calibration.npz"], "labels"),
        (["{files}/net.keras", "--data", "{files}/test.npz", "--eval", "{files}/net.keras"], "npz"),
    ],
)
def test_bad_files_exit_with_1_and_one_line(files, tmp_path, arguments, message):
    done = call(*(one.format(files=files) for one in arguments), "--out", tmp_path / "out")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


# Presses Ctrl-C while the third file is verified.
INTERRUPTED = """
import os, signal
from tfprune.export import verify
calls, compare = [], verify.compare
def interrupt(*arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return compare(*arguments)
verify.compare = interrupt
from tfprune.cli import main; main()
"""


def test_ctrl_c_exits_with_130_and_says_what_is_there(files, tmp_path, measured):
    out = tmp_path / "out"
    arguments = ["export", str(files / "net.keras"), "--out", str(out), "--variants"]
    arguments.append("float32,float16,dynamic")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *arguments],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(tfprune.__file__).parent.parent)},
        text=True,
        check=False,
        timeout=180,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("Interrupted. Finished and whole"), done.stderr
    assert "net-float32.tflite, net-float16.tflite" in done.stderr
    assert "--resume" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        *("net-float16.tflite", "net-float32.tflite", "variants.json")
    ]
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.tflite")}
    again = call(*arguments[1:], "--resume")
    assert (again.exit_code, again.stderr.strip()) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in times} == times, "made again"
    found = record.read(out)
    assert found is not None
    assert found.complete
    assert (out / "net-dynamic.tflite").is_file()


def test_ctrl_c_before_anything_is_finished(tmp_path, files, monkeypatch):
    from tfprune import variants

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(variants, "export_variants", interrupt)
    done = call(files / "net.keras", "--out", tmp_path / "out")
    assert done.exit_code == 130
    assert "No variant was finished" in done.stderr
