"""Which channels were removed, in the numbers of the model before: saved, and done again."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import keras
import numpy as np

from tfprune.channels.compilation import compile_like
from tfprune.channels.structure import Structure, read

History = list[dict[str, Any]]
"""One entry for each place: layer, weight, axis, its length `of`, and the positions `removed`."""


def history(structure: Structure, removed: np.ndarray) -> History:
    """Return what was removed, each atom where it is found first."""
    atoms = structure.atoms
    gone = np.zeros(atoms.count + 1, bool)  # the last stands for what must stay
    gone[removed] = True
    found: History = []
    for place in atoms.places:
        if place.role == "in" and not gone.any():
            break
        atom = np.where(place.ids < 0, -1, atoms.of[place.ids])
        here = (atom >= 0) & gone[atom]
        if here.any():
            found.append(
                {
                    "layer": place.layer,
                    "weight": place.name,
                    "axis": place.axis,
                    "of": int(place.ids.size),
                    "removed": np.flatnonzero(here).tolist(),
                }
            )
            gone[atom[here]] = False
    return found


def replay(model: keras.Model, done: History | str | os.PathLike) -> keras.Model:
    """Cut a fresh copy of a model as another was cut; its own weights stay where they are.

    Args:
        model: of the same architecture as the one that was shrunk.
        done: `report.history`, or the path of a report saved by `report.to_json`.

    Returns:
        The smaller model, a new one.

    Example: `small = tfprune.replay(fresh_model, "shrink.json")`

    Raises:
        ValueError: the history does not fit the model.
    """
    entries: Any = done
    if isinstance(done, (str, os.PathLike)):
        content = json.loads(pathlib.Path(done).read_text("utf-8"))
        entries = content["history"] if isinstance(content, dict) else content
    structure = read(model)
    by_name = {(p.layer, p.name, p.axis): p for p in structure.atoms.places}
    chosen = [np.empty(0, int)]
    for entry in entries:
        place = by_name.get((entry["layer"], entry["weight"], entry["axis"]))
        if place is None or place.ids.size != entry["of"]:
            raise ValueError(
                "The history was made for another model: it cuts the weight "
                f"'{entry['layer']}/{entry['weight']}' of {entry['of']} channels, and the model "
                f"has {'none of that name' if place is None else place.ids.size}."
            )
        ids = place.ids[entry["removed"]]
        atom = structure.atoms.of[ids[ids >= 0]]
        if (ids < 0).any() or (atom < 0).any():
            raise ValueError(
                f"The history removes channels of '{entry['layer']}' that must stay here: "
                f"{structure.atoms.reason(ids) or 'it is the only one'}."
            )
        chosen.append(atom)
    small, surgeon = structure.without(np.unique(np.concatenate(chosen)))
    compile_like(model, small, surgeon)
    return small
