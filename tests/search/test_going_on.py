"""A search that goes on from its folder: what it takes from there, and what it makes again."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from searching import cut_only, data, network

import tfprune

L = keras.layers


class Plus(L.Layer):
    """A layer that Keras was not told of."""

    def call(self, x):
        return x + 1.0


class Train:
    """Prunes at the first step, moves nothing, counts, and raises at some calls."""

    def __init__(self, *failing):
        self.failing, self.calls = failing, 0

    def __call__(self, pruned):
        self.calls += 1
        if self.calls in self.failing:
            raise MemoryError("no room")
        cut_only(pruned)


def search(model, train, folder, **options):
    given = {"trials": 3, "between": (0.1, 0.9), **options}
    return tfprune.search(model, data(model), 0.1, train=train, folder=folder, **given)


def test_failed_trials_run_again(tmp_path):
    model = network()
    search(model, Train(2), tmp_path)
    train, said = Train(), []
    found = search(model, train, tmp_path, tell=said.append)
    whole = search(model, Train(), None)
    assert [t.value for t in found.trials] == [t.value for t in whole.trials]
    assert train.calls == 1 + (found.trials[2].sparsity > found.trials[1].sparsity)
    assert said[0] == "Trial 1 of 3: 50.0% zeros, taken from the folder"
    assert "Trial 1 has been taken from the folder" in found.reason
    assert "folder" not in whole.reason


def test_a_trial_made_again_leaves_later_ones_in_the_record(tmp_path):
    model = network()
    search(model, Train(1), tmp_path)
    before = json.loads((tmp_path / "search.json").read_text())["trials"]

    def stop(pruned):
        raise KeyboardInterrupt

    (tmp_path / before[2]["file"]).unlink()
    train = Train()
    with pytest.raises(KeyboardInterrupt):
        search(model, lambda p: train(p) if train.calls == 0 else stop(p), tmp_path)
    after = json.loads((tmp_path / "search.json").read_text())["trials"]
    assert after[0]["value"] is not None
    assert after[1:] == before[1:]


def test_a_trained_model_is_measured_without_training_it_again(tmp_path):
    model = network()
    calls = []

    def metric(y, p):
        calls.append(1)
        if len(calls) == 2:  # the first is of the dense model
            raise KeyboardInterrupt
        return (p.argmax(1) == y).mean()

    train = Train()
    with pytest.raises(KeyboardInterrupt):
        search(model, train, tmp_path, metric=metric)
    found = search(model, train, tmp_path, metric=metric)
    assert train.calls == 3
    whole = search(model, Train(), None, metric=metric)
    assert [t.value for t in found.trials] == [t.value for t in whole.trials]


def test_a_trial_whose_file_is_gone_is_made_again(tmp_path):
    model = network()
    first = search(model, Train(), tmp_path)
    (tmp_path / first.trials[1].file).unlink()
    train = Train()
    found = search(model, train, tmp_path)
    assert train.calls == 1
    assert found.trials == first.trials
    assert (tmp_path / first.trials[1].file).exists()


@pytest.mark.parametrize("first", [lambda: L.Lambda(lambda x: x + 1.0), Plus])
def test_models_that_keras_cannot_load_by_itself(tmp_path, first):
    model = network(first())
    whole = search(model, Train(), tmp_path)
    train = Train()
    found = search(model, train, tmp_path)
    assert train.calls == 0
    assert found.trials == whole.trials
    x, _ = data(model)
    np.testing.assert_array_equal(found.model(x), whole.model(x))
    assert found.model.get_layer("a") is not model.get_layer("a")
    for trial in found.trials:
        (tmp_path / trial.file).write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"delete the file[\s\S]*Received: 'trial-"):
        search(model, Train(), tmp_path)


def test_a_model_that_cannot_be_saved_is_chosen_all_the_same(tmp_path):
    class Scaled(L.Layer):
        def __init__(self, by):
            super().__init__()
            self.by = by

        def call(self, x):
            return x * self.by.item()

    model = network(Scaled(np.array(2.0)))
    with pytest.warns(UserWarning, match="trial 1 cannot be saved"):
        found = search(model, Train(), tmp_path, trials=1)
    assert found.model is not None
    assert found.trials[0].file == ""
    train = Train()
    with pytest.warns(UserWarning, match="cannot be saved"):
        search(model, train, tmp_path, trials=1)
    assert train.calls == 1


def measured(model, **drops):
    """A sensitivity with losses of one's own, by layer."""
    x, y = data(model)
    found = tfprune.sensitivity(model, (x, y), (0.5, 0.8, 0.9))
    weights = tuple(
        dataclasses.replace(one, drops=drops.get(one.layer, one.drops)) for one in found.weights
    )
    return dataclasses.replace(found, weights=weights)


def test_another_sensitivity_is_another_search(tmp_path):
    model = network()
    one = measured(model, a=(0.0, 0.1, 0.2), b=(0.2, 0.4, 0.6))
    other = measured(model, a=(0.2, 0.4, 0.6), b=(0.0, 0.1, 0.2))
    options = {"method": "sensitivity", "trials": 1}
    search(model, Train(), tmp_path, sensitivity=one, **options)
    train = Train()
    search(model, train, tmp_path, sensitivity=one, **options)
    assert train.calls == 0
    with pytest.raises(ValueError, match="another search"):
        search(model, train, tmp_path, sensitivity=other, **options)


def test_other_data_or_another_metric_is_another_search(tmp_path):
    model = network()
    x, y = data(model)

    def go(given, metric="accuracy"):
        train = Train()
        options = {"train": train, "trials": 1, "folder": tmp_path, "metric": metric}
        tfprune.search(model, given, 0.1, **options)
        return train.calls

    assert go((x, y)) == 1
    assert go((x, y)) == 0
    order = np.random.default_rng(1).permutation(200)
    assert go((x[order], y[order])) == 0  # a dataset that shuffles
    other = x * 2
    same = model.predict(other, verbose=0).argmax(1)  # all right again
    with pytest.raises(ValueError, match="other data"):
        go((other, same))
    with pytest.raises(ValueError, match="another search"):
        go((x, y), lambda y, p: (p.argmax(1) == y).mean())
