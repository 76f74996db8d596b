"""What every figure here must be read with: versions, machine and its load, date; and its file."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

RESULTS = pathlib.Path(__file__).parent / "results"

_PACKAGES = {
    "numpy": "numpy",
    "tensorflow": "tensorflow",
    "keras": "keras",
    "tf_keras": "tf_keras",
    "tfmot": "tensorflow-model-optimization",
    "jax": "jax",
}


def environment() -> dict[str, Any]:
    """Return versions, CPU, load and date, without importing anything heavy."""
    versions = {name: _version(package) for name, package in _PACKAGES.items()}
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load of the last 15 minutes": round(os.getloadavg()[2], 1),
        "python": platform.python_version(),
        **{name: version for name, version in versions.items() if version is not None},
    }


def save(path: pathlib.Path, figures: dict[str, Any]) -> None:
    """Write figures as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(figures, indent=1) + "\n")
    temporary.replace(path)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
