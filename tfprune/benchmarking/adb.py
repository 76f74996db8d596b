"""Measure files on a phone that is connected: TFLite's `benchmark_model`, driven through `adb`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Sequence

import numpy as np

from tfprune.benchmarking.connection import ADB_SECONDS, Connection, run_adb
from tfprune.benchmarking.cpu import from_cpuinfo
from tfprune.benchmarking.energy import Meter
from tfprune.benchmarking.failures import MissingTool
from tfprune.benchmarking.figures import Figures, Plan
from tfprune.benchmarking.model import Model
from tfprune.benchmarking.phone_runs import ROUNDS, PhoneRunner

BINARY_VARIABLE = "TFPRUNE_BENCHMARK_MODEL"
PHONE_FOLDER = "/data/local/tmp"
_BINARY_HELP = (
    "Google offers a `benchmark_model` for Android (aarch64) at "
    "https://ai.google.dev/edge/litert/models/measurement; download it and name it in "
    f"{BINARY_VARIABLE}, `binary=` or `--binary`, or push it to {PHONE_FOLDER}/benchmark_model "
    "yourself."
)
_STATES = {
    "unauthorized": "waits for you to allow this computer: unlock it and confirm the question "
    "about USB debugging",
    "offline": "is offline: unplug it and plug it in again, or run `adb reconnect`",
    "authorizing": "is being asked for permission: unlock it and confirm",
    "no permissions": "may not be used by this user: see "
    "https://developer.android.com/tools/device (udev rules)",
    "recovery": "is in recovery mode: start it normally",
    "sideload": "is in sideload mode: start it normally",
    "bootloader": "is in its bootloader: start it normally",
}


class Phone:
    """A phone with `benchmark_model`.

    Args:
        connection: to it.
        binary: path of `benchmark_model` here; None if it lies on the phone already.

    Attributes:
        device: in words.
        cpu: its processor.
        versions: of what takes part.
    """

    def __init__(self, connection: Connection, binary: pathlib.Path | None):
        self._connection, self._binary = connection, binary
        model = connection.property_of("ro.product.model") or connection.serial
        android = connection.property_of("ro.build.version.release")
        self.device = f"benchmark_model on {model}" + (f", Android {android}" if android else "")
        architecture = connection.shell("uname -m").stdout.strip() or "unknown"
        found = from_cpuinfo(connection.shell("cat /proc/cpuinfo").stdout, architecture)
        chip = connection.property_of("ro.soc.model")
        self.cpu = dataclasses.replace(found, name=found.name or chip or "unknown CPU")
        self.versions = {"android": android or "unknown"}

    def measure(
        self,
        models: Sequence[Model],
        inputs: Sequence[Sequence[np.ndarray]],
        plan: Plan,
        meter: Meter | None,
        tell: Callable[[str], None],
    ) -> list[Figures]:
        """Return the figures of each file; one that fails says so in its own.

        The files take turns in rounds. A round's median, p5 and p95 are those of the tool; of
        those of all rounds, the median is reported.
        """
        phone = self._connection
        del meter  # phones have none that a shell may read
        folder = f"{PHONE_FOLDER}/tfprune-{secrets.token_hex(4)}"
        phone.must(phone.shell(f"mkdir -p {folder}"), "making a folder on the phone")
        try:
            tell("copying files to the phone")
            binary = self._install(folder)
            runs = [
                PhoneRunner(phone, binary, f"{folder}/{index}", model, arrays, plan)
                for index, (model, arrays) in enumerate(zip(models, inputs, strict=True))
            ]
            for one in runs:
                one.attempt(one.copy)
            rounds = min(ROUNDS, plan.runs)
            for turn in range(rounds):
                tell(f"round {turn + 1} of {rounds}")
                start = turn % len(runs)
                for one in (*runs[start:], *runs[:start]):
                    one.attempt(one.turn)
            tell("reading the outputs back")
            for one in runs:
                one.attempt(one.compute)
            return [one.figures() for one in runs]
        finally:
            phone.shell(f"rm -r {folder}")

    def _install(self, folder: str) -> str:
        if self._binary is None:
            return f"{PHONE_FOLDER}/benchmark_model"
        path = f"{folder}/benchmark_model"
        self._connection.push(self._binary, path)
        self._connection.must(
            self._connection.shell(f"chmod 755 {path}"), "making benchmark_model executable"
        )
        return path


def find_phone(serial: str | None, binary: str | os.PathLike | None) -> Phone:
    """Return the phone to measure on.

    Args:
        serial: which one, if several are connected.
        binary: path of `benchmark_model` on this machine; None for the environment variable
            TFPRUNE_BENCHMARK_MODEL, or the one on the phone.

    Raises:
        MissingTool: adb, a phone or `benchmark_model` is not there; the message says what to do.
        FileNotFoundError: the given binary does not exist.
    """
    adb = shutil.which("adb")
    if adb is None:
        raise MissingTool(
            "`runtime='adb'` needs `adb`, and it was not found. On Debian and Ubuntu: `sudo apt "
            "install adb`; elsewhere: https://developer.android.com/tools/releases/platform-tools. "
            "Received: no `adb` on PATH"
        )
    local = _binary(binary)
    done = run_adb([adb, "devices"], ADB_SECONDS)
    if done.returncode:
        raise MissingTool(
            "`adb devices` failed: run it by hand, and `adb kill-server` before it. "
            f"Received: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}"
        )
    connection = Connection(adb, _chosen(devices(done.stdout), serial))
    if local is None and connection.shell(f"test -f {PHONE_FOLDER}/benchmark_model").returncode:
        raise MissingTool(
            f"`benchmark_model` is neither given nor on the phone. {_BINARY_HELP} "
            f"Received: no {PHONE_FOLDER}/benchmark_model on {connection.serial}"
        )
    return Phone(connection, local)


def devices(text: str) -> list[tuple[str, str]]:
    """Return (serial, state) of each phone in what `adb devices` printed.

    Example: `devices("List of devices attached\\nR58M\\tdevice\\n")` is `[("R58M", "device")]`.
    """
    found = []
    for line in text.splitlines():
        serial, tab, state = line.partition("\t")
        if tab and not line.startswith("*"):  # lines with stars tell of adb's own server
            found.append((serial.strip(), state.strip()))
    return found


def _chosen(found: list[tuple[str, str]], serial: str | None) -> str:
    listed = ", ".join(f"{name} ({state})" for name, state in found) or "no phone"
    if not found:
        raise MissingTool(
            "No phone is connected: plug one in, switch on its developer options and USB "
            "debugging, and confirm the question on its screen; `adb devices` must list it. "
            f"Received: {listed}"
        )
    states = dict(found)
    if serial is None:
        ready = [name for name, state in found if state == "device"]
        if len(ready) > 1:
            raise MissingTool(
                f"{len(ready)} phones are connected: choose one with `serial=` (`--serial`). "
                f"Received: {listed}"
            )
        serial = ready[0] if ready else found[0][0]
    if serial not in states:
        raise MissingTool(
            f"No phone with the serial number {serial!r} is connected: give one that "
            f"`adb devices` lists. Received: {listed}"
        )
    if states[serial] != "device":
        state = next((known for known in _STATES if states[serial].startswith(known)), None)
        what = _STATES[state] if state else f"is not ready ({states[serial]}): reconnect it"
        raise MissingTool(f"The phone {serial} {what}. Received: {listed}")
    return serial


def _binary(given: str | os.PathLike | None) -> pathlib.Path | None:
    name = given if given is not None else os.environ.get(BINARY_VARIABLE)
    if not name:
        return None
    path = pathlib.Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {str(name)!r}: give the path of `benchmark_model`. {_BINARY_HELP} "
            f"Received: {str(name)!r}"
        )
    return path
