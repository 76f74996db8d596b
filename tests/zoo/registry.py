"""The graphs by name, and what XNNPACK makes of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import keras

Expect = Literal["fast", "dense", "broken"]


@dataclasses.dataclass(frozen=True)
class Graph:
    """One graph of the zoo.

    Attributes:
        name: unique, for test ids and file names.
        make: returns a new model; its weights mean nothing before `prune_to`.
        expect: what XNNPACK does, on a CPU without AVX, with the float32 file whose weights are
            all encoded by the converter at 85-90 % zeros: "fast" (sparse kernels, right numbers),
            "dense" (dense kernels, right numbers) or "broken" (wrong numbers, or it does not
            load). Measured, never guessed.
        refused: the forms that `export_tflite` refuses, as TFLite has no kernel.
    """

    name: str
    make: Callable[[], keras.Model]
    expect: Expect
    refused: frozenset[str] = frozenset()

    def build(self, seed: int) -> keras.Model:
        """Return a new model whose random initial weights depend on the seed alone."""
        keras.utils.set_random_seed(seed)
        return self.make()


GRAPHS: dict[str, Graph] = {}


def register(
    name: str, expect: Expect, make: Callable[[], keras.Model], refused: tuple[str, ...] = ()
) -> None:
    """Add a graph to the zoo."""
    assert name not in GRAPHS, name
    GRAPHS[name] = Graph(name, make, expect, frozenset(refused))


def graph(expect: Expect, refused: tuple[str, ...] = ()):
    """Add the decorated function to the zoo under its own name."""

    def add(make: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
        register(make.__name__, expect, make, refused)
        return make

    return add
