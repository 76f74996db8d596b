"""Where bisection goes, above all after trials that failed, which say nothing of sparsity."""

import pytest
from searching import cut_only, data, network

import tfprune
from tfprune.search.engines import Bisection
from tfprune.search.result import Trial


class Spread:
    def __init__(self, sparsity):
        self.sparsity = sparsity


def course(outcomes, between=(0.0, 0.8)):
    """Return the sparsities that are tried if trials are inside (w), beyond (b) or fail (f)."""
    engine = Bisection(between, "global", lambda sparsity, method, layers: Spread(sparsity))
    found = []
    for outcome in outcomes:
        sparsity = engine.ask(None).spread.sparsity
        value = None if outcome == "f" else 0.5
        engine.tell(Trial(sparsity, value, value, value, outcome == "w"), 0.0)
        found.append(sparsity)
    return found


@pytest.mark.parametrize(
    ("outcomes", "tried"),
    [
        ("wbwb", [0.4, 0.6, 0.5, 0.55]),
        ("fwww", [0.4, 0.2, 0.5, 0.65]),  # past the one that failed
        ("fbww", [0.4, 0.2, 0.1, 0.15]),
        ("ffwww", [0.4, 0.2, 0.1, 0.45, 0.625]),  # two in a row: what failed may be the machine
        ("fwfww", [0.4, 0.2, 0.5, 0.3, 0.35]),  # failed again, with one that did not between
        ("fwbfw", [0.4, 0.2, 0.5, 0.35, 0.275]),
        ("ffff", [0.4, 0.2, 0.1, 0.05]),
    ],
)
def test_where_it_goes(outcomes, tried):
    assert course(outcomes) == pytest.approx(tried)


def search(*failing, trials=3, budget=0.9):
    model, calls = network(), []

    def train(pruned):
        calls.append(1)
        if len(calls) in failing:
            raise RuntimeError("GPU is busy")
        cut_only(pruned)

    return tfprune.search(
        model, data(model), budget, train=train, trials=trials, between=(0.1, 0.9)
    )


def test_one_failure_does_not_keep_the_search_below_it():
    found = search(1)
    assert [trial.sparsity for trial in found.trials] == pytest.approx([0.5, 0.3, 0.6])
    assert found.best == 2
    assert "Trial 1 has failed (RuntimeError: GPU is busy)." in found.reason
    assert "was measured" not in found.reason  # the failure was not the limit


def test_the_reason_says_what_was_not_tried():
    found = search(2, 3, trials=3)
    assert found.best == 0
    expected = (
        "Trials 2, 3 have failed (the last: RuntimeError: GPU is busy). So nothing sparser than "
        "50.0% was measured. With `folder` a second call makes again what failed."
    )
    assert found.reason.endswith(expected)
