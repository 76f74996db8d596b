"""The `benchmark` command: exit codes, what it prints, what it writes."""

import json

import pytest
from typer.testing import CliRunner

from tfprune import benchmarking, cli


def call(*arguments):
    return CliRunner().invoke(cli.app, ["benchmark", *map(str, arguments)])


def test_a_table_and_json(made, tmp_path):
    out = tmp_path / "out.json"
    done = call(made["one"], made["other"], "--runs", 20, "--threads", 2, "--json", out)
    assert (done.exit_code, done.stderr.strip()) == (0, "")
    assert "20 runs, 2 threads" in done.stdout
    assert "1.00x" in done.stdout
    found = json.loads(out.read_text())
    assert [file["runs"] for file in found["files"]] == [20, 20]
    assert found["threads"] == 2


def test_a_shape(made):
    assert call(made["tokens"], "--shape", "tokens=1x6", "--runs", 5).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.tflite", "--runs", "0"],
        ["a.tflite", "--threads", "-1"],
        ["a.tflite", "--warmup", "2"],
        ["a.tflite", "--runtime", "ios"],
        ["a.tflite", "--shape", "1x64"],
        ["a.tflite", "--shape", "x=1xy"],
        ["a.tflite", "--shape", "x="],
        ["a.tflite", "--serial", "R58M"],
        ["a.tflite", "--runtime", "adb", "--browser", "chrome"],
        ["a.tflite", "--bogus"],
    ],
)
def test_bad_usage_exits_with_2(arguments):
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize("name", ["cut", "empty", "note", "new", "two", "tokens", "custom"])
def test_bad_files_exit_with_1_and_one_line(made, name):
    done = call(made[name], "--runs", 5)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_target_that_exists_is_told_before_the_work(made, tmp_path, monkeypatch):
    out = tmp_path / "out.json"
    out.write_text("kept")
    monkeypatch.setattr(benchmarking, "benchmark", None)
    done = call(made["one"], "--json", out)
    assert done.exit_code == 1
    assert "--json" not in out.read_text() == "kept"
    assert "out.json" in done.stderr


def test_overwrite(made, tmp_path):
    out = tmp_path / "out.json"
    out.write_text("old")
    assert call(made["one"], "--runs", 5, "--json", out, "--overwrite").exit_code == 0
    assert json.loads(out.read_text())["runtime"] == "native"


def test_one_failed_file_exits_with_1_and_the_figures_are_there(made, tmp_path):
    out = tmp_path / "out.json"
    done = call(made["one"], made["custom"], "--runs", 5, "--json", out)
    assert done.exit_code == 1
    assert "FAILED" in done.stdout
    one, custom = json.loads(out.read_text())["files"]
    assert one["median_ms"] > 0
    assert "Mystery" in custom["failure"]
