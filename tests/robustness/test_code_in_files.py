"""No code that lies in a model file is run, and no module imported because a file says so."""

import json
import sys
import zipfile

import keras
import pytest
from typer.testing import CliRunner

from tfprune.cli import app
from tfprune.variants import model_config, model_file


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def harm(mark):
    """Return a function that leaves a file behind when it runs."""
    return eval(f"lambda x: (open({str(mark)!r}, 'w').close(), x)[1]")


@pytest.fixture(params=["keras m.keras", "keras m.h5", "tf_keras m.keras", "tf_keras m.h5"])
def armed(request, tmp_path):
    """A file with a Lambda layer, and the mark that its code would leave."""
    family, name = request.param.split()
    module = pytest.importorskip(family)
    mark, path = tmp_path / "it ran", tmp_path / name
    model = module.Sequential(
        [module.layers.Input((4,)), module.layers.Lambda(harm(mark)), module.layers.Dense(2)]
    )
    model.save(path)
    mark.unlink(missing_ok=True)  # building the model ran it
    return path, mark


@pytest.mark.journey
def test_every_command_refuses_a_lambda(armed, tmp_path):
    path, mark = armed
    (tmp_path / "d.npz").write_bytes(b"")
    for command in (
        ("count", path),
        ("shrink", path, "--channels", "0.5", "--out", tmp_path / "small.keras"),
        ("export", path, "--out", tmp_path / "out", "--variants", "float32"),
        ("report", tmp_path, "--dense", path),
    ):
        done = run(*command)
        assert done.exit_code == 1, (command, done.output)
        assert "code from a file is never run" in done.output, command
        assert "safe_mode=False" in done.output
        assert not mark.exists(), command
    assert run("inspect", path).exit_code == 0  # weights alone are read
    assert not mark.exists()


def test_no_module_is_imported_because_a_file_of_tf_keras_says_so(tmp_path, monkeypatch):
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(2)])
    model.save(tmp_path / "good.keras")
    (tmp_path / "trap.py").write_text("class Trap: pass")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad,
    ):
        for name in good.namelist():
            content = good.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][-1] |= {"module": "trap", "class_name": "Trap"}
                content = json.dumps(config).encode()
            bad.writestr(name, content)
    with pytest.raises(ValueError, match=r"would import 'trap'.*nothing is imported"):
        model_file.load(tmp_path / "bad.keras")
    assert "trap" not in sys.modules
    assert model_file.load(tmp_path / "good.keras").name == model.name


def with_function(path, function):
    """Write a file of tf_keras in which a layer calls a function of TensorFlow."""
    import tensorflow as tf
    import tf_keras

    inputs = tf_keras.Input((4,))
    outputs = tf_keras.layers.Dense(2)(tf.nn.relu6(inputs) + 1.0)
    tf_keras.Model(inputs, outputs).save(path.with_name("good.keras"))
    with (
        zipfile.ZipFile(path.with_name("good.keras")) as good,
        zipfile.ZipFile(path, "w") as bad,
    ):
        for name in good.namelist():
            content = good.read(name)
            if name == "config.json":
                assert b'"nn.relu6"' in content
                content = content.replace(b'"nn.relu6"', f'"{function}"'.encode())
            bad.writestr(name, content)
    return path


@pytest.mark.parametrize("function", ["io.gfile.rmtree", "compat.v1.py_func", "write_file"])
def test_no_function_of_tensorflow_acts_at_the_word_of_a_file(tmp_path, function):
    path = with_function(tmp_path / "bad.keras", function)
    with pytest.raises(ValueError, match=rf"would call tf\.{function}, .*nothing but calculation"):
        model_file.load(path)


def test_a_class_of_tensorflow_is_looked_at_too():
    layer = {"class_name": "ClassMethod", "config": {"cls_symbol": "io.TFRecordWriter"}}
    found = model_config.ModelConfig("2.21.0", {"config": {"layers": [layer]}})
    assert found.acting_functions() == ["io.TFRecordWriter"]
    layer["config"]["cls_symbol"] = "RaggedTensor"
    assert not found.acting_functions()


def test_an_older_file_deletes_nothing(tmp_path):
    import h5py
    import tf_keras

    path, victim = tmp_path / "m.h5", tmp_path / "victim"
    victim.mkdir()
    inputs = tf_keras.Input((4,))
    tf_keras.Model(inputs, tf_keras.layers.Dense(2)(inputs)).save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        trap = {"name": "trap", "trainable": True, "dtype": "float32"}
        config["config"]["layers"].insert(1, {
            "class_name": "TFOpLambda", "name": "trap",
            "config": trap | {"function": "io.gfile.rmtree"},
            "inbound_nodes": [["_CONSTANT_VALUE", -1, str(victim), {}]],
        })  # fmt: skip
        file.attrs["model_config"] = json.dumps(config)
    done = run("count", path)
    assert victim.is_dir()
    assert done.exit_code == 1
    assert "would call tf.io.gfile.rmtree" in " ".join(done.output.split())


@pytest.mark.parametrize("function", ["nn.relu6", "compat.v1.abs", "identity"])
def test_functions_that_calculate_are_called(tmp_path, function):
    import numpy as np

    model = model_file.load(with_function(tmp_path / "fine.keras", function))
    assert np.isfinite(model.predict(np.ones((2, 4), "float32"), verbose=0)).all()


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_damaged_metadata(tmp_path, content):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.save(tmp_path / "good.keras")
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad,
    ):
        for name in good.namelist():
            bad.writestr(name, content if name == "metadata.json" else good.read(name))
    with pytest.raises(ValueError, match=r"The configuration in .* is damaged .*Received"):
        model_file.load(tmp_path / "bad.keras")
