"""What a search prints, and how it chooses among its trials."""

import pytest

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
