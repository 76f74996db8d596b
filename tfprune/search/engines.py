"""What to try next: by halving a range of sparsities, or as Optuna samples."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tfprune.allocate import AllocatedLayer, Allocation
from tfprune.search.result import Trial

LAYERS, MODEL = "layers", "model"
_METHOD = "method"
_COUNTLESS = 1e-12  # a cost below this is none

Spread = Callable[[float, str, "Sequence[str] | None"], Allocation]
"""(sparsity, method, layers) -> how the sparsity is spread over these layers."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What one trial prunes.

    Attributes:
        spread: how much of each layer.
        settings: what was sampled, by name; empty if nothing was.
    """

    spread: Allocation
    settings: dict[str, Any]


class Engine(Protocol):
    """Chooses trials one by one."""

    def ask(self, earlier: Trial | None) -> Choice:
        """Return the next trial; what an earlier run did at this place is done again."""
        ...

    def tell(self, trial: Trial, over: float) -> None:
        """Learn from a trial, in the order of asking; `over` is what it lost beyond the budget."""
        ...


class Bisection:
    """Sparser while trials are inside the budget, denser when one is not.

    A trial that fails says nothing of its sparsity: a denser one is next, and when that has a
    value, sparser ones are tried again. Only if these fail too, what is sparser is given up.

    Args:
        between: least and greatest sparsity.
        method: how zeros are spread.
        spread: does it.
    """

    def __init__(self, between: tuple[float, float], method: str, spread: Spread) -> None:
        self._low, self._high = between
        self._spread, self._method = spread, method
        self._failed: list[float] = []  # between the two, as far as is known
        self._failing = False  # whether the trial before failed
        for end in between:  # a method that refuses a sparsity does so before anything is trained
            spread(end, method, None)

    def ask(self, earlier: Trial | None) -> Choice:
        """Return the middle of what is left, or of what is denser than all that failed."""
        high = min(self._failed) if self._failing else self._high
        middle = round((self._low + high) / 2, 6)
        return Choice(self._spread(middle, self._method, None), {})

    def tell(self, trial: Trial, over: float) -> None:
        """Leave out one half; which one is not known of a trial that failed."""
        if trial.value is None:
            known_to_fail, alone = bool(self._failed), not self._failing
            self._failed.append(trial.sparsity)
            if known_to_fail and alone:  # between two failures a denser trial did not fail
                self._high, self._failed = min(self._failed), []
            self._failing = bool(self._failed)
            return
        self._failing = False
        if trial.within:
            self._low = trial.sparsity
        else:
            self._high = trial.sparsity
        self._failed = [one for one in self._failed if self._low < one < self._high]


class Sampling:
    """Sparsities of layers or groups, and methods, sampled by Optuna where trials did well.

    The order that Optuna is told is that of the search: inside the budget by cost, beyond it by
    what was lost. Its sampler is made anew for each trial, with a seed of its own, so that a
    search that was interrupted goes on as if it had not been.

    Args:
        between: least and greatest sparsity of each group.
        methods: how zeros may be spread over the layers of a group.
        groups: `LAYERS` (each by itself), `MODEL` (one group of all), or {name: paths}.
        spread: does it.
        seed: of the samples.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: groups that are empty or overlap, or a layer that cannot be pruned.

    Source: Akiba et al. 2019, "Optuna"; Bergstra et al. 2011 (its sampler, TPE).
    """

    def __init__(
        self,
        between: tuple[float, float],
        methods: Sequence[str],
        groups: str | Mapping[str, Sequence[str]],
        spread: Spread,
        seed: int,
    ) -> None:
        self._optuna = _optuna()
        self._between, self._methods, self._spread, self._seed = between, methods, spread, seed
        self._every = spread(between[0], "uniform", None)
        self._groups = _grouped(groups, [row.layer for row in self._every.layers])
        if len(methods) > 1 and all(len(layers) == 1 for layers in self._groups.values()):
            raise ValueError(
                "Methods differ only in how they spread zeros over several layers, and each group "
                f"has one layer. Pass `groups='{MODEL}'`, groups of your own, or one method. "
                f"Received: method={list(methods)!r}"
            )
        for method, layers in itertools.product(methods, self._groups.values()):
            for end in between:
                self._spread_group(end, method, layers)
        level = self._optuna.logging.get_verbosity()
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        try:
            self._study = self._optuna.create_study(direction="minimize")
        finally:
            self._optuna.logging.set_verbosity(level)
        distributions = self._optuna.distributions
        self._space: dict[str, Any] = {
            name: distributions.FloatDistribution(*between) for name in self._groups
        }
        if len(methods) > 1:
            self._space[_METHOD] = distributions.CategoricalDistribution(list(methods))
        self._asked: collections.deque[Any] = collections.deque()

    def ask(self, earlier: Trial | None) -> Choice:
        """Return what Optuna samples, or what it sampled before."""
        number = len(self._study.trials)
        if earlier is not None and set(earlier.settings) == set(self._space):
            self._study.enqueue_trial(earlier.settings)
        self._study.sampler = self._optuna.samplers.TPESampler(seed=self._seed + number)
        asked = self._study.ask(self._space)
        self._asked.append(asked)
        settings = dict(asked.params)
        return Choice(self._together(settings), settings)

    def tell(self, trial: Trial, over: float) -> None:
        """Tell Optuna how good the trial was; a failed one tells it nothing."""
        states = self._optuna.trial.TrialState
        state, value = states.FAIL, None
        if trial.cost is not None:
            state = states.COMPLETE
            value = -1.0 / max(trial.cost, _COUNTLESS) if trial.within else over
        self._study.tell(self._asked.popleft(), value, state)

    def _spread_group(self, sparsity: float, method: str, layers: Sequence[str]) -> Allocation:
        return self._spread(sparsity, method if len(layers) > 1 else "uniform", layers)

    def _together(self, settings: Mapping[str, Any]) -> Allocation:
        """Return one allocation of all groups; layers in none stay dense."""
        method = settings.get(_METHOD, self._methods[0])
        parts = [
            self._spread_group(settings[name], method, layers)
            for name, layers in self._groups.items()
        ]
        found = {row.layer: row for part in parts for row in part.layers}
        rows = tuple(
            found.get(row.layer, AllocatedLayer(row.layer, row.size, 0.0, False, "in no group"))
            for row in self._every.layers
        )
        chosen = [row for row in rows if row.chosen]
        zeros = sum(row.size * row.sparsity for row in chosen)
        total = zeros / sum(row.size for row in chosen)
        return dataclasses.replace(parts[0], method="optuna", sparsity=total, layers=rows)


def _grouped(groups: Any, paths: list[str]) -> dict[str, list[str]]:
    if groups == LAYERS:
        return {path: [path] for path in paths}
    if groups == MODEL:
        return {MODEL: paths}
    if not isinstance(groups, Mapping) or not groups or not all(groups.values()):
        raise ValueError(
            f"`groups` is '{LAYERS}' (a sparsity for each), '{MODEL}' (one for all), or a mapping "
            "of names to paths of layers, such as {'early': ['conv1', 'conv2']}. "
            f"Received: groups={groups!r}"
        )
    found = {str(name): list(layers) for name, layers in groups.items()}
    every = list(itertools.chain.from_iterable(found.values()))
    twice = sorted({path for path in every if every.count(path) > 1})
    if twice or _METHOD in found:
        what = f"twice: {', '.join(map(repr, twice))}" if twice else f"the name '{_METHOD}'"
        raise ValueError(
            f"Each layer is in one group at most, and no group is called '{_METHOD}'. "
            f"Received: groups with {what}"
        )
    return found


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "engine='optuna' needs Optuna, which is not installed: run "
            "`pip install 'tfprune[optuna]'`, or take engine='bisection', which needs nothing. "
            "Received: engine='optuna'"
        ) from error
    return optuna
