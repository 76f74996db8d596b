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
            return [own if first is None else first, own]

        monkeypatch.setattr(agreement, "_gathered", gathered)
        return said

    return be


def words(said, model, length="3 epochs of 8 batches"):
    agreement.require_same_state(model, pruned_layers(model), length)
    return said.pop()


def test_equal_workers_may_go_on(second, wrapped):
    said = second()
    first = words(said, wrapped)
    assert [len(digest) for digest in first.parts.values()] == [64] * 4
    assert words(said, wrapped) == first


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
    first = words(said, wrapped)
    second(first)
    change(pruned_layers(wrapped)[0])
    with pytest.raises(ValueError, match="do not train the same model") as caught:
        agreement.require_same_state(wrapped, pruned_layers(wrapped))
    assert f"same model: {part}" in str(caught.value)
    shown = "OneShot(" if part == "rules differ" else "digests of "
    assert shown in str(caught.value).split("Received: ")[1]


def test_the_length_of_the_run_is_named_where_rules_follow_it(second):
    def wrapped(end):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
        return tfprune.prune_low_magnitude(model, tfprune.PolynomialDecay(0.0, 0.5, 0, end))

    long, short = wrapped(36), wrapped(24)
    second(words(second(), long))
    with pytest.raises(ValueError, match="rules and weights") as caught:
        words(None, short, "2 epochs of 8 batches")
    said = str(caught.value)
    assert "length: 3 epochs of 8 batches on worker 0, 2 epochs of 8 batches on worker 1. " in said
    assert said.index("end_step=36") < said.index("worker 0, layer 1") < said.index("end_step=24")


def test_a_worker_that_wraps_nothing_is_named(second, wrapped):
    first = words(second(), wrapped)
    second(first)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="some wrap layers") as caught:
        plain.fit(np.ones((4, 4)), np.ones((4, 3)), callbacks=[tfprune.UpdatePruningStep()])
    assert str(caught.value).endswith(
        "Received: trains wrapped layers on worker 0, trains with nothing wrapped on worker 1"
    )
    with pytest.raises(ValueError, match="wraps layers on worker 1"):
        tfprune.prune(plain, 0.5)


def test_rules_differ_before_anything_is_wrapped(second, monkeypatch):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])
    said = second()
    tfprune.prune(model, 0.5)
    come, first = said
    assert come.does == "wraps layers"
    rules = iter([come, first, come, first])
    monkeypatch.setattr(agreement, "_gathered", lambda model, own: [next(rules), own])
    tfprune.prune(model, 0.5)
    with pytest.raises(ValueError, match=r"rules differ.*0\.5.*on worker 0, d: .*0\.6"):
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
