"""The wider search: what Optuna samples is what is pruned, kept, and gone on from."""

import json
import sys

import keras
import numpy as np
import pytest
from searching import cut_only, data
from searching import network as two_layers

import tfprune
from tfprune.search.engines import Sampling
from tfprune.search.result import Trial

L = keras.layers


def network():
    return two_layers(middle=20)


def search(model, **options):
    given = {"train": cut_only, "engine": "optuna", "between": (0.1, 0.9), **options}
    return tfprune.search(model, data(model), options.pop("budget", 0.2), **given)


SIZES = {"a": 400, "b": 800, "c": 60}


def test_every_layer_gets_what_was_sampled_for_it():
    model, seen = network(), []

    def train(pruned):
        cut_only(pruned)
        stripped = tfprune.strip_pruning(pruned)
        kernels = {name: stripped.get_layer(name).kernel.numpy() for name in SIZES}
        seen.append({name: float((k == 0).mean()) for name, k in kernels.items()})

    found = search(model, train=train, trials=6)
    assert len({json.dumps(trial.settings) for trial in found.trials}) == 6
    for trial, zeros in zip(found.trials, seen, strict=True):
        assert set(trial.settings) == set(SIZES)
        for name, size in SIZES.items():
            assert 0.1 <= trial.settings[name] <= 0.9
            assert zeros[name] == pytest.approx(trial.settings[name], abs=0.5 / size + 1e-6)
        total = sum(zeros[name] * size for name, size in SIZES.items()) / 1260
        assert trial.reached == pytest.approx(total)
        assert trial.sparsity == pytest.approx(total, abs=2e-3)
        assert trial.within == (trial.value >= found.dense - 0.2 - 1e-9)
    within = [trial for trial in found.trials if trial.within]
    assert found.met == bool(within)
    assert found.trials[found.best].cost == min(trial.cost for trial in within)
    rows = {row.layer: row.sparsity for row in found.allocation.layers}
    assert rows == pytest.approx(found.trials[found.best].settings, abs=1e-6)


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path):
    whole = search(network(), trials=4)
    calls = []

    def train(pruned):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        cut_only(pruned)

    folder = tmp_path / "search"
    with pytest.raises(KeyboardInterrupt):
        search(network(), train=train, trials=4, folder=folder)
    assert len(json.loads((folder / "search.json").read_text())["trials"]) == 2
    found = search(network(), train=train, trials=4, folder=folder)
    assert len(calls) == 5  # only the third and the fourth were trained again
    assert [t.settings for t in found.trials] == [t.settings for t in whole.trials]
    assert [t.value for t in found.trials] == [t.value for t in whole.trials]
    with pytest.raises(ValueError, match="another search"):
        search(network(), train=train, trials=4, folder=folder, seed=1)
    fewer = search(network(), train=train, trials=1, folder=folder)
    assert len(fewer.trials) == 1
    assert len(json.loads((folder / "search.json").read_text())["trials"]) == 4  # nothing is lost


def test_a_trial_that_fails_is_kept_and_the_search_goes_on():
    calls = []

    def train(pruned):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("diverged")
        cut_only(pruned)

    found = search(network(), train=train, trials=2)
    assert found.trials[0].failure == "ValueError: diverged"
    assert set(found.trials[0].settings) == set(SIZES)
    assert found.best == 1


def test_groups_and_methods():
    groups = {"body": ["a", "b"]}
    found = search(network(), trials=5, groups=groups, method=["uniform", "erk"])
    methods = set()
    for trial in found.trials:
        assert set(trial.settings) == {"body", "method"}
        methods.add(trial.settings["method"])
        assert trial.sparsity == pytest.approx(trial.settings["body"])
        assert trial.reached == pytest.approx(trial.sparsity, abs=2e-3)  # of the group
    assert methods == {"uniform", "erk"}
    best = found.trials[found.best].settings
    a, b, c = found.allocation.layers
    assert (c.sparsity, c.chosen, c.reason) == (0.0, False, "in no group")
    expected = tfprune.allocate(network(), best["body"], best["method"], layers=["a", "b"])
    assert [a, b] == list(expected.layers)
    assert best["method"] in str(found)
    assert found.rules[2].skip


def test_all_layers_together():
    found = search(network(), trials=2, groups="model")
    for trial in found.trials:
        assert list(trial.settings) == ["model"]
        assert trial.sparsity == pytest.approx(trial.settings["model"])


def sampling():
    model = network()
    return Sampling(
        (0.0, 0.9),
        ["uniform"],
        "layers",
        lambda s, method, layers: tfprune.allocate(model, s, method, layers=layers),
        seed=0,
    )


def tried(engine, earlier=None, diverging=1.0):
    """Ask and tell once, of a network that may lose much of `b` and half of `a`."""
    settings = engine.ask(earlier).settings
    cost, over = 1.0 - settings["b"], settings["a"] - 0.5
    trial = Trial(0.5, 0.5, 0.5, cost, over <= 0, settings=settings)
    if settings["c"] > diverging:
        trial = Trial(0.5, None, None, None, False, "diverged", settings=settings)
    engine.tell(trial, over)
    return trial


def test_samples_come_to_where_trials_do_well():
    engine = sampling()
    trials = [tried(engine) for _ in range(40)]
    costs = [trial.cost if trial.within else 1.0 for trial in trials]
    assert np.mean(costs[25:]) < np.mean(costs[:10]) - 0.2


def test_what_was_tried_before_leads_to_the_same_samples():
    """Beyond the first ten trials, which are random."""
    engine, again = sampling(), sampling()
    trials = [tried(engine, diverging=0.8) for _ in range(15)]
    assert {bool(trial.failure) for trial in trials} == {True, False}
    for trial in trials[:12]:
        assert tried(again, trial, diverging=0.8) == trial
    assert [tried(again, diverging=0.8) for _ in range(3)] == trials[12:]


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'tfprune\[optuna\]'.*engine='optuna'"):
        search(network(), trials=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "grid"}, "'bisection', 'optuna' or 'ray'. Received: engine='grid'"),
        ({"engine": "bisection", "groups": "model"}, "for engine='optuna'.*groups='model'"),
        ({"engine": "bisection", "method": ["erk"]}, r"for engine='optuna'.*method=\['erk'\]"),
        ({"method": ["erk", "global"]}, "each group has one layer"),
        ({"method": []}, "names no method"),
        ({"method": ["best"], "groups": "model"}, "Received: method='best'"),
        ({"groups": "all"}, "Received: groups='all'"),
        ({"groups": {}}, "Received: groups={}"),
        ({"groups": {"x": []}}, "mapping of names to paths"),
        ({"groups": {"x": ["a"], "y": ["a", "b"]}}, "one group at most.*twice: 'a'"),
        ({"groups": {"method": ["a"]}}, "the name 'method'"),
        ({"groups": {"x": ["d"]}}, "'a', 'b', 'c'. Received: 'd'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        search(network(), trials=1, **arguments)
