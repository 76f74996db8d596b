import gzip
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest

from tfprune import datasets

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def write_idx(folder, train=5, test=2, labels=None, suffix=""):
    arrays = [
        np.full((train, 28, 28), 255),
        np.arange(train) if labels is None else np.array(labels),
        np.zeros((test, 28, 28)),
        np.arange(test),
    ]
    for name, array in zip(IDX_NAMES, arrays, strict=True):
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        content = header + array.astype("uint8").tobytes()
        (folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)


def test_digits_are_embedded_and_stratified():
    data = datasets.load("digits")
    assert data.x_train.shape == (1297, 8, 8, 1)
    assert data.x_test.shape == (500, 8, 8, 1)
    assert data.x_train.dtype == data.x_test.dtype == np.float32
    assert data.y_train.dtype == np.int64
    assert (data.x_train.min(), data.x_train.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(np.bincount(data.y_test), [50] * 10)
    assert np.bincount(data.y_train).min() >= 120
    assert data.image_shape == (8, 8, 1)
    assert len(data.classes) == 10
    assert "UCI" in data.source


def test_digits_are_digits():
    """The mean images of the training half name most test images: labels fit the pictures."""
    data = datasets.load("digits")
    means = np.stack([data.x_train[data.y_train == digit].mean(0) for digit in range(10)])
    distance = ((data.x_test[:, None] - means) ** 2).sum((2, 3, 4))
    assert (distance.argmin(1) == data.y_test).mean() > 0.85


def test_no_test_image_is_trained_on():
    data = datasets.load("digits")
    trained = {image.tobytes() for image in data.x_train}
    assert not any(image.tobytes() in trained for image in data.x_test)


def test_a_dataset_is_frozen_and_names_itself():
    data = datasets.load("digits")
    assert repr(data) == (
        "Dataset('digits': 1297 training and 500 test images of 8x8x1, 10 classes)"
    )
    with pytest.raises(AttributeError):
        data.name = "other"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_of_a_folder(tmp_path, name, suffix):
    write_idx(tmp_path, suffix=suffix)
    data = datasets.load(name, tmp_path)
    assert data.x_train.shape == (5, 28, 28, 1)
    assert data.x_train.min() == 1.0
    assert data.x_test.max() == 0.0
    np.testing.assert_array_equal(data.y_train, np.arange(5))
    assert data.source == str(tmp_path)


def test_cifar10_of_a_folder_of_batches(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    content = {b"data": np.full((2, 3072), 51, "uint8"), b"labels": [3, 4]}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps(content, protocol=4))
    for place in (tmp_path, folder):
        data = datasets.load("cifar10", place)
        assert data.x_train.shape == (10, 32, 32, 3)
        np.testing.assert_allclose(data.x_train, 0.2)
        assert data.classes[data.y_test[0]] == "cat"


def test_cifar10_of_a_jpeg_npz(tmp_path):
    import tensorflow as tf

    file = tf.io.encode_jpeg(np.full((32, 32, 3), 255, "uint8")).numpy()
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_jpeg"] = np.frombuffer(file, "uint8")
        arrays[f"{part}_offsets"] = np.array([0, len(file)])
        arrays[f"{part}_labels"] = np.array([9])
    np.savez(tmp_path / "cifar10_jpeg.npz", **arrays)
    data = datasets.load("cifar10", tmp_path)
    assert data.x_test.shape == (1, 32, 32, 3)
    assert data.x_test.min() == 1.0
    assert "JPEG npz" in data.source


def test_without_a_folder_keras_downloads(monkeypatch):
    import keras

    part = np.full((3, 32, 32, 3), 255, "uint8"), np.array([[1], [2], [3]])
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: (part, part))
    data = datasets.load("cifar10")
    assert data.x_train.max() == 1.0
    np.testing.assert_array_equal(data.y_train, [1, 2, 3])
    np.testing.assert_array_equal(data.y_test, [1, 2, 3])


def test_a_failed_download_says_what_to_do(monkeypatch):
    import keras

    def fail():
        try:
            raise ConnectionError("no route to host")
        except OSError:
            raise Exception("URL fetch failure") from None

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(OSError, match=r"mnist could not be downloaded.*--data-dir"):
        datasets.load("mnist")


def test_an_error_of_ours_is_not_taken_for_a_download(monkeypatch):
    import keras

    def fail():
        raise KeyError("a bug")

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(KeyError, match=r"a bug"):
        datasets.load("mnist")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"digits, fashion_mnist, mnist, cifar10.*'imagenet'"):
        datasets.load("imagenet")


def test_digits_take_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"ship inside tfprune"):
        datasets.load("digits", tmp_path)


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist.*nowhere"):
        datasets.load("mnist", tmp_path / "nowhere")


def test_a_file_for_a_folder(tmp_path):
    (tmp_path / "mnist.zip").touch()
    with pytest.raises(FileNotFoundError, match=r"is a file"):
        datasets.load("mnist", tmp_path / "mnist.zip")


def test_a_missing_file_is_named_with_what_is_there(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels-idx1-ubyte.*train-images"):
        datasets.load("mnist", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data_batch_1.*cifar10\*.npz"):
        datasets.load("cifar10", tmp_path)


def test_an_empty_folder_is_called_empty(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"which holds nothing"):
        datasets.load("mnist", tmp_path)


def test_a_label_for_each_image(tmp_path):
    write_idx(tmp_path, train=5, labels=[0, 1, 2])
    with pytest.raises(ValueError, match=r"train part.*5 images and 3 labels"):
        datasets.load("mnist", tmp_path)


def test_no_images_at_all(tmp_path):
    write_idx(tmp_path, test=0)
    with pytest.raises(ValueError, match=r"test part.*0 images"):
        datasets.load("mnist", tmp_path)


def test_labels_beyond_the_classes(tmp_path):
    write_idx(tmp_path, train=2, labels=[0, 10])
    with pytest.raises(ValueError, match=r"0 to 9.*labels 0 to 10"):
        datasets.load("mnist", tmp_path)


def test_digits_load_without_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from tfprune import datasets; print(datasets.load('digits'))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "1297 training" in ran.stdout


def test_samples_are_taken_from_all_of_a_sorted_set():
    np.testing.assert_array_equal(datasets.spaced(10, 4), [0, 2, 5, 7])
    np.testing.assert_array_equal(datasets.spaced(3, 4), [0, 1, 2])
    labels = np.repeat(np.arange(10), 1000)
    assert np.bincount(labels[datasets.spaced(10_000, 2000)]).tolist() == [200] * 10
