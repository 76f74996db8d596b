import dataclasses
import io
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

import tfprune
from tfprune import comparison, datasets
from tfprune import quickstart as quickstart_
from tfprune.benchmarking import BenchmarkFailure
from tfprune.quickstart import Recipe, quickstart

TINY = Recipe(kernel=3, wide=32, batch=128, dense_epochs=2, pruned_epochs=3)
VARIANTS = [
    "dense float32",
    "pruned float32",
    "pruned float16",
    "pruned dynamic",
    "pruned int8",
]


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """The command as a user runs it; returns its folder and its output."""
    folder = tmp_path_factory.mktemp("quickstart")
    environment = {
        **os.environ,
        "PYTHONPATH": str(pathlib.Path(tfprune.__file__).parent.parent),
        "COLUMNS": "80",
    }
    ran = subprocess.run(
        [sys.executable, "-c", "from tfprune.cli import main; main()", "quickstart"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return folder / "tfprune-quickstart", ran


@pytest.fixture(scope="module")
def report(command):
    return json.loads((command[0] / "report.json").read_text())


@pytest.fixture(scope="module")
def variants(report):
    return {variant["name"]: variant for variant in report["variants"]}


@pytest.mark.slow
class TestCommand:
    def test_writes_every_file(self, command, report):
        names = {path.name for path in command[0].iterdir()}
        files = {variant["file"] for variant in report["variants"]}
        assert names == files | {"model.keras", "logs", "report.json"}
        assert [variant["name"] for variant in report["variants"]] == VARIANTS

    def test_pruning_costs_at_most_a_point(self, variants):
        dense = variants["dense float32"]["accuracy"]
        assert dense > 0.96
        for name in VARIANTS[1:]:
            assert variants[name]["accuracy"] >= dense - 0.01, name

    def test_sizes_and_zeros(self, command, variants):
        dense, pruned = variants["dense float32"], variants["pruned float32"]
        assert dense["sparsity"] < 0.001
        # Half of conv2's and dense_wide's weights stay, four bytes each and one for an index.
        saved = (3 * 3 * 32 * 64 + 256 * 256) * (4 - 5 / 2)
        assert pruned["raw_bytes"] == pytest.approx(dense["raw_bytes"] - saved, rel=0.01)
        assert pruned["gzip_bytes"] < 0.65 * dense["gzip_bytes"]
        assert variants["pruned int8"]["gzip_bytes"] < 0.25 * dense["gzip_bytes"]
        for name in VARIANTS[1:]:
            assert variants[name]["sparsity"] > 0.47, name
            assert variants[name]["nonzero"] < variants[name]["parameters"]
        for variant in variants.values():
            assert variant["raw_bytes"] == (command[0] / variant["file"]).stat().st_size

    def test_model_has_the_rules_sparsity_and_no_wrappers(self, command, report):
        model = keras.models.load_model(command[0] / "model.keras")
        assert not any(isinstance(layer, tfprune.PruneLowMagnitude) for layer in model.layers)
        conv1, conv2, wide, output = (
            np.asarray(model.get_layer(name).kernel)
            for name in ("conv1", "conv2", "dense_wide", "output")
        )
        assert (conv1 == 0).mean() == 0.5
        for kernel in (conv2, wide):
            groups = np.moveaxis(kernel, -2, -1).reshape(-1, 4)
            assert ((groups == 0).sum(1) == 2).all()
        assert (output != 0).all()
        assert [row["pattern"] for row in report["layers"][:3]] == [
            "unstructured",
            "2:4",
            "2:4",
        ]

    def test_keras_and_tflite_agree(self, command, variants):
        data = datasets.load("digits")
        model = keras.models.load_model(command[0] / "model.keras")
        accuracy = (model.predict(data.x_test, verbose=0).argmax(-1) == data.y_test).mean()
        assert variants["pruned float32"]["accuracy"] == pytest.approx(accuracy, abs=0.0021)

    def test_logs_show_sparsity_rise(self, command):
        from tensorboard.backend.event_processing import event_accumulator
        from tensorboard.util import tensor_util

        events = event_accumulator.EventAccumulator(
            str(command[0] / "logs" / "metrics"), size_guidance={"tensors": 0}
        ).Reload()
        points = events.Tensors("sparsity/dense_wide/kernel")
        sparsity = [float(tensor_util.make_ndarray(point.tensor_proto)) for point in points]
        assert sparsity[-1] == 0.5
        assert sparsity == sorted(sparsity)
        assert len(set(sparsity)) > 5

    def test_prints_table_and_what_to_do_next_within_80_columns(self, command):
        text = command[1].stdout
        assert command[1].stderr == ""
        assert all(name in text for name in VARIANTS)
        assert "tfprune report tfprune-quickstart\n" in text
        assert "tfprune board tfprune-quickstart/logs" in text
        assert "tfprune inspect tfprune-quickstart/" in text
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80


def example_in(function):
    return textwrap.dedent(re.search(r"```python\n(.*?)```", function.__doc__, re.DOTALL)[1])


def test_the_examples_in_docstrings_import_what_they_use(monkeypatch, capsys):
    """`import tfprune` alone gives no `tfprune.quickstart`, so the examples run without it."""
    calls = []
    example = example_in(quickstart)
    monkeypatch.setattr(quickstart_, "quickstart", lambda *a, **k: calls.append((a, k)))
    exec(example, {})
    assert calls == [(("demo",), {"overwrite": True})]

    class Model:
        def fit(self, x, y):
            calls.append(x.shape)

    exec(example_in(datasets.load), {"model": Model()})
    assert calls[1] == (1297, 8, 8, 1)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("recipe", quickstart_.RECIPES.values(), ids=quickstart_.RECIPES)
def test_every_recipe_builds_for_every_image(shape, recipe):
    model = quickstart_.build_model(shape, 10, recipe)
    assert model.output_shape == (None, 10)
    tfprune.prune(model, quickstart_.pruning_rules(10))


def test_there_is_a_recipe_for_every_dataset():
    assert set(quickstart_.RECIPES) == set(datasets.NAMES)


@pytest.mark.parametrize("steps", [1, 2, 10, 492])
def test_the_schedule_ends_within_the_training(steps):
    for rule in quickstart_.pruning_rules(steps)[:2]:
        assert rule.schedule.end_step <= steps
        assert rule.schedule.final_sparsity == 0.5


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "new" / "results"
    return quickstart(folder, recipe=TINY, seed=3)


class TestFromPython:
    def test_result_is_the_report(self, tiny):
        report = json.loads(pathlib.Path(tiny.out, "report.json").read_text())
        assert report == json.loads(tiny.to_json())
        assert report["seed"] == 3
        assert (report["dense_epochs"], report["pruned_epochs"]) == (2, 3)
        assert report["seconds"] > 0

    def test_prints_and_draws(self, tiny):
        assert all(name in str(tiny) for name in VARIANTS)
        assert f"  tfprune report {tiny.out}" in str(tiny).splitlines()
        axes = tiny.plot()
        assert [label.get_text() for label in axes.get_yticklabels()] == VARIANTS

    def test_the_same_seed_again_replaces_the_run_by_an_equal_one(self, tiny):
        logs = pathlib.Path(tiny.out, "logs")
        before = {path.name for path in logs.rglob("events*")}
        keras.utils.set_random_seed(99)
        again = quickstart(tiny.out, recipe=TINY, seed=3, overwrite=True)
        after = {path.name for path in logs.rglob("events*")}
        assert list(map(unmeasured, again.variants)) == list(map(unmeasured, tiny.variants))
        assert after
        assert not before & after

    def test_a_failed_run_touches_nothing(self, tiny, tmp_path):
        before = contents(tiny.out)
        with pytest.raises(FileNotFoundError):
            quickstart(tiny.out, "mnist", tmp_path / "nowhere", overwrite=True)
        with pytest.raises(ValueError, match="imagenet"):
            quickstart(tiny.out, "imagenet", overwrite=True)
        with pytest.raises(FileExistsError, match=r"earlier quickstart.*--overwrite"):
            quickstart(tiny.out)
        assert contents(tiny.out) == before

    def test_an_earlier_run_stays_until_the_new_one_is_whole(self, tiny, monkeypatch):
        before, seen = contents(tiny.out), []

        def killed(*arguments):
            seen.append(contents(tiny.out).items() >= before.items())
            raise KeyboardInterrupt
            yield

        monkeypatch.setattr("tfprune.quickstart._export_all", killed)
        with pytest.raises(KeyboardInterrupt):
            quickstart(tiny.out, recipe=TINY, overwrite=True)
        assert seen == [True]
        assert contents(tiny.out) == before

    def test_every_file_is_run_side_by_side(self, tiny):
        assert all(variant.median_ms > 0 for variant in tiny.variants)
        assert all(variant.peak_memory_bytes > 0 for variant in tiny.variants)
        assert tiny.conditions[1].startswith("Processor: ")
        assert f"of one image on this machine. {tiny.conditions[0]}" in " ".join(str(tiny).split())

    def test_macs_are_those_of_the_model(self, tiny):
        """Kernels of 3x3: 8x8 places, 1 to 32 channels; 4x4 places, 32 to 64; then 256 to 32."""
        dense, *pruned = tiny.variants
        first, second, wide, output = 64 * 9 * 32, 16 * 9 * 32 * 64, 256 * 32, 32 * 10
        assert dense.macs == dense.nonzero_macs == first + second + wide + output
        for variant in pruned:
            assert variant.macs == dense.macs
            assert variant.nonzero_macs == (first + second + wide) // 2 + output


def unmeasured(variant):
    return dataclasses.replace(variant, median_ms=None, peak_memory_bytes=None, energy_mj=None)


def test_files_that_cannot_be_run_side_by_side_are_kept(tmp_path, monkeypatch):
    def failing(files):
        raise BenchmarkFailure("no file could be measured: killed")

    monkeypatch.setattr(tfprune, "benchmark", failing)
    result = quickstart(tmp_path, recipe=TINY)
    assert [variant.median_ms for variant in result.variants] == [None] * 5
    assert result.conditions == ("It could not be measured: no file could be measured: killed",)
    assert "could not be measured" in str(result)
    assert (tmp_path / "report.json").exists()


def contents(folder):
    files = (path for path in pathlib.Path(folder).rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("foreign", ["thesis.tex", "logs/notes.txt", "src/main.py", "model.h5"])
def test_a_folder_with_other_things_is_refused(tmp_path, overwrite, foreign):
    path = tmp_path / foreign
    path.parent.mkdir(exist_ok=True)
    path.write_text("precious")
    (tmp_path / "model.keras").write_text("also here")
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match="nothing was touched"):
        quickstart(tmp_path, recipe=TINY, overwrite=overwrite)
    assert contents(tmp_path) == before


def test_what_killed_runs_and_desktops_hide_in_a_folder_is_no_earlier_run(tmp_path):
    (tmp_path / ".DS_Store").write_text("desktop")
    (tmp_path / ".quickstart-killed").mkdir()
    quickstart(tmp_path, recipe=TINY)
    assert {path.name for path in tmp_path.iterdir() if path.name[0] == "."} == {".DS_Store"}


def test_data_that_cannot_be_had_leave_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        quickstart(tmp_path / "new", "mnist", tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_words(tmp_path, monkeypatch):
    def full(*arguments):
        raise tf.errors.ResourceExhaustedError(None, None, f"{said}; Flushing")

    monkeypatch.setattr(quickstart_, "train", full)
    said = "events.v2; No space left on device"
    with pytest.raises(OSError, match=r"no room for the logs.*Received: out="):
        quickstart(tmp_path, recipe=TINY)
    said = "OOM when allocating"
    with pytest.raises(tf.errors.ResourceExhaustedError, match="OOM"):
        quickstart(tmp_path, recipe=TINY)


def test_a_folder_that_cannot_be_made_says_so():
    with pytest.raises(OSError, match=r"cannot be made or read.*too long.*Received: out='nnn"):
        quickstart("n" * 300, recipe=TINY)


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(FileExistsError, match="this is a file"):
        quickstart(tmp_path / "out", recipe=TINY, overwrite=True)


def test_accuracy_of_a_tflite_counts_right_answers(tmp_path):
    """A model that always says 7 is right on the sevens alone."""
    data = datasets.load("digits")
    model = keras.Sequential(
        [keras.Input(data.image_shape), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    bias = np.zeros(10, "float32")
    bias[7] = 1
    model.layers[-1].set_weights([np.zeros((64, 10), "float32"), bias])
    tfprune.export_tflite(model, tmp_path / "seven.tflite")
    labels = np.array([7] * 30 + [0] * 70)
    accuracy = quickstart_.tflite_accuracy(tmp_path / "seven.tflite", data.x_test[:100], labels)
    assert accuracy == 0.3


def test_large_models_fit_80_columns(tiny):
    def enlarged(variant):
        sizes = {"raw_bytes": 13_000_000, "gzip_bytes": 12_000_000}
        return dataclasses.replace(variant, parameters=3_266_186, median_ms=1234.5, **sizes)

    large = dataclasses.replace(tiny, variants=tuple(map(enlarged, tiny.variants)))
    console = Console(width=80, file=io.StringIO())
    console.print(large.table())
    text = console.file.getvalue()
    assert "…" not in text
    assert "3,266,186" in text
    assert "12.4 MiB" in text
    assert "1,234.5 ms" in text


def test_a_variant_knows_its_sparsity():
    variant = comparison.Variant("a", "a.tflite", 0.9, 200, 50, 1000, 500, 800, 200)
    assert math.isclose(variant.sparsity, 0.75)
