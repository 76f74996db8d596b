"""The policy for XNNPACK's sparse kernels: which layers, which models, how far to go."""

import warnings

import keras
import numpy as np
import pytest
import tf_keras

import tfprune
from tfprune.latency import Distance

FAMILIES = {"keras": keras, "tf_keras": tf_keras}


def network(kit, entry="padded", middle=None, keepdims=False):
    """Return a network whose two 1x1 convolutions count, but for what the arguments change."""
    keras.utils.set_random_seed(0)
    layers = kit.layers
    inputs = kit.Input((16, 16, 3))
    x = inputs
    if entry == "padded":
        x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(8, 3, strides=2, padding="valid" if entry == "padded" else "same")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(16, 1, use_bias=False, name="first")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    if middle is not None:
        x = middle(layers)(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Conv2D(24, 1, name="second")(x)
    x = layers.GlobalAveragePooling2D(keepdims=keepdims)(x)
    head = layers.Conv2D(10, 1) if keepdims else layers.Dense(10)
    return kit.Model(inputs, head(x))


@pytest.mark.parametrize("kit", FAMILIES.values(), ids=FAMILIES)
def test_only_the_convolutions_that_count_are_wrapped(kit):
    model = network(kit)
    policy = tfprune.PruneForLatencyOnXNNPack()
    pruned = tfprune.prune_low_magnitude(
        model, tfprune.ConstantSparsity(0.9, 0), pruning_policy=policy
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is not trained yet, and nobody strips it
        found = policy.distance(pruned)
    assert found.zeros == 0
    assert set(found.layers) == {"first", "second"}
    assert found.weights == 8 * 16 + 16 * 24
    assert len([layer for layer in pruned.layers if "prune" in type(layer).__name__.lower()]) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"entry": "same"}, "ZeroPadding2D\\(1\\)"),
        ({"middle": lambda layers: layers.MaxPooling2D(2)}, "MAX_POOL_2D"),
        ({"keepdims": True}, "keepdims=False"),
        (
            {
                "middle": lambda layers: (
                    lambda x: layers.Multiply()(
                        [x, layers.GlobalAveragePooling2D(keepdims=True)(x)]
                    )
                )
            },
            "1x1 convolution or a Dense layer read the mean first",
        ),
        ({"middle": lambda layers: layers.Dense(24)}, "Conv2D\\(units, 1\\) in the place of Dense"),
    ],
)
def test_models_that_would_not_be_faster_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        tfprune.prune_low_magnitude(
            network(keras, **change), pruning_policy=tfprune.PruneForLatencyOnXNNPack()
        )


def test_layers_alone():
    policy = tfprune.PruneForLatencyOnXNNPack()
    layers = keras.layers
    for layer, allowed in [
        (layers.Conv2D(4, 1), True),
        (layers.Conv2D(4, 1, strides=2), False),
        (layers.Conv2D(4, 3), False),
        (layers.Dense(4), False),
        (layers.Conv2D(4, 1, groups=2), False),
    ]:
        layer.build((1, 8, 8, 4))
        assert policy.allow_pruning(layer) is allowed


def test_distance_by_hand():
    model = network(keras)
    first = model.get_layer("first").kernel
    keep = np.ones(first.shape)
    keep[..., :12] = 0  # 96 of 128 weights; the other layer has 384
    first.assign(first.numpy() * keep)
    found = tfprune.PruneForLatencyOnXNNPack().distance(model)
    assert (found.weights, found.zeros) == (512, 96)
    assert found.missing == 342 - 96  # 342 is the first number above 512 * 2 / 3
    assert "246 to go" in str(found)
    assert "reached" in str(Distance(("a",), 9, 7, 0))


def test_dense_layers_on_one_pixel_of_the_trunk_count():
    def gated(layers):
        def gate(x):
            y = layers.GlobalAveragePooling2D(keepdims=True)(x)
            y = layers.Dense(16, activation="sigmoid", name="gate")(y)
            return layers.Multiply()([x, y])

        return gate

    model = network(keras, middle=gated)
    inner = model.get_layer("gate").kernel
    plain = tfprune.PruneForLatencyOnXNNPack().distance(network(keras))
    found = tfprune.PruneForLatencyOnXNNPack().distance(model)
    assert found.weights == plain.weights + int(np.prod(inner.shape))
    assert set(found.layers) == {*plain.layers, "gate"}
