"""`prune_one_shot`: cut a trained model and refit each layer on calibration data, no training."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from tfprune import conversion, masks, patterns, registry
from tfprune import rules as rules_
from tfprune.channels import running
from tfprune.channels.batches import Batches
from tfprune.cloning import clone, copy_layer, leaves
from tfprune.criteria import Criterion
from tfprune.decisions import Decision
from tfprune.family import family
from tfprune.patterns import NM, Pattern
from tfprune.progress import Steps
from tfprune.prune import decide
from tfprune.recalibration import batch_norms, recalibrate
from tfprune.reconstruction import products, refit
from tfprune.reconstruction.choices import Groups, Ranking
from tfprune.reconstruction.products import Product
from tfprune.reconstruction.report import ReconstructedWeight, ReconstructionReport
from tfprune.reconstruction.sums import Moments, Sums
from tfprune.registry import PrunableWeight
from tfprune.rules import Rule
from tfprune.strip import pruned_layers

_MOST_INPUTS = 8192  # of a layer: their Gram matrix takes half a GiB then


@dataclasses.dataclass(frozen=True)
class _Target:
    """A layer of the pruned model that is to be cut, its dense twin, and how."""

    path: str
    layer: Any
    dense: Any
    pattern: Pattern
    sparsity: float


def prune_one_shot(
    model: Any,
    data: Any,
    rules: Any = 0.5,
    *,
    pattern: Any = None,
    recalibrate_norms: bool = False,
    progress: bool = True,
) -> tuple[keras.Model, ReconstructionReport]:
    """Prune a trained model without training: what stays makes up for what goes.

    Layer after layer, weights are set to zero and the others changed so that the layer's outputs
    on calibration data stay as near as can be to those of the dense model. A layer is fitted to
    the inputs that it will really get, those behind the pruned layers before it, so that it makes
    up for their errors too; its bias takes up what the means lack. Layers that are no matrix
    product (recurrent, attention, transposed, embeddings, ...) are pruned by magnitude, and the
    report says why.

    Args:
        model: a built Sequential or Functional model of Keras 3, nested models and shared layers
            included; or of tf_keras, which is taken over into Keras 3. It is not changed.
        data: calibration inputs like those in use, some hundreds to a thousand: an array, a list
            or dict of arrays for several inputs, or batches of those from a generator or a
            `tf.data.Dataset` (2,048 samples at most of what does not tell its length). Labels are
            passed over.
        rules: a sparsity for all layers, a `tfprune.Allocation`, a list of `tfprune.Rule`, or the
            path of a YAML file with rules. Of a schedule the final sparsity counts.
        pattern: where zeros may stand, "2:4" or "1x16" say; with a plain sparsity only, as rules
            have patterns of their own.
        recalibrate_norms: measure the statistics of batch normalization anew at the end (see
            `tfprune.recalibrate_batch_norm`). Off, since refitted outputs are near to what the
            norms expect, and a small sample made them worse where it was measured.
        progress: draw a bar on the standard error, if that is a terminal.

    Returns:
        A plain Keras model with exact zeros, ready for `export_tflite`; it is not compiled. And a
        `ReconstructionReport`.

    Example:

    ```python
    small, report = tfprune.prune_one_shot(model, x_train[:1000], 0.5, pattern="2:4")
    print(report)
    tfprune.export_tflite(small, "small.tflite")
    ```

    Raises:
        ValueError: a model that is wrapped for pruning, subclassed, not built or holds NaN; rules
            that match nothing; a sparsity out of range, a pattern that fits no layer; data that
            are empty, do not fit or are not finite.
        TypeError: data that are no numbers.

    Memory: for the layer at work, the square of its inputs (of a 3x3 kernel, nine times its
    channels) in double precision, a few times; above 8,192 inputs it is pruned by magnitude. Data
    pass in batches, once from the beginning for each layer.

    Source: Frantar & Alistarh 2023, "SparseGPT"; see `tfprune.reconstruction.refit`.
    """
    asked = _rules(rules, pattern)
    model = _admitted(model)
    decisions = decide(model, asked)
    copy = clone(model, copy_layer, lambda old, new: (old, new))
    targets = _targets(model, copy, decisions)
    batches = Batches(copy, data)
    rows: list[ReconstructedWeight] = []
    norms = batch_norms(copy) if recalibrate_norms else []
    with Steps(len(targets) + len(norms), progress) as steps:
        for target in targets:
            steps.begin(f"refitting {target.path}")
            rows += _pruned(target, model, copy, batches)
            steps.finish()

        def tell(path: str) -> None:
            steps.begin(f"measuring {path}")
            steps.finish()

        measured = recalibrate(copy, batches, tell) if norms else None
    samples = sum(batch.size for batch in batches)
    left = [(d.path, d.reason) for d in decisions.values() if d.reason and not d.expected]
    return copy, ReconstructionReport(copy.name, samples, tuple(rows), tuple(left), measured)


# -- What is asked for ---------------------------------------------------------------------------


def _rules(rules: Any, pattern: Any) -> list[Rule]:
    if pattern is None:
        found = rules_.get(rules)
        for rule in found:
            if rule.criterion != Criterion(rule.pattern):
                raise ValueError(
                    "A cut in one shot chooses weights by what their loss would do to the outputs, "
                    "so that no other score or regrowth fits. Leave `score` and `regrowth` out of "
                    f"the rules. Received: {rule}"
                )
        return found
    if isinstance(rules, bool) or not isinstance(rules, (int, float)):
        raise ValueError(
            "`pattern` goes with a plain sparsity; rules and allocations have patterns of their "
            f"own: `tfprune.Rule(layers, 0.5, pattern='2:4')`. Received: pattern={pattern!r}, "
            f"rules={rules!r}"
        )
    return [Rule(schedule=rules, pattern=patterns.get(pattern))]


def _admitted(model: Any) -> keras.Model:
    """Return a model that can be pruned so: the one given, or a tf_keras one in Keras 3."""
    kind = family(model)
    wrapped = pruned_layers(model) if kind is not None and model.built else []
    if wrapped:
        raise ValueError(
            "The model is wrapped for pruning while it trains. Strip it first "
            f"(`tfprune.strip_pruning`). Received: {len(wrapped)} wrapped layers, such as "
            f"'{wrapped[0].layer_name}'"
        )
    if kind == "tf_keras":
        model = conversion.to_keras3(model)
    running.require_graph(model, "prune_one_shot")
    return model


def _targets(
    model: keras.Model, copy: keras.Model, decisions: dict[int, Decision]
) -> list[_Target]:
    """Return the layers to prune, in the order in which they first run."""
    originals = {id(new): old for old, new in zip(leaves(model), leaves(copy), strict=True)}
    found = []
    for layer in {id(one): one for one in running.operations(copy)}.values():
        dense = originals.get(id(layer))
        decision = decisions.get(id(dense))
        if decision is None or decision.reason:
            continue
        assert decision.pattern is not None  # the layer is not left dense
        final = decision.schedule.final_sparsity
        if final is None:
            raise ValueError(
                "A cut in one shot needs to know how sparse it is to be, and this schedule does "
                "not tell its end: pass a sparsity, such as 0.5. "
                f"Received: {decision.schedule} for '{decision.path}'"
            )
        found.append(_Target(decision.path, layer, dense, decision.pattern, final))
    return found


# -- One layer -----------------------------------------------------------------------------------


def _pruned(
    target: _Target, model: keras.Model, copy: keras.Model, batches: Batches
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
                1.0 - np.count_nonzero(final) / final.size,
                *errors,
                reason=product if isinstance(product, str) else "",
            )
        )
    return rows


def _mask(target: _Target, weight: PrunableWeight, kernel: np.ndarray) -> np.ndarray:
    scores = masks.magnitudes(kernel)
    return target.pattern.mask(scores, weight.layout, target.sparsity, target.sparsity)[0]


def _product(target: _Target, weight: PrunableWeight) -> Product | str:
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
    target: _Target,
    product: Product,
    kernel: np.ndarray,
    model: keras.Model,
    copy: keras.Model,
    batches: Batches,
) -> Moments:
    """Add up what flows into a layer, and what flows out of it in the dense model."""
    matrices = product.matrices(kernel)
    sums = Sums(product.groups, product.depth, product.width)
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
    target: _Target,
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
    hessian = refit.damped(gram)
    begin = refit.nearest(hessian, gram, cross, dense)
    alive = dense != 0
    if isinstance(target.pattern, NM):
        assert weight.layout is not None  # the pattern fits
        choice = Groups(target.pattern, weight.layout.input_size(kernel.shape), alive)
    else:
        choice = Ranking(product, target.pattern, weight.layout, target.sparsity, alive)
    found = refit.refit(begin, refit.factor(hessian), choice)
    weight.variable.assign(product.kernel(found))
    if bias is not None:
        moved = moments.missed(found).reshape(bias.shape)
        bias.assign(np.asarray(keras.ops.convert_to_numpy(bias.value)) + moved)
    before = moments.error(product.matrices(masked), bias=False)
    return before, moments.error(found, bias is not None)
