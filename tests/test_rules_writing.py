"""Rules written as YAML are read back as the same rules; what holds code is refused."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune import rules
from tfprune.regrowth import RigL, SoftPruning
from tfprune.rules import LayerClass, Rule, to_yaml
from tfprune.schedules import (
    ConstantSparsity,
    FunctionSchedule,
    Gradual,
    Iterative,
    OneShot,
    PolynomialDecay,
)
from tfprune.search.result import SearchResult

L = keras.layers

EVERYTHING = [
    Rule("^conv\\-1$", 0.123456789012345),
    Rule("2:4", PolynomialDecay(0.0, 0.5, 0, 1000, power=1.5, frequency=50), "2:4"),
    Rule(LayerClass("LSTM"), Iterative([0.1, 0.3, 1e-5 + 0.3], 200), "1x16"),
    Rule("größe", OneShot(0.8, 1000), "4x4 MAX", score="movement"),
    Rule("null", FunctionSchedule([0.1, 0.2, 0.4], 200), "1:2"),
    Rule("", ConstantSparsity(0.25, 10), regrowth=SoftPruning(2e-4)),
    Rule("yes", ConstantSparsity(0.9, 0, 7500), regrowth=RigL(0.5)),
    Rule("12", Gradual(0.75, part=0.5)),
    Rule("# no comment", skip=True),
    Rule(None, PolynomialDecay(0.0, 0.5, 10, 20), score="taylor"),
]


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            L.Conv2D(8, 3, name="conv-1"),
            L.Flatten(),
            L.Dense(40, name="wide"),
            L.Dense(3, name="logits"),
        ],
        name="small",
    )


def schedules_of(pruned):
    return {w.layer.name: w.pruning_schedule for w in pruned.layers if hasattr(w, "states")}


def test_what_is_written_is_read_as_the_same_rules(tmp_path):
    path = tmp_path / "rules.yaml"
    text = to_yaml(EVERYTHING, path)
    assert path.read_text("utf-8") == text
    assert rules.load(path) == EVERYTHING


def test_a_layer_class_is_written_by_its_name(tmp_path):
    to_yaml(Rule(L.Dense, 0.5), tmp_path / "rules.yaml")
    assert rules.load(tmp_path / "rules.yaml") == [Rule(LayerClass("Dense"), 0.5)]


def test_an_allocation_is_kept(tmp_path):
    model, path = network(), tmp_path / "rules.yaml"
    spread = tfprune.allocate(model, 0.8, "erk", schedule=tfprune.OneShot(0.5))
    spread.to_yaml(path)
    assert rules.load(path) == spread.rules
    assert path.read_text("utf-8").startswith("# 80.0% zeros, erk\nrules:\n- layers: ^conv")
    kept = schedules_of(tfprune.prune(model, path))
    assert kept == schedules_of(tfprune.prune(model, spread))
    assert kept["wide"].final_sparsity > 0.8


def test_the_rules_of_a_search_are_kept_and_shown(tmp_path):
    spread = tfprune.allocate(network(), 0.8, "uniform", schedule=0.5)
    found = SearchResult("sparsity", "accuracy", 0.9, 0.1, (), None, False, "why", None, spread)
    found.to_yaml(tmp_path / "rules.yaml")
    assert rules.load(tmp_path / "rules.yaml") == found.rules == spread.rules
    lines = [line.split() for line in str(found).splitlines()]
    assert ["wide", "5,120", "80.0%", "1,024"] in lines
    with pytest.raises(FileExistsError):
        found.to_yaml(tmp_path / "rules.yaml")
    found.to_yaml(tmp_path / "rules.yaml", overwrite=True)


def test_without_a_good_trial_there_is_nothing_to_write():
    failed = SearchResult("sparsity", "accuracy", 0.9, 0.1, (), None, False, "why", None, None)
    with pytest.raises(ValueError, match=r"No trial gave rules.*Received: 0 trials"):
        failed.to_yaml()


class Odd(tfprune.PruningSchedule):
    final_sparsity = 0.5

    def __call__(self, step):
        return True, 0.5

    def get_config(self):
        return {"class_name": "Odd", "config": {"table": np.zeros(3)}}


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (Rule(lambda layer: True, 0.5), "a function for its layers"),
        (Rule("x", 0.5, score=lambda weight: abs(weight)), "a score that is a function"),
        (Rule("x", Odd()), "more than numbers, texts and lists"),
    ],
)
def test_a_rule_with_code_is_not_written(tmp_path, rule, what):
    with pytest.raises(ValueError, match=rf"{what} cannot be written.*Received: Rule\("):
        to_yaml([rule], tmp_path / "rules.yaml")
    assert not list(tmp_path.iterdir())


def test_figures_are_no_rules_and_the_message_says_what_is(tmp_path):
    tfprune.allocate(network(), 0.8, "erk").to_json(tmp_path / "a.json")
    with pytest.raises(ValueError, match=r"a\.json: .*to_yaml.*Received: figures.*`to_json`"):
        tfprune.prune(network(), tmp_path / "a.json")


def test_a_rule_shows_itself_as_python():
    rule = Rule("a", OneShot(0.5, 9), "2:4", score="snip")
    assert repr(rule) == (
        "Rule('a', schedule=OneShot(sparsity=0.5, step=9), pattern='2:4', score='snip')"
    )
    assert repr(Rule(L.Dense, skip=True)) == "Rule(Dense, skip=True)"
    assert repr(Rule(None, OneShot(0.5))) == "Rule(schedule=OneShot(sparsity=0.5, step=0))"
    soft = Rule("a", 0.5, regrowth="soft")
    assert repr(soft).endswith(", regrowth=SoftPruning(decay=0.0))")
