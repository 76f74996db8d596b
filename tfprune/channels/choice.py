"""From scores to the atoms that a target asks for, round by round, or why it cannot be met."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tfprune.channels import selection, targets
from tfprune.channels.report import reasons
from tfprune.channels.selection import Limits, Order, Scope
from tfprune.channels.structure import NOTHING, Structure
from tfprune.channels.targets import ImpossibleTarget, Target


@dataclasses.dataclass(frozen=True)
class Choice:
    """What may be removed from a model, and what must not.

    Attributes:
        read: the model.
        may_go: whether each atom may go at all.
        scope: "global" or "local", see `selection.order`.
        limits: what families keep.
    """

    read: Structure
    may_go: np.ndarray
    scope: Scope
    limits: Limits

    def order(self, scores: np.ndarray) -> Order:
        """Return the order in which atoms would be removed."""
        return selection.order(self.read.atoms, scores, self.may_go, self.scope, self.limits)

    def removed(self, goal: Target, part: float, scores: np.ndarray) -> np.ndarray:
        """Return the atoms to remove once this part of the way is gone.

        Args:
            goal: in channels, MACs or parameters.
            part: 1 for the whole way.
            scores: importance of each atom; minus infinity for those that are gone already.

        Raises:
            ImpossibleTarget: so much cannot be removed.
        """
        if goal.by_layer is not None:
            return self._by_layer(goal, part, scores)
        order = self.order(scores)
        if goal.kind == "channels" and self.scope == "local":
            return order.up_to(goal.value * part)
        found = order.first(self._meets(goal, part))
        if found is None:
            raise ImpossibleTarget(
                f"`{goal}` cannot be met: {self.most(order)} Raise `max_ratio`, or ask for less."
            )
        return found

    def most(self, order: Order) -> str:
        """Return, in sentences, how much could be removed and what stands against more."""
        cost, limits = self.read.cost, self.limits
        left = order.atoms
        against = sorted(reasons(self.read).items(), key=lambda item: -item[1])[:3]
        frozen = "; ".join(f"{count} channels: {reason}" for reason, count in against)
        return (
            f"with max_ratio={limits.max_ratio:g}, min_channels={limits.min_channels} and "
            f"round_to={limits.round_to} at the most "
            f"{left.size / max(self.read.atoms.count, 1):.1%} of the channels can be removed, "
            f"which leaves {cost.macs(left) / max(cost.macs(NOTHING), 1):.1%} of the MACs and "
            f"{cost.params(left) / max(cost.params(NOTHING), 1):.1%} of the parameters. "
            f"What must stay: {frozen or 'nothing'}."
        )

    def _meets(self, goal: Target, part: float) -> Callable[[np.ndarray], bool]:
        cost = self.read.cost
        if goal.kind == "channels":
            wanted = int(goal.value * part * self.read.atoms.count + 1e-9)
            return lambda removed: removed.size >= wanted
        count = cost.macs if goal.kind == "macs" else cost.params
        most = count(NOTHING) * (1 - (1 - goal.value) * part)
        return lambda removed: count(removed) <= most

    def _by_layer(self, goal: Target, part: float, scores: np.ndarray) -> np.ndarray:
        """Return the least important atoms of each named layer, as many as its ratio says."""
        ratios = goal.by_layer or {}
        gone = np.zeros(self.read.atoms.count, bool)
        for name, numbers in targets.layer_places(self.read, ratios).items():
            for number in numbers:
                gone[self._least(name, number, ratios[name] * part, scores, gone)] = True
        return np.flatnonzero(gone)

    def _least(
        self, name: str, number: int, ratio: float, scores: np.ndarray, gone: np.ndarray
    ) -> np.ndarray:
        """Return the atoms to remove of one place; those that are gone already count."""
        atoms, limits = self.read.atoms, self.limits
        ids = atoms.places[number].ids
        keep = ids.size - int(ratio * ids.size + 1e-9)
        keep = max(-(-keep // limits.round_to) * limits.round_to, limits.min_channels)
        if keep >= ids.size:
            return NOTHING
        atom = np.where(ids < 0, -1, atoms.of[ids])
        inside, times = np.unique(atom[atom >= 0], return_counts=True)
        ranked = np.lexsort((inside, scores[inside], ~gone[inside]))
        may_go = gone[inside] | (self.may_go[inside] & (scores[inside] < np.inf))
        ranked = ranked[may_go[ranked]]
        left = ids.size - np.cumsum(times[ranked])
        enough = np.flatnonzero(left >= keep)
        # Atoms that take several channels may not add up to the very number.
        if not enough.size or left[enough[-1]] > keep + times.max() - 1:
            reason = atoms.reason(ids) or "other arguments keep them"
            raise ImpossibleTarget(
                f"Of the {ids.size} channels of '{name}' only {int(times[ranked].sum())} can be "
                f"removed, and {ids.size - keep} were asked for. The others stay because {reason}."
            )
        return inside[ranked[: enough[-1] + 1]]
