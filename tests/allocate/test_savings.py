"""Zeros where they pay: bytes as the exported file has them, multiplications of the fast path."""

import re

import keras
import numpy as np
import pytest
from zoo.blocks import around

import tfprune
from tfprune.export.convert import converted
from tfprune.export.sparse import OVERHEAD, decide
from tfprune.latency import FastPath

L = keras.layers


def words(kit=keras):
    """A table that is only looked up, a large and a small Dense."""
    kit.utils.set_random_seed(0)
    layers = kit.layers
    x = kit.Input((6,), dtype="int32")
    h = layers.Flatten()(layers.Embedding(40, 20, name="table")(x))
    h = layers.Dense(16, activation="relu", name="wide")(h)
    h = layers.Dense(16, activation="relu", name="middle")(h)
    return kit.Model(x, layers.Dense(3, name="tiny")(h))


def mobile(kit=keras, pool=False):
    """Two 1x1 convolutions in the fast path: at 8x8 and, behind a stride, at 4x4 pixels."""
    kit.utils.set_random_seed(0)
    layers = kit.layers
    x = kit.Input((16, 16, 3))
    h = layers.Conv2D(8, 3, strides=2, name="entry")(layers.ZeroPadding2D(1)(x))
    h = layers.Conv2D(16, 1, use_bias=False, name="early")(layers.ReLU()(h))
    h = layers.ReLU()(layers.BatchNormalization()(h))
    if pool:
        h = layers.MaxPooling2D(2, strides=1, padding="same")(h)
    h = layers.DepthwiseConv2D(3, strides=2, name="d")(layers.ZeroPadding2D(1)(h))
    h = layers.Conv2D(64, 1, name="late")(h)
    return kit.Model(x, layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(h)))


def cut(model, spread):
    """Return the model with the zeros of an allocation, nothing else changed."""
    pruned = tfprune.prune(model, spread)
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.zeros((2, *model.input_shape[1:]), "float32")
    y = np.zeros((2, *model.output_shape[1:]), "float32")
    pruned.fit(x, y, verbose=0, callbacks=[tfprune.UpdatePruningStep(verbose=False)])
    return tfprune.strip_pruning(pruned)


def rows_of(spread):
    return {row.layer: row for row in spread.layers}


def stored(model):
    """Return what the weights of the exported file take, the encoding's tables included."""
    return sum(one.stored_bytes + OVERHEAD * one.encoded for one in decide(converted(model)))


def test_the_bytes_told_are_those_of_the_file():
    model = words()
    rows = rows_of(spread := tfprune.allocate(model, 0.8, "size"))
    told = [re.fullmatch(r"([\d,]+) -> ([\d,]+) bytes", rows[name].reason) for name in ("wide",)]
    before, after = (int(text.replace(",", "")) for text in told[0].groups())
    assert before == 120 * 16 * 4
    small = cut(model, spread)
    (wide,) = [one for one in decide(converted(small)) if one.dense_bytes == before]
    assert wide.stored_bytes + OVERHEAD == after


@pytest.mark.parametrize("kit", ["keras", "tf_keras"])
def test_the_asked_sparsity_is_that_of_the_layers_where_zeros_save_bytes(kit):
    rows = rows_of(spread := tfprune.allocate(words(pytest.importorskip(kit)), 0.8, "size"))
    assert not rows["table"].chosen
    assert "GATHER needs it as a constant" in rows["table"].reason
    assert not rows["tiny"].chosen
    assert "it is small: 192 bytes" in rows["tiny"].reason
    assert rows["table"].sparsity == rows["tiny"].sparsity == 0.0
    chosen = [row for row in spread.layers if row.chosen]
    assert [row.layer for row in chosen] == ["wide", "middle"]
    zeros = sum(row.size * row.sparsity for row in chosen)
    assert zeros / sum(row.size for row in chosen) == pytest.approx(0.8)
    assert [rule.skip for rule in spread.rules][::3] == [True, True]
    assert "zeros save something" in str(spread)


def test_no_zeros_are_bought_that_save_nothing():
    for sparsity in (0.3, 0.5, 0.7):
        for row in tfprune.allocate(mobile(), sparsity, "size").layers:
            assert row.sparsity == 0.0 or "->" in row.reason, row


def test_so_few_zeros_that_nothing_is_saved_are_told():
    rows = rows_of(tfprune.allocate(words(), 0.05, "size", layers=["wide"]))
    assert rows["wide"].sparsity == pytest.approx(0.05)
    assert rows["wide"].reason == "7,680 bytes: so few zeros take more in sparse encoding"


def test_the_file_is_smaller_than_with_the_same_sparsity_everywhere():
    model = mobile()
    names = ["entry", "early", "late", "logits"]
    files = {
        method: stored(cut(model, tfprune.allocate(model, 0.5, method, layers=names)))
        for method in ("size", "uniform")
    }
    assert files["size"] < files["uniform"]


def test_a_file_that_would_be_wrong_on_phones_gets_no_zeros_for_its_size():
    model = around(L.MaxPooling2D(3, strides=1, padding="same"))
    with pytest.raises(ValueError, match=r"wrong on phones.*To change that.*method='size'"):
        tfprune.allocate(model, 0.9, "size")


def test_a_model_whose_zeros_save_nothing():
    model = keras.Sequential([keras.Input((4,)), L.Dense(4, name="a"), L.Dense(3, name="b")])
    with pytest.raises(ValueError, match=r"No zeros would pay by size.*'a': it is small: 64 bytes"):
        tfprune.allocate(model, 0.9, "size")


@pytest.mark.parametrize("kit", ["keras", "tf_keras"])
def test_only_the_fast_path_is_pruned_for_latency(kit):
    model = mobile(pytest.importorskip(kit))
    rows = rows_of(spread := tfprune.allocate(model, 0.8, "latency"))
    assert [name for name, row in rows.items() if row.chosen] == ["early", "late"]
    assert rows["entry"].reason == "it is no 1x1 convolution that sparse kernels run"
    zeros = sum(rows[name].size * rows[name].sparsity for name in ("early", "late"))
    assert zeros / (8 * 16 + 16 * 64) == pytest.approx(0.8)
    left = round((1 - rows["early"].sparsity) * 128) * 64
    assert rows["early"].reason == f"8,192 -> {left:,} multiplications"  # 128 weights, 8x8 pixels
    assert spread.method == "latency"


def test_positions_are_the_pixels_of_the_output():
    found = {layer.name: positions for layer, positions in FastPath(mobile()).layers}
    assert found == {"early": 64, "late": 16}


def test_a_zero_that_spares_more_multiplications_is_taken_first():
    model = mobile()
    for name in ("early", "late"):  # alike but for the pixels
        kernel = model.get_layer(name).kernel
        kernel.assign(np.linspace(0.1, 1.0, int(np.prod(kernel.shape))).reshape(kernel.shape))
    rows = rows_of(tfprune.allocate(model, 0.75, "latency"))
    lost, spared = {}, {}
    for name, pixels in (("early", 64), ("late", 16)):
        row, values = rows[name], np.linspace(0.1, 1.0, rows[name].size) ** 2
        count = round(row.size * row.sparsity)
        lost[name] = (
            values[count] / values[count:].sum()
        )  # what the next zero costs of what is left
        spared[name] = pixels
    prices = [lost[name] / spared[name] for name in lost]
    assert prices[0] == pytest.approx(prices[1], rel=0.35)  # as far apart as two levels are


def test_the_model_is_fast_once_it_is_pruned_so(tmp_path):
    model = mobile()
    small = cut(model, tfprune.allocate(model, 0.8, "latency"))
    tfprune.export_tflite(small, tmp_path / "small.tflite")
    assert tfprune.explain(tmp_path / "small.tflite").verdict.kind == "fast"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsity": 0.6}, r"60.\d% of the 1,152 weights.*66.7 %.*Received: method='latency'"),
        ({"sparsity": 0.9, "ignore": ["late"]}, "would not make the model faster"),
        ({"sparsity": 0.9, "layers": ["logits"]}, "No zeros would pay by latency"),
    ],
)
def test_too_few_zeros_to_be_faster(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfprune.allocate(mobile(), method="latency", **arguments)


def test_a_model_outside_of_the_fast_path():
    with pytest.raises(ValueError, match=r"would not make the model .* faster.*To change that"):
        tfprune.allocate(mobile(pool=True), 0.9, "latency")


def test_floors_and_ceilings_hold_there_too():
    rows = rows_of(
        tfprune.allocate(
            mobile(), 0.8, "latency", ceiling={"early": 0.5}, floor={"logits": 0.3, "late": 0.6}
        )
    )
    assert rows["early"].sparsity <= 0.5
    assert rows["logits"].sparsity == 0.3  # as it is asked for, although it saves nothing
    zeros = sum(rows[name].size * rows[name].sparsity for name in ("early", "late"))
    assert zeros / 1152 == pytest.approx(0.8)


def test_a_search_by_latency_counts_what_is_chosen_and_refuses_early():
    model = mobile()
    x = np.random.default_rng(0).normal(size=(20, 16, 16, 3)).astype("float32")
    y = model.predict(x, verbose=0).argmax(1)

    def train(pruned):
        pruned.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
        pruned.fit(x, y, verbose=0, callbacks=[tfprune.UpdatePruningStep(verbose=False)])

    options = {"train": train, "method": "latency", "trials": 1}
    found = tfprune.search(model, (x, y), 1.0, between=(0.7, 0.9), **options)
    assert found.trials[0].reached == pytest.approx(0.8, abs=0.002)
    with pytest.raises(ValueError, match="would not make the model faster"):
        tfprune.search(model, (x, y), 1.0, **{**options, "train": cut}, between=(0.5, 0.9))
