"""Several trials under way: learnt from in their order, kept as they end."""

import json
import types

from tfprune.search.course import Course
from tfprune.search.record import Record
from tfprune.search.result import Trial


class Engine:
    """Counts up, and remembers what it was told."""

    def __init__(self):
        self.asked, self.told = 0, []

    def ask(self, earlier):
        self.asked += 1
        spread = types.SimpleNamespace(sparsity=self.asked / 10)
        return types.SimpleNamespace(spread=spread, settings={})

    def tell(self, trial, over):
        self.told.append((trial.sparsity, round(over, 6)))


class Logs:
    def begin(self, number):
        pass

    def write(self, number, trial):
        pass


def course(folder, total, ahead):
    engine = Engine()
    kept = Record(folder, {}, None)
    return Course(total, ahead, engine, kept, Logs(), None, 0.9, lambda text: None), engine


def judged(number, value):
    sparsity = (number + 1) / 10
    return Trial(sparsity, sparsity, value, 1 - sparsity, value >= 0.9)


def recorded(folder):
    found = json.loads((folder / "search.json").read_text())["trials"]
    return [(one["value"], one["failure"]) for one in found]


def test_the_engine_learns_in_the_order_of_numbers_whichever_ends_first(tmp_path):
    search, engine = course(tmp_path, 4, 2)
    assert [search.next()[0], search.next()[0], search.next()] == [0, 1, None]
    search.done(1, judged(1, 0.95), None)
    assert engine.told == []
    assert search.next() is None  # the third would not know of the first
    assert recorded(tmp_path) == [(None, "not finished"), (0.95, "")]
    search.done(0, judged(0, 0.8), None)
    assert engine.told == [(0.1, 0.1), (0.2, -0.05)]
    assert [search.next()[0], search.next()[0], search.next()] == [2, 3, None]
    search.done(3, judged(3, 0.7), None)
    assert not search.over
    search.done(2, judged(2, 0.92), None)
    assert search.over
    assert search.next() is None
    assert search.best.sparsity == 0.3
    assert [value for value, _ in recorded(tmp_path)] == [0.8, 0.95, 0.92, 0.7]


def test_a_trial_that_was_overtaken_is_made_when_the_search_goes_on(tmp_path):
    first, _ = course(tmp_path, 2, 2)
    assert [first.next()[0], first.next()[0]] == [0, 1]
    first.done(1, judged(1, 0.95), None)
    again, _ = course(tmp_path, 2, 2)
    assert again.next()[0] == 0
    assert recorded(tmp_path)[1] == (0.95, "")
