"""What goes wrong after training is told in the trial, and neither ends the search nor is lost."""

import keras
import numpy as np
import pytest
from searching import cut_only, data, network

import tfprune
from tfprune.search import attempts

L = keras.layers


def second_time(first, then):
    """Return a function that does one thing, another at its second call, and the first again."""
    calls = []

    def either(*given):
        calls.append(1)
        return (then if len(calls) == 2 else first)(*given)

    return either


def test_a_history_is_no_model():
    model = network()
    found = tfprune.search(model, data(model), 0.9, train=cut_only, trials=1)
    assert found.trials[0].failure == ""
    assert found.trials[0].reached == pytest.approx(found.trials[0].sparsity, abs=0.01)


def diverged(pruned):
    cut_only(pruned)
    for weight in pruned.trainable_weights:
        weight.assign(np.full(weight.shape, np.nan))


def test_weights_that_are_nan_are_a_failed_trial():
    model = network()
    train = second_time(cut_only, diverged)
    found = tfprune.search(model, data(model), 0.9, train=train, trials=3)
    assert [trial.value is None for trial in found.trials] == [False, True, False]
    assert "NaN" in found.trials[1].failure
    assert found.trials[2].sparsity < found.trials[1].sparsity
    assert found.met


def test_a_model_that_cannot_be_stripped_is_a_failed_trial(monkeypatch):
    model = network()

    def fall_apart(pruned):
        raise AssertionError("not built")

    strip = second_time(attempts.strip_pruning, fall_apart)
    monkeypatch.setattr(attempts, "strip_pruning", strip)
    found = tfprune.search(model, data(model), 0.9, train=cut_only, trials=2)
    assert [trial.failure for trial in found.trials] == ["", "AssertionError: not built"]


def test_what_is_no_failure_of_the_trial_ends_the_search():
    model = network()
    accuracy = lambda y, p: (p.argmax(1) == y).mean()  # noqa: E731 -- as a user would

    def leave(y, p):
        raise SystemExit

    metric = second_time(accuracy, leave)
    with pytest.raises(SystemExit):
        tfprune.search(model, data(model), 0.9, train=cut_only, trials=2, metric=metric)


def test_another_model_that_does_not_fit_is_a_failed_trial():
    model = network()
    other = keras.Sequential([keras.Input((10,)), L.Dense(3, "softmax", name="other")])
    train = second_time(cut_only, lambda pruned: other)
    found = tfprune.search(model, data(model), 0.9, train=train, trials=2)
    assert [trial.value is None for trial in found.trials] == [False, True]
    assert "No such layer: a" in found.trials[1].failure


@pytest.mark.parametrize(
    ("metric", "failure"),
    [
        (lambda y, p: float("nan"), "`metric` must return a finite number"),
        (lambda y, p: 1 / 0, "ZeroDivisionError"),
        (lambda y, p: y[len(y)], "IndexError: index 200 is out of bounds"),
        (lambda y, p: {}["f1"], "KeyError: 'f1'"),
        (lambda y, p: open("/no/such/file"), "FileNotFoundError"),  # noqa: SIM115
        (lambda y, p: bytearray(2**62), "MemoryError"),
    ],
)
def test_a_metric_that_fails_keeps_the_trained_model(tmp_path, metric, failure):
    model = network()
    accuracy = lambda y, p: (p.argmax(1) == y).mean()  # noqa: E731 -- as a user would
    given = second_time(accuracy, metric)  # the first is of the dense model
    found = tfprune.search(
        model, data(model), 0.9, train=cut_only, trials=2, metric=given, folder=tmp_path
    )
    assert [trial.value is None for trial in found.trials] == [True, False]
    assert failure in found.trials[0].failure
    assert keras.models.load_model(tmp_path / found.trials[0].file).count_params() == 563
    calls = []

    def train(pruned):
        calls.append(1)
        cut_only(pruned)

    mended = second_time(accuracy, accuracy)
    again = tfprune.search(
        model, data(model), 0.9, train=train, trials=1, metric=mended, folder=tmp_path
    )
    assert len(calls) == 1  # its weights may be what it failed of
    assert again.trials[0].value is not None


def test_a_stripped_model_is_judged_by_the_loss_of_the_dense_one():
    model = network()
    x, y = data(model)
    model.compile(loss="sparse_categorical_crossentropy")

    def train(pruned):
        cut_only(pruned)
        return tfprune.strip_pruning(pruned)

    found = tfprune.search(model, (x, y), 9.0, train=train, trials=1, metric="loss")
    chances = found.model.predict(x, verbose=0)[np.arange(200), y]
    assert found.trials[0].value == pytest.approx(np.log(chances).mean(), rel=1e-4)


def test_an_export_that_fails_is_a_failed_trial(monkeypatch):
    model = network()

    def refuse(*given):
        raise tfprune.export.ExportMismatch("outputs differ")

    export = second_time(attempts.export_tflite, refuse)
    monkeypatch.setattr(attempts, "export_tflite", export)
    found = tfprune.search(model, data(model), 0.9, "size", train=cut_only, trials=2)
    assert found.trials[0].cost > 0
    assert found.trials[1].failure == "ExportMismatch: outputs differ"
    assert found.met


def test_a_train_that_prunes_nothing_is_told():
    model = network()
    with pytest.warns(UserWarning, match="not pruned as its schedules say"):
        found = tfprune.search(model, data(model), 0.1, train=lambda pruned: None, trials=2)
    assert [trial.short for trial in found.trials] == [True, True]
    assert "Trials 1, 2 have fewer zeros than asked for: `train` has to fit" in found.reason
    assert "fewer zeros than asked" in " ".join(str(found).split())


@pytest.mark.parametrize("pattern", ["unstructured", (4, 1), (16, 1)])
def test_rounding_is_no_shortfall(pattern):
    model = network()
    pattern = pattern if isinstance(pattern, str) else tfprune.Block(pattern)
    found = tfprune.search(
        model, data(model), 0.9, train=cut_only, trials=2, pattern=pattern, between=(0.3, 0.8)
    )
    assert [trial.short for trial in found.trials] == [False, False]
    assert "fewer zeros" not in found.reason


def test_a_number_as_schedule():
    model = network()
    found = tfprune.search(model, data(model), 0.9, train=cut_only, trials=1, schedule=0.5)
    assert found.trials[0].reached == pytest.approx(found.trials[0].sparsity, abs=0.01)
    assert {type(rule.schedule) for rule in found.rules} == {tfprune.ConstantSparsity}
    with pytest.raises(ValueError, match="Expected a pruning schedule"):
        tfprune.search(model, data(model), 0.9, train=cut_only, schedule="slow")
