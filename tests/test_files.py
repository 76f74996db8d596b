"""Files are written whole or not at all."""

import errno
import os
import pathlib
import socket
import subprocess
import sys
import textwrap

import pytest

from tfprune.files import check_target, write_whole


def names(folder):
    return sorted(os.listdir(folder))


def test_writes_bytes(tmp_path):
    path = tmp_path / "a.bin"
    assert write_whole(path, b"abc") == path
    assert path.read_bytes() == b"abc"
    assert names(tmp_path) == ["a.bin"]


def test_writes_by_function_at_a_temporary_path_beside_the_target(tmp_path):
    seen = []

    def write(temporary):
        seen.append(temporary)
        temporary.write_bytes(b"xyz")

    write_whole(str(tmp_path / "a.tflite"), write)
    assert (tmp_path / "a.tflite").read_bytes() == b"xyz"
    assert seen[0].parent == tmp_path
    assert seen[0].suffix == ".tflite"
    assert names(tmp_path) == ["a.tflite"]


def test_permissions_are_those_of_a_plain_open(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_whole(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_an_existing_file_is_kept_without_overwrite(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    os.chmod(path, 0o640)
    write_whole(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_appears_during_the_work_is_kept(tmp_path):
    path = tmp_path / "a"

    def write(temporary):
        temporary.write_bytes(b"new")
        path.write_bytes(b"theirs")

    with pytest.raises(FileExistsError):
        write_whole(path, write)
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_whole(tmp_path / "link", b"new", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def pipe(path):
    os.mkfifo(path)


def socket_(path):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(path))  # a socket's path may not be long


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(("make", "kind"), [(pipe, "pipe"), (socket_, "socket")])
def test_what_is_no_file_is_never_replaced(tmp_path, monkeypatch, make, kind, linked, overwrite):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "special")
    before = os.lstat(tmp_path / "special")
    path = tmp_path / "special"
    if linked:
        path = tmp_path / "link"
        path.symlink_to("special")
    with pytest.raises(FileExistsError, match=f"is a {kind}.*never replaced.*Received: path="):
        write_whole(path, b"new", overwrite)
    after = os.lstat(tmp_path / "special")
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert path.is_symlink() == linked
    assert names(tmp_path) == ["link", "special"][1 - linked :]


def test_a_pipe_that_appears_during_the_work_is_kept(tmp_path):
    def write(temporary):
        temporary.write_bytes(b"new")
        os.mkfifo(tmp_path / "a")

    with pytest.raises(FileExistsError, match="never replaced"):
        write_whole(tmp_path / "a", write, overwrite=True)
    assert (tmp_path / "a").is_fifo()
    assert names(tmp_path) == ["a"]


def test_a_link_to_a_file_that_is_not_there_yet(tmp_path):
    (tmp_path / "link").symlink_to("new")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_whole(tmp_path / "link", b"new")
    write_whole(tmp_path / "link", b"new", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("to", "error", "words"),
    [
        ("no/such", FileNotFoundError, "does not exist; create it first"),
        ("link", FileExistsError, "leads back to itself"),
    ],
)
def test_links_that_lead_nowhere_are_refused_before_any_work(tmp_path, to, error, words):
    (tmp_path / "link").symlink_to(to)
    calls = []
    with pytest.raises(error, match=words):
        write_whole(tmp_path / "link", calls.append, overwrite=True)
    assert not calls
    assert names(tmp_path) == ["link"]


@pytest.mark.parametrize(
    ("path", "error", "words"),
    [
        ("no/such/a.bin", FileNotFoundError, "does not exist; create it first"),
        ("folder", IsADirectoryError, "must name a file"),
        ("new/", IsADirectoryError, "must name a file"),
        ("file/a.bin", NotADirectoryError, "is a file"),
        ("", TypeError, "must be the path"),
        (7, TypeError, "must be the path"),
    ],
)
def test_bad_paths_are_refused_before_any_work(tmp_path, monkeypatch, path, error, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    calls = []
    with pytest.raises(error, match=words):
        check_target(path, overwrite=True)
    with pytest.raises(error, match=words):
        write_whole(path, calls.append, overwrite=True)
    assert not calls
    assert names(tmp_path) == ["file", "folder"]


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError, match="cannot be written"):
        check_target(tmp_path / "a")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_function_that_fails_leaves_nothing(tmp_path, error):
    def write(temporary):
        temporary.write_bytes(b"half")
        raise error

    with pytest.raises(error):
        write_whole(tmp_path / "a", write)
    assert names(tmp_path) == []


def test_a_full_disk_half_way_leaves_the_old_file(tmp_path):
    """A limit on the size of files makes the kernel refuse the second half of a write."""
    (tmp_path / "a").write_bytes(b"old")
    code = f"""
        import resource, signal
        from tfprune.files import write_whole
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            write_whole({str(tmp_path / "a")!r}, bytes(100_000), overwrite=True)
        except OSError as error:
            print("refused", error.errno)
    """
    root = pathlib.Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, cwd=root, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["refused", str(errno.EFBIG)]
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_at_the_very_end_leaves_nothing(tmp_path, monkeypatch, call):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match=r"no room to write.*No space.*Received: path=.*a'") as held:
        write_whole(tmp_path / "a", b"abc")
    assert held.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"No file can have that path.*too long.*Received: path="):
        check_target(tmp_path / ("n" * 300))


def test_what_a_killed_write_left_long_ago_is_removed(tmp_path):
    old, young = tmp_path / ".a-0123456789ab.txt", tmp_path / ".a-ba9876543210.txt"
    others = [
        tmp_path / name for name in (".a-0123456789ab.md", ".b-0123456789ab.txt", ".a-notes.txt")
    ]
    for path in (old, young, *others):
        path.write_text("half")
        if path != young:
            os.utime(path, (0, 0))
    write_whole(tmp_path / "a.txt", b"whole")
    assert not old.exists()
    assert all(path.exists() for path in (young, *others))
