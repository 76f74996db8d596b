"""Write a file whole or not at all: a temporary name in the same folder, then a rename.

Work that takes minutes should learn at once that its result cannot be saved, so call
`check_target` before it and `write_whole` after it.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import pathlib
import secrets
import shutil
import stat
import time
from collections.abc import Callable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORGOTTEN = 24 * 3600.0  # seconds: nothing writes one file for so long


def check_target(path: str | os.PathLike, overwrite: bool = False) -> pathlib.Path:
    """Return `path` as a `Path` if a file can be written there, or raise with the way out.

    Example: `check_target("out/model.tflite")`

    Raises:
        TypeError: `path` is not a path.
        FileNotFoundError: its folder does not exist.
        NotADirectoryError: its folder is a file.
        IsADirectoryError: `path` is a folder.
        FileExistsError: the file exists and `overwrite` is False; or a device, a pipe or a socket
            is there, which is never replaced.
        PermissionError: the folder cannot be written to.
        OSError: the system cannot have such a path, because it is too long for one.

    A link stands for what it points to: a file, or a name in an existing folder.
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise TypeError(f"`path` must be the path of the file to write. Received: path={path!r}")
    target = pathlib.Path(path)
    try:
        os.lstat(target)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OSError(
                f"No file can have that path ({error.strerror}); choose another. "
                f"Received: path={str(path)!r}"
            ) from None
    folder = (_end_of_link(target) if target.is_symlink() else target).parent
    if not folder.exists():
        raise FileNotFoundError(
            f"The folder {str(folder)!r} does not exist; create it first, with "
            f"`pathlib.Path({str(folder)!r}).mkdir(parents=True)`. Received: path={str(path)!r}"
        )
    if not folder.is_dir():
        raise NotADirectoryError(
            f"{str(folder)!r} is a file, so nothing can be written inside it. "
            f"Received: path={str(path)!r}"
        )
    if target.is_dir() or os.fspath(path).endswith(("/", os.sep)):
        raise IsADirectoryError(
            f"`path` must name a file, not a folder: add a file name. Received: path={str(path)!r}"
        )
    if target.exists() and not target.is_file():
        raise FileExistsError(
            f"{str(target)!r} is {_kind(target)}, not a file, and is never replaced. Choose the "
            f"path of a file, and copy it there afterwards. Received: path={str(path)!r}"
        )
    if os.path.lexists(target) and not overwrite:
        raise FileExistsError(
            f"The file {str(target)!r} exists and is left as it is. Pass `overwrite=True` "
            f"(`--overwrite`) to replace it, or choose another path. Received: path={str(path)!r}"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(
            f"The folder {str(folder)!r} cannot be written to; choose another or change its "
            f"permissions. Received: path={str(path)!r}"
        )
    return target


def _end_of_link(link: pathlib.Path) -> pathlib.Path:
    try:
        end = link.resolve()
    except (OSError, RuntimeError):  # links that point to each other; newer Pythons return one
        end = link
    if end.is_symlink():
        raise FileExistsError(
            f"The link {str(link)!r} leads back to itself: remove it, or choose another path. "
            f"Received: path={str(link)!r}"
        )
    return end


def _kind(path: pathlib.Path) -> str:
    kinds = {
        stat.S_IFIFO: "a pipe (FIFO)",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(path.stat().st_mode), "something special")


def write_whole(
    path: str | os.PathLike,
    data: bytes | bytearray | memoryview | Callable[[pathlib.Path], object],
    overwrite: bool = False,
) -> pathlib.Path:
    """Write `path` completely or leave everything as it was; return the path.

    Args:
        path: The file to write. Its folder must exist.
        data: The bytes, or a function that writes a file at the temporary path it is given (which
            has the same suffix as `path`). If the function raises, nothing is left behind, so it
            is also the place to check what it wrote.
        overwrite: Whether an existing file may be replaced. It stays whole until the rename.
            Only regular files are ever replaced.

    Example: `write_whole("report.json", b"{}")`

    Raises:
        OSError: see `check_target`; also when the disk is full or the folder vanishes.
    """
    target = check_target(path, overwrite)
    if target.is_symlink():
        target = _end_of_link(target)  # replace what a link points to, not the link
    _remove_leftovers(target)
    temporary = target.with_name(f".{target.stem}-{secrets.token_hex(6)}{target.suffix}")
    try:
        with open(temporary, "xb") as file:
            if not callable(data):
                file.write(data)
        if callable(data):
            data(temporary)
        if target.exists():
            shutil.copymode(target, temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        check_target(target, overwrite)  # someone may have written it during the slow work
        os.replace(temporary, target)
    except BaseException as error:  # an interrupt too must leave nothing behind
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise _no_room(path, error) from None
        raise
    return pathlib.Path(path)


def _no_room(path: str | os.PathLike, error: OSError) -> OSError:
    told = OSError(
        f"There is no room to write the file ({error.strerror}). Nothing of it was kept, and what "
        "was there before is as it was. Make room, or choose a folder on another disk. "
        f"Received: path={str(path)!r}"
    )
    told.errno = error.errno
    return told


def _remove_leftovers(target: pathlib.Path) -> None:
    """Remove the temporary files of writes of a file that were killed, a day ago or more."""
    random = "[0-9a-f]" * 12
    names = f".{glob.escape(target.stem)}-{random}{glob.escape(target.suffix)}"
    for left in target.parent.glob(names):
        with contextlib.suppress(FileNotFoundError):  # another process does the same
            if time.time() - left.stat().st_mtime > _FORGOTTEN:
                left.unlink()
