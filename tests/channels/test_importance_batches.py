"""Data in every form give one score, and what is wrong with them is said before any work."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from channels.layer_scores import layer_scores, two_dense
from tfprune.channels import batches as batches_
from tfprune.channels.batches import MEASURED, MOST, Batches

layers = keras.layers
X = np.random.default_rng(0).normal(size=(70, 3)).astype("float32")
Y = np.zeros((70, 1), "float32")
PIECES = [(X[:40], Y[:40]), (X[40:], Y[40:])]


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return PIECES[index]


FORMS = {
    "array": lambda: X,
    "numbers": lambda: [*X.tolist()],
    "tensor": lambda: tf.constant(X),
    "float64": lambda: X.astype(float),
    "labels": lambda: (X, Y),
    "weights": lambda: (X, Y, np.ones(70)),
    "list of one": lambda: [X],
    "dict": lambda: {"given": X},
    "dict and labels": lambda: ({"given": X}, Y),
    "tf.data": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(13),
    "tf.data of inputs": lambda: tf.data.Dataset.from_tensor_slices(X).batch(50),
    "generator": lambda: (piece for piece in PIECES),
    "lists, as loaders of PyTorch give": lambda: ([x, y] for x, y in PIECES),
    "inputs from a generator": lambda: (x for x, _ in PIECES),
    "function": lambda: lambda: iter(PIECES),
    "PyDataset": lambda: Sequence(),
    "dicts": lambda: ({"given": x} for x, _ in PIECES),
}


def model():
    body = two_dense()
    given = keras.Input((3,), name="given")
    whole = keras.Model(given, body(given))
    whole.compile("sgd", "mse")
    return whole


@pytest.mark.parametrize("form", FORMS)
def test_one_score_for_every_form(form):
    mean = np.maximum(X, 0).mean(0)
    found = layer_scores(model(), "activation", "sequential/first", FORMS[form]())
    np.testing.assert_allclose(found, mean / mean.mean(), rtol=1e-5)


@pytest.mark.parametrize("form", ["labels", "tf.data", "generator", "PyDataset"])
def test_a_source_is_read_again_in_every_step(form):
    _, report = tfprune.shrink(
        model(), channels=0.7, importance="taylor", data=FORMS[form](), steps=2
    )
    assert report.channels_removed == 2


def test_data_without_end_are_cut_off():
    endless = tf.data.Dataset.from_tensor_slices(X).batch(64).repeat()
    assert sum(batch.size for batch in Batches(model(), endless)) == 29 * 70 + 64

    def forever():
        while True:
            yield X[:64]

    assert sum(batch.size for batch in Batches(model(), forever())) == MOST
    assert sum(batch.size for batch in Batches(model(), np.zeros((MOST + 1, 3)))) == MOST + 1


def test_what_is_measured_is_measured_on_all_samples():
    def parts():
        return ((np.zeros((500, 3)), np.zeros(500)) for _ in range(6))

    for data in (parts, parts(), Endable(parts)):
        batches = Batches(model(), data, use=MEASURED)
        assert [batch.size for batch in batches] == [500] * 6  # beyond MOST
        assert sum(batch.size for batch in batches) == 3000  # as often as they are asked for


class Endable:
    """Tells no length, and can be read again."""

    def __init__(self, parts):
        self._parts = parts

    def __iter__(self):
        return self._parts()


class Endless(keras.utils.PyDataset):
    """What Keras takes for data without end."""

    num_batches = None

    def __getitem__(self, number):
        return np.zeros((32, 3)), np.zeros(32)


def test_data_without_end_cannot_be_measured(monkeypatch):
    import tensorflow as tf

    def forever():
        while True:
            yield np.zeros((32, 3)), np.zeros(32)

    monkeypatch.setattr(batches_, "ENDLESS", 100)
    repeated = tf.data.Dataset.from_tensors((np.zeros((32, 3)), np.zeros(32))).repeat()
    for data, seen in (
        (forever(), "generator, none after 128 samples"),
        (forever, "function, none after 128 samples"),
        (repeated, "repeats for ever"),
        (Endless(), "Endless, one that repeats for ever"),
    ):
        with pytest.raises(ValueError, match=rf"no end. Bound them \(`dataset.take.*{seen}"):
            Batches(model(), data, use=MEASURED)


def test_wrong_data_deep_inside_are_seen_before_anything_is_measured():
    data = [(np.zeros((2, 3)), np.zeros(2)), (np.full((2, 3), np.nan), np.zeros(2))]
    with pytest.raises(ValueError, match=r"means nothing\. Leave such samples out"):
        Batches(model(), iter(data), use=MEASURED)
    for empty in (iter([]), X[:0]):
        with pytest.raises(ValueError, match=r"Pass held-out inputs with their labels, such as"):
            Batches(model(), empty, use=MEASURED)


def test_integers_and_sequences():
    tokens = np.random.default_rng(0).integers(0, 9, (40, 5))
    net = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 4, name="table"),
            layers.Dense(3),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1),
        ]
    )
    seen = np.abs(net.get_layer("table").embeddings.numpy()[tokens]).mean((0, 1))
    np.testing.assert_allclose(
        layer_scores(net, "activation", "table", tokens), seen / seen.mean(), rtol=1e-5
    )


def two_inputs():
    one, two = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    joined = layers.Concatenate()([layers.Dense(4)(one), layers.Dense(4)(two)])
    return keras.Model([one, two], layers.Dense(1)(joined))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (None, ValueError, "pass some of the training inputs.*data=None"),
        (X[:0], ValueError, r"holds no samples.*\(0, 3\)"),
        (X[0], ValueError, r"shape \(None, 3\).*shape \(3,\) \(one sample\? put an axis"),
        (X[:, :2], ValueError, r"input 'given' of the model has the shape.*shape \(70, 2\)"),
        (X[None], ValueError, r"data of shape \(1, 70, 3\)"),
        ((X, Y[:3]), ValueError, "one length.*70 inputs and 3"),
        ((X, Y, Y, Y), ValueError, "A tuple as `data` is .*a tuple of 4"),
        ([X, X], ValueError, "The model has 1 inputs.*a list of 2"),
        ({"other": X}, ValueError, r"inputs are 'given', and.*Received: \['other'\]"),
        (iter([]), ValueError, "holds no batch.*list_iterator without batches"),
        (iter([X[:0]]), ValueError, "A batch of `data` is empty"),
        (iter([(X[:4], Y[:3])]), ValueError, "Received: lengths 3, 4"),
        (np.full_like(X, np.nan), ValueError, "NaN or infinite.*210 of them"),
        (np.full(X.shape, "a"), TypeError, "input 'given' must be an array of numbers"),
        ([[1, 2], [3]], TypeError, "array of numbers, or a tensor"),
        (3.0, TypeError, "Received: 3.0 .of type float"),
    ],
)
def test_what_is_wrong_with_data(data, error, message):
    with pytest.raises(error, match=message):
        tfprune.shrink(model(), channels=0.3, importance="activation", data=data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, r"The model has 2 inputs: pass a list.*'one', 'two'; a tuple is \(inputs, labels\)"),
        ((X, X[:, :2]), r"The model has 2 inputs.*Received: one"),
        ({"one": X}, "has none for 'two'"),
        ([X, X], r"input 'two' of the model has the shape \(None, 2\)"),
    ],
)
def test_what_is_wrong_with_several_inputs(data, message):
    with pytest.raises(ValueError, match=message):
        tfprune.shrink(two_inputs(), channels=0.3, importance="apoz", data=data)


def test_taylor_wants_labels_and_a_loss(monkeypatch):
    plain = two_dense()
    with pytest.raises(ValueError, match=r"compile it first.*'sequential', compiled without"):
        tfprune.shrink(plain, channels=0.3, importance="taylor", data=(X, Y))
    for data in (X, iter([X]), [X]):
        with pytest.raises(ValueError, match=r"needs labels: pass `data=\(inputs, labels\)`"):
            tfprune.shrink(model(), channels=0.3, importance="taylor", data=data)
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(RuntimeError, match=r"TensorFlow, JAX.*Received: the backend 'openvino'"):
        tfprune.shrink(model(), channels=0.3, importance="taylor", data=(X, Y))


def test_scores_that_are_not_finite():
    large = model()
    large.get_layer("sequential").layers[0].kernel.assign(np.full((3, 3), 3e38))
    for name in ("activation", "taylor"):
        with pytest.raises(ValueError, match=r"not finite.*Look at what the model predicts"):
            tfprune.shrink(large, channels=0.3, importance=name, data=(X, Y))
