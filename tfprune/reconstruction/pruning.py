"""`prune_one_shot`: cut a trained model and refit each layer on calibration data, no training."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import keras

from tfprune import conversion, patterns, registry
from tfprune import rules as rules_
from tfprune.channels import running
from tfprune.channels.batches import Batches
from tfprune.cloning import clone, copy_layer, leaves
from tfprune.decisions import Decision
from tfprune.family import family
from tfprune.forecast import short_by_pattern
from tfprune.layouts import Layout
from tfprune.progress import Steps
from tfprune.prune import decide
from tfprune.recalibration import batch_norms, recalibrate
from tfprune.reconstruction.fitting import Target, cut
from tfprune.reconstruction.report import ReconstructedWeight, ReconstructionReport
from tfprune.rules import Distribution, Rule
from tfprune.schedules import check_sparsity
from tfprune.strip import pruned_layers

_SHARED = "it cannot be rebuilt from its configuration, so the original would be pruned with it"


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
    on calibration data stay near to those of the dense model: first what goes is chosen, input by
    input, then all that stays is fitted by least squares. A layer is fitted to
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
            have patterns of their own. An N:M pattern fixes the sparsity, and gives less to inputs
            that are no multiple of M; if more was asked for, a warning says what it gives.
        recalibrate_norms: measure the statistics of batch normalization anew at the end (see
            `tfprune.recalibrate_batch_norm`). Off, since refitted outputs are near to what the
            norms expect: it cost ResNet-8 one to four points.
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
    targets, shared = _targets(model, copy, decisions)
    short = short_by_pattern((t.path, t.pattern, t.sparsity, _shapes(t.layer)) for t in targets)
    if short:
        warnings.warn(
            f"An N:M pattern sets how many zeros there are: {short}. Choose a pattern with more "
            "zeros, or ask for that sparsity.",
            stacklevel=2,
        )
    batches = Batches(copy, data)
    rows: list[ReconstructedWeight] = []
    norms = batch_norms(copy) if recalibrate_norms else []
    with Steps(len(targets) + len(norms), progress) as steps:
        for target in targets:
            steps.begin(f"refitting {target.path}")
            rows += cut(target, model, copy, batches)
            steps.finish()

        def tell(path: str) -> None:
            steps.begin(f"measuring {path}")
            steps.finish()

        measured = recalibrate(copy, batches, tell) if norms else None
    samples = sum(batch.size for batch in batches)
    left = [(d.path, d.reason) for d in decisions.values() if d.reason and not d.expected]
    dense = (*left, *((path, _SHARED) for path in shared))
    return copy, ReconstructionReport(copy.name, samples, tuple(rows), dense, measured)


def _shapes(layer: keras.layers.Layer) -> list[tuple[tuple[int, ...], Layout | None]]:
    return [(tuple(w.variable.shape), w.layout) for w in registry.prunable_weights(layer)]


def _rules(rules: Any, pattern: Any) -> list[Rule | Distribution]:
    if pattern is None:
        found = rules_.get(rules)
        for rule in found:
            if isinstance(rule, Rule) and not rule.criterion.plain:
                raise ValueError(
                    "A cut in one shot chooses weights by what their loss would do to the outputs, "
                    "so that no other score or regrowth fits. Leave `score` and `regrowth` out of "
                    f"the rules. Received: {rule}"
                )
        return found
    if isinstance(rules, bool) or not isinstance(rules, numbers.Real):
        raise ValueError(
            "`pattern` goes with a plain sparsity; rules and allocations have patterns of their "
            f"own: `tfprune.Rule(layers, 0.5, pattern='2:4')`. Received: pattern={pattern!r}, "
            f"rules={rules!r}"
        )
    return [Rule(schedule=check_sparsity(rules, "rules"), pattern=patterns.get(pattern))]


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
) -> tuple[list[Target], list[str]]:
    """Return the layers to prune, in the order in which they first run, and those not copied."""
    originals = {id(new): old for old, new in zip(leaves(model), leaves(copy), strict=True)}
    found, shared = [], []
    for layer in {id(one): one for one in running.operations(copy)}.values():
        dense = originals.get(id(layer))
        decision = decisions.get(id(dense))
        if decision is None or decision.reason:
            continue
        if layer is dense:
            shared.append(decision.path)
            continue
        assert decision.pattern is not None  # the layer is not left dense
        final = decision.schedule.final_sparsity
        if final is None:
            raise ValueError(
                "A cut in one shot needs to know how sparse it is to be, and this schedule does "
                "not tell its end: pass a sparsity, such as 0.5. "
                f"Received: {decision.schedule} for '{decision.path}'"
            )
        found.append(Target(decision.path, layer, dense, decision.pattern, final))
    if not found:
        raise ValueError(f"Nothing in the model '{model.name}' can be pruned so: {_SHARED}.")
    return found, shared
