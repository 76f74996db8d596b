"""Messages and files call layers by the names that the user gave them."""

import keras
import pytest
import tf_keras

import tfprune
from tfprune.export.naming import Names
from tfprune.weightfiles.constants import read_constants

L = keras.layers


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("net_1/conv_1_2/convolution", "net/conv_1/convolution"),
        ("net_1/conv_1/Relu;net_1/conv_1/convolution", "net/conv/Relu;net/conv/convolution"),
        ("net_1/relu_1/Relu", "net/relu/Relu"),  # a layer without weights
        ("net_1/other_1/Relu", "net/other_1/Relu"),  # no layer at all
        ("conv_1", "conv_1"),
        ("", ""),
    ],
)
def test_names_by_hand(name, wanted):
    scopes = {"net_1": "net", "net_1/conv_1": "conv", "net_1/conv_1_2": "conv_1"}
    assert Names(scopes, ["relu"])(name) == wanted


def layers_of(path):
    return {one.name.split("/")[1] for one in read_constants(path.read_bytes()) if one.is_weight}


def test_layers_with_names_of_keras_own_making(tmp_path):
    """Keras numbers them, and TensorFlow numbers its scopes once more."""
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((6, 6, 3)), *(L.Conv2D(4, 1) for _ in range(3))])
    names = {layer.name for layer in model.layers}
    assert names == {"conv2d", "conv2d_1", "conv2d_2"}
    tfprune.export_tflite(model, tmp_path / "a.tflite")
    assert layers_of(tmp_path / "a.tflite") == names
    found = tfprune.explain(tmp_path / "a.tflite").convolutions
    assert [one.name for one in found] == ["conv2d", "conv2d_1", "conv2d_2"]


@pytest.mark.parametrize("quantize", [None, "float16", "int8"])
def test_nested_layers_and_weightless_ones(tmp_path, quantize, images):
    x = keras.Input((12, 12, 3))
    inner = keras.Sequential([L.Conv2D(4, 3, name="a"), L.ReLU(name="r")], name="inner")
    y = L.MaxPooling2D(name="pool")(inner(L.Conv2D(3, 1, name="a_1")(x)))
    model = keras.Model(x, L.Dense(2, name="out")(L.Flatten()(y)), name="net")
    path = tmp_path / "a.tflite"
    result = tfprune.export_tflite(model, path, quantize, representative_data=images)
    tensors = {t.name for g in graphs(path) for t in g.tensors}
    assert any(name.startswith("net/inner/a/") for name in tensors)
    assert any(name.startswith("net/a_1/") for name in tensors)
    assert any("net/pool/" in name for name in tensors)
    assert not any("net_1" in name for name in tensors)
    assert {w.name for w in result.weights} >= {"out/kernel"}


def graphs(path):
    from tfprune.export.graph import read_graphs

    return read_graphs(path.read_bytes())


@pytest.mark.parametrize("kit", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_the_policy_names_the_layer(kit):
    x = kit.Input((16, 16, 3))
    y = kit.layers.Conv2D(8, 3, strides=2, padding="same", name="conv_1")(x)
    y = kit.layers.GlobalAveragePooling2D()(kit.layers.Conv2D(8, 1, name="conv")(y))
    with pytest.raises(ValueError, match="CONV_2D 'conv_1' has another padding"):
        tfprune.prune_low_magnitude(
            kit.Model(x, y), pruning_policy=tfprune.PruneForLatencyOnXNNPack()
        )
