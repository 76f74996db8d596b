"""What `shrink` refuses, with what it says, and that nothing is lost then."""

import re

import keras
import numpy as np
import pytest

import tfprune

layers = keras.layers


@pytest.fixture
def untouched(small_model):
    """A compiled model of which nothing may change."""
    small_model.compile("adam", "mse")
    before = [v.numpy() for v in small_model.variables]
    config = small_model.get_config()
    yield small_model
    assert all(map(np.array_equal, before, [v.numpy() for v in small_model.variables]))
    assert small_model.get_config() == config
    assert small_model.compiled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Received: none of them"),
        ({"macs": 0.5, "params": 0.5}, r"Say by one of.*Received: \{'macs': 0.5, 'params': 0.5\}"),
        ({"channels": 1.0}, r"`channels` must be between 0 and 1, both left out.*channels=1.0"),
        ({"channels": 0}, "channels=0"),
        ({"macs": -0.5}, "macs=-0.5"),
        ({"params": float("nan")}, "params=nan"),
        ({"channels": {}}, "names no layer"),
        ({"channels": {"conv1": 1.0}}, r"`channels\['conv1'\]` must be between 0 and 1"),
        ({"channels": {"conv_1": 0.5}}, r"'conv_1' is not in the model.*named like 'conv1'"),
        ({"channels": {"relu": 0.5}}, "'relu' makes no channels of its own"),
        ({"macs": 0.5, "ignore": ["cnv2"]}, "'cnv2' is not in the model.*'conv2'"),
        ({"macs": 0.5, "layers": ["wode"]}, "'wode' is not in the model.*'wide'"),
        ({"macs": 0.5, "scope": "all"}, "`scope` must be 'global' or 'local'.*scope='all'"),
        ({"macs": 0.5, "round_to": 0}, "round_to=0"),
        ({"macs": 0.5, "min_channels": 1.5}, "min_channels=1.5"),
        ({"macs": 0.5, "max_ratio": 0}, "max_ratio=0"),
        ({"macs": 0.5, "max_ratio": 1.1}, "max_ratio=1.1"),
        ({"macs": 0.5, "steps": 0}, "steps=0"),
        ({"macs": 0.5, "importance": "l3"}, r"one of l1, l2, .*, or a function.*'l3'"),
    ],
)
def test_values_out_of_range(untouched, arguments, message):
    with pytest.raises(ValueError, match=message):
        tfprune.shrink(untouched, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"macs": "half"}, "`macs` must be a number.*of type str"),
        ({"channels": True}, "channels=True"),
        ({"macs": 0.5, "ignore": "conv1"}, r"a list of layer names.*ignore='conv1'"),
        ({"macs": 0.5, "layers": [1]}, r"holds layer names.*layers=\[1\]"),
        ({"macs": 0.5, "importance": 3}, "a name or a function.*of type int"),
        ({"macs": 0.5, "max_ratio": "0.5"}, r"a number above 0.*max_ratio='0.5' \(of type str"),
        ({"macs": 0.5, "max_ratio": True}, "max_ratio=True"),
    ],
)
def test_values_of_the_wrong_type(untouched, arguments, message):
    with pytest.raises(TypeError, match=message):
        tfprune.shrink(untouched, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # conv1 3 of 8, conv2 7 of 16, wide 13 of 32 stay if nothing may lose more than 60 %.
        ({"channels": 0.9, "max_ratio": 0.6}, r"`channels=0.9` cannot.*at the most 57.1% of the"),
        ({"macs": 0.001}, r"`macs=0.001` cannot be met.*What must stay: 3 channels: .* an output"),
        ({"params": 0.001, "round_to": 8}, "round_to=8"),
        ({"channels": {"logits": 0.5}}, "Of the 3 channels of 'logits' only 0 can be removed"),
        ({"channels": {"conv1": 0.5}, "ignore": ["conv1"]}, "other arguments keep them"),
        ({"channels": {"wide": 0.5}, "importance": "gamma"}, "Of the 32 channels of 'wide' only 0"),
    ],
)
def test_what_cannot_be_reached(untouched, arguments, message):
    with pytest.raises(tfprune.ImpossibleTarget, match=message):
        tfprune.shrink(untouched, **arguments)


@pytest.mark.parametrize(("ratio", "left"), [(0.99, 1), (0.875, 1), (0.5, 4), (0.1, 8)])
def test_a_ratio_never_empties_a_layer(untouched, ratio, left):
    small, _ = tfprune.shrink(untouched, channels={"conv1": ratio})
    assert small.get_layer("conv1").filters == left


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        ({"channels": {"conv1": 0.1}}, r"nothing was removed of 'conv1': 0\.1 of its 8 channels"),
        ({"channels": {"conv1": 0.3}, "round_to": 8}, "nothing was removed of 'conv1'"),
        ({"channels": 0.001}, r"nothing was removed: channels=0\.001 is less than"),
        ({"channels": {"conv1": 0.125}}, None),
        ({"channels": 0.1}, None),
    ],
)
def test_the_report_says_if_nothing_was_removed(untouched, arguments, note):
    _, report = tfprune.shrink(untouched, **arguments)
    assert (report.channels_removed == 0) == bool(note) == bool(report.notes)
    if note:
        assert re.search(note, " ".join(report.lines()))


def test_the_report_says_why_nothing_could_be_removed():
    given = keras.Input((4,))
    _, report = tfprune.shrink(keras.Model(given, layers.Dense(3)(given)), channels=0.5)
    (note,) = report.notes
    assert note == (
        "nothing was removed: every channel must stay (3: it is an output of the model)"
    )


def of_size(*size):
    given = keras.Input((*size, 3))
    x = layers.Conv2D(8, 3, name="conv", strides=2)(given)
    x = layers.Dense(64, name="hidden")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(given, layers.Dense(2, name="logits")(x))


def test_the_report_says_that_macs_stand_on_lengths_of_1():
    free, fixed = of_size(None, None), of_size(16, 16)
    small, report = tfprune.shrink(free, macs=0.7, ignore=["conv"])
    (note,) = report.notes
    assert re.search(r"count as 1: input '.*' \(None, None, None, 3\); .*`tfprune.replay", note)
    at = (16, 16, 3)
    assert tfprune.count(small, at).macs > 0.7 * tfprune.count(free, at).macs
    # What the note says to do.
    report = tfprune.shrink(fixed, macs=0.7)[1]
    assert not report.notes
    same = tfprune.replay(of_size(None, None), report.history)
    assert same.input_shape == free.input_shape
    assert tfprune.count(same, at).macs == report.macs_after <= 0.7 * tfprune.count(free, at).macs


@pytest.mark.parametrize(
    "content", ["", "[", "3", "{}", '[{"layer": "a"}]', '{"history": [4]}', '{"history": null}']
)
def test_a_file_that_holds_no_history(untouched, tmp_path, content):
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"no JSON|holds no history"):
        tfprune.replay(untouched, path)


def test_a_history_from_a_file_that_is_not_there(untouched, tmp_path):
    for path, what in ((tmp_path / "no.json", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(FileNotFoundError, match=rf"{what}: .*report.to_json.*Received: done="):
            tfprune.replay(untouched, path)


def test_numbers_of_numpy(small_model):
    given = {"round_to": np.int64(4), "min_channels": np.int32(2), "steps": np.uint8(2)}
    small, _ = tfprune.shrink(small_model, macs=0.5, max_ratio=np.float32(0.75), **given)
    assert small.get_layer("wide").units % 4 == 0
    with pytest.raises(ValueError, match="`steps` is a whole number"):
        tfprune.shrink(small_model, macs=0.5, steps=np.float64(2))


def test_a_history_that_leaves_nothing_of_a_layer(untouched):
    entry = next(
        one
        for one in tfprune.shrink(untouched, channels={"wide": 0.5})[1].history
        if one["layer"] == "wide"
    )
    all_but_one = entry | {"removed": list(range(1, entry["of"]))}
    assert tfprune.replay(untouched, [all_but_one]).get_layer("wide").units == 1
    with pytest.raises(ValueError, match=r"removes all 32 channels of 'wide'.*at least one"):
        tfprune.replay(untouched, [all_but_one, entry | {"removed": [0]}])


def test_positions_beyond_the_layer(untouched):
    _, report = tfprune.shrink(untouched, channels=0.5)
    entry = report.history[0] | {"removed": [report.history[0]["of"]]}
    with pytest.raises(ValueError, match="holds no history"):
        tfprune.replay(untouched, [entry])


def test_a_failing_function_and_scores_that_are_nan(untouched):
    def fails(rows):
        raise ZeroDivisionError("of the user's own")

    with pytest.raises(ZeroDivisionError, match="own"):
        tfprune.shrink(untouched, macs=0.5, importance=fails)
    with pytest.raises(ValueError, match=r"The importance of '.*/kernel' is not finite"):
        tfprune.shrink(untouched, macs=0.5, importance=lambda rows: rows[:, 0] * np.inf)


# -- Models --------------------------------------------------------------------------------------


def test_wrapped_models_are_to_be_stripped_first(small_model):
    wrapped = tfprune.prune_low_magnitude(small_model)
    with pytest.raises(ValueError, match=r"wrapped for pruning.*Strip it first.*such as 'conv1'"):
        tfprune.shrink(wrapped, macs=0.5)
    with pytest.raises(ValueError, match=r"wrapped for pruning.*Strip it first"):
        tfprune.replay(wrapped, tfprune.shrink(small_model, macs=0.5)[1].history)
    with pytest.warns(UserWarning, match="not pruned as"):
        plain = tfprune.strip_pruning(wrapped)
    assert tfprune.shrink(plain, macs=0.5)[1].macs_after


def test_quantized_layers(small_model):
    small_model.get_layer("wide").quantize("int8")
    with pytest.raises(ValueError, match=r"'wide' is quantized by Keras \(int8\).*the model 'sm"):
        tfprune.shrink(small_model, macs=0.5)


def test_layers_with_lora(small_model):
    small_model.get_layer("conv2").enable_lora(2)
    with pytest.raises(ValueError, match=r"'conv2' has LoRA enabled.*Merge them first"):
        tfprune.shrink(small_model, macs=0.5)


def test_layers_inside_others():
    inner = layers.Dense(4)
    model = keras.Sequential([keras.Input((3, 2)), layers.TimeDistributed(inner), layers.Dense(1)])
    inner.enable_lora(1)
    with pytest.raises(ValueError, match="has LoRA enabled"):
        tfprune.shrink(model, macs=0.5)


def test_models_without_a_graph():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    own = Own()
    own(np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"subclass of `keras.Model`.*Functional API.*Own"):
        tfprune.shrink(own, macs=0.5)
    with pytest.raises(ValueError, match="not built"):
        tfprune.shrink(keras.Sequential([layers.Dense(3)]), macs=0.5)
    with pytest.raises(TypeError, match=r"a Keras 3 model.*'model.keras'.*type str"):
        tfprune.shrink("model.keras", macs=0.5)
    with pytest.raises((TypeError, ValueError), match=r"Dense"):
        tfprune.shrink(layers.Dense(3), macs=0.5)
