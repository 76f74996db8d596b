"""What `benchmark_model` prints; the texts in data/ follow its format strings, new and old."""

import pathlib

import pytest

from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.tool_output import ToolFigures, complaint, parse

DATA = pathlib.Path(__file__).parent / "data"


def test_figures_are_those_after_the_warm_up():
    assert parse((DATA / "benchmark_model.txt").read_text()) == ToolFigures(
        load_us=21385,
        first_us=41890,
        mean_us=33405.9,
        median_us=33252,
        p5_us=32944,
        p95_us=34410,
        runs=50,
        memory_mb=36.5,
    )


def test_an_old_tool_tells_the_mean_only():
    assert parse((DATA / "benchmark_model_old.txt").read_text()) == ToolFigures(
        3217, 1413320, 130300, None, None, None, 10, None
    )


def test_numbers_in_scientific_notation():
    text = (
        "count=2 first=1 curr=3 min=1 max=3 avg=2 std=1 p5=1 median=3 p95=3\n"
        "Inference timings in us: Init: 1.5e+06, First inference: 2e+06, "
        "Warmup (avg): 1e+06, Inference (avg): 1.25e+06\n"
    )
    found = parse(text)
    assert (found.load_us, found.first_us, found.mean_us) == (1.5e6, 2e6, 1.25e6)


@pytest.mark.parametrize("cut", ["Inference timings in us", "count="])
def test_output_without_figures(cut):
    lines = (DATA / "benchmark_model.txt").read_text().splitlines()
    text = "\n".join(line for line in lines if cut not in line)
    with pytest.raises(FileFailure, match=r"printed no figures.*Received: .*overall=36.5"):
        parse(text)


def test_no_output():
    with pytest.raises(FileFailure, match="Received: nothing"):
        parse("")


def test_complaints_are_the_tools_own_words():
    text = (DATA / "benchmark_model_failed.txt").read_text()
    assert complaint("", text, 1) == (
        "benchmark_model failed (exit code 1): ERROR: Encountered unresolved custom op: Mystery. "
        "ERROR: Failed to allocate tensors!"
    )
    assert complaint("INFO: STARTING!", "Segmentation fault", 139).endswith(
        "(exit code 139): Segmentation fault"
    )
    assert complaint("", "", 9).endswith("it gave no reason")
