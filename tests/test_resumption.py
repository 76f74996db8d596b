"""A record of what is finished: read back, of something else, or no record at all."""

import json

import numpy as np
import pytest

from tfprune.resumption import Record, of_arrays

WORDS = ("a search", "another search", "Choose another folder")


def numbers(content):
    return content["numbers"]


def test_what_was_written_is_read_back(tmp_path):
    path = tmp_path / "r.json"
    identity = {"levels": (0.5, 0.9), "name": "m"}
    first = Record(path, identity, numbers, *WORDS)
    assert first.earlier is None
    assert not path.exists()
    first.write({"numbers": [1]})
    first.write({"numbers": [1, 2]})
    assert Record(path, identity, numbers, *WORDS).earlier == [1, 2]
    assert json.loads(path.read_text())["identity"] == {"levels": [0.5, 0.9], "name": "m"}


def test_without_a_path_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Record(None, {}, numbers, *WORDS).write({"numbers": []})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no record of a search.*it holds no JSON.*Choose another folder"),
        (b"\xff\xfe", "is no record of a search"),
        (b"[]", r"is no record of a search.*named values are expected, not \[\]\. Choose"),
        (b"{}", "is no record of a search.*: the entry 'identity' is missing. Choose"),
        (b'{"identity": {"a": 1}}', "is no record of a search.*: the entry 'numbers' is missing"),
        (b'{"identity": {"a": 2}, "numbers": []}', "is of another search.*left as it is"),
    ],
)
def test_another_file_is_left_as_it_is(tmp_path, content, message):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Record(path, {"a": 1}, numbers, *WORDS)
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_told_before_any_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; create it first"):
        Record(tmp_path / "nowhere" / "r.json", {}, numbers, *WORDS)


def test_a_digest_of_arrays_counts_type_shape_and_values():
    arrays = [np.zeros(4), np.zeros(4, "float32"), np.zeros((2, 2)), np.ones(4)]
    assert len({of_arrays([array]) for array in arrays}) == 4
