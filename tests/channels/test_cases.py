"""The hard cases: families as worked out by hand, and the gate on each of them."""

import pytest

from channels.gate import pass_gate
from channels.graphs import CASES
from channels.graphs.cases import as_written, families_of, frozen_in, positions_of
from tfprune.channels.structure import read

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
    pass_gate(case.build(), tmp_path, case.also)
