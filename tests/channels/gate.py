"""The gate that every small graph has to pass: both ways of removal, and life after them."""

import json

import keras
import numpy as np

from channels.checks import (
    answers,
    difference,
    inputs_for,
    masked,
    permuted,
    randomise,
    some_of_each_family,
    some_of_some_families,
    trains,
)
from tfprune.channels.history import history, replay
from tfprune.channels.structure import NOTHING, read

TOLERANCE = 1e-5


def pass_gate(model, folder, also=()):
    """Assert identity, permutation, cut = mask, replay, and saving; return the small model.

    Args:
        model: a small graph.
        folder: to save in.
        also: see `checks.masked`.
    """
    structure = read(randomise(model))
    x = inputs_for(model)
    before = answers(model, x)

    same, _ = structure.without(NOTHING)
    assert difference(answers(same, x), before) < 1e-6

    with permuted(structure) as other:
        assert (other != np.arange(other.size)).all() or 1 in structure.atoms.sizes()
        assert difference(answers(model, x), before) < TOLERANCE

    uneven = some_of_some_families(structure)
    if uneven.size:
        cut_is_mask(model, structure, uneven, x, also)
    removed = some_of_each_family(structure)
    small, after, wanted = cut_is_mask(model, structure, removed, x, also)
    assert difference(answers(model, x), before) == 0  # the model itself is as it was
    assert read(small).cost.macs(NOTHING) == structure.cost.macs(removed)
    if structure.atoms.count:
        assert difference(wanted, before) > 1e-3  # else the comparison would show nothing
        assert small.count_params() < model.count_params()

    again = replay(model, json.loads(json.dumps(history(structure, removed))))
    assert difference(answers(again, x), after) == 0

    small.save(folder / "small.keras")
    loaded = keras.models.load_model(folder / "small.keras", safe_mode=False)
    assert difference(answers(loaded, x), after) < 1e-6
    assert trains(again, x)
    return small


def cut_is_mask(model, structure, removed, x, also=()):
    """Assert that a model without atoms computes what the masked one does, and is as large as told.

    Returns:
        The small model, its answers, and those of the masked one.
    """
    small, _ = structure.without(removed)
    after = answers(small, x)
    with masked(structure, removed, also):
        wanted = answers(model, x)
    assert difference(after, wanted) < TOLERANCE
    assert small.count_params() == structure.cost.params(removed)
    return small, after, wanted
