"""Which layer is pruned how: rules, their YAML form, and files that mean no good."""

import os
import re
import time

import keras
import pytest

from tfprune import rules, scores
from tfprune.patterns import NM, Block, Unstructured
from tfprune.prune import prune
from tfprune.regrowth import RigL, SoftPruning
from tfprune.rules import LayerClass, Rule
from tfprune.schedules import (
    ConstantSparsity,
    FunctionSchedule,
    Iterative,
    OneShot,
    PolynomialDecay,
)

layers = keras.layers


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a rules file and returns its path."""

    def write(text):
        path = tmp_path / "rules.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.fixture
def load(write):
    """Return a function that reads rules from a text."""
    return lambda text: rules.load(write(text))


def first(rule_list, layer, path):
    return next((i for i, r in enumerate(rule_list) if r.matches(layer, path)), None)


# -- What a rule matches ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("conv1", "conv1", True),
        ("conv1", "backbone/conv1", True),
        ("conv1", "conv10", True),  # searched, not matched whole
        ("conv1$", "conv10", False),
        ("^conv1$", "backbone/conv1", False),
        ("backbone/.*conv", "backbone/block/conv7", True),
        ("conv2|wide", "wide", True),
        ("Conv1", "conv1", False),
        ("", "anything", True),
    ],
)
def test_a_regular_expression_is_searched_in_the_path(pattern, path, matches):
    assert Rule(pattern, 0.5).matches(None, path) is matches


def test_a_class_matches_its_instances_and_those_of_subclasses():
    rule = Rule(layers.Conv2D, 0.5)
    assert rule.matches(layers.Conv2D(1, 1), "x")
    assert not rule.matches(layers.Dense(1), "conv2d")

    class Mine(layers.Dense):
        pass

    assert Rule(layers.Dense, 0.5).matches(Mine(1), "x")


def test_a_function_is_asked():
    rule = Rule(lambda layer: getattr(layer, "units", 0) > 100, 0.5)
    assert rule.matches(layers.Dense(1024), "x") is True
    assert rule.matches(layers.Dense(10), "x") is False
    assert Rule(lambda layer: 1, 0.5).matches(None, "x") is True


def test_none_matches_every_layer():
    assert Rule(None, 0.5).matches(layers.Dense(1), "x")
    assert Rule(schedule=0.5).matches(layers.Dense(1), "x")


def test_a_class_by_its_name():
    class Dense:  # of another family
        pass

    class Child(Dense):
        pass

    rule = Rule(LayerClass("Dense"), 0.5)
    assert rule.matches(layers.Dense(1), "x")
    assert rule.matches(Child(), "x")
    assert not rule.matches(layers.EinsumDense("ab,bc->ac", 1), "dense")
    assert not rule.matches(layers.Conv2D(1, 1), "Dense")


def test_the_first_match_wins():
    rule_list = [
        Rule("conv1$", 0.5),
        Rule("conv", 0.8),
        Rule(layers.Dense, skip=True),
        Rule(None, 0.3),
    ]
    conv, dense = layers.Conv2D(1, 1), layers.Dense(1)
    assert first(rule_list, conv, "conv1") == 0
    assert first(rule_list, conv, "conv2") == 1
    assert first(rule_list, dense, "conv_head") == 1
    assert first(rule_list, dense, "head") == 2
    assert first(rule_list, layers.LSTM(1), "lstm") == 3
    assert first(rule_list[:3], layers.LSTM(1), "lstm") is None


def test_a_rule_names_a_layer_by_its_plain_name_or_path():
    assert Rule("conv1", 0.5).names("conv1")
    assert Rule("conv1", 0.5).names("backbone/conv1")
    assert Rule("backbone/conv1", 0.5).names("backbone/conv1")
    assert not Rule("conv1$", 0.5).names("conv1")
    assert not Rule(None, 0.5).names("conv1")
    assert not Rule(layers.Dense, 0.5).names("dense")


# -- What a rule holds -----------------------------------------------------------------------------


def test_numbers_and_names_become_objects():
    rule = Rule("x", 0.5, "2:4")
    assert rule.schedule == ConstantSparsity(0.5, 0)
    assert rule.pattern == NM(2, 4)
    assert Rule("x", OneShot(0.5)).pattern == Unstructured()
    assert Rule("x", skip=True).schedule is None
    rule = Rule("x", PolynomialDecay(0, 0.5, 0, 9), score="Taylor", regrowth="soft")
    assert (rule.score, rule.regrowth) == (scores.get("taylor"), SoftPruning())


def test_rules_are_equal_by_what_they_say_and_can_be_keys():
    one, same = Rule("x", PolynomialDecay(0, 0.5, 0, 9)), Rule("x", PolynomialDecay(0, 0.5, 0, 9))
    assert one == same
    assert {one: 1}[same] == 1
    assert one != Rule("x", PolynomialDecay(0, 0.5, 0, 8))
    assert Rule(LayerClass("Dense"), 0.5) == Rule(LayerClass("Dense"), 0.5)


def test_rules_read_well():
    rule = Rule("a", Iterative([0.2, 0.4], 50, 9), "2:4", score="snip", regrowth="soft")
    assert str(rule).endswith("every=50, begin_step=9), 2:4 by snip, soft")
    assert str(Rule("conv", OneShot(0.5), "1x16")) == "conv: OneShot(sparsity=0.5, step=0), 1x16"
    assert str(Rule(layers.Dense, skip=True)) == "Dense: left dense"
    assert str(Rule(None, skip=True)) == "all layers: left dense"


@pytest.mark.parametrize("bad", ["conv(", "[a-", "*", "(?P<x"])
def test_an_invalid_regular_expression_is_refused(bad):
    message = (
        rf"not a valid regular expression.*re\.escape.*Received: layers={re.escape(repr(bad))}"
    )
    with pytest.raises(ValueError, match=message):
        Rule(bad, 0.5)


@pytest.mark.parametrize(
    "bad", [5, ["conv1"], True, b"conv", re.compile("c"), keras.layers.Dense(1)]
)
def test_layers_of_another_kind_are_refused(bad):
    with pytest.raises(
        ValueError, match=r"a layer class, a function or None\. .*Received: layers="
    ):
        Rule(bad, 0.5)


def test_a_rule_prunes_or_skips():
    with pytest.raises(ValueError, match=r"needs a `schedule`.*Received: layers='x'"):
        Rule("x")
    with pytest.raises(
        ValueError, match=r"drop one of the two\. Received: skip=True, schedule=0.5"
    ):
        Rule("x", 0.5, skip=True)
    with pytest.raises(ValueError, match=r"True or False\. Received: skip='yes'"):
        Rule("x", 0.5, skip="yes")


@pytest.mark.parametrize("schedule", [1.0, -0.5, float("nan"), "0.5", lambda step: 0.5])
def test_a_bad_schedule_is_refused(schedule):
    with pytest.raises(ValueError, match="Received: "):
        Rule("x", schedule)


def test_a_bad_pattern_is_refused():
    with pytest.raises(ValueError, match=r"Unknown pattern.*Received: '2/4'"):
        Rule("x", 0.5, "2/4")


# -- A list of rules from anything -----------------------------------------------------------------


def test_a_list_of_rules_from_anything(write):
    rule = Rule("x", 0.5)
    assert rules.get(rule) == [rule]
    assert rules.get([rule, rule]) == rules.get((rule, rule)) == [rule, rule]
    assert rules.get(0.5) == [Rule(schedule=0.5)]
    assert rules.get(OneShot(0.5)) == [Rule(schedule=OneShot(0.5))]
    path = write("- {layers: x, schedule: 0.5}")
    assert rules.get(path) == rules.get(str(path)) == [rule]


@pytest.mark.parametrize("bad", [[], (), [0.5], ["x"], [Rule("x", 0.5), {"layers": "y"}], b"abc"])
def test_a_list_of_something_else_is_refused(bad):
    with pytest.raises(ValueError, match=r"at least one `tfprune.Rule`\. Received: "):
        rules.get(bad)


@pytest.mark.parametrize("bad", [True, {}, 80, lambda layer: True])
def test_something_else_is_refused(bad):
    with pytest.raises(ValueError, match="Received: "):
        rules.get(bad)


def test_no_rules_at_all_is_refused_in_the_words_of_the_call():
    with pytest.raises(ValueError, match=r"`rules` must .* YAML file.*Received: rules=None$"):
        rules.get(None)


# -- YAML ------------------------------------------------------------------------------------------

EVERYTHING = r"""
# Comments and anchors are allowed.
rules:
  - layers: conv1$
    schedule: 0.5
  - layers: "conv2|wide"
    schedule: {class: PolynomialDecay, initial_sparsity: 0.0, final_sparsity: 0.5,
               begin_step: 0, end_step: 1000, power: 1, frequency: 50}
    pattern: 2:4
  - layers: {class: LSTM}
    schedule:
      class: Iterative
      sparsities: [0.1, 0.3, 0.5]
      every: 200
    pattern: 1x16
  - layers: \d+_twelve
    schedule: &once {class: OneShot, sparsity: 0.8, step: 1_000}
    pattern: 4x4 MAX
    skip: no
  - layers: eleven
    schedule: *once
    pattern: unstructured
  - layers: table
    schedule: {class: FunctionSchedule, function: [0.1, 0.2, 0.4], end_step: 200}
    pattern: '1:2'
  - layers: constant
    schedule: {class: ConstantSparsity, target_sparsity: 0.25, begin_step: 10, end_step: -1}
  - layers: moving
    schedule: *once
    score: movement
  - {layers: softly, schedule: {class: Iterative, sparsities: [0.2, 0.4], every: 50, begin_step: 9},
     pattern: 2:4, regrowth: {class: SoftPruning, decay: 0.0002}, score: Taylor}
  - {layers: grown, schedule: {class: ConstantSparsity, target_sparsity: 0.9, begin_step: 0,
     end_step: 7500}, regrowth: {class: RigL, fraction: 0.5}}
  - {layers: plain, schedule: 0.5, score: magnitude, regrowth: ~}
  - {layers: short, schedule: 0.5, regrowth: soft}
  - layers: ~
    skip: true
"""


def test_yaml_says_everything_that_rules_say(load):
    decay = PolynomialDecay(0.0, 0.5, 0, 1000, power=1, frequency=50)
    assert load(EVERYTHING) == [
        Rule("conv1$", 0.5),
        Rule("conv2|wide", decay, NM(2, 4)),
        Rule(LayerClass("LSTM"), Iterative([0.1, 0.3, 0.5], 200), Block((1, 16))),
        Rule(r"\d+_twelve", OneShot(0.8, 1000), Block((4, 4), "MAX")),
        Rule("eleven", OneShot(0.8, 1000)),
        Rule("table", FunctionSchedule([0.1, 0.2, 0.4], 200), NM(1, 2)),
        Rule("constant", ConstantSparsity(0.25, 10)),
        Rule("moving", OneShot(0.8, 1000), score="movement"),
        Rule(
            "softly",
            Iterative([0.2, 0.4], 50, 9),
            "2:4",
            score="taylor",
            regrowth=SoftPruning(2e-4),
        ),
        Rule("grown", ConstantSparsity(0.9, 0, 7500), regrowth=RigL(0.5)),
        Rule("plain", 0.5),
        Rule("short", 0.5, regrowth=SoftPruning()),
        Rule(None, skip=True),
    ]


@pytest.mark.parametrize("pattern", ["2:4", "'2:4'", '"2:4"', "!!str 2:4", "  2:4   # bare"])
def test_two_of_four_needs_no_quotes(load, pattern):
    """YAML 1.1 reads a bare 2:4 as the base-60 number 124."""
    (rule,) = load(f"- {{schedule: 0.5, pattern: {pattern}\n  }}")
    assert rule.pattern == NM(2, 4)


def test_a_name_that_looks_like_a_number_is_a_name(load):
    assert [r.layers for r in load("- {layers: 12, schedule: 0.5}\n- {layers: yes, skip: on}")] == [
        "12",
        "yes",
    ]


def test_a_bare_list_will_do(load):
    assert load("- schedule: 0.5") == [Rule(None, 0.5)]


@pytest.mark.parametrize(
    "text",
    ["\ufeff- schedule: 0.5\n", "- schedule: 0.5\r\n  layers:\r\n", "---\n- schedule: 0.5\n...\n"],
)
def test_files_of_other_editors(load, text):
    assert load(text) == [Rule(None, 0.5)]


R3 = """
rules:
  - layers: conv1$                # one input channel: 2:4 does not fit
    schedule: 0.5
  - layers: conv2$|dense_wide$
    schedule: {class: PolynomialDecay, initial_sparsity: 0.0, final_sparsity: 0.5,
               begin_step: 0, end_step: 1000}
    pattern: 2:4
  - layers: logits
    skip: true
"""


def test_the_example_of_the_write_up(write):
    """50 % of the first conv, 2:4 in the second and the wide dense, nothing on the output."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, name="conv1"),
            layers.Conv2D(8, 3, name="conv2"),
            layers.Flatten(),
            layers.Dense(64, name="dense_wide"),
            layers.Dense(10, name="logits"),
        ]
    )
    pruned = prune(model, write(R3))
    wrapped = {w.layer.name: w for w in pruned.layers if hasattr(w, "pruning_schedule")}
    assert {name: str(w.pattern) for name, w in wrapped.items()} == {
        "conv1": "unstructured",
        "conv2": "2:4",
        "dense_wide": "2:4",
    }
    assert wrapped["conv1"].pruning_schedule == ConstantSparsity(0.5, 0)
    assert wrapped["conv2"].pruning_schedule == PolynomialDecay(0.0, 0.5, 0, 1000)
    for wrapper in wrapped.values():
        wrapper.update_masks(1000)
        (state,) = wrapper.states()
        assert state.sparsity == 0.5
    conv2 = wrapped["conv2"].states()[0].mask  # (h, w, in, out): one group of four inputs
    assert set(conv2.sum(axis=2).ravel().tolist()) == {2}


# -- YAML with mistakes: the file, the line, what came and what was expected -----------------------

MISTAKES = {
    "unknown key": (
        "- layers: a\n  shedule: 0.5",
        2,
        r"Expected one of layers, schedule.*'shedule'",
    ),
    "unknown top key": (
        "rule:\n  - schedule: 0.5",
        1,
        r"Expected one of rules, distribution\. Received: 'rule'",
    ),
    "two top keys": ("rules:\n  - schedule: 0.5\nversion: 1", 3, r"Received: 'version'"),
    "key twice": ("- layers: a\n  schedule: 0.5\n  layers: b", 3, r"stands twice.*'layers'"),
    "rules twice": ("rules:\n  - schedule: 0.5\nrules:\n  - schedule: 0.6", 3, r"twice.*'rules'"),
    "argument twice": (
        "- schedule:\n    class: OneShot\n    sparsity: 0.1\n    sparsity: 0.2",
        4,
        r"stands twice\. Received: 'sparsity'",
    ),
    "regular expression": ("- schedule: 0.5\n- schedule: 0.5\n  layers: 'a('", 3, r"'a\('"),
    "sparsity": ("- layers: a\n  schedule: 1.5", 2, r"\[0, 1\).*Received: schedule=1.5"),
    "huge sparsity": ("- schedule: " + "9" * 400, 1, r"\[0, 1\).*Received: schedule=999"),
    "huge number": ("- schedule: " + "9" * 5000, 1, r"4300"),
    "not a number": ("- schedule: .nan", 1, r"Received: schedule=nan"),
    "quoted sparsity": ("- schedule: '0.5'", 1, r"Received: '0.5' \(of type str\)"),
    "no schedule": ("- schedule: 0.5\n- layers: a", 2, r"needs a `schedule`.*layers='a'"),
    "empty schedule": ("- layers: a\n  schedule:", 2, r"Expected a pruning schedule.*None"),
    "list as schedule": ("- schedule: [0.1, 0.5]", 1, r"`key: value`. Received: a sequence"),
    "unknown class": (
        "- layers: a\n  schedule: {class: Cosine, end: 5}",
        2,
        r"Unknown schedule class.*PolynomialDecay.*'Cosine'",
    ),
    "no class": ("- schedule: {sparsity: 0.5}", 1, r"needs its `class.*Received: \['sparsity'\]"),
    "unknown argument": (
        "- layers: a\n  schedule: {class: OneShot, sparsty: 0.5}",
        2,
        r"'sparsty'\. (Did you mean 'sparsity'\? )?Expected: OneShot\(sparsity, step=0\)",
    ),
    "missing argument": (
        "- schedule: {class: ConstantSparsity, target_sparsity: 0.5}",
        1,
        r"'begin_step'. Expected: ConstantSparsity\(target_sparsity, begin_step, end_step=-1",
    ),
    "bad argument": (
        "- layers: a\n  schedule:\n    class: OneShot\n    sparsity: 0.5\n    step: 1e3",
        3,
        r"`step` must be a whole number.*Received: step='1e3'",
    ),
    "begin after end": (
        "- schedule: {class: ConstantSparsity, target_sparsity: 0.5, begin_step: 9, end_step: 3}",
        1,
        r"Received: begin_step=9, end_step=3",
    ),
    "pattern": ("- layers: a\n  schedule: 0.5\n  pattern: 4:4", 3, r"\(4, 4\)"),
    "unknown pattern": ("- schedule: 0.5\n  pattern: 2 of 4", 2, r"Unknown pattern.*'2 of 4'"),
    "empty pattern": ("- schedule: 0.5\n  pattern:", 2, r"Unknown pattern.*Received: ''"),
    "list as pattern": ("- schedule: 0.5\n  pattern: [2, 4]", 2, r"plain value.*a sequence"),
    "unknown score": (
        "- layers: a\n  schedule: {class: OneShot, sparsity: 0.5, step: 9}\n  score: l1",
        3,
        r"Expected one of 'magnitude', 'movement', 'taylor', 'snip'.*Received: 'l1'",
    ),
    "list as score": ("- schedule: 0.5\n  score: [taylor]", 2, r"plain value.*a sequence"),
    "score at once": (
        "- layers: b\n  schedule: 0\n- layers: a\n  schedule: 0.5\n  score: taylor",
        3,
        r"'taylor' needs the gradients.*step=100.*Received: ConstantSparsity",
    ),
    "unknown regrowth": ("- schedule: 0.5\n  regrowth: set", 2, r"'soft', 'rigl'.*'set'"),
    "unknown regrowth class": (
        "- schedule: 0.5\n  regrowth:\n    class: SET",
        3,
        r"Expected None.*Received: {'class_name': 'SET'",
    ),
    "no regrowth class": (
        "- schedule: 0.5\n  regrowth: {fraction: 0.3}",
        2,
        r"regrowth needs its `class: RigL`\. Received: \['fraction'\]",
    ),
    "unknown regrowth argument": (
        "- schedule: 0.5\n  regrowth: {class: RigL, alpha: 0.3}",
        2,
        r"'alpha'\. Expected: RigL\(fraction=0\.3\)",
    ),
    "a decay that YAML takes for a word": (
        "- schedule: 0.5\n  regrowth: {class: SoftPruning, decay: 2e-4}",
        2,
        r"written like 0\.0002\. Received: decay='2e-4'",
    ),
    "soft with one update": (
        "- schedule: {class: OneShot, sparsity: 0.5, step: 9}\n  regrowth: soft",
        1,
        r"^.*line 1: Soft pruning lets weights return .*has one only",
    ),
    "rigl without an end": (
        "- layers: a\n  schedule: 0.5\n  regrowth: rigl",
        1,
        r"needs an `end_step`.*Received: ConstantSparsity",
    ),
    "rigl in groups": (
        "- schedule: {class: PolynomialDecay, initial_sparsity: 0.0, final_sparsity: 0.5,\n"
        "             begin_step: 0, end_step: 9}\n  pattern: 2:4\n  regrowth: rigl",
        1,
        r"the pattern '2:4'; use the pattern 'unstructured'",
    ),
    "skip": ("- layers: a\n  skip: maybe", 2, r"true or false\. Received: skip='maybe'"),
    "skip by number": ("- layers: a\n  skip: 1", 2, r"Received: skip=1"),
    "skip and schedule": ("- layers: a\n  schedule: 0.5\n  skip: true", 1, r"drop one of the two"),
    "a word as rule": ("- schedule: 0.5\n- conv1", 2, r"expected `key: value`.*'conv1'"),
    "a list as rule": ("- [conv1, 0.5]", 1, r"expected `key: value`.*a sequence"),
    "a list as layers": ("- layers: [a, b]\n  schedule: 0.5", 1, r"plain value.*a sequence"),
    "no layer class": ("- layers: {}\n  schedule: 0.5", 1, r"class: Dense.*Received: {}"),
    "layers by name": ("- layers: {name: a}\n  schedule: 0.5", 1, r"Expected one of class.*'name'"),
    "a list as key": ("- ? [a, b]\n  : 1", 1, r"plain value.*a sequence"),
    "a list as argument": (
        "- schedule: {? [a] : 1, class: OneShot}",
        1,
        r"plain value.*a sequence",
    ),
    "merged keys": ("- &a {schedule: 0.5}\n- {<<: *a, layers: x}", 2, r"unknown key.*'<<'"),
    "a date": ("- schedule: 2020-13-45", 1, r"month must be"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_file_and_line(write, name):
    text, line, message = MISTAKES[name]
    path = write(text)
    with pytest.raises(ValueError, match=message) as raised:
        rules.load(path)
    assert str(raised.value).startswith(f"{path}, line {line}: ")
    assert str(raised.value).count("rules.yaml") == 1


@pytest.mark.parametrize(
    ("text", "received"),
    [
        ("", "no rules"),
        ("# nothing but a comment\n", "no rules"),
        ("{}", "no rules"),
        ("[]", "no rules"),
        ("rules:", "no rules"),
        ("rules: []", "no rules"),
        ("0.5", "'0.5', line 1"),
        ("\nrules: conv1", "'conv1', line 2"),
        ("rules: {layers: a}", "a mapping, line 1"),
    ],
)
def test_a_file_without_a_list_of_rules(load, text, received):
    with pytest.raises(ValueError, match=rf"expected a list of rules.*Received: {received}$"):
        load(text)


@pytest.mark.parametrize(
    "text",
    [
        "- layers: [a",
        "- layers: a\n   schedule: 0.5\n  x",
        "- layers: 'a",
        "- schedule: 0.5\n\tlayers: a",
        "- schedule: *nowhere",
        "- schedule: 0.5\n---\n- schedule: 0.6",
        "- schedule: %",
        b"- schedule: 0.5\x00",
    ],
)
def test_broken_yaml_is_told_with_file_and_place(load, text):
    with pytest.raises(ValueError, match=r"(?s)rules\.yaml: .* not valid YAML.*(line|position) \d"):
        load(text)


@pytest.mark.parametrize(
    "content", [bytes(range(256)), b"\x89PNG\r\n\x1a\n\x00\x00", "a".encode("utf-16")]
)
def test_a_binary_file_is_refused(load, content):
    with pytest.raises(
        ValueError, match=r"rules\.yaml: the file is not (text in UTF-8|valid YAML)"
    ):
        load(content)


def test_a_rule_knows_its_place_and_is_the_same_without_it(load):
    first, second = load("# a comment\n- {layers: x, schedule: 0.5}\n- {layers: y, skip: true}")
    assert first.place.endswith("rules.yaml, line 2")
    assert second.place.endswith("rules.yaml, line 3")
    assert {first, second} == {Rule("x", 0.5), Rule("y", skip=True)}
    assert "rules.yaml" not in f"{first}{first!r}"


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "missing.yaml", tmp_path, ""):
        with pytest.raises(
            FileNotFoundError, match=r"No rules file.*list of `tfprune.Rule`.*Received"
        ):
            rules.get(str(path))


# -- YAML that means no good -----------------------------------------------------------------------

CALL = "!!python/object/apply:os.system ['touch {marker}']"


@pytest.mark.parametrize(
    "text",
    [
        CALL,
        f"- {CALL}",
        f"rules: {CALL}",
        f"- layers: {CALL}\n  schedule: 0.5",
        f"- schedule: {CALL}",
        f"- schedule: {{class: OneShot, sparsity: {CALL}}}",
        f"- schedule: {{class: {CALL}}}",
        f"- schedule: 0.5\n  pattern: {CALL}",
        f"- layers: a\n  skip: {CALL}",
        f"- ? {CALL}\n  : 1",
        "- schedule: !!python/name:os.system",
        "- !!python/name:os.system layers: a\n  schedule: 0.5",
        "- layers: !!python/object:os.Anything {class: Dense}\n  schedule: 0.5",
        "- layers: !mine a\n  schedule: 0.5",
    ],
)
def test_tags_that_make_objects_are_refused_and_not_followed(load, tmp_path, text):
    marker = tmp_path / "executed"
    message = r"rules\.yaml, line [12]: .*tags that make objects are not followed\. Received: '"
    with pytest.raises(ValueError, match=message):
        load(text.replace("{marker}", str(marker)))
    assert not os.path.exists(marker)


def bomb(last):
    lines = ["rules:", "  - layers: a", "    schedule:", "      class: Iterative"]
    lines += ["      a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"      a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 15)]
    return "\n".join([*lines, last])


@pytest.mark.parametrize(
    "text",
    [
        bomb("      sparsities: *a14"),  # 10**15 words
        bomb("    skip: *a14"),
        bomb("  - *a14"),
        bomb("    pattern: *a14"),
        "&a [*a]",
        "- &a {layers: x, schedule: *a}",
        "- schedule: {class: Iterative, every: 2, sparsities: &a [*a]}",
        "- schedule: {class: Iterative, every: 2, sparsities: &a [*a, *a, *a]}",
        "- schedule: {class: OneShot, sparsity: " + "[" * 30 + "]" * 30 + "}",
        "[" * 1_000,
        "{a: " * 5_000,
    ],
    ids=range(11),
)
def test_alias_bombs_and_bottomless_files_are_refused_at_once(load, text):
    begin = time.monotonic()
    with pytest.raises(ValueError, match=r"too many values|too deep|not valid YAML") as raised:
        load(text)
    assert time.monotonic() - begin < 10
    assert len(str(raised.value)) < 2000


def test_a_long_list_of_rules_is_fine(load):
    assert (
        len(load("\n".join(f"- {{layers: layer_{i}$, schedule: 0.5}}" for i in range(300)))) == 300
    )


def test_an_alias_used_again_is_fine(load):
    text = "- {layers: a, schedule: &s {class: Iterative, every: 2, sparsities: [0.1, 0.2]}}\n"
    loaded = load(text + "- {layers: b, schedule: *s}\n- {layers: c, schedule: *s}")
    assert {r.schedule for r in loaded} == {Iterative([0.1, 0.2], 2)}
