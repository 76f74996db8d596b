"""Models with their channels in another order: the same function, and more is kept."""

import itertools

import keras
import numpy as np
import pytest
from channels.checks import answers, difference, inputs_for, randomise
from channels.graphs import CASES

import tfprune

L = keras.layers


def kept(kernel, zeros, group):
    """Return what N:M keeps of a kernel (..., inputs, outputs), by sorting group by group."""
    rows = np.moveaxis(np.abs(kernel), -2, -1).reshape(-1, kernel.shape[-2])
    total = 0.0
    for start in range(0, rows.shape[1], group):
        part = np.sort(rows[:, start : start + group], axis=1)[:, ::-1]
        total += part[:, : group - zeros].sum(dtype="float64")
    return total


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_graph_computes_the_same(case):
    model = randomise(case.build())
    x = inputs_for(model)
    before = answers(model, x)
    weights = [w.numpy() for w in model.weights]
    permuted, report = tfprune.permute_for_nm(model, "1:2")
    assert difference(answers(permuted, x), before) < 1e-5
    assert difference(answers(model, x), before) == 0
    for old, new in zip(weights, model.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    for row in report.weights:
        assert row.after >= row.before - 1e-9, row
        assert row.free or row.reason, row


def residual():
    """Two blocks around one stream, a depthwise convolution, a concatenation, a flattened map."""
    x = keras.Input((6, 6, 3))
    h = L.Conv2D(8, 3, padding="same", name="stem")(x)
    r = L.ReLU()(L.BatchNormalization(name="n")(L.Conv2D(12, 1, name="up")(h)))
    r = L.DepthwiseConv2D(3, padding="same", name="d")(r)
    h = L.Add()([h, L.Conv2D(8, 1, name="down")(r)])
    h = L.Concatenate()([h, L.Conv2D(6, 3, padding="same", name="side")(h)])
    h = L.Flatten()(L.MaxPooling2D(3)(L.ReLU()(h)))
    h = L.Dense(16, "relu", name="wide")(h)
    return keras.Model(x, L.Dense(3, name="logits")(h))


def test_figures_are_those_of_the_weights_themselves():
    model = randomise(residual())
    permuted, report = tfprune.permute_for_nm(model, "2:4")
    rows = {row.layer: row for row in report.weights}
    assert list(rows) == ["up", "down", "side", "wide", "logits"]  # the stem reads 3 channels
    for name, row in rows.items():
        old, new = (m.get_layer(name).kernel.numpy() for m in (model, permuted))
        assert row.magnitude == pytest.approx(np.abs(old).sum(), rel=1e-5)
        assert row.before == pytest.approx(kept(old, 2, 4) / np.abs(old).sum(), rel=1e-5)
        assert row.after == pytest.approx(kept(new, 2, 4) / np.abs(new).sum(), rel=1e-5)
        np.testing.assert_allclose(np.sort(new.ravel()), np.sort(old.ravel()))
    assert any(row.after > row.before + 0.01 for row in rows.values())
    total = sum(row.magnitude for row in rows.values())
    after = sum(kept(permuted.get_layer(name).kernel.numpy(), 2, 4) for name in rows)
    assert report.after == pytest.approx(after / total, rel=1e-5)
    assert report.recovered == pytest.approx(
        (report.after - report.before) / (1 - report.before), rel=1e-6
    )
    assert "recovered" in str(report)


def test_the_order_that_is_best_by_hand():
    # `b` reads 4 channels of `a`; 1:2 loses 3 of the pair (4, 3) until 3 changes places.
    model = keras.Sequential(
        [keras.Input((2,)), L.Dense(4, name="a"), L.Dense(1, use_bias=False, name="b")]
    )
    a = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    model.get_layer("a").set_weights([a, np.array([0.1, 0.2, 0.3, 0.4])])
    model.get_layer("b").set_weights([np.array([[4.0], [3.0], [2.0], [1.0]])])
    permuted, report = tfprune.permute_for_nm(model, "1:2", layers=["b"])
    (row,) = report.weights
    assert (row.before, row.after, row.free) == (0.6, 0.7, 4)
    b = permuted.get_layer("b").kernel.numpy().ravel()
    assert sorted([max(b[:2]), max(b[2:])]) == [3.0, 4.0]
    for value, column, bias in zip(
        b, permuted.get_layer("a").kernel.numpy().T, [4, 3, 2, 1], strict=True
    ):
        assert column.tolist() == [5 - value, 9 - value]  # each column went where its reader did
        del bias
    biases = permuted.get_layer("a").bias.numpy()
    np.testing.assert_allclose(biases, (5 - b) / 10, rtol=1e-6)


def test_no_swap_of_two_channels_would_keep_more():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), L.Dense(14, name="a"), L.Dense(5, name="b")])
    permuted, report = tfprune.permute_for_nm(model, layers=["b"])
    kernel = permuted.get_layer("b").kernel.numpy()
    end = kept(kernel, 2, 4)
    assert end > kept(model.get_layer("b").kernel.numpy(), 2, 4)
    assert report.weights[0].after == pytest.approx(end / np.abs(kernel).sum(), rel=1e-5)
    for one, two in itertools.combinations(range(14), 2):
        other = np.array(kernel)
        other[[one, two]] = kernel[[two, one]]
        assert kept(other, 2, 4) <= end + 1e-6


def test_pruning_what_was_reordered_keeps_what_the_report_says():
    model = randomise(residual())
    permuted, report = tfprune.permute_for_nm(model, "2:4", layers=["wide"])
    pruned = tfprune.prune(permuted, [tfprune.Rule("wide", 0.5, "2:4")])
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.zeros((4, 6, 6, 3), "float32")
    pruned.fit(x, np.zeros((4, 3)), verbose=0, callbacks=[tfprune.UpdatePruningStep(verbose=False)])
    kernel = tfprune.strip_pruning(pruned).get_layer("wide").kernel.numpy()
    (row,) = report.weights
    assert np.abs(kernel).sum() / row.magnitude == pytest.approx(row.after, rel=1e-5)


def test_a_compiled_model_stays_compiled_and_momentum_moves_along():
    model = randomise(residual())
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    x = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype("float32")
    y = np.ones((8, 3), "float32")
    model.fit(x, y, verbose=0)
    permuted, report = tfprune.permute_for_nm(model, "2:4")
    assert report.after > report.before
    for one in (model, permuted):
        one.fit(x, y, verbose=0, shuffle=False)
    np.testing.assert_allclose(
        permuted.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-4
    )


def test_what_the_graph_forbids_is_listed_or_an_error():
    x = keras.Input((8,))
    h = L.Dense(8, name="first")(x)
    h = L.Softmax(name="mixing")(h)
    h = L.Dense(8, name="second")(h)
    model = keras.Model(x, L.Dense(3, name="logits")(h))
    _, report = tfprune.permute_for_nm(model)
    rows = {row.layer: row for row in report.weights}
    assert rows["first"].free == 0
    assert rows["first"].reason.startswith("it reads the model's input")
    assert "mixing" in rows["second"].reason
    assert rows["second"].before == rows["second"].after
    assert rows["logits"].free == 8
    with pytest.raises(ValueError, match=r"'second' cannot change places: .*mixing.*Received"):
        tfprune.permute_for_nm(model, layers=["second"])


def test_a_layer_that_reads_the_input_is_told_so_wherever_it_stands():
    inner = keras.Sequential(
        [keras.Input((14, 8)), L.ReLU(), L.Conv1D(8, 3, name="conv"), L.Conv1D(8, 3, name="next")],
        name="inner",
    )
    side = keras.Input((10, 8))
    x = keras.Input((10, 8))
    joined = L.Add()([inner(L.ZeroPadding1D(2)(x)), L.Dense(8, name="side")(side)])
    model = keras.Model([x, side], L.Dense(2, name="logits")(L.Flatten()(joined)))
    _, report = tfprune.permute_for_nm(model)
    told = {row.layer for row in report.weights if "the model's input" in row.reason}
    assert told == {"inner/conv", "side"}


def test_layers_that_do_not_take_part_may_keep_less():
    model = randomise(residual())
    _, report = tfprune.permute_for_nm(model, ignore=["wide", "logits"])
    assert [row.layer for row in report.weights] == ["up", "down", "side"]


def test_a_plain_string_is_one_layer():
    model = randomise(residual())
    _, report = tfprune.permute_for_nm(model, layers="wide")
    assert [row.layer for row in report.weights] == ["wide"]
    _, report = tfprune.permute_for_nm(model, ignore="wide")
    assert [row.layer for row in report.weights] == ["up", "down", "side", "logits"]


def test_tf_keras_models_are_taken_over():
    tf_keras = pytest.importorskip("tf_keras")
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [tf_keras.Input((6,)), layers.Dense(12, "relu", name="a"), layers.Dense(3, name="b")]
    )
    permuted, report = tfprune.permute_for_nm(model)
    assert isinstance(permuted, keras.Model)
    assert report.after > report.before
    x = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    np.testing.assert_allclose(
        permuted.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": "unstructured"}, "N:M patterns only.*Received: pattern='unstructured'"),
        ({"layers": ["stem"]}, "'up', 'down', 'side', 'wide', 'logits'. Received: 'stem'"),
        ({"ignore": ["no"]}, "Received: 'no'"),
        ({"layers": ["up"], "ignore": ["up"]}, "no weight that 2:4 fits"),
        ({"pattern": "9:999"}, "no weight that 9:999 fits"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfprune.permute_for_nm(residual(), **arguments)


def test_a_wrapped_model_and_none():
    with pytest.raises(ValueError, match="wrapped for pruning already"):
        tfprune.permute_for_nm(tfprune.prune_low_magnitude(residual()))
    with pytest.raises(TypeError, match="Received: 3"):
        tfprune.permute_for_nm(3)
