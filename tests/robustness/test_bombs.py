"""Small files that stand for gigabytes, and arrays that lie in other files."""

import zipfile

import h5py
import numpy as np
import pytest

from tfprune.weightfiles import hdf5, inspect_file, unpacking


@pytest.mark.parametrize(
    ("claimed", "packed", "fine"),
    [
        (1040, 1, True),
        (1041, 1, False),
        (0, 0, True),
        (2**30, 2**21, True),  # a gigabyte at 512 times: zeros, perhaps
        (2**31, 2**22, False),  # two gigabytes at that ratio
        (2**40, 2**34, True),  # large, and packed 64 times
    ],
)
def test_what_is_plausible(claimed, packed, fine):
    if fine:
        unpacking.require_plausible("it", claimed, packed)
        return
    with pytest.raises(ValueError, match="it claims to unpack to"):
        unpacking.require_plausible("it", claimed, packed)


@pytest.mark.parametrize("name", ["model.weights.h5", "config.json"])
def test_an_archive_that_unpacks_to_gigabytes(tmp_path, monkeypatch, name):
    monkeypatch.setattr(unpacking, "_HARMLESS", 2**20)  # megabytes do for the test
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"\0" * 2**22)
        if name != "model.weights.h5":
            archive.writestr("model.weights.h5", b"")
    with pytest.raises(ValueError, match=rf"{name} claims to unpack to 4,194,304 bytes.*Received"):
        inspect_file(path)


def test_arrays_that_together_claim_too_much(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        for number in range(4):  # never written, so that nothing is stored
            file.create_dataset(f"a{number}", (2**20, 2**8), "float32", chunks=(2**10, 2**8))
    with pytest.raises(ValueError, match="claims to unpack to 4,294,967,296 bytes"):
        inspect_file(path)


def test_optimizers_count_too(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("optimizer/a", (2**30,), "float32", chunks=(2**10,))
    with pytest.raises(ValueError, match="claims to unpack to"):
        inspect_file(path)


def test_arrays_in_other_files_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        where = [(str(tmp_path / "secret"), 0, 64)]
        file.create_dataset("dense/kernel", (4, 4), "float32", external=where)
    with pytest.raises(ValueError, match="lies in another file, which is not opened"):
        inspect_file(path)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        zeros = np.zeros((64, 64), "float32")
        file.create_dataset("dense/dense/kernel:0", data=zeros, compression="gzip")
    rows, _, _ = hdf5.read(path.read_bytes())
    assert (rows[0].size, rows[0].nonzero) == (4096, 0)
