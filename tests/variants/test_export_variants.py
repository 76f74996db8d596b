"""`export_variants` as a whole: files, figures, the record, resuming, bad input."""

import dataclasses
import io
import json

import keras
import numpy as np
import pytest
import rich.console

import tfprune
from tfprune import benchmarking
from tfprune.export import verify
from tfprune.quickstart import tflite_accuracy
from tfprune.variants import making, measurement, record
from tfprune.variants.variant import VARIANTS

NAMES = [one.name for one in VARIANTS]
L = keras.layers


def recorded(folder):
    found = record.read(folder)
    assert found is not None
    return found


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """One run over everything, timed for real."""
    out = tmp_path_factory.mktemp("out") / "new"
    result = tfprune.export_variants(
        files / "net.keras",
        out,
        representative_data=files / "calibration.npz",
        eval_data=files / "test.npz",
        objective="size",
        runs=5,
    )
    return out, result


def test_all_files_are_written_and_measured(whole):
    out, result = whole
    assert [row.name for row in result.rows] == NAMES
    *made, last = result.rows  # no runtime loads a sparse int8 matrix
    assert names_in(out) == sorted([*(f"net-{row.name}.tflite" for row in made), "variants.json"])
    assert (last.state, last.file) == ("left out", None)
    assert "would not load" in last.reason
    for row in made:
        assert (row.state, row.reason) == ("done", "")
        path = out / row.file
        assert row.file_bytes == path.stat().st_size
        assert row.p5_ms <= row.median_ms <= row.p95_ms
        assert row.peak_memory_bytes is not None
        assert row.sparsity == pytest.approx(tfprune.inspect_file(path).sparsity)
        assert row.encoded == (1 if row.name.endswith("sparse") else 0)
    for name in ("float32", "float16"):
        assert result[f"{name}-sparse"].file_bytes < result[name].file_bytes


def test_accuracy_and_choice(whole, files):
    out, result = whole
    assert (result.baseline, result.metric, result.eval_samples) == (0.75, "top-1 accuracy", 40)
    assert (result["float32"].accuracy, result["float32"].drop) == (0.75, 0.0)
    done = [row for row in result.rows if row.done]
    assert all(row.drop == pytest.approx(0.75 - row.accuracy) for row in done)
    images, labels = (np.load(files / "test.npz")[key] for key in "xy")
    for row in done:  # by another loop
        assert row.accuracy == tflite_accuracy(out / row.file, images, labels)
    within = [row for row in done if row.drop <= 0.01]
    assert result.best == min(within, key=lambda row: row.file_bytes).name
    assert result.failed == ()


def test_it_prints_every_variant_and_marks_the_best(whole):
    _, result = whole
    lines = str(result).splitlines()
    rows = {line.split()[0]: line for line in lines if line.split()[:1] and line[:1] == " "}
    assert set(NAMES) <= set(rows)
    assert [name for name in NAMES if rows[name].rstrip().endswith(" best")] == [result.best]
    assert "0.7500" in rows["Keras"]
    assert max(map(len, lines)) <= 100
    text = " ".join(str(result).split())
    assert f"best (size): {result.best}." in text
    assert "size: what the installed app keeps on the device" in text
    assert "gzip: about what the app's download grows by" in text
    assert "Sparse kernels" in text or "sparse kernels" in text


def test_no_figure_is_cut_off_in_a_terminal_of_80_columns(whole):
    """With the figures of a large model in the place of these."""
    large = {"file_bytes": 99_171_184, "gzip_bytes": 92_171_184, "median_ms": 138.4}
    large |= {"peak_memory_bytes": 128_000_000, "accuracy": 0.1234, "drop": -0.1234}
    rows = tuple(dataclasses.replace(row, **large) for row in whole[1].rows)
    console = rich.console.Console(width=80, file=io.StringIO())
    console.print(dataclasses.replace(whole[1], rows=rows).table())
    text = console.file.getvalue()
    assert "…" not in text
    assert text.count("99,171") == text.count("-0.1234") == len(rows)


def test_the_record_holds_the_result(whole, tmp_path):
    out, result = whole
    found = recorded(out)
    assert found.result == result
    assert found.complete
    figures = json.loads(result.to_json(tmp_path / "copy.json"))
    assert figures == result.to_dict() == json.loads((tmp_path / "copy.json").read_text())
    assert figures["rows"][0]["file"] == "net-float32.tflite"
    assert set(figures) < set(json.loads((out / "variants.json").read_text()))


def test_an_earlier_run_is_not_touched(whole, files):
    out, _ = whole
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(FileExistsError, match="--resume"):
        tfprune.export_variants(files / "net.keras", out, "float32")
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_resuming_a_finished_run_does_nothing_but_choose(whole, files, monkeypatch):
    out, result = whole
    monkeypatch.setattr(making, "export_tflite", None)
    monkeypatch.setattr(measurement, "benchmark", None)
    again = tfprune.export_variants(
        files / "net.keras",
        out,
        representative_data=files / "calibration.npz",
        eval_data=files / "test.npz",
        objective="latency",
        max_accuracy_drop=1.0,
        runs=5,
        resume=True,
    )
    assert again.rows == result.rows
    assert again.conditions == result.conditions
    done = [row for row in result.rows if row.done]
    fastest = min(done, key=lambda row: (row.median_ms, row.file_bytes))
    assert again.best == fastest.name


def test_an_interrupted_run_keeps_what_it_finished(net, x, y, tmp_path, measured, monkeypatch):
    """Ctrl-C while the third file is verified; the second run makes only what is missing."""
    made, compare = [], verify.compare

    def interrupt(quantize, *arguments):
        made.append(quantize)
        if len(made) == 3:
            raise KeyboardInterrupt
        return compare(quantize, *arguments)

    monkeypatch.setattr(verify, "compare", interrupt)
    arguments = (net, tmp_path / "out", ["float32", "float16", "dynamic", "float32-sparse"])
    with pytest.raises(KeyboardInterrupt):
        tfprune.export_variants(*arguments, eval_data=(x, y))
    assert names_in(tmp_path / "out") == [
        *("net-float16.tflite", "net-float32.tflite", "variants.json")
    ]
    found = recorded(tmp_path / "out")
    assert not found.complete
    assert [row.accuracy for row in found.result.rows] == [0.75, 0.75]
    assert record.finished(tmp_path / "out") == ["net-float32.tflite", "net-float16.tflite"]
    assert measured == []

    result = tfprune.export_variants(*arguments, eval_data=(x, y), resume=True)
    assert made[3:] == ["dynamic", None]
    assert [row.state for row in result.rows] == ["done"] * 4
    assert measured == [["float32", "float16", "dynamic", "float32-sparse"]]


def test_resuming_makes_a_changed_file_again(net, tmp_path, measured):
    first = tfprune.export_variants(net, tmp_path, "float32,float16")
    path = tmp_path / "net-float16.tflite"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    (tmp_path / "net-float32.tflite").unlink()
    again = tfprune.export_variants(net, tmp_path, "float32,float16", resume=True)
    assert path.read_bytes() == content
    assert again.rows == first.rows


def test_resuming_with_fewer_variants_keeps_the_others(net, tmp_path, measured):
    first = tfprune.export_variants(net, tmp_path, "float32,float16")
    fewer = tfprune.export_variants(net, tmp_path, "float16", resume=True)
    assert fewer.rows == first.rows
    assert [row.name for row in recorded(tmp_path).result.rows] == ["float32", "float16"]


def test_resuming_another_run_is_refused(net, x, y, tmp_path, measured):
    tfprune.export_variants(net, tmp_path, "float32", eval_data=(x, y))
    content = (tmp_path / "variants.json").read_bytes()
    other = keras.models.clone_model(net)
    for model, data, word in (
        (other, (x, y), "the model"),
        (net, (x, y[::-1]), "the evaluation data"),
        (net, (x[::-1], y), "the evaluation data"),
        (net, None, "the evaluation data"),
    ):
        with pytest.raises(ValueError, match=f"{word} differ"):
            tfprune.export_variants(model, tmp_path, "float32", eval_data=data, resume=True)
    with pytest.raises(ValueError, match="the calibration data differ"):
        tfprune.export_variants(
            net, tmp_path, "float32", representative_data=x, eval_data=(x, y), resume=True
        )
    assert (tmp_path / "variants.json").read_bytes() == content
    changed = json.loads(content)
    changed["identity"]["versions"]["tensorflow"] = "2.0.0"
    (tmp_path / "variants.json").write_text(json.dumps(changed))
    with pytest.raises(ValueError, match="the versions of libraries differ"):
        tfprune.export_variants(net, tmp_path, "float32", eval_data=(x, y), resume=True)


def test_more_variants_may_be_added_and_all_are_timed_together(net, tmp_path, measured):
    tfprune.export_variants(net, tmp_path, "float32")
    result = tfprune.export_variants(net, tmp_path, "float32,float16", resume=True)
    assert [row.name for row in result.rows] == ["float32", "float16"]
    assert measured == [["float32"], ["float32", "float16"]]
    tfprune.export_variants(net, tmp_path, "float32,float16", runs=7, resume=True)
    assert len(measured) == 3, "another number of runs is another measurement"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 9}'])
def test_a_damaged_record(net, tmp_path, content):
    (tmp_path / "variants.json").write_text(content)
    with pytest.raises(ValueError, match="--overwrite"):
        tfprune.export_variants(net, tmp_path, "float32", resume=True)
    assert record.finished(tmp_path) == ()


def test_files_of_somebody_else_are_not_taken_for_an_earlier_run(net, tmp_path):
    (tmp_path / "net-float32.tflite").write_text("mine")
    with pytest.raises(FileExistsError, match="not known"):
        tfprune.export_variants(net, tmp_path, "float32", resume=True)
    assert (tmp_path / "net-float32.tflite").read_text() == "mine"


def test_overwrite_replaces_and_removes_what_there_is_no_variant_for(net, tmp_path, measured):
    for name in ("float32", "int8"):
        (tmp_path / f"net-{name}.tflite").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    result = tfprune.export_variants(net, tmp_path, "float32,int8", overwrite=True)
    assert names_in(tmp_path) == ["net-float32.tflite", "notes.txt", "variants.json"]
    assert result["int8"].state == "left out"
    assert "--data" in result["int8"].reason
    assert (tmp_path / "net-float32.tflite").read_bytes()[4:8] == b"TFL3"


def test_what_a_run_leaves_of_the_one_that_it_replaces_is_named(
    net, tmp_path, measured, monkeypatch
):
    tfprune.export_variants(net, tmp_path, "float32,float16,dynamic")

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(making, "make", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tfprune.export_variants(net, tmp_path, "float32,float16", overwrite=True)
    left = record.read(tmp_path).result.earlier_files
    assert left == ("net-float32.tflite", "net-float16.tflite", "net-dynamic.tflite")
    result = tfprune.export_variants(net, tmp_path, "float32,float16", resume=True)
    assert result.earlier_files == ("net-dynamic.tflite",)
    assert "of an earlier run, not replaced: net-dynamic.tflite" in str(result)
    assert tfprune.export_variants(net, tmp_path, "dynamic", resume=True).earlier_files == ()


def test_places_that_cannot_be_written_to(net, tmp_path):
    (tmp_path / "file").write_text("")
    for out in ("file", "file/below"):
        with pytest.raises(NotADirectoryError, match="is a file"):
            tfprune.export_variants(net, tmp_path / out)
    with pytest.raises(TypeError, match=r"path of a folder.*Received: out=3$"):
        tfprune.export_variants(net, 3)
    (tmp_path / "net-float32.tflite").mkdir()
    with pytest.raises(IsADirectoryError):
        tfprune.export_variants(net, tmp_path, overwrite=True)


def test_no_variant_is_accurate_enough(net, x, y, tmp_path, measured, monkeypatch):
    """Labels and a metric such that every file loses half."""
    calls = []

    def metric(labels, outputs):
        calls.append(outputs.shape)
        return 1.0 if len(calls) == 1 else 0.5 + len(calls) / 100

    result = tfprune.export_variants(
        net, tmp_path, "float32,float16", eval_data=(x, y), metric=metric, max_accuracy_drop=0.1
    )
    assert calls == [(40, 3)] * 3
    assert result.best is None
    assert "float16 came closest: accuracy 0.5300, a drop of 0.4700" in result.choice
    assert result.metric == "metric metric"
    assert "net-float16.tflite" in names_in(tmp_path)
    assert recorded(tmp_path).complete


def test_a_metric_is_asked_again_when_a_run_is_resumed(net, x, y, tmp_path, measured):
    values = [0.5, 0.5, 0.25, 0.25]
    for resume, value in ((False, 0.5), (True, 0.25)):
        result = tfprune.export_variants(
            *(net, tmp_path, "float32"),
            eval_data=(x, y),
            metric=lambda *_: values.pop(0),
            resume=resume,
        )
        assert (result.baseline, result["float32"].accuracy) == (value, value)


def test_a_file_that_comes_out_wrong_is_a_failure_and_the_others_go_on(
    net, tmp_path, measured, monkeypatch
):
    compare = verify.compare

    def refuse(quantize, *arguments):
        if quantize == "float16":
            raise verify.ExportMismatch("it differs\nby much")
        return compare(quantize, *arguments)

    monkeypatch.setattr(verify, "compare", refuse)
    result = tfprune.export_variants(net, tmp_path, "float32,float16", objective="size")
    assert [row.state for row in result.rows] == ["done", "failed"]
    assert result.failed[0].reason == "it differs by much"
    assert result.best == "float32"
    assert names_in(tmp_path) == ["net-float32.tflite", "variants.json"]
    assert "failed float16: it differs by much" in str(result)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"median_ms": None, "failure": "it crashed"}, "measuring it: it crashed"),
        ({"max_rel_error": 0.5}, "0.5 of the largest, and rounding explains 1e-05"),
    ],
)
def test_a_file_that_fails_where_it_is_measured_is_not_chosen(
    net, tmp_path, measured, monkeypatch, change, reason
):
    benchmark = measurement.benchmark

    def spoil(*arguments, **options):
        result = benchmark(*arguments, **options)
        first, second = result.files
        return dataclasses.replace(result, files=(first, dataclasses.replace(second, **change)))

    monkeypatch.setattr(measurement, "benchmark", spoil)
    result = tfprune.export_variants(net, tmp_path, "float32,float16", objective="size")
    assert result.best == "float32"
    assert [row.name for row in result.failed] == ["float16"]
    assert reason in result.failed[0].reason
    assert result.failed[0].median_ms is None


@pytest.mark.parametrize(("objective", "best"), [("size", "float16"), ("balanced", None)])
def test_without_latency_only_the_size_can_be_chosen_by(
    net, tmp_path, monkeypatch, objective, best
):
    def fail(*arguments, **options):
        raise benchmarking.BenchmarkFailure("nothing ran")

    monkeypatch.setattr(measurement, "benchmark", fail)
    result = tfprune.export_variants(net, tmp_path, "float32,float16", objective=objective)
    assert result.best == best
    assert result.conditions == ("note: latency and memory could not be measured: nothing ran",)


def test_a_missing_tool_is_told_before_any_work(net, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(benchmarking.MissingTool, match="adb"):
        tfprune.export_variants(net, tmp_path / "out", runtime="adb")
    assert not (tmp_path / "out").exists()


def dense(kernel, **options):
    model = keras.Sequential([keras.Input((16,)), L.Dense(kernel.shape[1])], **options)
    model.layers[0].set_weights([kernel.astype("float32"), np.linspace(-1, 1, kernel.shape[1])])
    return model


@pytest.mark.parametrize(
    ("kernel", "sparse"),
    [
        (np.zeros((16, 64)), "done"),
        (np.random.default_rng(0).normal(size=(16, 64)), "left out"),
    ],
)
def test_weights_that_are_all_zero_or_none(kernel, sparse, tmp_path, measured):
    result = tfprune.export_variants(dense(kernel), tmp_path, "float32,float32-sparse")
    assert [row.state for row in result.rows] == ["done", sparse]
    assert result["float32"].sparsity == float(not kernel.any())
    if sparse == "left out":
        assert "sparse encoding" in result["float32-sparse"].reason


def test_a_model_without_weights(tmp_path, x, measured):
    model = keras.Sequential([keras.Input((16,)), L.Rescaling(2.0), L.ReLU()], name="bare")
    result = tfprune.export_variants(model, tmp_path, representative_data=x)
    states = {row.name: row.state for row in result.rows}
    assert {states[name] for name in NAMES[4:]} == {"left out"}
    assert states["float32"] == "done"
    assert "weights" in result["float32-sparse"].reason
    assert result["float32"].sparsity == 0.0
    assert "failed" not in states.values()


def test_free_lengths_are_those_of_the_data(tmp_path, monkeypatch):
    steps = keras.Input((None, 4), name="steps")
    model = keras.Model(steps, L.Dense(2)(L.GlobalAveragePooling1D()(steps)), name="free")
    x = np.random.default_rng(0).normal(size=(12, 5, 4)).astype("float32")
    result = tfprune.export_variants(
        model, tmp_path, "float32", eval_data=(x, np.zeros(12, int)), runs=5
    )
    assert (result["float32"].median_ms or 0) > 0
    assert any("steps=1x5x4" in line for line in result.conditions)
    result = tfprune.export_variants(model, tmp_path, "float32", runs=5, overwrite=True)
    assert any("steps=1x8x4" in line for line in result.conditions), "made up"


def test_several_inputs_and_outputs_with_a_metric(tmp_path, measured):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    outputs = {"sum": L.Add()([a, L.Dense(4)(b)]), "copy": L.ReLU()(a)}
    model = keras.Model({"a": a, "b": b}, outputs, name="two")
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(9, 4)), "b": rng.normal(size=(9, 3))}
    seen = {}

    def close(labels, outputs):
        seen.update(outputs)
        return -float(np.abs(outputs["copy"] - labels).max())

    with pytest.raises(ValueError, match="several outputs"):
        tfprune.export_variants(model, tmp_path, "float32", eval_data=(x, np.zeros(9, int)))
    assert names_in(tmp_path) == []
    result = tfprune.export_variants(
        model, tmp_path, "float32", eval_data=(x, np.maximum(x["a"], 0)), metric=close
    )
    assert {name: value.shape for name, value in seen.items()} == {"sum": (9, 4), "copy": (9, 4)}
    assert result["float32"].accuracy == pytest.approx(0, abs=1e-6)


def test_pruning_wrappers_may_be_on(net, x, y, tmp_path, measured):
    """Both Keras and the files are judged with the weights cut; what is amiss is said once."""
    wrapped = tfprune.prune_low_magnitude(net, tfprune.ConstantSparsity(0.95, begin_step=0))
    layer = wrapped.layers[0]
    mask = next(v for v in layer.weights if v.name.endswith("mask"))
    mask.assign(np.zeros(mask.shape))
    result = tfprune.export_variants(wrapped, tmp_path, "float32,float16", eval_data=(x, y))
    constant = np.bincount(y).tolist()  # without its first layer the model always says the same
    assert result.baseline in [count / 40 for count in constant]
    assert result["float32"].accuracy == result["float16"].accuracy == result.baseline
    note = "note: float32, float16: Stripping a model that is not pruned as its schedules say"
    assert [line[: len(note)] for line in result.lines()].count(note) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objective": "speed"}, "'size', 'latency', 'balanced'"),
        ({"max_accuracy_drop": -0.1}, "0 or more"),
        ({"max_accuracy_drop": float("nan")}, "0 or more"),
        ({"max_accuracy_drop": "1%"}, "0 or more"),
        ({"threads": 0}, "threads"),
        ({"runs": 2.5}, "runs"),
        ({"runtime": "ios"}, "'native', 'wasm' or 'adb'"),
        ({"variants": "int4"}, "int4"),
        ({"overwrite": True, "resume": True}, "choose one"),
        ({"metric": lambda labels, outputs: 1.0}, "needs `eval_data`"),
        ({"representative_data": np.zeros((5, 3))}, r"\(5, 3\)"),
        ({"representative_data": np.zeros((5, 16))}, "single value"),
        ({"representative_data": np.full((5, 16), np.nan)}, "NaN"),
        ({"eval_data": (np.ones((5, 16)), np.zeros(4, int))}, "5 inputs and 4 labels"),
        ({"eval_data": (np.ones((5, 16)), np.full(5, 3))}, "from 0 to 2"),
        ({"eval_data": (np.ones((5, 9)), np.zeros(5, int))}, r"\(5, 9\)"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_written(net, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        tfprune.export_variants(net, tmp_path / "out", **arguments)
    assert "Received: " in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_variant_can_be_made(tmp_path, measured):
    model = dense(np.full((16, 64), np.nan), name="broken")
    with pytest.raises(ValueError, match=r"float32, float16: .*NaN") as caught:
        tfprune.export_variants(model, tmp_path, "float32,float16")
    assert str(caught.value).count("Received: ") == 1
    assert not names_in(tmp_path), "nothing stands in the way of the next try"
