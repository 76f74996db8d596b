"""One sparsity for a whole model: the smallest weights of all layers go, gradually over the run."""

import keras
import numpy as np
import pytest

import tfprune

layers = keras.layers


def network(scales):
    """A chain of 2x2 kernels that hold 1, 2, 3, 4, each times its scale."""
    model = keras.Sequential([keras.Input((2,))])
    for number, scale in enumerate(scales):
        model.add(layers.Dense(2, use_bias=False, name=f"d{number}"))
        model.layers[-1].set_weights([scale * np.array([[1.0, 2.0], [3.0, 4.0]])])
    return model


def finals(model):
    found = [layer for layer in model.layers if isinstance(layer, tfprune.PruneLowMagnitude)]
    return {layer.layer.name: layer.pruning_schedule.final_sparsity for layer in found}


def test_one_threshold_over_all_layers():
    # 1 2 3 4 | 2.5 5 7.5 10: of the four smallest, 1 2 2.5 3, three are the first layer's.
    pruned = tfprune.prune(network([1.0, 2.5]), 0.5)
    assert finals(pruned) == {"d0": pytest.approx(0.75), "d1": pytest.approx(0.25)}
    # Of the five smallest all of the first layer's; the second makes up for what must stay.
    pruned = tfprune.prune(network([1.0, 2.5]), 0.625)
    assert finals(pruned) == {"d0": pytest.approx(0.9995), "d1": pytest.approx(0.2505)}


def test_the_same_as_allocate():
    model = network([1.0, 1.5, 0.7])
    spread = tfprune.allocate(model, 0.5, "global")
    wanted = {row.layer: pytest.approx(row.sparsity) for row in spread.layers}
    assert finals(tfprune.prune(model, 0.5)) == wanted
    assert spread.schedule == tfprune.Gradual(0.5)


def test_a_layer_of_large_weights_stays_dense():
    pruned = tfprune.prune(network([1.0, 100.0]), 0.25)
    assert finals(pruned) == {"d0": 0.5}
    (reason,) = [row.reason for row in tfprune.summary(pruned).rows if row.layer == "d1"]
    assert reason == "none of its weights is among the smallest of the model"


def test_training_reaches_the_sparsity_of_the_whole(small_model, batch):
    pruned = tfprune.prune(small_model, 0.9)
    pruned.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    pruned.fit(*batch, batch_size=8, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    plain = tfprune.strip_pruning(pruned)
    kernels = [layer.kernel.numpy() for layer in plain.layers if hasattr(layer, "kernel")]
    size = sum(kernel.size for kernel in kernels)
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels)
    assert zeros == pytest.approx(0.9 * size, abs=len(kernels))
    assert len({float((kernel == 0).mean()) for kernel in kernels}) > 1


@pytest.mark.parametrize("number", [1.0, -0.1, float("nan"), 90, 10**400])
def test_no_sparsity(small_model, number):
    with pytest.raises(ValueError, match="must be a sparsity"):
        tfprune.prune(small_model, number)


def test_one_schedule_is_the_same_for_every_layer():
    pruned = tfprune.prune(network([1.0, 2.0]), tfprune.ConstantSparsity(0.5, 0))
    assert finals(pruned) == {"d0": 0.5, "d1": 0.5}


def test_tf_keras_is_pruned_at_once():
    import tf_keras

    model = tf_keras.Sequential(
        [
            tf_keras.layers.Dense(2, use_bias=False, input_shape=(2,), name="d0"),
            tf_keras.layers.Dense(2, use_bias=False, name="d1"),
        ]
    )
    kernel = np.array([[1.0, 2.0], [3.0, 4.0]])
    model.set_weights([kernel, 2 * kernel])
    pruned = tfprune.prune(model, 0.375)  # 1 2 | 2: three of eight
    found = [layer.pruning_schedule(0) for layer in pruned.layers]
    assert [bool(due) for due, _ in found] == [True, True]
    assert sum(float(sparsity) for _, sparsity in found) == pytest.approx(0.75)
