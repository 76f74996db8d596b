"""The course of a search: which trial is next, what is learnt, which is best so far."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras

from tfprune.allocate import Allocation
from tfprune.search.attempts import Attempts
from tfprune.search.engines import Choice, Engine
from tfprune.search.logs import Logs
from tfprune.search.record import Record
from tfprune.search.result import Trial, preferred


class Course:
    """Says which trial is to be trained next, and takes those that were.

    Several may be under way. Whichever ends first, the engine learns from them in the order of
    their numbers, so that a search finds the same however long its trials take.

    Args:
        total: how many trials there are.
        ahead: how many may be under way.
        chooser: says what a trial prunes.
        kept: those that are done.
        logs: shows them in TensorBoard.
        attempts: judges them.
        least: value that is still inside the budget.
        say: called with a line of text.

    Attributes:
        best, chosen, allocation: the trial to choose, its model (None if the folder has it), and
            how its zeros are spread; all None before any has a value.
        again: numbers of the trials that the folder had, from 1.

    Example:

    ```python
    while (one := course.next()) is not None:
        number, choice = one
        course.done(number, *attempts.trained(choice))
    ```
    """

    def __init__(
        self,
        total: int,
        ahead: int,
        chooser: Engine,
        kept: Record,
        logs: Logs,
        attempts: Attempts,
        least: float,
        say: Callable[[str], None],
    ) -> None:
        self._total, self._ahead, self._least, self.say = total, ahead, least, say
        self._chooser, self._kept, self._logs, self._attempts = chooser, kept, logs, attempts
        self._asked = self._told = 0
        self._choices: dict[int, Choice] = {}
        self._waiting: dict[int, tuple[Trial, keras.Model | None]] = {}
        self.best: Trial | None = None
        self.chosen: keras.Model | None = None
        self.allocation: Allocation | None = None
        self.again: list[int] = []

    @property
    def over(self) -> bool:
        """Whether every trial is done."""
        return self._told == self._total

    def choice(self, number: int) -> Choice:
        """Return what a trial that is under way prunes."""
        return self._choices[number]

    def next(self) -> tuple[int, Choice] | None:
        """Return the number (from 0) of a trial to train, and what it prunes.

        None if there is none before another one is done.
        """
        while self._asked < self._total and self._asked - self._told < self._ahead:
            number = self._asked
            choice = self._chooser.ask(self._kept.earlier(number))
            self._asked += 1
            self._choices[number] = choice
            sparsity = choice.spread.sparsity
            title = f"Trial {number + 1} of {self._total}: {sparsity:.1%} zeros"
            trial = self._kept.usable(number, sparsity)
            if trial is None:
                self.say(title)
                self._logs.begin(number + 1)
                return number, choice
            self.say(f"{title}, taken from the folder")
            self.again.append(number + 1)
            self._settle(number, trial, self._kept.model(trial) if trial.value is None else None)
        return None

    def done(self, number: int, trial: Trial, made: keras.Model | None) -> None:
        """Keep and judge a trial that was trained; None is the model of one that failed."""
        self._settle(number, self._kept.keep(number, trial, made), made)

    def _settle(self, number: int, trial: Trial, made: keras.Model | None) -> None:
        if made is not None:
            trial = self._attempts.judged(trial, made, self._choices[number].spread)
        self._kept.add(number, trial)
        self._logs.write(number + 1, trial)
        self._waiting[number] = trial, made
        while self._told in self._waiting:
            self._learn(*self._waiting.pop(self._told))

    def _learn(self, trial: Trial, made: keras.Model | None) -> None:
        lost = self._least - trial.value if trial.value is not None else math.inf
        self._chooser.tell(trial, lost)
        choice = self._choices.pop(self._told)
        self._told += 1
        if preferred(trial, self.best):
            self.best, self.chosen, self.allocation = trial, made, choice.spread
