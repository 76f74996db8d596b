"""The hard cases: families as worked out by hand, and every gate on each of them."""

import json

import keras
import numpy as np
import pytest

from channels.checks import (
    answers,
    difference,
    inputs_for,
    masked,
    permuted,
    randomise,
    some_of_each_family,
)
from channels.graphs import CASES
from channels.graphs.cases import as_written, families_of, frozen_in, positions_of
from tfprune.channels.history import history, replay
from tfprune.channels.structure import NOTHING, read

TOLERANCE = 1e-5
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@EVERY
def test_families_are_those_worked_out_by_hand(case):
    structure = read(case.build())
    assert families_of(structure) == sorted(map(as_written, case.families))
    frozen = frozen_in(structure)
    assert frozen.keys() == case.frozen.keys()
    for place, (count, reason) in case.frozen.items():
        assert frozen[place][0] == count
        assert reason in frozen[place][1]
    for place, position, other, positions in case.ties:
        assert positions_of(structure, place, position, other) == positions
    assert {kind for _, kind in structure.trace.unknown} == set(case.unknown)


@EVERY
def test_cut_is_mask_and_the_rest_of_the_gate(case, tmp_path):
    model = randomise(case.build())
    structure = read(model)
    x = inputs_for(model)
    before = answers(model, x)

    same, _ = structure.without(NOTHING)
    assert difference(answers(same, x), before) < 1e-6

    with permuted(structure) as other:
        assert not structure.atoms.count or (other != np.arange(other.size)).any()
        assert difference(answers(model, x), before) < TOLERANCE

    removed = some_of_each_family(structure)
    small, _ = structure.without(removed)
    after = answers(small, x)
    with masked(structure, removed, case.also):
        wanted = answers(model, x)
    assert difference(after, wanted) < TOLERANCE
    assert difference(answers(model, x), before) == 0  # the model itself is as it was
    assert small.count_params() == structure.cost.params(removed)
    assert read(small).cost.macs(NOTHING) == structure.cost.macs(removed)
    if case.families:
        assert difference(wanted, before) > 1e-3  # else the comparison would show nothing
        assert small.count_params() < model.count_params()

    again = replay(model, json.loads(json.dumps(history(structure, removed))))
    assert difference(answers(again, x), after) == 0

    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras", safe_mode=False)
    assert difference(answers(loaded, x), after) < 1e-6
