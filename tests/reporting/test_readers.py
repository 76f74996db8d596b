"""What the page shows of each result, and which files it takes for results."""

import contextlib
import dataclasses
import json

import pytest

import tfprune
from tfprune.reporting import kinds, pairs, readers, texts
from tfprune.reporting.items import SPEED, Origin, Pair, Picture, Remark, Skipped, Table


def items(result, kind, source="here"):
    figures = result if isinstance(result, dict) else json.loads(result.to_json())
    assert kinds.kind_of(figures) == kind
    return readers.read(kind, figures, source)


def pairs_of(found):
    return {item.figure: (item.before, item.after) for item in found if isinstance(item, Pair)}


def skipped(found):
    return {item.what: item.reason for item in found if isinstance(item, Skipped)}


def test_quickstart(quickstart):
    found = items(quickstart, "quickstart")
    assert pairs_of(found) == {
        "accuracy": (0.98, 0.97),
        "parameters": (1000, 1000),
        "nonzero": (1000, 250),
        "file_bytes": (4096, 2048),
        "gzip_bytes": (2048, 512),
        "macs": (800, 800),
        "nonzero_macs": (800, 200),
        "memory": (4096, 2048),
        "latency": (2.0, 1.0),
        "energy": (None, None),
    }
    assert skipped(found) == {"output/kernel: left dense": "a rule says so"}
    speed = next(item for item in found if isinstance(item, Table) and item.section == SPEED)
    assert speed.rows == (  # the int8 file could not be run
        ("dense float32", "2 ms", "4.0 KiB", "no meter"),
        ("pruned float32", "1 ms", "2.0 KiB", "no meter"),
    )
    assert Remark(SPEED, "Zeros cannot make a file faster here.") in found
    assert Origin("seed", "7", "here") in found
    zeros = next(item for item in found if isinstance(item, Table))
    assert [row[1:4] for row in zeros.rows] == [("50.0 %", "50.0 %", "72"), ("0.0 %", "–", "640")]


def test_a_quickstart_of_a_version_that_measured_no_latency(quickstart):
    figures = quickstart.to_dict()
    for name in ("conditions", "energy"):
        del figures[name]
    for variant in figures["variants"]:
        for name in ("macs", "nonzero_macs", "median_ms", "peak_memory_bytes", "energy_mj"):
            del variant[name]
    found = items(figures, "quickstart")
    assert pairs_of(found)["gzip_bytes"] == (2048, 512)
    assert pairs_of(found)["latency"] == (None, None)
    assert all(item.section != SPEED for item in found if isinstance(item, (Table, Remark)))


def test_a_benchmark_compares_the_first_with_each_that_ran(benchmark):
    found = items(benchmark, "benchmark")
    latencies = [item for item in found if isinstance(item, Pair) and item.figure == "latency"]
    assert [(item.models, item.before, item.after) for item in latencies] == [
        (("dense.tflite", "small.tflite"), 2.0, 0.5),
        (("dense.tflite", "last.tflite"), 2.0, 1.0),
    ]
    assert pairs_of(found)["energy"] == (None, None)
    assert skipped(found) == {"broken.tflite: not measured": "it crashed the runtime"}
    table = next(item for item in found if isinstance(item, Table))
    small = ("small.tflite", "0.5 ms", "0.4 to 0.6", "4x", "3 ms", "1.0 KiB", "no meter")
    assert table.rows[1] == small


def test_files_of_one_name_are_told_apart_by_their_folders(benchmark):
    files = [dataclasses.replace(benchmark.files[n], path=f"{n}/model.tflite") for n in (0, 1, 3)]
    found = items(dataclasses.replace(benchmark, files=tuple(files)), "benchmark")
    assert {item.models for item in found if isinstance(item, Pair)} == {
        ("0/model.tflite", "1/model.tflite"),
        ("0/model.tflite", "3/model.tflite"),
    }


def test_shrink(shrink):
    found = items(shrink, "shrink")
    assert pairs_of(found)["parameters"] == (2000, 800)
    assert pairs_of(found)["macs"] == (8000, 2000)
    assert skipped(found) == {
        "output: 8 of 8 channels stay": "it is an output of the model",
        "mine: its channels stay": "no rule is known for MyLayer",
    }


def test_sensitivity_says_in_words_what_its_heat_map_shows(sensitivity):
    found = items(sensitivity, "sensitivity")
    picture = next(item for item in found if isinstance(item, Picture))
    assert "output/kernel costs most, 0.5000" in picture.alt
    assert next(i for i in found if isinstance(i, Table)).rows[1][1:] == ("0.0000", "0.5000")


def test_search_and_variants(search, variants):
    found = items(search, "search")
    assert pairs_of(found) == {"accuracy": (0.91, 0.9)}
    assert skipped(found) == {"trial 3: no figures": "out of memory"}
    found = items(variants, "variants")
    assert pairs_of(found) == {}  # the Keras model may be pruned already: it is no "before"
    assert skipped(found) == {"variant int8: left out": "there are no calibration data"}
    assert Origin("keras", "3.15.1", "here") in found


def test_every_result_of_the_library_is_known_by_its_keys(small_model, batch):
    """Made by the library itself, so that a key that is renamed there is missed here."""
    one_shot, report = tfprune.prune_one_shot(small_model, batch[0], 0.5)
    _, shrunk = tfprune.shrink(small_model, channels=0.5)
    made = {
        "count": tfprune.count(one_shot),
        "summary": tfprune.summary(one_shot),
        "reconstruction": report,
        "shrink": shrunk,
        "allocation": tfprune.allocate(small_model, 0.5),
        "permutation": tfprune.permute_for_nm(small_model, "2:4")[1],
        "doctor": tfprune.doctor(),
    }
    for kind, result in made.items():
        assert items(result, kind), kind
    counted = pairs_of(items(made["count"], "count"))
    total = one_shot.count_params()
    zeros = sum(int((w.numpy() == 0).sum()) for w in one_shot.trainable_weights if w.ndim > 1)
    others = sum(int((w.numpy() == 0).sum()) for w in one_shot.weights if w.ndim < 2)
    assert counted["nonzero"] == (total, total - zeros - others)


def test_an_exported_file_and_its_inspection(small_model, tmp_path):
    exported = tfprune.export_tflite(small_model, tmp_path / "small.tflite")
    found = items(exported, "export")
    tables = [item for item in found if isinstance(item, Table)]
    assert texts.size((tmp_path / "small.tflite").stat().st_size) in tables[0].caption
    inspected = items(tfprune.inspect_file(tmp_path / "small.tflite"), "file")
    assert [len(item.rows) for item in inspected if isinstance(item, Table)] == [4]


@pytest.mark.parametrize("foreign", [None, 3, [], {}, {"name": "x"}, {"weights": [], "model": 1}])
def test_foreign_json_is_no_result(foreign):
    assert kinds.kind_of(foreign) is None


@pytest.mark.parametrize("kind", kinds.KEYS)
@pytest.mark.parametrize("junk", [None, 5, "x", [3], {"a": 1}])
def test_damaged_figures_raise_what_the_folder_catches(kind, junk):
    with contextlib.suppress(readers.DAMAGE):  # any other error would end the whole report
        readers.read(kind, dict.fromkeys(kinds.KEYS[kind], junk), "here")


def test_figures_of_different_models_never_share_a_table():
    run, cut = ("dense", "pruned"), ("dense", "cut")
    found = [
        Pair("accuracy", 0.9, 0.875, run, "report.json"),
        Pair("nonzero", 1000, 900, run, "report.json"),
        Pair("latency", 4.0, 1.0, cut, "shrink.json"),
        Pair("parameters", 1000, 500, cut, "shrink.json"),
        Pair("latency", None, None, run, "report.json"),
        Pair("memory", None, 2048, ("unknown", "other"), "variants.json"),
        Pair("file_bytes", 2048, None, run, "report.json"),
    ]
    assert pairs.compared(found) == [
        (
            "Before: dense; after: pruned (report.json)",
            (
                ("accuracy", "90.0 %", "87.5 %", "-2.5 points"),
                ("nonzero parameters", "1,000", "900", "10 % less"),
                ("file size", "2.0 KiB", "–", "–"),
            ),
        ),
        (
            "Before: dense; after: cut (shrink.json)",
            (
                ("parameters", "1,000", "500", "2 times less"),
                ("latency, median", "4 ms", "1 ms", "4 times less"),
            ),
        ),
    ]
    missing = "MACs, all; MACs with nonzero weights; file size; file size, gzip; peak memory"
    assert pairs.not_compared(found, no_meter=True) == (
        f"Not measured before and after: {missing}; energy of a run (no meter)."
    )


def test_texts_of_figures():
    assert texts.size(1024**2 * 3) == "3.0 MiB"
    assert texts.size("infinite") == texts.digits("infinite") == "infinite"
    assert texts.digits(float("nan")) == "nan"
    assert texts.count(None) == "–"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (13.1, 12.6, "4 % less"),
        (10.0, 9.96, "the same"),
        (10.0, 10.04, "the same"),
        (1000, 993, "0.7 % less"),
        (1000, 1240, "24 % more"),
        (100, 67, "33 % less"),
        (3, 2, "1.5 times less"),
        (2, 5, "2.5 times more"),
        (5, 600, "120 times more"),
        (4, 4, "the same"),
        (0, 4, "–"),
    ],
)
def test_changes_are_told_in_per_cent_below_one_and_a_half_times(before, after, told):
    assert texts.ratio(before, after) == told
