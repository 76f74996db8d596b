"""Importances from weights, against numbers worked by hand."""

import keras
import numpy as np
import pytest

import tfprune
from channels.layer_scores import layer_scores, set_weights, two_dense

layers = keras.layers
R = np.sqrt


@pytest.fixture
def chain():
    """Two inputs, three channels between two dense layers, two outputs."""
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(3, name="first"), layers.Dense(2, name="last")]
    )
    first = [[1, -2, 0], [0, 2, 3]], [9, 9, 9]  # biases do not count
    last = [[1, 1], [0, 2], [3, -1]], [0, 0]
    set_weights(model, first=first, last=last)
    return model


@pytest.mark.parametrize(
    ("name", "makes", "reads"),
    [
        ("l1", [1, 4, 3], [2, 2, 4]),
        ("l2", [1, R(8), 3], [R(2), 2, R(10)]),
        # Distances: (1,0), (-2,2), (0,3) and (1,1), (0,2), (3,-1), each to the others.
        (
            "fpgm",
            [R(13) + R(10), R(13) + R(5), R(10) + R(5)],
            [R(2) + R(8), R(2) + R(18), R(8) + R(18)],
        ),
        (lambda rows: rows.max(1), [1, 2, 3], [1, 2, 3]),
    ],
)
def test_of_the_kernels_that_make_and_read(chain, name, makes, reads):
    makes, reads = np.array(makes, float), np.array(reads, float)
    wanted = (makes / makes.mean() + reads / reads.mean()) / 2
    np.testing.assert_allclose(layer_scores(chain, name, "first"), wanted, rtol=1e-5)


def residual():
    """Two convolutions with BatchNorms that are added: their channels are coupled."""
    given = keras.Input((4, 4, 2))
    one = layers.BatchNormalization(name="norm1")(layers.Conv2D(2, 1, name="conv1")(given))
    two = layers.BatchNormalization(name="norm2")(layers.Conv2D(2, 1, name="conv2")(given))
    wide = layers.Conv2D(3, 1, name="without")(layers.ReLU()(layers.Add()([one, two])))
    model = keras.Model(given, layers.Dense(1)(layers.GlobalAveragePooling2D()(wide)))
    for norm, gamma in (("norm1", [1, -3]), ("norm2", [2, 1])):
        model.get_layer(norm).gamma.assign(gamma)
    return model


def test_gamma_is_the_mean_over_the_group_and_infinite_without_a_norm():
    model = residual()
    assert layer_scores(model, "gamma", "conv1").tolist() == [1.5, 2.0]
    assert layer_scores(model, "gamma", "conv2").tolist() == [1.5, 2.0]
    assert np.isinf(layer_scores(model, "gamma", "without")).all()


def test_coupled_kernels_share_one_score():
    model = residual()
    one, reader = [[[[1, 2], [0, 0]]]], [[[[1, 0, 0], [2, 1, 0]]]]
    set_weights(model, conv1=[one, [0, 0]], conv2=[np.ones((1, 1, 2, 2)), [0, 0]])
    set_weights(model, without=[reader, [0, 0, 0]])
    # l1 of conv1: 1, 2 (mean 1.5); of conv2: 2, 2; of what reads them: 1, 3 (mean 2).
    wanted = [(1 / 1.5 + 1 + 0.5) / 3, (2 / 1.5 + 1 + 1.5) / 3]
    np.testing.assert_allclose(layer_scores(model, "l1", "conv2"), wanted, rtol=1e-6)


def test_a_depthwise_kernel_counts():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(2, 1, name="first"),
            layers.DepthwiseConv2D(2, name="depth"),
            layers.Conv2D(2, 1, name="last"),
        ]
    )
    set_weights(model, first=[np.ones((1, 1, 1, 2)), [0, 0]])
    set_weights(model, last=[np.ones((1, 1, 2, 2)), [0, 0]])
    depth = np.ones((2, 2, 2, 1)) * np.reshape([1, 3], (2, 1))
    set_weights(model, depth=[depth, [0, 0]])
    np.testing.assert_allclose(layer_scores(model, "l1", "first"), [2.5 / 3, 3.5 / 3])


def test_gates_of_a_recurrent_unit_count_together():
    model = keras.Sequential(
        [keras.Input((3, 1)), layers.SimpleRNN(2, use_bias=False, name="rnn"), layers.Dense(1)]
    )
    model.layers[0].set_weights([np.array([[1.0, 2.0]]), np.array([[1.0, 1.0], [0.0, 2.0]])])
    model.layers[1].set_weights([np.ones((2, 1)), np.zeros(1)])
    read = tfprune.channels.structure.read(model)
    scores = tfprune.channels.scoring.Scorer("l1", model).scores(read)
    # Makes: kernel 1, 2; recurrent kernel, columns 1, 3. Reads: its rows 2, 2; dense 1, 1.
    wanted = [(1 / 1.5 + 1 / 2 + 1 + 1) / 4, (2 / 1.5 + 3 / 2 + 1 + 1) / 4]
    np.testing.assert_allclose(scores, wanted)


def test_random_follows_the_seed(chain):
    one, same = (layer_scores(chain, "random", "first", seed=3) for _ in range(2))
    assert one.tolist() == same.tolist()
    assert one.tolist() != layer_scores(chain, "random", "first", seed=4).tolist()


@pytest.mark.parametrize("name", ["l1", "l2", "fpgm", "gamma"])
def test_weights_that_are_not_finite(name):
    model = residual()
    for layer, variable in (("conv1", "kernel"), ("norm1", "gamma")):
        weight = getattr(model.get_layer(layer), variable)
        weight.assign(np.full(weight.shape, np.nan))
    with pytest.raises(ValueError, match=r"importance of '.*1/.*' is not finite.*Received: \[nan"):
        tfprune.shrink(model, channels=0.3, importance=name)


def test_a_function_of_the_wrong_shape_or_with_nan(chain):
    with pytest.raises(ValueError, match=r"of shape \(3,\)\. Received: shape \(\) for 'first/ker"):
        tfprune.shrink(chain, channels=0.3, importance=lambda rows: rows.sum())
    with pytest.raises(ValueError, match="divides by zero"):
        tfprune.shrink(chain, channels=0.3, importance=lambda rows: rows[:, 0] * np.nan)


def test_gamma_without_any_norm(chain):
    with pytest.raises(ValueError, match=r"no channel that could be removed has one.*'l2'"):
        tfprune.shrink(chain, channels=0.3, importance="gamma")


def test_the_report_names_the_function(chain):
    def largest(rows):
        return rows.max(1)

    _, report = tfprune.shrink(chain, channels=0.4, importance=largest)
    assert report.importance == "largest"
    assert report.history[0]["removed"] == [0]


@pytest.mark.parametrize("kind", [complex, str])
def test_scores_that_are_no_real_numbers(kind):
    with pytest.raises(TypeError, match=r"real number for each channel\. Received.*for 'first/ker"):
        tfprune.shrink(two_dense(), channels=0.3, importance=lambda w: w.sum(1).astype(kind))


@pytest.mark.parametrize("seed", ["a", -1, 1.5, None])
def test_a_seed_that_is_no_whole_number(seed):
    with pytest.raises(ValueError, match=r"`seed` is a whole number.*Received: seed="):
        tfprune.shrink(two_dense(), channels=0.3, importance="random", seed=seed)


def test_tell_that_is_no_function():
    with pytest.raises(TypeError, match=r"`tell` is a function.*Received: tell=3"):
        tfprune.shrink(two_dense(), channels=0.3, tell=3)
