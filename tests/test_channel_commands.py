"""`tfprune shrink` and `tfprune count`, as they are typed."""

import json

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import tfprune
from tfprune import cli
from tfprune.channel_commands import ImportanceName
from tfprune.channels import scoring

layers = keras.layers


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with net.keras, compiled and trained for a step, and data.npz for it."""
    path = tmp_path_factory.mktemp("net")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(16, 3, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Conv2D(8, 3, name="second"),
            layers.Flatten(name="flatten"),
            layers.Dense(4, activation="softmax", name="out"),
        ],
        name="net",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x, y = rng.random((16, 8, 8, 3), np.float32), rng.integers(0, 4, 16)
    model.fit(x, y, verbose=0)
    model.save(path / "net.keras")
    np.savez(path / "data.npz", x=x, y=y)
    return path


@pytest.fixture
def net(folder):
    return folder / "net.keras"


def test_shrink_writes_a_model_of_half_the_macs(net, tmp_path):
    out = tmp_path / "small.keras"
    result = call("shrink", net, "--macs", "0.5", "--out", out)
    assert (result.exit_code, result.stderr) == (0, "")
    before, after = (tfprune.count(keras.models.load_model(path)) for path in (net, out))
    assert 0.45 * before.macs < after.macs <= 0.5 * before.macs
    for number in (before.macs, after.macs, before.parameters, after.parameters):
        assert f"{number:,}" in result.stdout
    small = keras.models.load_model(out)
    assert small.compiled
    moments = [v for v in small.optimizer.variables if "momentum" in v.path]
    assert any(np.abs(v.numpy()).max() > 0 for v in moments), "the optimizer starts anew"


def test_every_option_reaches_shrink(net, folder, tmp_path, monkeypatch):
    from tfprune import shrink as shrink_function

    module = __import__("sys").modules["tfprune.shrink"]
    seen = {}

    def record(model, **options):
        seen.update(options)
        return shrink_function(model, channels=0.1)

    monkeypatch.setattr(module, "shrink", record)
    options = (
        "--channels first=0.25 --channels second=0.5 --importance taylor --scope local "
        "--round-to 2 --ignore out --layers first --layers second --max-ratio 0.7 "
        "--min-channels 3 --steps 2"
    )
    data = folder / "data.npz"
    result = call("shrink", net, *options.split(), "--data", data, "--out", tmp_path / "s.keras")
    assert result.exit_code == 0, result.stderr
    x, y = seen.pop("data")
    assert (x.shape, y.shape) == ((16, 8, 8, 3), (16,))
    seen.pop("tell")
    assert seen == {
        "channels": {"first": 0.25, "second": 0.5},
        "importance": "taylor",
        "scope": "local",
        "round_to": 2,
        "ignore": ["out"],
        "layers": ["first", "second"],
        "max_ratio": 0.7,
        "min_channels": 3,
        "steps": 2,
    }


def test_a_report_and_a_tflite_file_are_written_too(net, folder, tmp_path):
    out, report, tflite = (tmp_path / name for name in ("s.keras", "cut.json", "s.tflite"))
    arguments = ("--channels", "first=0.25", "--importance", "activation", "--data")
    result = call(
        *("shrink", net, *arguments, folder / "data.npz"),
        *("--out", out, "--report", report, "--tflite", tflite),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    small = keras.models.load_model(out)
    assert small.get_layer("first").filters == 12
    again = tfprune.replay(keras.models.load_model(net), report)
    x = np.random.default_rng(1).random((4, 8, 8, 3), np.float32)
    np.testing.assert_allclose(again.predict(x, verbose=0), small.predict(x, verbose=0))
    assert f"{tflite.stat().st_size:,} bytes" in result.stdout


@pytest.mark.parametrize("name", ["--out", "--report", "--tflite"])
def test_existing_files_stay_and_no_work_is_done(net, tmp_path, monkeypatch, name):
    paths = {
        "--out": tmp_path / "s.keras",
        "--report": tmp_path / "r.json",
        "--tflite": tmp_path / "s.tflite",
    }
    paths[name].write_text("kept")
    words = [word for pair in paths.items() for word in pair]
    monkeypatch.setattr(keras.models, "load_model", lambda *_: pytest.fail("it went to work"))
    result = call("shrink", net, "--macs", "0.5", *words)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "exists" in result.stderr
    assert paths[name].read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


def test_existing_files_are_replaced_by_an_option(net, tmp_path):
    out = tmp_path / "small.keras"
    out.write_text("old")
    assert "(`--overwrite`)" in call("shrink", net, "--params", "0.5", "--out", out).stderr


def test_a_model_may_be_replaced_by_its_smaller_self(net, tmp_path):
    path = tmp_path / "net.keras"
    path.write_bytes(net.read_bytes())
    before = path.stat().st_size
    result = call("shrink", path, "--params", "0.5", "--out", path, "--overwrite")
    assert result.exit_code == 0
    after = path.stat().st_size
    sizes = " ".join(result.stdout.split("file ")[-1].split())
    assert sizes == f"{before:,} -> {after:,} ({after / before:.1%})"
    assert after < before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--report", "{out}"), "--out and --report name the same file"),
        (("--tflite", "{folder}/../{name}/small.keras"), "--out and --tflite name the same"),
        (("--report", "{model}", "--overwrite"), "MODEL and --report name the same file"),
    ],
)
def test_one_file_cannot_be_two(net, tmp_path, monkeypatch, options, words):
    monkeypatch.setattr(keras.models, "load_model", lambda *_: pytest.fail("it went to work"))
    out = tmp_path / "small.keras"
    names = {"out": out, "folder": tmp_path, "name": tmp_path.name, "model": net}
    options = [option.format(**names) for option in options]
    result = call("shrink", net, "--params", "0.5", "--out", out, *options)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def own_loss(y, p):
    return keras.ops.mean(p, -1)


def test_a_loss_of_the_users_own_is_left_out_with_a_note(net, tmp_path):
    model = keras.models.load_model(net)
    model.compile("adam", own_loss)
    path, out = tmp_path / "own.keras", tmp_path / "small.keras"
    model.save(path)
    result = call("shrink", path, "--params", "0.5", "--out", out)
    assert result.exit_code == 0
    assert result.stderr.startswith("Note: the model is loaded without its loss")
    assert "own_loss" in result.stderr
    assert not keras.models.load_model(out).compiled
    assert call("count", path).stderr == ""


def test_overwrite_replaces_them(net, tmp_path):
    out = tmp_path / "s.keras"
    out.write_text("old")
    assert call("shrink", net, "--params", "0.5", "--out", out, "--overwrite").exit_code == 0
    assert keras.models.load_model(out).name == "net"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "--macs, --params, --channels, --latency-ms"),
        (("--macs", "0.5", "--params", "0.5"), "macs, params"),
        (("--macs", "0"), "between 0 and 1"),
        (("--params", "1"), "between 0 and 1"),
        (("--channels", "1.5"), "LAYER=FRACTION"),
        (("--channels", "first="), "LAYER=FRACTION"),
        (("--channels", "=0.5"), "LAYER=FRACTION"),
        (("--channels", "0.5", "--channels", "first=0.5"), "LAYER=FRACTION"),
        (("--macs", "0.5", "--importance", "best"), "best"),
        (("--macs", "0.5", "--scope", "some"), "some"),
        (("--macs", "0.5", "--steps", "0"), "equal to 1"),
        (("--macs", "0.5", "--out", "small.h5"), ".keras"),
    ],
)
def test_bad_usage_exits_with_2(net, tmp_path, options, words):
    result = call("shrink", net, "--out", tmp_path / "s.keras", *options)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--macs", "0.001"), "cannot be met"),
        (("--channels", "frist=0.2"), "'first'"),
        (("--macs", "0.5", "--importance", "activation"), "data"),
        (("--macs", "0.5", "--data", "nowhere.npz"), "nowhere.npz"),
        (("--macs", "0.5", "--max-ratio", "2"), "max_ratio"),
    ],
)
def test_failures_exit_with_1_and_leave_nothing(net, tmp_path, options, words):
    result = call("shrink", net, "--out", tmp_path / "s.keras", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr
    assert result.stderr.startswith("Error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["shrink", "count"])
def test_files_that_are_no_models_are_refused(tmp_path, command):
    file = tmp_path / "weights.keras"
    file.write_bytes(b"nothing")
    out = ("--macs", "0.5", "--out", tmp_path / "s.keras") if command == "shrink" else ()
    result = call(command, file, *out)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "weights.keras" in result.stderr


@keras.saving.register_keras_serializable("test_channel_commands")
class Gone(layers.Layer):
    """A layer that the process which loads the file does not know."""


def test_a_model_that_cannot_be_built_is_to_be_loaded_in_python(tmp_path, monkeypatch):
    path = tmp_path / "own.keras"
    keras.Sequential([keras.Input((4,)), Gone()]).save(path)
    custom = keras.saving.get_custom_objects()
    monkeypatch.delitem(custom, "test_channel_commands>Gone")
    monkeypatch.delattr("test_channel_commands.Gone", raising=False)
    result = call("count", path)
    assert result.exit_code == 1
    assert "pass the model itself to the function of tfprune" in result.stderr


def test_a_wrapped_model_is_counted_but_not_shrunk(net, tmp_path):
    wrapped = tmp_path / "wrapped.keras"
    tfprune.prune(keras.models.load_model(net), 0.5).save(wrapped)
    counted = call("count", wrapped, "--json")
    assert (
        json.loads(counted.stdout)["macs"]
        == json.loads(call("count", net, "--json").stdout)["macs"]
    )
    result = call("shrink", wrapped, "--macs", "0.5", "--out", tmp_path / "s.keras")
    assert result.exit_code == 1
    assert "strip_pruning" in result.stderr


def test_count_prints_a_table(net):
    result = call("count", net)
    assert (result.exit_code, result.stderr) == (0, "")
    size = tfprune.count(keras.models.load_model(net))
    assert size.macs == 36 * 27 * 16 + 16 * 9 * 16 * 8 + 128 * 4
    for word in ("first", "second", "out", f"{size.macs:,}", f"{size.parameters:,}"):
        assert word in result.stdout


def test_count_takes_a_shape(tmp_path):
    path = tmp_path / "free.keras"
    keras.Sequential([keras.Input((None, 3)), layers.Conv1D(4, 3)]).save(path)
    assert json.loads(call("count", path, "--json").stdout)["macs"] == 36
    assert json.loads(call("count", path, "--shape", "10x3", "--json").stdout)["macs"] == 8 * 36
    assert call("count", path, "--shape", "10by3").exit_code == 2
    assert call("count", path, "--shape", "10x4").exit_code == 1


def test_choices_are_those_of_the_library():
    assert {choice.value for choice in ImportanceName} == set(scoring.NAMES)
