"""Model files of both families, and files that are none."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune.family import family
from tfprune.variants import fingerprint, model_file


def loaded(path):
    return model_file.load(model_file.check_file(path))


@pytest.mark.parametrize("name", ["a.keras", "a.h5", "pruned.keras"])
def test_keras_3(tmp_path, net, name):
    pruned = name == "pruned.keras"
    model = tfprune.prune_low_magnitude(net) if pruned else net
    model.save(tmp_path / name)
    found = loaded(tmp_path / name)
    assert family(found) == "keras"
    ours, theirs = (tfprune.stripped_weights(one) for one in (net, found))
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", ["old.keras", "old.h5"])
def test_tf_keras(tmp_path, name):
    import tf_keras

    old = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(3)])
    tfprune.prune_low_magnitude(old).save(tmp_path / name)
    found = loaded(tmp_path / name)
    assert family(found) == "tf_keras"
    assert np.array_equal(found.layers[0].layer.get_weights()[0], old.get_weights()[0])


def test_files_that_are_no_models(tmp_path, net):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        loaded(tmp_path / "no.keras")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        loaded(tmp_path)
    (tmp_path / "a.tflite").write_bytes(b"TFL3")
    with pytest.raises(ValueError, match=r"\.keras, \.h5"):
        loaded(tmp_path / "a.tflite")
    net.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="weights alone"):
        loaded(tmp_path / "a.weights.h5")
    net.save(tmp_path / "a.keras")
    (tmp_path / "cut.keras").write_bytes((tmp_path / "a.keras").read_bytes()[:2000])
    with pytest.raises(ValueError, match="damaged"):
        loaded(tmp_path / "cut.keras")


def test_a_class_of_ones_own_is_to_be_loaded_in_python(tmp_path):
    class Mine(keras.layers.Dense):
        pass

    keras.Sequential([keras.Input((4,)), Mine(2)]).save(tmp_path / "mine.keras")
    with pytest.raises(ValueError, match=r"its class 'Mine' .* `export_tflite` takes it on every"):
        loaded(tmp_path / "mine.keras")


def test_models_that_cannot_be_exported():
    with pytest.raises(ValueError, match="not a layer"):
        model_file.check_model(keras.layers.Dense(1))
    with pytest.raises(ValueError, match="must be built"):
        model_file.check_model(keras.Sequential([keras.layers.Dense(1)]))
    with pytest.raises(ValueError, match=r"path of a \.keras"):
        model_file.check_model(3)


def test_names_of_files_come_from_the_model(net):
    assert model_file.stem("nets/my digits.v2.keras") == "my_digits.v2"
    assert model_file.stem(net) == "net"


def test_a_fingerprint_changes_with_weights_and_configuration(net):
    same, other = keras.models.clone_model(net), keras.models.clone_model(net)
    same.set_weights(net.get_weights())
    other.set_weights([w * 2 for w in net.get_weights()])
    assert fingerprint.of_model(same) == fingerprint.of_model(net)
    assert fingerprint.of_model(other) != fingerprint.of_model(net)
    same.layers[0].activation = keras.activations.tanh
    assert fingerprint.of_model(same) != fingerprint.of_model(net)
