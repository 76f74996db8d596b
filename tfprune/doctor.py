"""`tfprune doctor`: what is installed, what this machine can do, what is known not to work."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Mapping

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.benchmarking.cpu import this_cpu
from tfprune.benchmarking.energy import find_meter
from tfprune.benchmarking.failures import MissingTool
from tfprune.benchmarking.litertjs import find_browser_program
from tfprune.results import Result
from tfprune.version import __version__

PACKAGES = (
    *("tensorflow", "keras", "tf_keras", "tensorflow-model-optimization", "ai-edge-litert"),
    *("numpy", "tensorboard", "jax", "torch", "optuna"),
)
"""Whose versions decide what works; the last three are not needed."""
OPTIONAL = ("jax", "torch", "optuna")


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A place where exported files can be measured.

    Attributes:
        name: as `tfprune benchmark --runtime` has it.
        usable: whether it can be used on this machine now.
        remark: what it is good for, or what is missing and how to get it.
    """

    name: str
    usable: bool
    remark: str


@dataclasses.dataclass(frozen=True)
class Health(Result):
    """What `doctor` found: print it into a bug report.

    Attributes:
        tfprune: version.
        python: version and system.
        backend: that Keras is set to by the environment, "tensorflow" if it is not.
        versions: of packages, None for those that are not installed.
        cpu: name, cores and the features that choose kernels.
        runtimes: where files can be measured.
        energy: the meter, or why there is none.
        limits: what these versions do not have; all else works.
        problems: what is known not to work, and what to do.

    Example: `print(tfprune.doctor())`

    Source: made by `tfprune.doctor`.
    """

    tfprune: str
    python: str
    backend: str
    versions: Mapping[str, str | None]
    cpu: str
    runtimes: tuple[Runtime, ...]
    energy: str
    limits: tuple[str, ...]
    problems: tuple[str, ...]

    def __rich__(self) -> Group:
        """Return what rich prints."""
        packages = Table(title=f"tfprune {self.tfprune}", box=box.SIMPLE_HEAD)
        packages.add_column("package")
        packages.add_column("version")
        for name, version in self.versions.items():
            missing = "not installed (not needed)" if name in OPTIONAL else "not installed"
            packages.add_row(name, version or missing)
        runtimes = Table(title="Where exported files can be measured", box=box.SIMPLE_HEAD)
        for name in ("--runtime", "here", ""):
            runtimes.add_column(name, overflow="fold")
        for row in self.runtimes:
            runtimes.add_row(row.name, "yes" if row.usable else "no", row.remark)
        about = (
            f"system: {self.python}",
            f"Keras backend: {self.backend}",
            f"CPU: {self.cpu}",
            f"energy: {self.energy}",
        )
        found = [f"limit: {text}" for text in self.limits]
        found += [f"problem: {text}" for text in self.problems] or ["No known problem."]
        return Group(packages, *map(Text, about), runtimes, *map(Text, found))


def doctor() -> Health:
    """Return versions, the processor's features, usable runtimes and known-bad combinations.

    Nothing heavy is loaded: it answers at once, also where TensorFlow cannot be imported.

    Example: `print(tfprune.doctor())`, or `tfprune doctor` in a terminal.

    Source: the combinations were seen to fail, or are documented so by TensorFlow and Keras.
    """
    versions = {name: _version(name) for name in PACKAGES}
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    return Health(
        tfprune=__version__,
        python=f"Python {platform.python_version()} on {platform.platform(terse=True)}",
        backend=backend,
        versions=versions,
        cpu=str(this_cpu()),
        runtimes=_runtimes(versions),
        energy=find_meter()[1],
        limits=tuple(limits(versions, backend)),
        problems=tuple(problems(versions, backend, os.environ.get("TF_USE_LEGACY_KERAS"))),
    )


def problems(
    versions: Mapping[str, str | None], backend: str, legacy: str | None = None
) -> list[str]:
    """Return what is known not to work with these versions, each with what to do.

    Args:
        versions: by package, as in `PACKAGES`; None if it is not installed.
        backend: of Keras.
        legacy: value of the environment variable TF_USE_LEGACY_KERAS.
    """
    found = []
    tensorflow, keras = versions.get("tensorflow"), versions.get("keras")
    tf_keras = versions.get("tf_keras")
    for name in PACKAGES:
        if versions.get(name) is None and name not in OPTIONAL:
            found.append(f"{name} is not installed: `pip install {name}`.")
    if tensorflow and _parts(tensorflow) < (2, 16):
        found.append(
            f"TensorFlow {tensorflow} comes with Keras 2; tfprune wants 2.16 or newer: "
            "`pip install -U tensorflow`."
        )
    if keras and _parts(keras) < (3,):
        found.append(f"keras {keras} is Keras 2: `pip install -U 'keras>=3'`.")
    if tensorflow and tf_keras and _parts(tensorflow) != _parts(tf_keras):
        series = ".".join(map(str, _parts(tensorflow)))
        found.append(
            f"tf_keras {tf_keras} belongs to another TensorFlow than {tensorflow}; legacy models "
            f"may not load: `pip install 'tf_keras=={series}.*'`."
        )
    if legacy not in (None, "", "0", "False", "false"):
        found.append(
            "TF_USE_LEGACY_KERAS is set, so that `tf.keras` is tf_keras: models made with it go "
            "through tfmot. Unset it to prune Keras 3 models."
        )
    if backend not in ("tensorflow", "jax", "torch"):
        found.append(f"KERAS_BACKEND={backend} cannot train; tensorflow, jax and torch can.")
    elif versions.get(backend) is None:
        found.append(f"KERAS_BACKEND={backend}, which is not installed: `pip install {backend}`.")
    return found


def limits(versions: Mapping[str, str | None], backend: str) -> list[str]:
    """Return what cannot be done with these versions, while all else works.

    Args:
        versions: by package, as in `PACKAGES`.
        backend: of Keras.
    """
    found = []
    keras = versions.get("keras")
    if keras and (3,) <= _parts(keras) < (3, 12):
        found.append(f"keras {keras} has no `keras.distillation`; 3.12 and newer have.")
    if backend in ("jax", "torch"):
        found.append(
            "Scores by gradients, RigL and `export_variants` need KERAS_BACKEND=tensorflow, not "
            f"{backend}; `export_tflite` starts a process of TensorFlow."
        )
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _parts(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _runtimes(versions: Mapping[str, str | None]) -> tuple[Runtime, ...]:
    native = versions.get("ai-edge-litert") is not None
    remark = this_cpu().statement() if native else "`pip install ai-edge-litert`"
    return (Runtime("native", native, remark), _wasm(), _adb())


def _wasm() -> Runtime:
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing:
        return Runtime("wasm", False, f"needs {' and '.join(missing)}: https://nodejs.org")
    try:
        browser = find_browser_program(None)
    except MissingTool as error:
        return Runtime("wasm", False, str(error))
    return Runtime("wasm", True, f"LiteRT.js in {browser}; it has sparse kernels on any PC.")


def _adb() -> Runtime:
    if shutil.which("adb") is None:
        return Runtime("adb", False, "needs adb: `sudo apt install adb` on Debian and Ubuntu")
    return Runtime("adb", True, "adb is there; it wants a connected phone and `benchmark_model`.")
