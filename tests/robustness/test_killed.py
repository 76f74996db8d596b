"""Killed at any moment: no half-written file under a final name, nothing finished is lost.

The process that dies is a real one, by SIGKILL: no `finally` runs in it.
"""

import json

import keras
import numpy as np
import pytest

from robustness import killing
from tfprune.weightfiles import inspect_file

pytestmark = pytest.mark.journey

NET = """
import json, pathlib, sys
import keras, numpy as np
import tfprune
from searching import cut_only, data, network
folder = pathlib.Path(sys.argv[1])
model = network()
x, y = data(model)
"""
SEARCH = """
trained = []
def train(pruned):
    trained.append(1)
    cut_only(pruned)
found = tfprune.search(
    model, (x, y), 0.1, train=train, trials=3, between=(0.1, 0.9), folder=folder / "search"
)
trials = [[t.sparsity, t.reached, t.value, t.file] for t in found.trials]
print(json.dumps({"trials": trials, "best": found.best, "trained": len(trained)}))
"""
SENSITIVITY = """
batches = [(x[i : i + 50], y[i : i + 50]) for i in range(0, 200, 50)]
from tfprune.sensitivity import measuring, sums
measured = []
class Bench(measuring.Bench):
    def measure(self, work):
        measured.append(work.number)
        return super().measure(work)
measuring.Bench = Bench
sums._SECONDS = 1e9  # only finished batches are written
measuring.merged = lambda batches: batches  # four batches stay four
found = tfprune.sensitivity(model, iter(batches), (0.5, 0.9), record=folder / "part.json")
print(json.dumps({"drops": [row.drops for row in found.weights], "measured": measured}))
"""
EXPORT = """
tfprune.export_tflite(model, folder / "net.tflite")
print(json.dumps("done"))
"""
SHRINK = """
from typer.testing import CliRunner
from tfprune.cli import app
model.save(folder / "net.keras") if not (folder / "net.keras").exists() else None
done = CliRunner().invoke(app, ["shrink", str(folder / "net.keras"), "--channels", "0.5",
    "--out", str(folder / "small.keras"), "--report", str(folder / "cut.json")])
assert done.exit_code == 0, (done.output, done.exception)
print(json.dumps("done"))
"""
VARIANTS = """
from typer.testing import CliRunner
from tfprune.cli import app
model.save(folder / "net.keras") if not (folder / "net.keras").exists() else None
resume = ["--resume"] if (folder / "out" / "variants.json").exists() else []
done = CliRunner().invoke(app, ["export", str(folder / "net.keras"), "--out", str(folder / "out"),
    "--variants", "float32,float16,dynamic", "--runs", "1", *resume])
assert done.exit_code == 0, (done.output, done.exception)
print(json.dumps("done"))
"""
TRAINING = """
import os, signal
moment, _, number = os.environ["TFPRUNE_TEST_KILL"].partition(" ")
kill_at = int(number or 0)
class Kill(keras.callbacks.Callback):
    steps = 0
    def on_train_batch_end(self, batch, logs=None):
        Kill.steps += 1
        if Kill.steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
pruned = tfprune.prune_low_magnitude(
    model, tfprune.PolynomialDecay(0.2, 0.8, begin_step=0, end_step=12, frequency=1)
)
pruned.compile("adam", "sparse_categorical_crossentropy")
pruned.fit(x[:32], y[:32], batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=[
    tfprune.UpdatePruningStep(verbose=False),
    keras.callbacks.BackupAndRestore(folder / "backup"),
    keras.callbacks.ModelCheckpoint(folder / "last.keras"),
    Kill(),
])
pruned.save(folder / "end.keras")
print(json.dumps(Kill.steps))
"""


@pytest.mark.parametrize(
    ("kill", "again"),
    [
        ("fsync 1", 3),  # in the model of the first trial
        ("replace 5", 1),  # the model of the second is there, the record not yet told
    ],
)
def test_a_search_goes_on(tmp_path, kill, again):
    killing.run(NET + SEARCH, tmp_path, kill)
    for path in (tmp_path / "search").glob("[!.]*.keras"):
        keras.models.load_model(path)
    rest = killing.run(NET + SEARCH, tmp_path)
    (tmp_path / "whole").mkdir()
    whole = killing.run(NET + SEARCH, tmp_path / "whole")
    assert whole.pop("trained") == 3
    assert rest.pop("trained") >= again
    assert rest == whole


def test_a_sensitivity_goes_on(tmp_path):
    killing.run(NET + SENSITIVITY, tmp_path, "replace 2")
    assert len(json.loads((tmp_path / "part.json").read_text())["digests"]) == 2
    rest = killing.run(NET + SENSITIVITY, tmp_path)
    (tmp_path / "whole").mkdir()
    whole = killing.run(NET + SENSITIVITY, tmp_path / "whole")
    assert rest["measured"] == [2, 3]
    assert whole["measured"] == [0, 1, 2, 3]
    np.testing.assert_allclose(rest["drops"], whole["drops"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("code", "names"), [(EXPORT, ["net.tflite"]), (SHRINK, ["cut.json", "small.keras"])]
)
def test_a_file_is_there_whole_or_not_at_all(tmp_path, code, names):
    killing.run(NET + code, tmp_path, "fsync 1")
    assert not set(names) & set(killing.finished(tmp_path))
    killing.run(NET + code, tmp_path)
    assert set(names) <= set(killing.finished(tmp_path))
    assert inspect_file(tmp_path / names[-1]).weights


def test_variants_go_on(tmp_path):
    # variants.json, the first file, variants.json, and the second file is complete but unnamed.
    killing.run(NET + VARIANTS, tmp_path, "fsync 4")
    assert killing.finished(tmp_path / "out") == ["net-float32.tflite", "variants.json"]
    first = (tmp_path / "out" / "net-float32.tflite").stat()
    killing.run(NET + VARIANTS, tmp_path)
    after = (tmp_path / "out" / "net-float32.tflite").stat()
    assert (after.st_ino, after.st_mtime_ns) == (first.st_ino, first.st_mtime_ns), "kept"
    record = json.loads((tmp_path / "out" / "variants.json").read_text())
    assert record["complete"]
    assert [row["state"] for row in record["rows"]] == ["done"] * 3


def test_training_goes_on(tmp_path):
    (tmp_path / "whole").mkdir()
    assert killing.run(NET + TRAINING, tmp_path / "whole") == 16
    killing.run(NET + TRAINING, tmp_path, "step 10")  # in the middle of the third epoch
    keras.models.load_model(tmp_path / "last.keras")
    assert killing.run(NET + TRAINING, tmp_path) == 8
    one, other = (keras.models.load_model(f / "end.keras") for f in (tmp_path, tmp_path / "whole"))
    for here, there in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)
    zeros = [int((np.asarray(w) == 0).sum()) for w in one.trainable_weights]
    assert zeros == [int((np.asarray(w) == 0).sum()) for w in other.trainable_weights]
    assert zeros[0] == 320  # 80 % of 10 x 40
