"""Curves out of the event files that the callback writes."""

import keras
import pytest

import tfprune
from tfprune.reporting import folder, training
from tfprune.reporting.items import TRAINING, Picture, Table


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Two epochs of two steps, pruned to one half at once."""
    run = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="only")])
    rule = tfprune.Rule("only", schedule=tfprune.ConstantSparsity(0.5, 0, frequency=1))
    pruned = tfprune.prune(model, [rule])
    pruned.compile("sgd", "mse", metrics=["binary_accuracy"])
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(run / "logs")]
    x, y = keras.random.normal((8, 4)), keras.random.normal((8, 2))
    history = pruned.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
    return run, history.history


def test_curves_are_those_of_the_training(logs):
    run, history = logs
    metrics, train = training.event_folders(run)
    zeros = training.curves(metrics, run)["logs/metrics: sparsity/model"]
    assert zeros[-1] == (4, 0.5)
    accuracy = training.curves(train, run)["logs/train: epoch_binary_accuracy"]
    assert [value for _, value in accuracy] == pytest.approx(history["binary_accuracy"])


def test_the_page_has_a_picture_and_tables_of_them(logs):
    run, _ = logs
    found = [item for item in folder.read(run).items if item.section == TRAINING]
    assert [type(item) for item in found] == [Picture, Table, Table]
    assert "logs/metrics: sparsity/model" in found[0].alt
    assert "to 50.0 %" in found[0].alt
    assert [row[0] for row in found[2].rows] == ["1", "2"]


def test_a_damaged_event_file_leaves_the_rest(tmp_path):
    (tmp_path / "events.out.tfevents.1.v2").write_bytes(b"no events at all" * 9)
    assert not folder.read(tmp_path).items


def test_long_curves_become_short_tables_with_both_ends():
    curve = {"run: sparsity/model": [(step, step / 100) for step in range(101)]}
    table = next(item for item in training.items(curve) if isinstance(item, Table))
    assert len(table.rows) == 12
    assert (table.rows[0], table.rows[-1]) == (("0", "0.0 %"), ("100", "100.0 %"))
