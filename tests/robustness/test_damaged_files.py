"""Damaged files: every reader refuses them with a clear error, or takes them for what they are.

`TFPRUNE_MUTATIONS=2000` damages each file that often, from another seed than the usual few.
"""

import json
import os
import random
import shutil

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import tfprune
from robustness import damage
from tfprune import rules
from tfprune.benchmarking.model import read_model
from tfprune.cli import app
from tfprune.search.record import Record
from tfprune.sensitivity.result import load
from tfprune.variants import data as given
from tfprune.variants import model_file, record
from tfprune.weightfiles import inspect_file

L = keras.layers
MUTATIONS = int(os.environ.get("TFPRUNE_MUTATIONS", "0"))
RULES = b"""rules:
  - layers: ^c1$
    schedule: {class: PolynomialDecay, initial_sparsity: 0.1, final_sparsity: 0.8,
      begin_step: 0, end_step: 100}
    pattern: 1x4
    score: movement
  - layers: {class: Dense}
    schedule: {class: ConstantSparsity, target_sparsity: 0.5, begin_step: 5}
    regrowth: {class: RigL, fraction: 0.3}
  - layers: c2
    skip: true
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trained model, its data, and a file of each kind that tfprune reads."""
    folder = tmp_path_factory.mktemp("made")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            L.Conv2D(4, 3, activation="relu", name="c1"),
            L.Conv2D(4, 1, name="c2"),
            L.Flatten(),
            L.Dense(3, activation="softmax", name="d"),
        ],
        name="m",
    )
    x = np.random.default_rng(0).random((8, 6, 6, 1), "float32")
    y = np.arange(8) % 3
    model.compile("adam", "sparse_categorical_crossentropy")
    model.save(folder / "m.keras")
    model.save(folder / "m.h5")
    np.savez(folder / "d.npz", x=x, y=y)
    tfprune.export_tflite(model, folder / "m.tflite")
    tfprune.shrink(model, channels=0.5)[1].to_json(folder / "shrink.json")
    found = tfprune.sensitivity(model, (x, y), (0.5, 0.9), record=folder / "part.json")
    found.to_json(folder / "sensitivity.json")
    (folder / "rules.yaml").write_bytes(RULES)
    return folder, model, (x, y)


@pytest.fixture(scope="module")
def recorded(made):
    """The same with the records of a search and of an export beside, which take seconds."""
    folder, model, (x, y) = made
    searched = tfprune.search(
        model, (x, y), 1.0, train=lambda pruned: None, trials=1, folder=folder / "search"
    )
    assert searched.trials[0].file
    (folder / "search.json").write_bytes((folder / "search" / "search.json").read_bytes())
    tfprune.export_variants(model, folder / "variants", "float32", runs=1)
    (folder / "variants.json").write_bytes((folder / "variants" / "variants.json").read_bytes())
    return made


def readers(folder, model, data):
    """Return {name: (file, how it is damaged, what reads it)}."""

    def model_of(path):
        return model_file.load(model_file.check_file(path))

    def trial(path):
        content = (folder / "search.json").read_text("utf-8")
        found = Record(path.parent, json.loads(content)["identity"], model)
        return str(found.earlier(0)), found.usable(0, 0.5)

    return {
        "inspect": ("m.tflite", damage.damaged, inspect_file),
        "explain": ("m.tflite", damage.damaged, lambda path: str(tfprune.explain(path))),
        "benchmark": ("m.tflite", damage.damaged, read_model),
        "prune": (
            "rules.yaml",
            damage.changed_text,
            lambda path: tfprune.prune(model, rules.load(path)),
        ),
        "replay": (
            "shrink.json",
            damage.changed_json,
            lambda path: tfprune.replay(model, path),
        ),
        "sensitivity": ("sensitivity.json", damage.changed_json, lambda path: str(load(path))),
        "record": (
            "part.json",
            damage.changed_json,
            lambda path: tfprune.sensitivity(model, data, (0.5, 0.9), record=path),
        ),
        "search": ("search.json", damage.changed_json, trial),
        "variants": (
            "variants.json",
            damage.changed_json,
            lambda path: str(record.read(path.parent)),
        ),
        "data": ("d.npz", damage.damaged, given.read_evaluation),
        "model": ("m.keras", damage.changed_archive, model_of),
        "older model": ("m.h5", damage.damaged, model_of),
    }


QUICK = ("inspect", "explain", "benchmark", "prune", "replay", "sensitivity", "record", "data")
RECORDS = ("search", "variants")
MODELS = ("model", "older model")
"""Each is read in a process of its own first."""


def survive(made, tmp_path, name, count, seed):
    """Damage a file again and again; return how often it was refused, each time clearly."""
    folder, model, data = made
    file, change, read = readers(folder, model, data)[name]
    content, refused = (folder / file).read_bytes(), 0
    rng = random.Random(f"{name} {seed}")
    path = tmp_path / file
    for number in range(count):
        path.write_bytes(change(content, rng))
        try:
            read(path)
        except (ValueError, OSError) as error:
            refused += 1
            assert len(str(error)) > 40, (number, str(error))  # noqa: PT017
        except Exception:
            (tmp_path / f"unforeseen-{number}-{file}").write_bytes(path.read_bytes())
            raise
    return refused


@pytest.mark.parametrize("name", QUICK)
def test_some_damage(made, tmp_path, name):
    assert survive(made, tmp_path, name, 40, "few") >= 8


@pytest.mark.journey
@pytest.mark.parametrize("name", [*QUICK, *RECORDS, *MODELS])
def test_much_damage(recorded, tmp_path, name):
    few = {"replay": 150, "record": 150} | dict.fromkeys(MODELS, 16)
    count = MUTATIONS or few.get(name, 600)
    assert survive(recorded, tmp_path, name, count, MUTATIONS) >= count // 5


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def commands(folder, file, out):
    """Return the command lines that read a file of that ending."""
    if file.suffix == ".tflite":
        return [("inspect", file), ("explain", file), ("benchmark", file, "--runs", 1)]
    data = folder / "d.npz"
    return [
        ("inspect", file),
        ("count", file),
        ("shrink", file, "--channels", 0.5, "--out", out / "small.keras", "--overwrite"),
        ("sensitivity", file, "--data", data, "--level", 0.5),
        ("export", file, "--out", out / "variants", "--variants", "float32"),
    ]


@pytest.mark.journey
@pytest.mark.parametrize("file", ["m.keras", "m.h5", "m.tflite"])
def test_every_command_refuses_what_is_cut_short(made, tmp_path, file):
    content = (made[0] / file).read_bytes()
    damaged = tmp_path / file
    for part in (0.0, 0.5, 0.98):
        damaged.write_bytes(content[: int(len(content) * part)])
        for command in commands(made[0], damaged, tmp_path):
            done = run(*command)
            assert done.exit_code == 1, (command, done.output)
            assert isinstance(done.exception, SystemExit), (command, done.exception)
            assert "Received" in done.output or "damaged" in done.output, command
            assert "Traceback" not in done.output
    assert [path.name for path in tmp_path.iterdir()] == [file], "nothing is written"


@pytest.mark.parametrize("name", ["shrink.json", "sensitivity.json"])
def test_a_report_takes_damaged_results_for_notes(made, tmp_path, name):
    rng = random.Random(name)
    content = (made[0] / name).read_bytes()
    shutil.copy(made[0] / "m.tflite", tmp_path)  # of damaged files alone there is no report
    for _ in range(8):
        (tmp_path / name).write_bytes(damage.changed_json(content, rng))
        assert tfprune.report(tmp_path, overwrite=True).html
