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
            return self._same_fraction(goal, part, order)
        found = order.first(self._meets(goal, part))
        if found is None:
            raise self._impossible(goal, order)
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
            f"What must stay: {frozen or 'nothing'}.{self._by_arguments()}"
        )

    def advice(self) -> str:
        """Return, in a sentence, what to change where more is asked for than can be removed."""
        held = next(iter(self._held()), None)
        return f"Loosen {held}, or ask for less." if held else "Ask for less."

    def _held(self) -> dict[str, int]:
        """Return how many channels each argument of the caller's keeps, the most first.

        A limit keeps those that could go without it, all other arguments as they are.
        """
        atoms, limits = self.read.atoms, self.limits
        found = {"`layers` and `ignore`": int((~self.may_go).sum())}

        def free(limits: Limits) -> int:
            # With scores of 0, since how many may go does not depend on which come first.
            zeros = np.zeros(atoms.count)
            return selection.order(atoms, zeros, self.may_go, self.scope, limits).atoms.size

        now = free(limits)
        for name, loose in (("max_ratio", 1.0), ("min_channels", 1), ("round_to", 1)):
            changed = dataclasses.replace(limits, **{name: loose})
            found[f"`{name}`"] = free(changed) - now
        return dict(sorted(((n, c) for n, c in found.items() if c > 0), key=lambda one: -one[1]))

    def _by_arguments(self) -> str:
        held = [f"{name} {count}" for name, count in self._held().items()]
        return f" Channels kept by arguments: {', '.join(held)}." if held else ""

    def _meets(self, goal: Target, part: float) -> Callable[[np.ndarray], bool]:
        cost = self.read.cost
        if goal.kind == "channels":
            wanted = int(goal.value * part * self.read.atoms.count + 1e-9)
            return lambda removed: removed.size >= wanted
        count = cost.macs if goal.kind == "macs" else cost.params
        most = count(NOTHING) * (1 - (1 - goal.value) * part)
        return lambda removed: count(removed) <= most

    def _same_fraction(self, goal: Target, part: float, order: Order) -> np.ndarray:
        """Return the same fraction of every family, as far as multiples allow."""
        found = order.up_to(goal.value * part)
        if found.size < order.atoms.size:
            return found
        atoms = self.read.atoms
        sizes = atoms.sizes()
        gone, free = (
            np.bincount(atoms.family[chosen], minlength=sizes.size)
            for chosen in (found, self.may_go)
        )
        wanted = (goal.value * part * sizes + 1e-9).astype(int)
        if ((wanted - gone >= self.limits.round_to) & (free > 0)).any():
            raise self._impossible(goal, order)
        return found

    def _impossible(self, goal: Target, order: Order) -> ImpossibleTarget:
        return ImpossibleTarget(f"`{goal}` cannot be met: {self.most(order)} {self.advice()}")

    def _by_layer(self, goal: Target, part: float, scores: np.ndarray) -> np.ndarray:
        """Return the least important atoms of each named layer, as many as its ratio says."""
        ratios = goal.by_layer or {}
        named = targets.layer_places(self.read, ratios)
        every = [self._times(number) > 0 for numbers in named.values() for number in numbers]
        may_go = self.may_go & np.any(every, 0)
        gone = np.zeros(self.read.atoms.count, bool)
        for name, numbers in named.items():
            for number in numbers:
                first = np.where(gone, -np.inf, scores)
                order = selection.order(self.read.atoms, first, may_go, "global", self.limits)
                gone[self._least(name, number, ratios[name] * part, order)] = True
        return np.flatnonzero(gone)

    def _times(self, number: int) -> np.ndarray:
        """Return how many channels (units of a recurrent layer) of a place each atom takes."""
        atoms, place = self.read.atoms, self.read.atoms.places[number]
        inside = atoms.of[place.ids[place.ids >= 0]]
        return np.bincount(inside[inside >= 0], minlength=atoms.count) // place.blocks

    def _least(self, name: str, number: int, ratio: float, order: Order) -> np.ndarray:
        """Return the atoms to remove of one place.

        What is first in the order keeps the promises to every layer and slice in which an atom
        lies, not only to the one that is named.
        """
        place, limits, times = self.read.atoms.places[number], self.limits, self._times(number)
        size = place.ids.size // place.blocks
        keep = max(size - int(ratio * size + 1e-9), limits.min_channels)
        keep = -(-keep // limits.round_to) * limits.round_to
        if keep >= size:
            return NOTHING
        lumps = [one for one in np.split(order.atoms, order.stops[1:]) if times[one].any()]
        left = size - np.cumsum([0, *(times[one].sum() for one in lumps)])
        count = int((left >= keep).sum()) - 1
        # Atoms that take several channels may not add up to the very number.
        if count == len(lumps) and left[count] > keep + times.max(initial=1) - 1:
            reason = self.read.atoms.reason(place.ids)
            raise ImpossibleTarget(
                f"Of the {size} channels of '{name}' only {size - left[count]} can be removed, and "
                f"{size - keep} were asked for. The others stay because "
                f"{reason or 'other arguments keep them'}; and every layer and slice in which they "
                f"lie keeps its part, by max_ratio={limits.max_ratio:g}, "
                f"min_channels={limits.min_channels} and round_to={limits.round_to}."
            )
        return np.concatenate([NOTHING, *lumps[:count]])
