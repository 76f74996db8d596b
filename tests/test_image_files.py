import gzip
import pickle
import struct

import numpy as np
import pytest

from tfprune import image_files


def idx_bytes(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype("uint8").tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype="uint8").reshape(2, 3, 4)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
def test_idx_is_read_back(tmp_path, pack):
    path = tmp_path / "images"
    path.write_bytes(pack(idx_bytes(IMAGES)))
    np.testing.assert_array_equal(image_files.read_idx(path, 3), IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"\x00\x00\x0d\x03" + bytes(20), "starts with 00 00 08 03.*00 00 0d 03"),
        (idx_bytes(np.arange(5)), "3-dimensional.*00 00 08 01"),
        (idx_bytes(IMAGES)[:9], "inside its header"),
        (idx_bytes(IMAGES)[:-1], "announces 2x3x4 bytes.*with 23 bytes"),
        (idx_bytes(IMAGES) + b"x", "announces 2x3x4 bytes.*with 25 bytes"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-9], "gzip file is corrupt"),
        (b"\x1f\x8b" + bytes(30), "gzip file is corrupt"),
    ],
)
def test_a_corrupt_idx_file_is_named_with_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "images-idx3"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s){message}") as caught:
        image_files.read_idx(path, 3)
    assert str(path) in str(caught.value)


class Python2Pickler(pickle._Pickler):
    """Pickles as the official files are: by Python 2, where text and bytes are both `str`."""

    def save_str(self, obj):
        content = obj if isinstance(obj, bytes) else obj.encode("latin1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)

    dispatch = {**pickle._Pickler.dispatch, bytes: save_str, str: save_str}  # noqa: RUF012


def write_batches(folder, data=None):
    """Write six batches of two images; the blue channel of image 0 is 7, everything else 0."""
    if data is None:
        data = np.zeros((2, 3072), "uint8")
        data[0, 2048:] = 7
    for number, name in enumerate(image_files.CIFAR_BATCHES):
        content = {b"data": data, b"labels": [number, 9]}
        with open(folder / name, "wb") as file:
            Python2Pickler(file, protocol=2).dump(content)


def test_cifar_batches_become_nhwc(tmp_path):
    write_batches(tmp_path)
    x_train, y_train, x_test, y_test = image_files.read_cifar_batches(tmp_path)
    assert x_train.shape == (10, 32, 32, 3)
    assert x_test.shape == (2, 32, 32, 3)
    assert (x_test[0] == [0, 0, 7]).all()
    np.testing.assert_array_equal(y_train, [0, 9, 1, 9, 2, 9, 3, 9, 4, 9])
    np.testing.assert_array_equal(y_test, [5, 9])


class Harmful:
    def __reduce__(self):
        return print, ("a data file ran code",)


@pytest.mark.parametrize(
    "data",
    [Harmful(), np.zeros((2, 100), "uint8"), "text"],
    ids=["code", "shape", "type"],
)
def test_a_pickle_that_is_no_batch_is_refused(tmp_path, capsys, data):
    write_batches(tmp_path, data)
    with pytest.raises(ValueError, match="Expected a CIFAR-10 Python batch"):
        image_files.read_cifar_batches(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02]"])
def test_bytes_that_are_no_pickle_are_refused(tmp_path, content):
    write_batches(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(ValueError, match="data_batch_3"):
        image_files.read_cifar_batches(tmp_path)


def jpeg_arrays(shade=200, size=8):
    import tensorflow as tf

    image = np.full((size, size, 3), shade, "uint8")
    files = [tf.io.encode_jpeg(image, quality=95).numpy() for _ in range(3)]
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_jpeg"] = np.frombuffer(b"".join(files), "uint8")
        arrays[f"{part}_offsets"] = np.cumsum([0, *map(len, files)])
        arrays[f"{part}_labels"] = np.array([3, 1, 2], "uint8")
    return arrays


def test_jpeg_npz_is_decoded(tmp_path):
    np.savez(tmp_path / "a.npz", **jpeg_arrays())
    x_train, y_train, x_test, _ = image_files.read_jpeg_npz(tmp_path / "a.npz")
    assert x_train.shape == x_test.shape == (3, 8, 8, 3)
    assert x_train.dtype == np.uint8
    assert abs(x_train.astype(int) - 200).max() <= 2
    np.testing.assert_array_equal(y_train, [3, 1, 2])


def broken(key, change):
    def apply(arrays):
        arrays[key] = change(arrays[key])
        return arrays

    return apply


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: {"x": np.zeros(1)}, "JPEG npz layout.*without train_jpeg"),
        (broken("test_offsets", lambda a: a[::-1]), "offsets must rise"),
        (broken("test_offsets", lambda a: a[:-1]), "offsets must rise"),
        (broken("test_offsets", lambda a: a[:0]), "offsets must rise"),
        (broken("train_offsets", lambda a: a + np.array([2, 0, 0, 0])), "offsets must rise"),
        (broken("train_jpeg", lambda a: a * 0), "not a readable JPEG"),
    ],
)
def test_a_broken_jpeg_npz_is_refused(tmp_path, change, message):
    np.savez(tmp_path / "a.npz", **change(jpeg_arrays()))
    with pytest.raises(ValueError, match=message):
        image_files.read_jpeg_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="Not a readable"):
        image_files.read_jpeg_npz(tmp_path / "a.npz")
