"""How figures are shown and saved."""

import json

import pytest

from tfprune.benchmarking.cpu import Cpu
from tfprune.benchmarking.result import BenchmarkResult, FileBenchmark, _number

CPU = Cpu("AMD EPYC", "x86_64", 2, ("avx", "avx2"))
DENSE = FileBenchmark(
    *("out/dense.tflite", 13_170_000, 12_000_000, 38.4, 37.9, 41.2, 1.0, 120.0, 50.0, 31_000_000),
    *(3.2e-7, 5e-5),
    energy_mj=412.0,
    runs=50,
)
SPARSE = FileBenchmark(
    *("out/sparse.tflite", 2_140_000, 1_900_000, 9.9, 9.7, 12.5, 3.88, 90.0, 20.0, 9_000_000),
    *(0.66, 5e-5),
    runs=50,
)
BROKEN = FileBenchmark("out/[b]broken.tflite", 100, 90, failure="it crashed")


def result(*files, runtime="native"):
    return BenchmarkResult(
        *(runtime, "a runtime", CPU, 1, 5, files, "no meter", ("a note",), {"tfprune": "1"})
    )


def test_what_is_printed():
    text = str(result(DENSE, SPARSE, BROKEN))
    rows = [line.split() for line in text.splitlines()]
    assert [
        "dense.tflite",
        *["38.4", "37.9-41.2", "1.00x", "120", "31.0", "13.2", "12.0", "3e-07", "412"],
    ] in rows
    assert [
        "sparse.tflite",
        *["9.90", "9.70-12.5", "3.88x", "90.0", "9.00", "2.14", "1.90", "0.7", "-"],
    ] in rows
    assert ["[b]broken.tflite", *["failed", "-", "-", "-", "-", "0.000", "0.000", "-", "-"]] in rows
    assert "WRONG out/sparse.tflite: its outputs differ" in text
    assert "FAILED out/[b]broken.tflite: it crashed" in text
    assert "Sparse kernels are not used on this CPU (x86 with AVX)" in text
    assert "energy: no meter" in text
    assert "note: a note" in text


def test_a_browser_has_sparse_kernels_on_any_cpu():
    text = str(result(DENSE, runtime="wasm"))
    assert "LiteRT.js has sparse kernels" in text
    assert "are not used" not in text


def test_names_that_do_not_tell_apart_keep_their_folders():
    import dataclasses

    other = dataclasses.replace(DENSE, path="in/dense.tflite")
    assert "out/dense.tflite" in str(result(DENSE, other))
    assert "out/dense.tflite" not in str(result(DENSE, DENSE))


def test_wrong_and_failed():
    assert result(DENSE, SPARSE, BROKEN).failed == (SPARSE, BROKEN)
    assert not DENSE.wrong
    assert not BROKEN.wrong
    label = FileBenchmark("label.tflite", 1, 1, 1.0, max_rel_error=1.0, tolerance=None)
    assert not label.wrong


@pytest.mark.parametrize("error", [float("inf"), float("nan")])
def test_json_has_no_infinity(error):
    file = FileBenchmark("a.tflite", 1, 1, 1.0, max_rel_error=error, tolerance=5e-5)
    assert file.wrong
    row = json.loads(result(file).to_json())["files"][0]
    assert (row["max_rel_error"], row["wrong"]) == ("infinite", True)


def test_json_of_a_failure():
    row = result(DENSE, BROKEN).to_dict()["files"][1]
    assert (row["failure"], row["median_ms"], row["milliseconds"]) == ("it crashed", None, [])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123")],
)
def test_numbers(value, text):
    assert _number(value) == text
