"""`permute_for_nm`: reorder the channels of a model so that N:M groups keep more magnitude."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from tfprune import masks, patterns
from tfprune.channels import structure
from tfprune.channels.admission import admit
from tfprune.channels.compilation import compile_like
from tfprune.channels.facts import Place
from tfprune.channels.structure import NOTHING, Structure
from tfprune.channels.surgery import Surgeon
from tfprune.channels.visit import reads_none
from tfprune.family import family
from tfprune.paths import listed, weights_for
from tfprune.patterns import NM
from tfprune.permutation.climbing import Grouped, climb
from tfprune.permutation.inputs import readers
from tfprune.permutation.rearranging import Rearrangement, positions
from tfprune.permutation.result import PermutationReport, PermutedWeight
from tfprune.registry import PrunableWeight
from tfprune.strip import pruned_layers

_ROUNDS = 10  # over all families; a second finds something only where a group has channels of two

_NO_CHANNEL = "what it reads is made by no layer, or its channels are not known"
_INPUT = "it reads the model's input, which no layer makes and which comes as it comes"


@dataclasses.dataclass
class _Target:
    """A weight with N:M groups, and what could be done about it.

    Attributes:
        path: of its layer.
        weight: with its variable and axes.
        columns: by the number of a family, its columns in the weight's rows.
        free: number of columns that can change places.
        reason: why the others cannot.
    """

    path: str
    weight: PrunableWeight
    columns: dict[int, np.ndarray]
    free: int
    reason: str

    def rows(self, value: np.ndarray) -> np.ndarray:
        """Return the scores of a value of the weight, groups along the rows."""
        assert self.weight.layout is not None  # the pattern fits
        return self.weight.layout.rows(masks.magnitudes(value))


def permute_for_nm(
    model: keras.Model,
    pattern: Any = "2:4",
    layers: str | Iterable[str] | None = None,
    *,
    ignore: str | Iterable[str] = (),
    tell: Callable[[str], None] | None = None,
) -> tuple[keras.Model, PermutationReport]:
    """Reorder channels so that an N:M pattern keeps more magnitude; the model computes the same.

    An N:M pattern zeroes weights in groups of neighbouring input channels, and which channels are
    neighbours is an accident. What a layer reads is put into another order, and so is what makes
    it: kernels, biases and norms of all layers that the channels go through. Do it before
    pruning, and prune with the same pattern.

    Args:
        model: a trained Sequential or Functional model of Keras 3, nested ones and shared layers
            included; or of tf_keras, which is taken over into Keras 3 first, uncompiled. It is not
            changed.
        pattern: an N:M pattern, such as "2:4" (two zeros in every four).
        layers: paths of the only layers to do it for. Where others read the same channels,
            theirs change places too, whatever they keep.
        ignore: paths of layers that will not be pruned so, which need not keep more.
        tell: called with a line of text as the work goes on.

    Returns:
        A model of the same graph, names and (up to rounding) outputs, compiled if the model was;
        and a `PermutationReport` with what each weight keeps, before and after. No weight that
        takes part keeps less than before. What cannot be reordered is listed with the reason.

    Example:

    ```python
    permuted, report = tfprune.permute_for_nm(model, "2:4")
    print(report)
    pruned = tfprune.prune_low_magnitude(permuted, schedule, sparsity_m_by_n=(2, 4))
    ```

    Raises:
        ValueError: a pattern that is not N:M; an unknown layer; a layer named in `layers` whose
            input channels cannot change places; nothing that the pattern fits; or a model that
            is wrapped for pruning, quantized, not built, or not Sequential or Functional.

    Source: Pool and Yu 2021, "Channel Permutations for N:M Sparsity".
    """
    pattern = patterns.get(pattern)
    if not isinstance(pattern, NM):
        raise ValueError(
            "Reordering channels helps N:M patterns only, whose groups are neighbouring channels. "
            f"Pass one such as '2:4'. Received: pattern='{pattern}'"
        )
    model = _admitted(model)
    read = structure.read(model)
    copy, surgeon = read.without(NOTHING)
    targets = _chosen(list(_targets(read, surgeon, pattern)), layers, ignore, pattern)
    source = _search(read, targets, pattern, tell or (lambda text: None))
    moved = Rearrangement(read.atoms, source)
    new = {id(before): after for before, after in surgeon.pairs}
    for variable in {id(p.variable): p.variable for p in read.atoms.places}.values():
        if id(variable) in new:
            new[id(variable)].assign(moved.cut(variable, variable.numpy()))
    compile_like(model, copy, surgeon.pairs, moved)
    rows = tuple(_row(target, moved, pattern) for target in targets)
    return copy, PermutationReport(model.name, str(pattern), rows)


def _admitted(model: Any) -> keras.Model:
    if family(model) is not None and model.built and pruned_layers(model):
        raise ValueError(
            "The model is wrapped for pruning already, and its masks belong to the present order "
            "of channels. Reorder first, then wrap; or strip it (`tfprune.strip_pruning`). "
            f"Received: model={model.name!r}"
        )
    return admit(model)


def _targets(read: Structure, surgeon: Surgeon, pattern: NM) -> Iterator[_Target]:
    """Yield the weights that the pattern fits, in the order of the model, shared layers once."""
    by_variable: dict[int, list[Place]] = {}
    for place in read.atoms.places:
        by_variable.setdefault(id(place.variable), []).append(place)
    fixed = _not_copied(read, surgeon)
    first = readers(read.model)
    for path, layer, weight in weights_for(read.model, pattern):
        places = by_variable.get(id(weight.variable), [])
        target = _target(read, path, weight, places, fixed)
        if target.reason == _NO_CHANNEL and id(layer) in first:
            target.reason = _INPUT
        yield target


def _not_copied(read: Structure, surgeon: Surgeon) -> np.ndarray:
    """Return the atoms in layers which the copy shares, as they cannot be made again."""
    copied = {id(before) for before, _ in surgeon.pairs}
    shared = [n for n, p in enumerate(read.atoms.places) if id(p.variable) not in copied]
    return np.unique(read.atoms.atom[np.isin(read.atoms.place, shared)])


def _target(
    read: Structure, path: str, weight: PrunableWeight, places: list[Place], fixed: np.ndarray
) -> _Target:
    """Look which input channels of a weight could change places, and why others could not."""
    assert weight.layout is not None
    atoms, layout = read.atoms, weight.layout
    sizes = [int(weight.variable.shape[axis]) for axis in layout.inputs]
    grid = np.arange(np.prod(sizes)).reshape(sizes)
    columns: dict[int, np.ndarray] = {}
    reasons: list[str] = []
    for place in (p for p in places if p.axis in layout.inputs):
        lying = np.where(place.ids < 0, -1, atoms.of[place.ids])
        if (lying < 0).any():
            reason = atoms.reason(place.ids)
            reasons.append(_NO_CHANNEL if reason in (None, reads_none(path)) else reason)
        members = np.unique(lying[lying >= 0])
        for number in np.unique(atoms.family[members]):
            own = np.flatnonzero(atoms.family == number)
            if np.isin(own, fixed).any():
                reasons.append("a layer on the way of its channels cannot be copied")
            elif number in columns:  # along two of its axes, so that two swaps would cross
                reasons.append("it reads the same channels along two axes")
                del columns[number]
            elif own.size == 1:
                reasons.append("no other channel lies where one of its channels does")
            else:
                at = positions(atoms, place, own)
                lanes = np.moveaxis(grid, layout.inputs.index(place.axis), 0)[at]
                columns[int(number)] = lanes.reshape(len(own), -1)
    if not places:
        known = dict(read.trace.unknown)
        reasons.append(f"no rule is known for its type, {known[path]}" if path in known else "")
    free = int(
        np.unique(np.concatenate([np.empty(0, int), *(c.ravel() for c in columns.values())])).size
    )
    reason = next(filter(None, reasons), "")
    if not free and not reason:
        reason = _NO_CHANNEL
    return _Target(path, weight, columns, free, reason)


def _chosen(
    targets: list[_Target],
    layers: str | Iterable[str] | None,
    ignore: str | Iterable[str],
    pattern: NM,
) -> list[_Target]:
    known = list(dict.fromkeys(target.path for target in targets))
    named, ignored = None if layers is None else listed(layers), listed(ignore)
    for name in [*(named or ()), *ignored]:
        if name not in known:
            raise ValueError(
                f"No layer of that path has a weight that {pattern} fits. Those that have are "
                f"{', '.join(map(repr, known))}. Received: {name!r}"
            )
    for name in named or ():
        own = [target for target in targets if target.path == name]
        if not any(target.free for target in own):
            raise ValueError(
                f"The input channels of '{name}' cannot change places: {own[0].reason}. Leave it "
                f"out of `layers`. Received: layers={named!r}"
            )
    left = [t for t in targets if (named is None or t.path in named) and t.path not in ignored]
    if not left:
        raise ValueError(
            f"There is no weight that {pattern} fits among the layers that take part. "
            f"Received: layers={named!r}, ignore={ignored!r}"
        )
    return left


def _search(
    read: Structure, targets: list[_Target], pattern: NM, say: Callable[[str], None]
) -> np.ndarray:
    """Return, for each atom, the one that takes its places."""
    source = np.arange(read.atoms.count)
    weights = [
        Grouped(target.rows(target.weight.variable.numpy()), pattern.zeros, pattern.group)
        for target in targets
    ]
    families = sorted({number for target in targets for number in target.columns})
    for _ in range(_ROUNDS):
        moved = False
        for done, number in enumerate(families, 1):
            readers = [n for n, target in enumerate(targets) if number in target.columns]
            say(f"Channels {done} of {len(families)}, read by {targets[readers[0]].path}")
            order = climb(
                [weights[n] for n in readers], [targets[n].columns[number] for n in readers]
            )
            members = np.flatnonzero(read.atoms.family == number)
            source[members] = source[members][order]
            moved |= bool((order != np.arange(order.size)).any())
        if not moved:
            break
    return source


def _row(target: _Target, moved: Rearrangement, pattern: NM) -> PermutedWeight:
    variable = target.weight.variable
    value = variable.numpy()

    def kept(rows: np.ndarray) -> float:
        mask, _ = masks.n_of_m(rows, pattern.zeros, pattern.group, 1.0)
        return float(rows.sum(where=mask, dtype=np.float64))

    before = target.rows(value)
    total = float(before.sum(dtype=np.float64))
    after = kept(target.rows(moved.cut(variable, value)))
    return PermutedWeight(
        layer=target.path,
        weight=target.weight.name,
        magnitude=total,
        before=kept(before) / total if total else 1.0,
        after=after / total if total else 1.0,
        free=target.free,
        reason=target.reason,
    )
