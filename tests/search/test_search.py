"""The search for the sparsest model inside a budget, with training that takes no time."""

import json
import logging
import warnings

import keras
import numpy as np
import pytest
from searching import cut_only, data, network

import tfprune
from tfprune.search.result import Trial, better

L = keras.layers


def value_at(model, sparsity, x, y):
    """Return the accuracy of the model cut by hand at one threshold over both kernels."""
    kernels = {name: model.get_layer(name).kernel.numpy() for name in ("a", "b")}
    spread = tfprune.allocate(model, sparsity)
    copy = network()
    copy.set_weights(model.get_weights())
    for row in spread.layers:
        kernel = kernels[row.layer]
        keep = max(1, round(round(kernel.size * (1 - row.sparsity), 6)))
        threshold = np.sort(np.abs(kernel).ravel())[-keep]
        copy.get_layer(row.layer).kernel.assign(np.where(np.abs(kernel) >= threshold, kernel, 0))
    return (copy.predict(x, verbose=0).argmax(1) == y).mean()


def test_bisection_finds_the_last_sparsity_inside_the_budget():
    model = network()
    x, y = data(model)
    found = tfprune.search(model, (x, y), 0.1, train=cut_only, between=(0.1, 0.9), trials=5)
    assert found.dense == 1.0
    low, high = 0.1, 0.9
    for trial in found.trials:
        assert trial.sparsity == pytest.approx((low + high) / 2)
        expected = value_at(model, trial.sparsity, x, y)
        assert trial.value == pytest.approx(expected)
        assert trial.within == (expected >= 0.9 - 1e-9)
        low, high = (trial.sparsity, high) if trial.within else (low, trial.sparsity)
    assert {t.within for t in found.trials} == {True, False}
    best = max((t for t in found.trials if t.within), key=lambda t: t.sparsity)
    assert found.met
    assert found.trials[found.best] == best
    chosen = (found.model.predict(x, verbose=0).argmax(1) == y).mean()
    assert chosen == pytest.approx(best.value)
    zeros = sum(int((found.model.get_layer(n).kernel.numpy() == 0).sum()) for n in "ab")
    assert zeros / (400 + 120) == pytest.approx(best.reached)
    assert [rule.schedule.final_sparsity for rule in found.rules] == pytest.approx(
        [row.sparsity for row in tfprune.allocate(model, best.sparsity).layers]
    )


def test_the_model_is_not_changed():
    model = network()
    before = model.get_weights()
    tfprune.search(model, data(model), 0.5, train=cut_only, trials=1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_budget_that_nothing_meets():
    model = network()
    x, _ = data(model)
    y = model.predict(x, verbose=0).argmax(1)
    found = tfprune.search(model, (x, y), 0.0, train=cut_only, between=(0.9, 0.98), trials=3)
    assert not found.met
    assert found.model is not None
    assert found.trials[found.best].value == max(t.value for t in found.trials)
    assert "No trial is inside the budget of 0" in found.reason
    assert found.reason in " ".join(str(found).split())


def test_training_that_raises_is_a_failed_trial():
    model = network()
    calls = []

    def train(pruned):
        calls.append(pruned)
        if len(calls) == 2:
            raise MemoryError("no room")
        cut_only(pruned)

    found = tfprune.search(model, data(model), 0.9, train=train, trials=3)
    assert [t.failure for t in found.trials] == ["", "MemoryError: no room", ""]
    assert found.trials[2].sparsity < found.trials[1].sparsity  # a failure is no success
    assert found.met
    assert "failed: MemoryError: no room" in " ".join(str(found).split())

    def never(pruned):
        raise ValueError("broken\nsecond line")

    found = tfprune.search(model, data(model), 0.9, train=never, trials=2)
    assert found.model is None
    assert not found.met
    assert found.rules == []
    assert found.reason == "Every trial failed; the last one: ValueError: broken"


def test_train_may_return_another_model():
    model = network()

    def train(pruned):
        other = keras.models.clone_model(pruned)
        other.set_weights(pruned.get_weights())
        cut_only(other)
        return other

    found = tfprune.search(model, data(model), 0.9, train=train, trials=1)
    assert found.trials[0].reached == pytest.approx(found.trials[0].sparsity, abs=0.01)


def test_an_interrupted_search_goes_on(tmp_path):
    model = network()
    whole = tfprune.search(model, data(model), 0.1, train=cut_only, trials=3)
    calls = []

    def train(pruned):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        cut_only(pruned)

    folder = tmp_path / "search"
    arguments = {"train": train, "trials": 3, "folder": folder}
    with pytest.raises(KeyboardInterrupt):
        tfprune.search(model, data(model), 0.1, **arguments)
    kept = json.loads((folder / "search.json").read_text())["trials"]
    assert len(kept) == 2
    assert all((folder / trial["file"]).exists() for trial in kept)
    found = tfprune.search(model, data(model), 0.1, **arguments)
    assert len(calls) == 4  # only the third was trained again
    assert [t.value for t in found.trials] == [t.value for t in whole.trials]
    x, y = data(model)
    best = found.trials[found.best]
    assert (found.model.predict(x, verbose=0).argmax(1) == y).mean() == pytest.approx(best.value)
    with pytest.raises(ValueError, match="another search"):
        tfprune.search(model, data(model), 0.2, **arguments)
    identity = json.loads((folder / "search.json").read_text())["identity"]
    for trials, missing in (
        ({}, "the entry 'trials' is missing"),
        ({"trials": 3}, "the entry 'trials' must be a list, not 3"),
    ):
        (folder / "search.json").write_text(json.dumps({"identity": identity, **trials}))
        with pytest.raises(ValueError, match=f"no record of a search.*: {missing}"):
            tfprune.search(model, data(model), 0.1, **arguments)
    (folder / "search.json").write_text("[]")
    with pytest.raises(ValueError, match="no record of a search"):
        tfprune.search(model, data(model), 0.1, **arguments)
    assert (folder / "search.json").read_text() == "[]"


def test_the_smallest_file_is_chosen_by_size():
    model = network()
    found = tfprune.search(
        model, data(model), 0.9, "size", train=cut_only, between=(0.5, 0.95), trials=2
    )
    sizes = [t.cost for t in found.trials]
    assert sizes[1] < sizes[0]
    assert found.best == 1
    assert float(sizes[1]).is_integer()


def test_it_prints_plots_and_saves(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    model = network()
    found = tfprune.search(model, data(model), 0.1, train=cut_only, trials=2)
    assert "accuracy may fall by 0.1 from 1.0000" in str(found)
    found.to_json(tmp_path / "found.json")
    saved = json.loads((tmp_path / "found.json").read_text())
    assert saved["allocation"]["method"] == "global"
    assert len(saved["trials"]) == 2
    axes = found.plot()
    assert len(axes.get_lines()) == 4


def test_ties_go_to_the_more_accurate():
    a, b = (Trial(0.5, 0.5, v, 0.5, True) for v in (0.8, 0.9))
    assert better(b, a)
    assert not better(a, b)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_accuracy_drop": -0.1}, ValueError, "Received: max_accuracy_drop=-0.1"),
        ({"max_accuracy_drop": float("nan")}, ValueError, "max_accuracy_drop=nan"),
        ({"objective": "speed"}, ValueError, "sparsity, size, latency"),
        ({"train": None}, TypeError, "`train` must be a function"),
        ({"max_accuracy_drop": True}, ValueError, "Received: max_accuracy_drop=True"),
        ({"max_accuracy_drop": 5}, ValueError, "for a point pass 0.01. Received: .*drop=5"),
        ({"trials": 0}, ValueError, "Received: trials=0"),
        ({"between": (0.9, 0.5)}, ValueError, "least and the greatest"),
        ({"between": 0.5}, ValueError, "least and the greatest"),
        ({"between": (50, 90)}, ValueError, r"fractions of zeros.*Received: between=\(50, 90\)"),
        ({"metric": "f1"}, ValueError, "'accuracy', 'loss'"),
        ({"metric": lambda y, p: float("inf")}, ValueError, "finite number"),
    ],
)
def test_bad_arguments(arguments, error, message):
    model = network()
    with pytest.raises(error, match=message):
        tfprune.search(model, data(model), **{"train": cut_only, **arguments})


def test_numbers_of_numpy_as_a_budget_and_more_than_1_of_another_metric():
    model = network()
    options = {"train": cut_only, "trials": 1}
    assert tfprune.search(model, data(model), np.float32(0.5), **options).max_drop == 0.5
    points = lambda y, p: 100 * (p.argmax(1) == y).mean()  # noqa: E731 -- as a user would
    assert tfprune.search(model, data(model), 5, metric=points, **options).max_drop == 5.0


def test_the_budget_is_measured_on_all_that_a_generator_gives():
    """The labels are wrong only after the 2,048 samples that are enough for an importance."""
    model = network()
    x, y = data(model, 3000)
    y[2500:] = (y[2500:] + 1) % 3
    batches = [(x[n : n + 500], y[n : n + 500]) for n in range(0, 3000, 500)]
    options = {"train": cut_only, "trials": 1}
    found = tfprune.search(model, (batch for batch in batches), 0.9, **options)
    assert found.dense == pytest.approx(2500 / 3000)
    whole = tfprune.search(model, (x, y), 0.9, **options)
    assert found.trials[0].value == pytest.approx(whole.trials[0].value)


def test_a_folder_that_cannot_be_one(tmp_path):
    model = network()
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError, match=r"kept in a folder.*Received: fold") as told:
            tfprune.search(model, data(model), train=cut_only, folder=path)
        assert repr(str(path)) in str(told.value)
    with pytest.raises(OSError, match=r"cannot be made \(File name too long\).*Received: folder="):
        tfprune.search(model, data(model), train=cut_only, folder=tmp_path / ("x" * 300))


def test_data_without_labels():
    model = network()
    with pytest.raises(ValueError, match="shows only against labels"):
        tfprune.search(model, data(model)[0], train=cut_only)


def test_tensorflow_gives_no_advice_on_tracing(caplog):
    model = network()
    x, y = data(model)
    logger = logging.getLogger("tensorflow")

    def train(pruned):
        cut_only(pruned)
        logger.warning("triggered tf.function retracing")
        logger.warning("something else")

    tfprune.search(model, (x, y), 0.1, train=train, trials=3, between=(0.1, 0.9))
    logger.warning("5 out of the last 5 calls triggered tf.function retracing")
    said = [record.getMessage() for record in caplog.records]
    assert sum("retracing" in line for line in said) == 1
    assert said.count("something else") == 3


def by_name(names):
    """Return a model that takes a dict, one entry of another width for each name."""
    keras.utils.set_random_seed(0)
    given = {name: keras.Input((4 + n,), name=name) for n, name in enumerate(names)}
    parts = [L.Dense(8, "relu", name=f"on_{name}")(one) for name, one in given.items()]
    together = L.Concatenate()(parts) if len(parts) > 1 else parts[0]
    return keras.Model(given, L.Dense(3, name="logits")(together))


@pytest.mark.parametrize("names", [("b_first", "a_second"), ("only",)])
def test_inputs_that_a_model_takes_by_name(names):
    model, rng = by_name(names), np.random.default_rng(0)
    x = {name: rng.normal(size=(90, 4 + n)).astype("float32") for n, name in enumerate(names)}
    y = model.predict(x, verbose=0).argmax(1)
    y[::3] = 0

    def train(pruned):
        pruned.compile(keras.optimizers.SGD(0.0), "mse")
        pruned.fit(x, np.zeros((90, 3)), verbose=0, callbacks=[tfprune.UpdatePruningStep()])

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The structure of `inputs`")
        found = tfprune.search(model, (x, y), 0.9, train=train, trials=1)
    assert found.dense == pytest.approx((model.predict(x, verbose=0).argmax(1) == y).mean())
    pruned = (found.model.predict(x, verbose=0).argmax(1) == y).mean()
    assert found.trials[0].value == pytest.approx(pruned)
