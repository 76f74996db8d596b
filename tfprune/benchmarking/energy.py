"""Read the machine's energy meter, where it has one that this user may read (Linux powercap).

The meter counts the whole processor package: idle cores, other programs and all. What is reported
is therefore an upper bound that compares files measured together, not a property of a file.

Source: https://docs.kernel.org/power/powercap/powercap.html
"""

from __future__ import annotations

import pathlib
import re

POWERCAP = pathlib.Path("/sys/class/powercap")
NO_METER = "no meter"
_PACKAGE = re.compile(r"[a-z-]*rapl:\d+")  # `intel-rapl:0`, on AMD too; `:0:0` are its parts


class Meter:
    """The energy counters of all processor packages.

    Attributes:
        folders: one for each package.
    """

    def __init__(self, folders: list[pathlib.Path]):
        self.folders = folders
        self._ranges = [_number(folder / "max_energy_range_uj") for folder in folders]

    def read(self) -> tuple[int, ...]:
        """Return the counters in microjoules; they start again at 0 after their range."""
        return tuple(_number(folder / "energy_uj") for folder in self.folders)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy between two readings in joules, less than one range apart."""
        total = 0
        for start, end, whole in zip(before, after, self._ranges, strict=True):
            total += end - start if end >= start else end - start + whole
        return total / 1e6


def find_meter(root: pathlib.Path = POWERCAP) -> tuple[Meter | None, str]:
    """Return the meter and where it is, or None and why there is none.

    Args:
        root: the folder of powercap.
    """
    if not root.is_dir():
        return None, NO_METER
    folders = sorted(f for f in root.iterdir() if _PACKAGE.fullmatch(f.name))
    if not folders:
        return None, NO_METER
    try:
        meter = Meter(folders)
        meter.read()
    except PermissionError:
        return None, f"{NO_METER} that this user may read: {folders[0]}/energy_uj is for root"
    except (OSError, ValueError):
        return None, NO_METER
    names = ", ".join(folder.name for folder in folders)
    return meter, f"powercap ({names}): the whole processor, idle power and other programs included"


def _number(path: pathlib.Path) -> int:
    return int(path.read_text("ascii"))
