"""A `train` that changes the dense model: each trial starts from it as it was all the same."""

import keras
import numpy as np
import pytest
from searching import cut_only, data, network

import tfprune
from tfprune.search.untouched import left_as_it_was

L = keras.layers


def test_a_distiller_freezes_its_teacher_for_no_other_trial(tmp_path):
    model = network(middle=20)
    model.get_layer("b").trainable = False
    x, y = data(model)
    weights = model.get_weights()
    trained = []

    def distil(pruned):
        trained.append(len(pruned.trainable_variables))
        distiller = keras.distillation.Distiller(
            teacher=model,
            student=pruned,
            distillation_losses=keras.distillation.LogitsDistillation(),
        )
        distiller.compile("sgd", "sparse_categorical_crossentropy")
        steps = tfprune.UpdatePruningStep(verbose=False)
        distiller.fit(x, y, batch_size=100, verbose=0, callbacks=[steps])

    options = {"train": distil, "trials": 2, "folder": tmp_path}
    tfprune.search(model, (x, y), 0.9, **options)
    assert trained == [4, 4]  # kernels and biases of a and c
    assert [layer.trainable for layer in (model, *model.layers)] == [True, True, False, True]
    assert [v.trainable for v in model.variables] == [True, True, False, False, True, True]
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    tfprune.search(model, (x, y), 0.9, **options)  # the same search as before
    assert len(trained) == 2
    model.trainable = False
    with pytest.raises(ValueError, match="a record in which trainable differ"):
        tfprune.search(model, (x, y), 0.9, **options)


def test_weights_that_training_moves_are_moved_back_even_if_it_is_interrupted():
    model = network()
    before = model.get_weights()

    def moved(pruned):
        model.set_weights([weight + 1 for weight in before])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tfprune.search(model, data(model), 0.9, train=moved, trials=1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_in_layers_and_in_two_models_get_their_own_flags_back():
    inputs = keras.Input((4, 3))
    shared = L.Dense(3, name="shared")
    block = keras.Sequential([keras.Input((4, 3)), shared, L.Dense(3, name="own")])
    both = L.Bidirectional(L.GRU(2, name="cell"))
    model = keras.Model(inputs, both(block(shared(inputs))))
    shared.trainable = False
    both.forward_layer.trainable = False
    kept = [layer.trainable for layer in (model, block, shared, both, both.backward_layer)]
    assert kept == [True, True, False, True, True]
    count = len(model.trainable_variables)
    with left_as_it_was(model):
        model.trainable = False
        shared.trainable = True
    assert [one.trainable for one in (model, block, shared, both, both.backward_layer)] == kept
    assert both.forward_layer.trainable is False
    assert len(model.trainable_variables) == count


def test_a_model_that_was_frozen_before_is_told():
    model = network()
    x, y = data(model)
    free = tfprune.search(model, (x, y), 0.9, train=cut_only, trials=1)
    model.trainable = False
    frozen = tfprune.search(model, (x, y), 0.9, train=cut_only, trials=1)
    assert "No weight of the model trains" in frozen.reason
    assert "No weight" not in free.reason
