"""What counts as a difference between workers, and what the others do without the chief's files."""

import os
import pathlib

import keras
import numpy as np
import pytest

import tfprune
from tfprune import agreement, workers
from tfprune.strip import pruned_layers


@pytest.fixture
def wrapped():
    """A wrapped layer of 4x3 weights, in a model."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
    return tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0))


@pytest.fixture
def second(monkeypatch):
    """Return a function that makes this process the second of two, and lets the first say so."""

    def be(first=None):
        monkeypatch.setattr(workers, "worker", lambda model=None: workers.Worker(1, 2))
        monkeypatch.setattr(agreement, "worker", lambda model=None: workers.Worker(1, 2))
        said = []

        def gathered(model, own):
            said.append(own)
            return np.stack([own if first is None else first, own])

        monkeypatch.setattr(agreement, "_gathered", gathered)
        return said

    return be


def digests(said, model):
    agreement.require_same_state(model, pruned_layers(model))
    return said.pop()


def test_equal_workers_may_go_on(second, wrapped):
    said = second()
    first = digests(said, wrapped)
    assert first.shape == (4, 32)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(digests(said, wrapped), first)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda layer: setattr(layer, "pruning_schedule", tfprune.OneShot(0.5)), "rules differ"),
        (lambda layer: layer.pruning_step.assign(7), "pruning steps differ"),
        (lambda layer: layer.layer.kernel.assign(-layer.layer.kernel), "weights (their seeds"),
        (
            lambda layer: layer.pruning_vars[0][1].assign(np.eye(4, 3, dtype=bool)),
            "masks and weights",
        ),
    ],
)
def test_a_difference_is_named(second, wrapped, change, part):
    said = second()
    first = digests(said, wrapped)
    second(first)
    change(pruned_layers(wrapped)[0])
    with pytest.raises(ValueError, match="do not train the same model") as caught:
        agreement.require_same_state(wrapped, pruned_layers(wrapped))
    assert f"same model: {part}" in str(caught.value)
    assert "on this worker 1: [" in str(caught.value)


def test_rules_differ_before_anything_is_wrapped(second):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
    said = second()
    tfprune.prune(model, 0.5)
    second(said[0])
    tfprune.prune(model, 0.5)
    with pytest.raises(ValueError, match=r"rules differ.*on this worker 1: d: .*0\.6"):
        tfprune.prune(model, 0.6)


def test_another_worker_gets_a_path_that_is_thrown_away(second, tmp_path):
    second()
    with workers.chief_path(tmp_path / "small.keras") as path:
        assert os.path.basename(path) == "small.keras"
        pathlib.Path(path).write_text("x")
    assert not os.path.exists(path)
    assert list(tmp_path.iterdir()) == []


def test_another_worker_writes_no_summaries(second, wrapped, tmp_path):
    second()
    wrapped.compile("sgd", "mse")
    callbacks = [tfprune.UpdatePruningStep(), tfprune.PruningSummaries(tmp_path / "logs")]
    wrapped.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0, callbacks=callbacks)
    assert list(tmp_path.iterdir()) == []
