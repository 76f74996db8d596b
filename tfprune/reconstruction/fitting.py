"""Cut one layer and refit it: add up what flows through it, choose, assign."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from tfprune import masks, registry
from tfprune.channels import running
from tfprune.channels.batches import Batches
from tfprune.patterns import NM, Pattern
from tfprune.reconstruction import products, refit
from tfprune.reconstruction.choices import Groups, Ranking
from tfprune.reconstruction.products import Product
from tfprune.reconstruction.report import ReconstructedWeight
from tfprune.reconstruction.sums import Moments, Sums
from tfprune.registry import PrunableWeight

_MOST_INPUTS = 8192  # of a layer: their Gram matrix takes half a GiB then


@dataclasses.dataclass(frozen=True)
class Target:
    """A layer that is to be cut, and how.

    Attributes:
        path: of the layer.
        layer: in the copy that is pruned.
        dense: the same layer of the dense model.
        pattern: where zeros may stand.
        sparsity: fraction of zeros.
    """

    path: str
    layer: Any
    dense: Any
    pattern: Pattern
    sparsity: float


def cut(
    target: Target, model: keras.Model, copy: keras.Model, batches: Batches
) -> list[ReconstructedWeight]:
    """Prune the weights of a layer in place; return a row for each."""
    rows = []
    for weight in registry.prunable_weights(target.layer):
        kernel = np.array(keras.ops.convert_to_numpy(weight.variable.value))
        if target.pattern.reason_against(kernel.shape, weight.layout) is not None:
            continue
        product = _product(target, weight)
        masked = kernel * _mask(target, weight, kernel)
        errors: tuple[float | None, float | None] = (None, None)
        if isinstance(product, str):
            weight.variable.assign(masked)
        else:
            moments = _moments(target, product, kernel, model, copy, batches)
            errors = _refit(target, weight, product, moments, kernel, masked)
        final = np.asarray(keras.ops.convert_to_numpy(weight.variable.value))
        rows.append(
            ReconstructedWeight(
                target.path,
                weight.name,
                int(final.size),
                str(target.pattern),
                1.0 - int(np.count_nonzero(final)) / final.size,
                *errors,
                reason=product if isinstance(product, str) else "",
            )
        )
    return rows


def _mask(target: Target, weight: PrunableWeight, kernel: np.ndarray) -> np.ndarray:
    scores = masks.magnitudes(kernel)
    return target.pattern.mask(scores, weight.layout, target.sparsity, target.sparsity)[0]


def _product(target: Target, weight: PrunableWeight) -> Product | str:
    found = products.product(target.layer)
    if isinstance(found, str):
        return found
    if weight.variable is not target.layer.kernel:
        return "only kernels are refitted"
    if found.depth > _MOST_INPUTS:
        return f"{found.depth:,} inputs, of which the refit holds the square"
    if not np.any(keras.ops.convert_to_numpy(weight.variable.value)):
        return "all of its weights are zero"
    return found


def _moments(
    target: Target,
    product: Product,
    kernel: np.ndarray,
    model: keras.Model,
    copy: keras.Model,
    batches: Batches,
) -> Moments:
    """Add up what flows into a layer, and what flows out of it in the dense model."""
    matrices = product.matrices(kernel)
    sums = Sums(product.groups, product.depth, product.width)
    with running.states_kept(model), running.states_kept(copy):
        running.forget(model)  # the copy begins so too
        for batch in batches:
            ours = running.inputs_of(target.layer, copy, batch)
            theirs = running.inputs_of(target.dense, model, batch)
            for x, wanted in zip(ours, theirs, strict=True):
                for rows, dense in zip(product.rows(x), product.rows(wanted), strict=True):
                    sums.add(rows, dense @ matrices)
    moments = sums.moments()
    if not (np.isfinite(moments.gram).all() and np.isfinite(moments.cross).all()):
        raise ValueError(
            f"What flows into the layer '{target.path}' is not finite on the calibration data, so "
            "nothing can be fitted to it. Check the range of the inputs, and whether the model "
            "overflows in half precision."
        )
    return moments


def _refit(
    target: Target,
    weight: PrunableWeight,
    product: Product,
    moments: Moments,
    kernel: np.ndarray,
    masked: np.ndarray,
) -> tuple[float, float]:
    """Assign refitted weights and bias; return the errors by magnitude and as refitted."""
    offered = registry.prunable_weights(target.layer)
    bias = product.bias
    if any(one.variable is bias for one in offered):  # pruned itself, by magnitude
        bias = None
    dense = product.matrices(kernel).astype(np.float64)
    gram, cross = moments.normal(bias is not None)
    try:
        hessian = refit.damped(gram, raw=moments.raw())
        upper = refit.factor(hessian)
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"The layer '{target.path}' cannot be refitted: its inputs on the calibration data are "
            "so far apart in size that their products cannot be told from rounding. Bring the "
            "inputs to one scale, or leave the layer out by a rule with `skip=True`. "
            f"Received: {moments.rows:,} rows of {gram.shape[-1]:,} inputs ({error})"
        ) from error
    begin = refit.nearest(upper, gram, cross, dense)
    alive = dense != 0
    if isinstance(target.pattern, NM) and target.sparsity > 0.0:
        assert weight.layout is not None  # the pattern fits
        choice = Groups(target.pattern, weight.layout.input_size(kernel.shape), alive)
    else:
        choice = Ranking(product, target.pattern, weight.layout, target.sparsity, alive)
    found = refit.settled(refit.refit(begin, upper, choice), hessian, begin)
    largest = product.matrices(masked).astype(np.float64)
    before, after = (moments.error(one, bias is not None) for one in (largest, found))
    if before < after:  # rarely, what is chosen in order is worse than the largest
        largest = refit.settled(largest, hessian, begin)
        found = min(largest, found, key=lambda one: moments.error(one, bias is not None))
    weight.variable.assign(product.kernel(found))
    if bias is not None:
        moved = moments.missed(found).reshape(bias.shape)
        bias.assign(np.asarray(keras.ops.convert_to_numpy(bias.value)) + moved)
    plain = moments.error(product.matrices(masked), bias=False)
    return plain, moments.error(found, bias is not None)
