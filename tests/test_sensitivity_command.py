import json

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import tfprune
from tfprune import cli


def call(*arguments):
    return CliRunner().invoke(cli.app, ["sensitivity", *(str(one) for one in arguments)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sensitivity")
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((6,)), dense(20, "relu", name="a"), dense(3, "softmax", name="b")]
    )
    x = np.random.default_rng(0).normal(size=(50, 6)).astype("float32")
    y = model.predict(x, verbose=0).argmax(1)
    model.save(folder / "model.keras")
    np.savez(folder / "test.npz", x=x, y=y)
    return folder, model, x, y


def test_the_command_shows_and_saves_what_the_function_finds(files, tmp_path):
    folder, model, x, y = files
    out, picture = tmp_path / "found.json", tmp_path / "found.png"
    options = ["--level", 0.5, "--level", 0.9, "--json", out, "--plot", picture, "--processes", 2]
    result = call(folder / "model.keras", "--data", folder / "test.npz", *options)
    assert result.exit_code == 0, result.output
    assert "a/kernel" in result.output
    saved = json.loads(out.read_text())
    wanted = tfprune.sensitivity(model, (x, y), (0.5, 0.9))
    assert [row["drops"] for row in saved["weights"]] == [list(w.drops) for w in wanted.weights]
    assert picture.read_bytes().startswith(b"\x89PNG")
    again = call(folder / "model.keras", "--data", folder / "test.npz", "--json", out)
    assert again.exit_code == 1
    assert json.loads(out.read_text()) == saved


def test_bad_input_is_one_line_and_exit_code_1(files, tmp_path):
    folder, *_ = files
    missing = call(folder / "model.keras", "--data", tmp_path / "no.npz")
    assert missing.exit_code == 1
    assert "Error:" in missing.output
    wrong = call(folder / "model.keras", "--data", folder / "test.npz", "--level", 1.5)
    assert wrong.exit_code == 1
    assert call(folder / "model.keras").exit_code == 2
    np.savez(tmp_path / "words.npz", x=np.array([["a"] * 4] * 3), y=np.zeros(3))
    words = call(folder / "model.keras", "--data", tmp_path / "words.npz")
    assert words.exit_code == 1
    assert isinstance(words.exception, SystemExit), "no traceback"
    assert "must be an array of numbers" in words.output
