"""How much of each weight to prune, so that all of them together reach one sparsity.

Every method gives each weight a function from one common knob to its own sparsity, which grows with
the knob; the knob is then turned, by bisection, until the total fits. Floors and ceilings cut that
function off, and the rest of the weights make up for it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from tfprune.masks import magnitudes

WHOLE = 0.9995
"""A ceiling that leaves even a kernel of a few thousand weights something."""

_TURNS = 100  # halvings of the knob's range: beyond double precision

Curve = Callable[[float], float]
"""knob in [0, 1] -> sparsity; 0 at 0, 1 at 1, never falling."""


def uniform(count: int) -> list[Curve]:
    """Return the same sparsity for every weight: what tfmot does."""
    return [lambda knob: knob] * count


def erk(shapes: Sequence[Sequence[Sequence[int]]]) -> list[Curve]:
    """Return densities by the Erdos-Renyi-Kernel rule: small weights stay denser.

    The density of a kernel is proportional to the sum of its axes' lengths over their product.

    Args:
        shapes: for each layer, the shapes of its kernels.

    Source: Evci et al. 2020, "Rigging the Lottery", equation of ERK; Mocanu et al. 2018.
    """
    densities = []
    for kernels in shapes:
        size = sum(math.prod(shape) for shape in kernels)
        densities.append(sum(sum(shape) for shape in kernels) / size)
    most = max(densities)

    def curve(density: float) -> Curve:
        # The knob turns the common factor from "even the least dense kernel whole" down to 0.
        whole = most / min(densities)
        return lambda knob: 1.0 - min(1.0, density / most * whole * (1.0 - knob) ** 3)

    return [curve(density) for density in densities]


def ranked(scores: Sequence[np.ndarray]) -> list[Curve]:
    """Return the sparsities that one threshold over all scores gives.

    Args:
        scores: for each layer, the scores of its weights, flat.

    Source: global magnitude pruning (Han et al. 2015; `torch.nn.utils.prune.global_unstructured`).
    """
    everything = np.sort(np.concatenate([s.ravel() for s in scores]))

    def curve(own: np.ndarray) -> Curve:
        ordered = np.sort(own.ravel())

        def sparsity(knob: float) -> float:
            if knob >= 1.0:
                return 1.0
            threshold = everything[int(knob * everything.size)]
            return float(np.searchsorted(ordered, threshold)) / ordered.size

        return sparsity

    return [curve(own) for own in scores]


def lamp(weights: np.ndarray) -> np.ndarray:
    """Return layer-adaptive scores: of what a weight's layer has left, squared, the weight's part.

    A weight's square over the sum of the squares of those of its layer that are not smaller. The
    largest weight of each layer has 1, so that none becomes empty, and layers of small weights are
    not emptied for their scale alone.

    Args:
        weights: all of a layer.

    Returns:
        Scores in the order of the weights, flat.

    Example: `lamp(np.array([1.0, 2.0, 2.0]))` is `[1/9, 4/8, 1]`.

    Source: Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning".
    """
    squares = np.square(weights.ravel().astype(np.float64))
    order = np.argsort(squares, kind="stable")
    left = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = np.divide(squares[order], left, out=np.zeros_like(left), where=left > 0)
    return scores


def by_magnitude(
    kernels: Sequence[Sequence[np.ndarray]],
    sparsity: float,
    floors: Sequence[float] | None = None,
    ceilings: Sequence[float] | None = None,
) -> list[float]:
    """Return the sparsity of each layer under one threshold of magnitude over all of them.

    Args:
        kernels: the weights of each layer.
        sparsity, floors, ceilings: as of `spread`; without limits no layer becomes empty.

    Example: `by_magnitude([[np.array([1.0, 4.0])], [np.array([2.0, 3.0])]], 0.5)` is `[0.5, 0.5]`.
    """
    scores = [np.concatenate([magnitudes(a).ravel() for a in arrays]) for arrays in kernels]
    sizes = [own.size for own in scores]
    floors = [0.0] * len(sizes) if floors is None else floors
    ceilings = [WHOLE] * len(sizes) if ceilings is None else ceilings
    return spread(ranked(scores), sizes, sparsity, floors, ceilings)


def cheapest(
    levels: Sequence[float],
    losses: Sequence[Sequence[float]],
    savings: Sequence[Sequence[float]] | None = None,
) -> list[Curve]:
    """Return the sparsities at which the next zero, or what it saves, costs every layer the same.

    Args:
        levels: sparsities that were tried, rising.
        losses: for each layer, what each level costs; divided by the layer's size if nothing is
            said of savings.
        savings: for each layer, what each level saves; zeros save alike if None. A level that
            saves no more than a lower one is passed over.

    The losses are made to rise ever faster first (their lower convex hull from (0, 0)), so that a
    dearer zero never comes before a cheaper one.
    """
    rows = [levels] * len(losses) if savings is None else savings
    hulls = [_prices(levels, own, saved) for own, saved in zip(losses, rows, strict=True)]
    steepest = max((slope for hull in hulls for _, slope in hull), default=0.0)

    def curve(hull: list[tuple[float, float]]) -> Curve:
        def sparsity(knob: float) -> float:
            if knob >= 1.0:
                return 1.0
            if knob <= 0.0:
                return 0.0  # what costs nothing goes first, but not before it is asked for
            price = steepest * knob**3
            return max((level for level, slope in hull if slope <= price), default=0.0)

        return sparsity

    return [curve(hull) for hull in hulls]


def _prices(
    levels: Sequence[float], losses: Sequence[float], savings: Sequence[float]
) -> list[tuple[float, float]]:
    """Return (level, price of a unit saved on the way to it) for the levels worth choosing."""
    at, x, y = {0.0: 0.0}, [0.0], [0.0]
    for level, loss, saved in zip(levels, losses, savings, strict=True):
        if saved > x[-1]:
            at[saved] = level
            x.append(saved)
            y.append(loss)
    return [(at[end], slope) for (_, end), slope in _hull(x, y)]


def _hull(x: list[float], y: list[float]) -> list[tuple[tuple[float, float], float]]:
    """Return the pieces ((start, end), slope) of the lower convex hull of a rising curve."""
    points: list[tuple[float, float]] = []
    lowest = list(np.minimum.accumulate(np.maximum(y, 0.0)[::-1])[::-1])
    for point in zip(x, lowest, strict=True):
        while len(points) >= 2 and _turns_down(points[-2], points[-1], point):
            points.pop()
        points.append(point)
    pieces = []
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        pieces.append(((x0, x1), (y1 - y0) / (x1 - x0)))
    return pieces


def _turns_down(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - b[0]) >= (c[1] - b[1]) * (b[0] - a[0])


def spread(
    curves: Sequence[Curve],
    sizes: Sequence[int],
    sparsity: float,
    floors: Sequence[float],
    ceilings: Sequence[float],
) -> list[float]:
    """Return the sparsity of each layer, so that all together have the one asked for.

    Args:
        curves: of a method, one for each layer.
        sizes: number of weights of each layer.
        sparsity: fraction of zeros over all layers, in [0, 1).
        floors: least sparsity of each layer.
        ceilings: greatest sparsity of each layer.

    Example: `spread(uniform(2), [10, 30], 0.5, [0, 0], [0.2, 1])` is `[0.2, 0.6]`: the second
    layer makes up for the first.

    Raises:
        ValueError: floors and ceilings leave no room for it.
    """
    total = float(sum(sizes))
    least = sum(n * f for n, f in zip(sizes, floors, strict=True)) / total
    most = sum(n * c for n, c in zip(sizes, ceilings, strict=True)) / total
    if sparsity > most + 1e-9 and all(c == WHOLE for c in ceilings):
        raise ValueError(
            f"At most {WHOLE:.2%} of the weights can go, so that every layer keeps some. Ask for "
            f"less. Received: sparsity={sparsity}"
        )
    if not least - 1e-9 <= sparsity <= most + 1e-9:
        raise ValueError(
            f"With these floors and ceilings the layers can have between {least:.1%} and "
            f"{most:.1%} zeros together. Move them, or ask for a sparsity in between. "
            f"Received: sparsity={sparsity}"
        )

    def at(knob: float) -> list[float]:
        rows = zip(curves, floors, ceilings, strict=True)
        return [min(max(curve(knob), low), high) for curve, low, high in rows]

    def reached(values: list[float]) -> float:
        return sum(n * v for n, v in zip(sizes, values, strict=True)) / total

    low, high = 0.0, 1.0
    for _ in range(_TURNS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(at(middle)) >= sparsity else (middle, high)
    below, above = at(low), at(high)
    # Where many scores are equal the total jumps: take the part of the jump that fits.
    gap = reached(above) - reached(below)
    part = min(1.0, max(0.0, (sparsity - reached(below)) / gap)) if gap > 0 else 1.0
    return [b + (a - b) * part for a, b in zip(above, below, strict=True)]
