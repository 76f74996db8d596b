import keras
import numpy as np
import pytest

import tfprune
from tfprune import rules
from tfprune.schedules import with_final
from tfprune.sensitivity.result import WeightSensitivity

L = keras.layers


def network(kit=keras):
    kit.utils.set_random_seed(0)
    layers = kit.layers
    return kit.Sequential(
        [
            kit.Input((8, 8, 1)),
            layers.Conv2D(4, 3, name="conv"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Flatten(),
            layers.Dense(50, name="wide"),
            layers.Dense(3, name="logits"),
        ]
    )


def zeros(model):
    kernels = {
        x.name: x.get_weights()[0] for x in model.layers if x.name in ("conv", "wide", "logits")
    }
    return {name: float((k == 0).mean()) for name, k in kernels.items()}


def test_global_is_one_threshold_over_all_kernels():
    model = network()
    spread = tfprune.allocate(model, 0.8, "global")
    kernels = {r.layer: model.get_layer(r.layer).kernel.numpy() for r in spread.layers}
    every = np.abs(np.concatenate([k.ravel() for k in kernels.values()]))
    threshold = np.sort(every)[int(0.8 * every.size)]
    for row in spread.layers:
        expected = (np.abs(kernels[row.layer]) < threshold).mean()
        assert row.sparsity == pytest.approx(expected, abs=2 / row.size)


@pytest.mark.parametrize("method", ["uniform", "erk", "global", "lamp"])
def test_pruning_by_an_allocation_reaches_its_total(method):
    model = network()
    spread = tfprune.allocate(model, 0.7, method, schedule=tfprune.OneShot(0.5))
    pruned = tfprune.prune(model, spread)
    pruned.compile("sgd", "mse")
    x = np.ones((8, 8, 8, 1), "float32")
    pruned.fit(x, np.ones((8, 3)), verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    found = zeros(tfprune.strip_pruning(pruned))
    for row in spread.layers:
        assert found[row.layer] == pytest.approx(row.sparsity, abs=1 / row.size)
    total = sum(found[row.layer] * row.size for row in spread.layers)
    assert total / sum(row.size for row in spread.layers) == pytest.approx(0.7, abs=0.005)


def test_tf_keras_models_get_rules_that_tfmot_carries_out():
    tf_keras = pytest.importorskip("tf_keras")
    model = network(tf_keras)
    spread = tfprune.allocate(model, 0.5, "erk")
    assert [row.layer for row in spread.layers] == ["conv", "wide", "logits"]
    pruned = tfprune.prune(model, spread)
    wrapped = [x.name for x in pruned.layers if x.name.startswith("prune_low_magnitude")]
    assert wrapped == ["prune_low_magnitude_wide"]  # ERK leaves the two small ones whole


def test_the_schedule_is_kept_and_ends_at_each_layers_own_sparsity():
    schedule = tfprune.PolynomialDecay(0.0, 0.5, 10, 100, frequency=5)
    spread = tfprune.allocate(network(), 0.5, "erk", schedule=schedule)
    (wide,) = (rule for rule in spread.rules if not rule.skip)
    assert wide.schedule.get_config()["config"] == {
        **schedule.get_config()["config"],
        "final_sparsity": spread.layers[1].sparsity,
    }


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (tfprune.ConstantSparsity(0.5, 3), tfprune.ConstantSparsity(0.25, 3)),
        (tfprune.PolynomialDecay(0.4, 0.5, 0, 9), tfprune.PolynomialDecay(0.2, 0.25, 0, 9)),
        (tfprune.OneShot(0.5, 7), tfprune.OneShot(0.25, 7)),
        (tfprune.Iterative([0.1, 0.5], 4), tfprune.Iterative([0.05, 0.25], 4)),
        (
            tfprune.FunctionSchedule([0.1, 0.5], 4, 0, 4),
            tfprune.FunctionSchedule([0.05, 0.25], 4, 0, 4),
        ),
    ],
)
def test_schedules_in_proportion(schedule, expected):
    assert with_final(schedule, 0.25) == expected


def test_a_schedule_of_ones_own_that_cannot_be_scaled():
    class Stubborn(tfprune.PruningSchedule):
        def __call__(self, step):
            return True, 0.5

        def get_config(self):
            return {"class_name": "Stubborn", "config": {}}

    with pytest.raises(ValueError, match=r"another final sparsity.*Received: .*Stubborn"):
        with_final(Stubborn(), 0.25)


def measured(**drops):
    sizes = {"conv": 36, "wide": 3200, "logits": 150}
    rows = tuple(WeightSensitivity(name, "kernel", sizes[name], row) for name, row in drops.items())
    return tfprune.Sensitivity("m", "accuracy", 0.9, (0.5, 0.9), rows, 10)


def test_by_sensitivity_the_robust_layer_loses_more():
    # Per weight the wide layer costs nothing, the others something from the first level on.
    found = measured(conv=(0.1, 0.5), wide=(0.0, 0.0), logits=(0.1, 0.5))
    model = network()
    spread = tfprune.allocate(model, 0.8, "sensitivity", sensitivity=found)
    by_name = {row.layer: row.sparsity for row in spread.layers}
    size = {row.layer: row.size for row in spread.layers}
    wide = 0.8 * sum(size.values()) / size["wide"]
    assert by_name == pytest.approx({"conv": 0.0, "wide": wide, "logits": 0.0}, abs=1e-6)


def test_a_sensitivity_of_other_layers():
    found = measured(conv=(0.1, 0.5), wide=(0.0, 0.0))
    with pytest.raises(ValueError, match=r"Received: none for \['logits'\]"):
        tfprune.allocate(network(), 0.8, "sensitivity", sensitivity=found)
    with pytest.raises(ValueError, match="go together"):
        tfprune.allocate(network(), 0.8, "sensitivity")
    with pytest.raises(ValueError, match="go together"):
        tfprune.allocate(network(), 0.8, "erk", sensitivity=found)


def test_a_sensitivity_of_layers_of_other_sizes():
    found = measured(conv=(0.1, 0.5), wide=(0.0, 0.0), logits=(0.1, 0.5))
    other = keras.Sequential([keras.Input((8, 8, 1)), L.Conv2D(5, 3, name="conv")])
    with pytest.raises(ValueError, match=r"another model.*Received: .*\[45\].*'conv'.*\[36\]"):
        tfprune.allocate(other, 0.8, "sensitivity", sensitivity=found)


def test_a_sensitivity_of_some_of_a_layers_weights_will_do():
    model = keras.Sequential([keras.Input((3, 4)), L.LSTM(4, name="rnn")])
    rows = (WeightSensitivity("rnn", "kernel", 64, (0.1, 0.5)),)
    found = tfprune.Sensitivity("m", "accuracy", 0.9, (0.5, 0.9), rows, 10)
    spread = tfprune.allocate(model, 0.8, "sensitivity", sensitivity=found)
    assert spread.layers[0].sparsity == pytest.approx(0.8)


@pytest.mark.parametrize("layers", [{"layers": "wide"}, {"ignore": "wide"}])
def test_a_plain_string_is_one_layer(layers):
    spread = tfprune.allocate(network(), 0.5, "uniform", **layers)
    left = ["wide"] if "layers" in layers else ["conv", "logits"]
    assert [row.layer for row in spread.layers] == left


def test_a_number_as_schedule_is_pruned_at_once():
    spread = tfprune.allocate(network(), 0.5, "uniform", schedule=0.5)
    assert spread.schedule == tfprune.ConstantSparsity(0.5, 0)
    assert [rule.schedule.final_sparsity for rule in spread.rules] == [0.5] * 3


def test_floors_ceilings_and_layers_left_out():
    model = network()
    spread = tfprune.allocate(
        model, 0.6, "global", ignore=["logits"], ceiling={"conv": 0.1}, floor={"wide": 0.6}
    )
    by_name = {row.layer: row.sparsity for row in spread.layers}
    assert set(by_name) == {"conv", "wide"}
    assert by_name["conv"] <= 0.1
    assert by_name["wide"] >= 0.6


def test_rules_take_an_allocation():
    spread = tfprune.allocate(network(), 0.9, "erk")
    assert rules.get(spread) == spread.rules


def test_it_prints_and_saves(tmp_path):
    spread = tfprune.allocate(network(), 0.9, "uniform")
    assert "wide" in str(spread)
    assert "weights stay" in str(spread)
    spread.to_json(tmp_path / "a.json")
    assert (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 1.0}, r"in \[0, 1\).*Received: sparsity=1.0"),
        ({"method": "best"}, "uniform, erk, global, lamp, sensitivity.*Received: method='best'"),
        ({"pattern": "2:4"}, "fixes the sparsity.*Received: pattern='2:4'"),
        ({"layers": ["wid"]}, "'conv', 'wide', 'logits'. Received: 'wid'"),
        ({"ignore": ["conv", "wide", "logits"]}, "leave no layer"),
        ({"ceiling": {"depthwise": 0.5}}, "takes no part.*Received: 'depthwise'"),
        ({"ceiling": 0.5}, "between 0.0% and 50.0%"),
        ({"sparsity": 0.9999}, "^At most 99.95% of the weights.*Received: sparsity=0.9999"),
        (
            {"sparsity": 0.4, "floor": {"wide": 0.9}, "ceiling": 0.5},
            "floor of 'wide' is above its ceiling.*Received: floor=0.9, ceiling=0.5",
        ),
        ({"schedule": "soon"}, "Expected a pruning schedule.*Received: .*soon"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfprune.allocate(network(), **{"sparsity": 0.9, **arguments})


def test_a_wrapped_model_is_stripped_first():
    with pytest.raises(ValueError, match="wrapped for pruning already"):
        tfprune.allocate(tfprune.prune_low_magnitude(network()), 0.5)


def test_a_model_whose_layers_cannot_be_named():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="Sequential or Functional"):
        tfprune.allocate(Own(), 0.5)
