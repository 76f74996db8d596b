"""Which batches are put together before a model is run on them."""

import keras
import numpy as np
import pytest

from tfprune.channels.batches import Batches
from tfprune.evaluation import merged

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
