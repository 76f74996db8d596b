"""Small results worked by hand, as a run would have saved them."""

import json
import re

import pytest
import searching

import tfprune
from tfprune.benchmarking import BenchmarkResult
from tfprune.benchmarking.cpu import Cpu
from tfprune.benchmarking.result import FileBenchmark
from tfprune.comparison import QuickstartResult, Variant
from tfprune.search.result import SearchResult, Trial
from tfprune.sensitivity.result import Sensitivity, WeightSensitivity
from tfprune.summary import WeightSparsity
from tfprune.variants.result import VariantsResult
from tfprune.variants.row import VariantRow

NASTY = "<script>alert(1)</script>|`a`"
"""A name that a layer may have, and that neither HTML nor Markdown may take for its own."""

SUMMARY = {"name": "small", "rows": [], "parameters": 100, "nonzero": 50}


def tables_of(path):
    """Return the rows of the tables of a page in Markdown, by caption."""
    return tables_in(path.read_text("utf-8"))


def tables_in(text):
    """Return the same of the text of such a page."""
    parts = re.findall(r"(?ms)^\*\*(.*?)\*\*\n\n(.*?)(?:\n\n|\Z)", text)
    rows = [[[c.strip() for c in r.split("|")[1:-1]] for r in t.split("\n")] for _, t in parts]
    return {caption: held for (caption, _), held in zip(parts, rows, strict=True)}


@pytest.fixture(scope="session")
def quickstart():
    layers = (
        WeightSparsity(NASTY, "kernel", (3, 3, 1, 8), "2:4", 0.5, 0.5, 36, 72, ""),
        WeightSparsity("output", "kernel", (64, 10), "", None, 0.0, 640, 640, "a rule says so"),
    )
    variants = (
        Variant(
            "dense float32",
            "dense-float32.tflite",
            0.98,
            1000,
            1000,
            4096,
            2048,
            800,
            800,
            2.0,
            4096,
        ),
        Variant(
            "pruned float32",
            "pruned-float32.tflite",
            0.97,
            1000,
            250,
            2048,
            512,
            800,
            200,
            1.0,
            2048,
        ),
        Variant("pruned int8", "pruned-int8.tflite", 0.965, 1000, 250, 1024, 256, 800, 200),
    )
    told = ("Zeros cannot make a file faster here.", "Processor: AMD EPYC."), "no meter"
    run = ("out", "digits", "shipped", 500, 7, 15, 12, 20.0)
    return QuickstartResult(*run, layers, variants, *told)


@pytest.fixture(scope="session")
def benchmark():
    files = (
        FileBenchmark("a/dense.tflite", 4096, 2048, 2.0, 1.9, 2.2, 1.0, 5.0, 6.0, 2048, 0.0, 1e-4),
        FileBenchmark("a/small.tflite", 2048, 512, 0.5, 0.4, 0.6, 4.0, 3.0, 4.0, 1024, 0.0, 1e-4),
        FileBenchmark("a/broken.tflite", 2048, 512, failure="it crashed the runtime"),
        FileBenchmark("a/last.tflite", 1024, 256, 1.0, 0.9, 1.1, 2.0, 3.0, 4.0, 512, 0.0, 1e-4),
    )
    cpu = Cpu("AMD EPYC", "x86_64", 2, ("avx",))
    notes, versions = ("the clock was not fixed",), {"ai-edge-litert": "2.3.0"}
    return BenchmarkResult("native", "this machine", cpu, 1, 5, files, "no meter", notes, versions)


@pytest.fixture(scope="session")
def sensitivity():
    weights = (
        WeightSensitivity(NASTY, "kernel", 72, (0.01, 0.0625)),
        WeightSensitivity("output", "kernel", 640, (0.0, 0.5)),
    )
    return Sensitivity("small", "accuracy", 0.9, (0.5, 0.9), weights, 100)


@pytest.fixture(scope="session")
def shrink():
    """What `ShrinkReport.to_dict` gives, but for a history without entries."""
    row = {"weight": "kernel", "axis": 3, "frozen": 0, "reason": ""}
    costs = {"macs_before": 4000, "macs_after": 1000}
    stays = {"frozen": 8, "reason": "it is an output of the model"}
    return {
        "model": "small",
        "target": "macs=0.5",
        "importance": "l2",
        "params_before": 2000,
        "params_after": 800,
        "macs_before": 8000,
        "macs_after": 2000,
        "channels_before": 16,
        "channels_removed": 4,
        "layers": [
            {**row, **costs, "layer": NASTY, "before": 8, "after": 4},
            {**row, **costs, **stays, "layer": "output", "before": 8, "after": 8},
        ],
        "unknown": [["mine", "MyLayer"]],
        "history": {},
        "touched": [],
        "latency_before_ms": None,
        "latency_after_ms": None,
        "notes": [],
    }


@pytest.fixture(scope="session")
def search():
    trials = (
        Trial(0.5, 0.5, 0.9, 0.5, True),
        Trial(0.9, 0.9, 0.5, 0.1, False),
        Trial(0.7, None, None, None, False, "out of memory"),
    )
    reason = "the sparsest inside the budget"
    return SearchResult("sparsity", "accuracy", 0.91, 0.02, trials, 0, True, reason, None, None)


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
    """The folder that a search by bisection leaves, and its result."""
    folder = tmp_path_factory.mktemp("search")
    model = searching.network()
    data = searching.data(model)
    result = tfprune.search(model, data, 0.05, train=searching.cut_only, trials=2, folder=folder)
    return folder, result


@pytest.fixture(scope="session")
def variants():
    rows = (
        VariantRow("float32", "done", "", "float32.tflite", 4096, 2048, "0", 0.5, 0, "dense", 1e-6),
        VariantRow("int8", "left out", "there are no calibration data"),
    )
    return VariantsResult(
        *("small", "out", "size", 0.01, "float32", "it is the smallest", rows, "accuracy", 0.9),
        *(100, "native", 1, 50, ("AMD EPYC",), {"keras": "3.15.1"}),
    )


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory, quickstart, benchmark, sensitivity, shrink, search, variants):
    """A folder with all of it, and with files that are no results. Tests only read it."""
    folder = tmp_path_factory.mktemp("run")
    quickstart.to_json(folder / "report.json")
    (folder / "measured").mkdir()
    benchmark.to_json(folder / "measured" / "benchmark.json")
    sensitivity.to_json(folder / "sensitivity.json")
    search.to_json(folder / "search.json")
    variants.to_json(folder / "variants.json")
    (folder / "shrink.json").write_text(json.dumps(shrink))
    (folder / "package.json").write_text('{"name": "foreign"}')
    (folder / "cut.json").write_text('{"dataset": ')
    damaged = {**quickstart.to_dict(), "variants": 5}
    (folder / "damaged.json").write_text(json.dumps(damaged))
    return folder
