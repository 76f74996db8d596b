"""A model, read once: its trace, its atoms, what they cost, which layers can lose what."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

from tfprune.channels import atoms as atoms_
from tfprune.channels import graph, rules
from tfprune.channels.atoms import Atoms
from tfprune.channels.cost import Cost
from tfprune.channels.facts import Place, Trace
from tfprune.channels.surgery import Surgeon
from tfprune.channels.tracing import trace

NOTHING = np.empty(0, int)


@dataclasses.dataclass(frozen=True)
class Structure:
    """What is known of a model before anything is removed.

    Attributes:
        model: the model.
        trace: the facts found in its graph.
        atoms: what can be removed.
    """

    model: keras.Model
    trace: Trace
    atoms: Atoms

    @functools.cached_property
    def cost(self) -> Cost:
        """Counts parameters and multiplications."""
        return Cost(self.model.weights, self.atoms)

    def outputs(self) -> list[Place]:
        """Return the places where kernels make channels, in the order of the model."""
        return [p for p in self.atoms.places if p.role == "out"]

    def free(self, place: Place) -> np.ndarray:
        """Return which positions of a place could be removed."""
        return (place.ids >= 0) & (self.atoms.of[place.ids] >= 0)

    def without(self, removed: np.ndarray) -> tuple[keras.Model, Surgeon]:
        """Return the model without some atoms, and what made it.

        Raises:
            ValueError: layers share a weight that each would get for itself.
            RuntimeError: what was built is not as large as the cost says.
        """
        surgeon = Surgeon(self.model, self.trace, self.atoms, removed)
        small = surgeon.build()
        dropped = sum(int(np.prod(v.shape)) for v in surgeon.dropped)
        wanted, found = self.cost.params(removed) - dropped, small.count_params()
        if found != wanted:
            raise RuntimeError(
                f"The smaller model should have {wanted:,} parameters and was built with "
                f"{found:,}: {', '.join(self._strange(small, surgeon)) or 'weights counted twice'} "
                "were not made by cutting a weight of the model. A rule is wrong, or what a class "
                f"makes for itself. Received: the model '{self.model.name}'"
            )
        return small, surgeon

    def _strange(self, small: keras.Model, surgeon: Surgeon) -> list[str]:
        """Return the paths of weights on either side that have no counterpart."""
        met = {id(variable) for pair in surgeon.pairs for variable in pair}
        left = [v for v in (*self.model.weights, *small.weights) if id(v) not in met]
        return list(dict.fromkeys(f"'{v.path}'" for v in left))


def read(model: Any) -> Structure:
    """Read the channels of a Keras 3 model.

    Raises:
        TypeError, ValueError: see `graph.require_graph`.
    """
    graph.require_graph(model)

    def rule_for(operation: Any) -> Any:
        rule = rules.find(operation)
        return None if rule is None else rule.trace

    found = trace(model, rule_for)
    return Structure(model, found, atoms_.find(found))
