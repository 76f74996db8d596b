"""What a search prints, and how it chooses among its trials."""

import pytest
from searching import network

from tfprune.search.notes import notes
from tfprune.search.result import SearchResult, Trial, preferred, reason_for


def result(objective, *costs):
    trials = tuple(Trial(0.5, 0.5, 0.9, cost, True) for cost in costs)
    failed = Trial(0.75, None, None, None, False, "out of memory")
    return SearchResult(
        objective, "accuracy", 0.91, 0.02, (*trials, failed), 0, True, "", None, None
    )


@pytest.mark.parametrize(
    ("objective", "cost", "columns", "cells"),
    [
        ("sparsity", 0.5, ["asked", "zeros", "accuracy", "lost"], []),
        ("size", 2960.0, ["asked", "zeros", "accuracy", "lost", "bytes"], ["2,960"]),
        ("latency", 0.25, ["asked", "zeros", "accuracy", "lost", "ms"], ["0.250"]),
    ],
)
def test_no_column_says_what_another_one_says(objective, cost, columns, cells):
    text = str(result(objective, cost))
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines[1] == columns
    assert ["*", "50.0%", "50.0%", "0.9000", "0.0100", *cells] in lines
    assert ["75.0%", "failed:", "out", "of", "memory"] in lines


@pytest.mark.parametrize(
    ("objective", "costs", "label", "along"),
    [
        ("sparsity", (0.5, 0.25), "zeros in the pruned weights", [0.5, 0.75]),
        ("size", (2960.0, 1800.0), "bytes of the sparse float32 file", [1800.0, 2960.0]),
        ("latency", (0.25, 0.2), "milliseconds of the sparse float32 file", [0.2, 0.25]),
    ],
)
def test_the_curve_is_over_what_the_objective_counts(objective, costs, label, along):
    import matplotlib

    matplotlib.use("Agg")
    trials = (Trial(0.5, 0.5, 0.9, costs[0], True), Trial(0.75, 0.75, 0.8, costs[1], False))
    failed = Trial(0.6, None, None, None, False, "out of memory")
    found = SearchResult(
        objective, "accuracy", 0.91, 0.02, (*trials, failed), 0, True, "", None, None
    )
    axes = found.plot()
    curve, _, _, star = axes.get_lines()
    assert axes.get_xlabel() == label
    assert list(curve.get_xdata()) == along
    chosen = 0.5 if objective == "sparsity" else costs[0]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([chosen], [0.9])


def test_inside_the_budget_the_cheapest_is_chosen_and_outside_that_which_lost_least():
    dear, cheap = Trial(0.5, 0.5, 0.9, 0.5, True), Trial(0.7, 0.7, 0.89, 0.3, True)
    outside, worse = Trial(0.9, 0.9, 0.6, 0.1, False), Trial(0.95, 0.95, 0.3, 0.05, False)
    assert preferred(cheap, dear)
    assert not preferred(outside, dear)
    assert preferred(dear, outside)
    assert preferred(outside, worse)
    assert preferred(outside, None)
    assert not preferred(Trial(0.5, None, None, None, False, "failed"), None)
    assert reason_for(cheap, 0.91, 0.02, [cheap]) == (
        "70.0% zeros cost 0.0200, inside the budget of 0.02."
    )


BETWEEN = (0.5, 0.7)
IN, SPARSER = Trial(0.6, 0.6, 0.9, 0.4, True), Trial(0.65, 0.65, 0.9, 0.35, True)
BEYOND, FAILED = Trial(0.675, 0.7, 0.4, 0.3, False), Trial(0.62, None, None, None, False, "broken")


@pytest.mark.parametrize(
    ("trials", "told"),
    [
        ([IN, SPARSER], ["nothing sparser than 65.0%", "`between` (0.7) or `trials` (2)."]),
        ([FAILED, SPARSER], ["Trial 1 has failed", "nothing sparser than 65.0% was tried"]),
        ([IN, BEYOND], []),
        ([IN, FAILED], ["Trial 2 has failed", "nothing sparser than 60.0% was measured"]),
        ([FAILED], []),
        ([BEYOND], []),
    ],
)
def test_that_something_else_than_the_budget_was_the_limit(trials, told):
    found = " ".join(notes(network(), trials, [], BETWEEN))
    assert all(text in found for text in told)
    assert found.count("nothing sparser") == bool(told)
