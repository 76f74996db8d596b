"""Which channels were removed, in the numbers of the model before: saved, and done again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from tfprune.channels.admission import admit
from tfprune.channels.compilation import compile_like
from tfprune.channels.structure import Structure, read
from tfprune.sources import check_source

History = list[dict[str, Any]]
"""One entry for each place: layer, weight, axis, its length `of`, and the positions `removed`.

`turn` is which of its layer's variables the weight is, as Keras may name it anew in a copy; files
written before it was there are read by names alone.
"""


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
                    "turn": place.turn,
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
        ValueError: the history does not fit the model or leaves nothing of a layer, the file holds
            none, or the model is one that `shrink` refuses.
        FileNotFoundError: there is no such file.
        OSError: the file cannot be read.

    Source: tfprune's own; a history is what `shrink` took down, and the cut is made as there.
    """
    entries = _entries(done)
    model = admit(model)
    structure = read(model)
    by_name = {(p.layer, p.name, p.axis): p for p in structure.atoms.places}
    by_turn = {(p.layer, p.turn, p.axis): p for p in structure.atoms.places}
    chosen = [np.empty(0, int)]
    for entry in entries:
        layer, turn, axis = entry["layer"], entry.get("turn"), entry["axis"]
        place = by_turn.get((layer, turn, axis))
        if turn is None or place is None or _bare(place.name) != _bare(entry["weight"]):
            place = by_name.get((layer, entry["weight"], axis))
        if place is None or place.ids.size != entry["of"]:
            raise ValueError(
                "The history was made for another model: it cuts the weight "
                f"'{entry['layer']}/{entry['weight']}' of {entry['of']} channels, and the model "
                f"has {'none of that name' if place is None else place.ids.size}. Take the history "
                f"of this architecture{_named_anew(layer, by_name)}. "
                f"Received: axis {axis} of that weight"
            )
        ids = place.ids[entry["removed"]]
        atom = structure.atoms.of[ids[ids >= 0]]
        if (ids < 0).any() or (atom < 0).any():
            raise ValueError(
                f"The history removes channels of '{entry['layer']}' that must stay here: "
                f"{structure.atoms.reason(ids) or 'it is the only one'}. Take the history of this "
                f"architecture. Received: the positions {str(entry['removed'])[:100]}"
            )
        chosen.append(atom)
    removed = np.unique(np.concatenate(chosen))
    for place, left in zip(structure.atoms.places, structure.atoms.lengths(removed), strict=True):
        if left == 0:
            raise ValueError(
                f"The history removes all {place.ids.size} channels of '{place.layer}', and a "
                "layer keeps at least one. `shrink` writes no such history: was it changed, or put "
                f"together from several? Received: {len(entries)} entries"
            )
    small, surgeon = structure.without(removed)
    compile_like(model, small, surgeon.pairs, surgeon)
    return small


def _bare(path: str) -> str:
    """Return a path without the numbers that Keras puts behind names."""
    return re.sub(r"_\d+(?=/|$)", "", path)


def _named_anew(layer: str, known: Iterable[tuple]) -> str:
    """Return what to do where a layer seems to have only another number behind its name."""
    others = {path for path, *_ in known} - {layer}
    near = sorted(path for path in others if _bare(path) == _bare(layer))
    if layer in {path for path, *_ in known} or not near:
        return ""
    return (
        f". Or do only names differ ('{layer}' there, '{near[0]}' here)? Keras numbers layers "
        "without a name on through a session: give them names, or call "
        "`keras.utils.clear_session()` before the model is built"
    )


def _entries(done: History | str | os.PathLike) -> History:
    """Return the entries of a history, read from its file if need be.

    Raises:
        ValueError: it is none.
    """
    found: Any = done
    if isinstance(done, (str, os.PathLike)):
        try:
            source = check_source(done, "a report saved by `report.to_json(path)`", "done")
            found = json.loads(source.read_text("utf-8"))
        except (ValueError, RecursionError) as error:  # not UTF-8, not JSON
            raise ValueError(
                f"The file holds no JSON ({error}), and a report saved by `report.to_json(path)` "
                f"is expected. Received: {os.fspath(done)!r}"
            ) from error
        found = found.get("history") if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(map(_is_entry, found)):
        raise ValueError(
            "`replay` takes `report.history` or the path of a report that `report.to_json(path)` "
            f"has saved; this holds no history. Received: {str(done)[:200]}"
        )
    return found


def _is_entry(entry: Any) -> bool:
    """Tell whether a value has what an entry of a history has, each of its type."""
    if not isinstance(entry, dict) or not {"layer", "weight", "axis", "of"} <= entry.keys():
        return False
    of, removed = entry["of"], entry.get("removed")
    return (
        isinstance(of, int)
        and isinstance(entry["layer"], str)
        and isinstance(entry["weight"], str)
        and isinstance(entry["axis"], int)
        and isinstance(entry.get("turn"), (int, type(None)))
        and isinstance(removed, list)
        and all(isinstance(n, int) and 0 <= n < of for n in removed)
    )
