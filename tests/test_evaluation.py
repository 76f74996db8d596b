"""Which batches are put together before a model is run on them, how outputs are judged."""

import pathlib

import keras
import numpy as np
import pytest

import tfprune
from tfprune.channels.batches import Batch, Batches
from tfprune.evaluation import Judge, merged, require_model

L = keras.layers


def model(shape=(3,), batch_size=None):
    given = keras.Input(shape, batch_size=batch_size)
    return keras.Model(given, L.Dense(1)(given))


def sizes(built, data):
    given = iter(data) if isinstance(data, list) else data
    return [batch.size for batch in merged(Batches(built, given))]


def test_small_batches_are_put_together():
    x = np.arange(300.0).reshape(300, 1)
    parts = list(merged(Batches(model((1,)), (x, x[:, 0]))))
    assert [part.size for part in parts] == [256, 44]
    np.testing.assert_array_equal(np.concatenate([part.inputs[0] for part in parts]), x)
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), x[:, 0])


def test_sequences_of_other_lengths_and_labels_of_other_shapes_stay_apart():
    built = model((None, 3))
    data = [(np.ones((4, n, 3)), np.ones(4)) for n in (5, 5, 7, 5)]
    assert sizes(built, data) == [8, 4, 4]
    data = [(np.ones((4, 5, 3)), np.ones((4, n))) for n in (1, 2, 2)]
    assert sizes(built, data) == [4, 8]


def test_a_number_of_samples_that_the_model_says_is_kept():
    x = np.ones((16, 3))
    assert sizes(model(batch_size=8), (x, x[:, 0])) == [8, 8]
    assert sizes(model(batch_size=8), [(x[:8], x[:8, 0])] * 2) == [8, 8]
    # Models for phones often say 1 and run on any number.
    assert sizes(model(batch_size=1), (x, x[:, 0])) == [16]


def test_labels_that_are_missing_in_a_later_batch():
    x = np.ones((4, 3))
    with pytest.raises(ValueError, match="shows only against labels"):
        sizes(model(), [(x, x[:, 0]), (x,)])


def test_wrong_labels_are_seen_in_whichever_batch_they_come():
    given = keras.Input((3,))
    judge = Judge(keras.Model(given, L.Dense(2)(given)), "accuracy", "tfprune.sensitivity")
    inputs, outputs = [np.ones((2, 3))], np.array([[0.9, 0.1], [0.2, 0.8]])
    assert judge(Batch(inputs, np.array([0, 0]), None), outputs) == 0.5
    with pytest.raises(ValueError, match=r"from 0 to 1, as the model has 2 classes.*from 1 to 77"):
        judge(Batch(inputs, np.array([1, 77]), None), outputs)


def test_a_single_unit_is_asked_once_whether_it_gives_probabilities():
    judge = Judge(model(), "accuracy", "tfprune.sensitivity")
    batch = Batch([np.ones((2, 3))], np.array([0, 1]), None)
    with pytest.raises(ValueError, match=r"outputs from 0 to 1\.5"):
        judge(batch, np.array([[0.0], [1.5]]))
    assert judge(batch, np.array([[0.25], [0.75]])) == 1.0
    assert judge(batch, np.array([[-0.5], [1.5]])) == 1.0  # of a pruned model
    with pytest.raises(ValueError, match="labels are 0 or 1"):
        judge(Batch(batch.inputs, np.array([0, 2]), None), np.array([[0.25], [0.75]]))


def legacy():
    tf_keras = pytest.importorskip("tf_keras")
    return tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(1)])


def wrapped():
    return tfprune.prune(keras.Sequential([keras.Input((3,)), L.Dense(4, name="a")]), 0.5)


class Own(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: "m.keras", TypeError, r"`keras.models.load_model\(path\)`\. Received: 'm.keras'"),
        (lambda: pathlib.Path("m.keras"), TypeError, r"Load the file first"),
        (lambda: None, TypeError, r"takes a model of Keras 3.*Received: None"),
        (legacy, TypeError, r"legacy Keras .*`new.set_weights\(old.get_weights\(\)\)`"),
        (Own, ValueError, r"subclassed model. Write it with the Functional API.*Received: Own"),
        (keras.Sequential, ValueError, r"no layers or is not built.*Received: 0 layers"),
        (wrapped, ValueError, r"Strip it first .*wrapped layer '.*a'"),
    ],
)
def test_a_model_that_cannot_be_taken(make, error, message):
    given = make()
    with pytest.raises(error, match=f"`search` .*{message}|{message}"):
        require_model(given, "search")
    with pytest.raises(error, match=message):
        tfprune.sensitivity(given, (np.ones((4, 3)), np.ones(4)))
    with pytest.raises(error, match=message):
        tfprune.search(given, (np.ones((4, 3)), np.ones(4)), train=print)
