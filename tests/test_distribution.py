"""A distribution among rules, and in YAML: what no rule takes shares one sparsity."""

import re

import keras
import pytest

import tfprune
from tfprune import rules
from tfprune.rules import Distribution, Rule, to_yaml
from tfprune.schedules import OneShot
from tfprune.sensitivity import WeightSensitivity

L = keras.layers


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(4, 3, name="conv"),
            L.Flatten(),
            L.Dense(32, name="wide"),
            L.Dense(10, name="logits"),
        ]
    )


def sparsities(pruned):
    """Return the final sparsity of each wrapped layer."""
    wrapped = (one for one in pruned.layers if hasattr(one, "pruning_schedule"))
    return {one.layer.name: one.pruning_schedule.final_sparsity for one in wrapped}


def allocated(*arguments, **named):
    rows = tfprune.allocate(network(), *arguments, **named).layers
    return {row.layer: row.sparsity for row in rows if row.sparsity}


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "rules.yaml"
        path.write_text(text)
        return path

    return write


def test_a_file_with_a_distribution_alone_prunes_as_allocate_does(write):
    pruned = tfprune.prune(network(), write("distribution: {method: erk, sparsity: 0.9}"))
    assert sparsities(pruned) == allocated(0.9, "erk")


def test_beside_rules_it_spreads_over_the_layers_that_they_leave(write):
    path = write(
        "distribution:\n  method: uniform\n  sparsity: 0.8\n  schedule: {class: OneShot,"
        " sparsity: 0.5, step: 3}\n  pattern: 2x2\n"
        "rules:\n  - {layers: wide, schedule: 0.25}\n"
    )
    pruned = tfprune.prune(network(), path)
    assert sparsities(pruned) == {"conv": 0.8, "wide": 0.25, "logits": 0.8}
    (logits,) = (one for one in pruned.layers if one.name.endswith("logits"))
    assert logits.pruning_schedule == OneShot(0.8, 3)
    assert str(logits.pattern) == "2x2"


def test_the_same_in_python():
    wanted = [Rule("wide", 0.25), Distribution("global", 0.5, ignore="conv")]
    found = sparsities(tfprune.prune(network(), wanted))
    assert found == {"wide": 0.25, "logits": 0.5}
    assert sparsities(tfprune.prune(network(), Distribution("erk"))) == allocated(0.9, "erk")


def test_all_that_allocate_takes_can_be_said(write):
    path = write(
        "distribution: {method: lamp, sparsity: 0.6, layers: [conv, wide, logits], ignore: logits,"
        " floor: {conv: 0.3}, ceiling: 0.7}"
    )
    expected = allocated(
        0.6,
        "lamp",
        layers=["conv", "wide", "logits"],
        ignore=["logits"],
        floor={"conv": 0.3},
        ceiling=0.7,
    )
    assert sparsities(tfprune.prune(network(), path)) == expected


def measured():
    sizes = {"conv": 36, "wide": 4608, "logits": 320}
    rows = tuple(
        WeightSensitivity(name, "kernel", size, (0.0 if name == "wide" else 0.1, 0.5))
        for name, size in sizes.items()
    )
    return tfprune.Sensitivity("m", "accuracy", 0.9, (0.5, 0.9), rows, 10)


def test_a_sensitivity_lies_beside_the_rules_or_anywhere(write, tmp_path):
    measured().to_json(tmp_path / "found.json")
    expected = allocated(0.5, "sensitivity", sensitivity=measured())
    text = "distribution: {method: sensitivity, sparsity: 0.5, sensitivity: found.json}"
    assert sparsities(tfprune.prune(network(), write(text))) == expected
    path = str(tmp_path / "found.json")
    assert allocated(0.5, "sensitivity", sensitivity=path) == expected
    assert allocated(0.5, "sensitivity", sensitivity=tmp_path / "found.json") == expected


def test_a_path_with_no_sensitivity(tmp_path):
    with pytest.raises(FileNotFoundError, match="a sensitivity saved by `to_json`"):
        allocated(0.5, "sensitivity", sensitivity=tmp_path / "none.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="is no sensitivity that `to_json` saved"):
        allocated(0.5, "sensitivity", sensitivity=tmp_path / "other.json")
    with pytest.raises(ValueError, match="go together"):
        allocated(0.5, "erk", sensitivity=tmp_path / "other.json")


def test_one_shot_takes_it_too(write):
    x = keras.random.normal((8, 8, 8, 1), seed=1)
    path = write("rules: [{layers: conv, skip: true}]\ndistribution: {method: uniform}")
    small, _ = tfprune.prune_one_shot(network(), x, path, progress=False)
    kernels = {name: small.get_layer(name).kernel.numpy() for name in ("conv", "wide", "logits")}
    assert [round((k == 0).mean(), 2) for k in kernels.values()] == [0.0, 0.9, 0.9]


def test_it_is_written_and_read(tmp_path):
    wanted = [
        Rule("wide", 0.25),
        Distribution("erk", 0.7, OneShot(0.5), "1x4", layers="conv", floor={"conv": 0.1}),
    ]
    to_yaml(wanted, tmp_path / "rules.yaml")
    assert rules.load(tmp_path / "rules.yaml") == wanted
    alone = Distribution("sensitivity", 0.5, sensitivity=str(tmp_path / "found.json"))
    to_yaml(alone, tmp_path / "alone.yaml")
    assert rules.load(tmp_path / "alone.yaml") == [alone]
    with pytest.raises(ValueError, match=r"in memory cannot be written.*Received: Sensitivity"):
        to_yaml(Distribution("sensitivity", sensitivity=measured()))


def test_it_is_the_last_of_its_list():
    for wrong in ([Distribution(), Rule("x", 0.5)], [Distribution(), Distribution()]):
        with pytest.raises(ValueError, match=r"last of its list.*Received: Distribution\("):
            rules.get(wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distribution: erk", r"line 1: expected `key: value`\. Received: 'erk'"),
        ("\ndistribution: {methods: erk}", r"line 2: unknown key.*method, sparsity.*'methods'"),
        ("distribution: {sparsity: 2}", r"line 1: .*\[0, 1\).*Received: sparsity=2"),
        ("distribution: {method: best}", r"line 1: .*uniform, erk.*Received: method='best'"),
        ("distribution: {layers: other}", r"line 1: .*'conv', 'wide', 'logits'.*'other'"),
        ("distribution: {pattern: 2:4}", r"line 1: .*fixes the sparsity.*'2:4'"),
        ("distribution: {schedule: {class: A}}", r"line 1: Unknown schedule class"),
        ("distribution: {method: sensitivity}", r"line 1: .*go together"),
        ("distribution:\n  {}\nrules: [{schedule: 0.5}]", r"line 2: .*leave none.*Distribution\("),
        ("distribution: {}\nrules: []", r"expected a list of rules.*Received: no rules"),
    ],
)
def test_mistakes_are_told_with_file_and_line(write, text, message):
    path = write(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{message}"):
        tfprune.prune(network(), path)
