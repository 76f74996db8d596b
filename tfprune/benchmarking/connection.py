"""What `adb` does for one phone: run commands there, copy files there and back."""

from __future__ import annotations

import os
import pathlib
import subprocess

ADB_SECONDS = 60.0
_PUSH_SECONDS = 600.0


class Connection:
    """A phone, as `adb` reaches it.

    Args:
        adb: path of `adb`.
        serial: of the phone.
    """

    def __init__(self, adb: str, serial: str):
        self._adb, self.serial = adb, serial

    def shell(self, command: str, seconds: float = ADB_SECONDS) -> subprocess.CompletedProcess:
        """Return what a command on the phone printed, and its exit code."""
        return run_adb([self._adb, "-s", self.serial, "shell", command], seconds)

    def push(self, source: str | os.PathLike, target: str) -> None:
        """Copy a file to the phone.

        Raises:
            RuntimeError: adb fails.
        """
        command = [self._adb, "-s", self.serial, "push", os.fspath(source), target]
        self.must(run_adb(command, _PUSH_SECONDS), f"copying {os.fspath(source)!r} to the phone")

    def pull(self, source: str, target: pathlib.Path) -> bool:
        """Copy a file from the phone; tell whether it was there."""
        command = [self._adb, "-s", self.serial, "pull", source, str(target)]
        return run_adb(command, _PUSH_SECONDS).returncode == 0 and target.is_file()

    def property_of(self, name: str) -> str:
        """Return one of Android's properties, empty if there is none."""
        return self.shell(f"getprop {name}").stdout.strip()

    def must(self, done: subprocess.CompletedProcess, what: str) -> None:
        """Raise if a command failed.

        Raises:
            RuntimeError: it did; the message has what it printed.
        """
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise RuntimeError(
                f"{what} failed: keep the phone connected and unlocked, with some free storage, "
                f"and try again. Received: {said or f'exit code {done.returncode}'}"
            )


def run_adb(command: list[str], seconds: float) -> subprocess.CompletedProcess:
    """Run adb. A command that takes too long counts as failed, with exit code 124."""
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        said = f"`{' '.join(command)}` did not end within {seconds:g} seconds"
        return subprocess.CompletedProcess(command, 124, "", said)
