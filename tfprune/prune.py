"""Wrap a layer, a list or a model for pruning: tfmot's call, and rules for each layer."""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
import sys
import warnings
from collections.abc import Callable
from typing import Any

from tfprune import agreement, decisions, patterns, shares
from tfprune import rules as rules_
from tfprune.criteria import Criterion
from tfprune.decisions import Decision
from tfprune.family import family, require_family, room
from tfprune.paths import walk
from tfprune.policy import PruningPolicy, require_policy
from tfprune.rules import Rule
from tfprune.schedules import ConstantSparsity, PruningSchedule
from tfprune.schedules import get as get_schedule

_DEFAULT_SCHEDULE = ConstantSparsity(0.5, 0)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What rules or arguments ask for a layer: a schedule and a criterion, or a reason not to."""

    schedule: PruningSchedule | None = None
    criterion: Criterion | None = None
    reason: str | None = None
    named_by: Rule | None = None


def prune_low_magnitude(
    to_prune: Any,
    pruning_schedule: Any = _DEFAULT_SCHEDULE,
    block_size: tuple[int, int] | list[int] = (1, 1),
    block_pooling_type: str = "AVG",
    pruning_policy: PruningPolicy | None = None,
    sparsity_m_by_n: tuple[int, int] | list[int] | None = None,
    score: Any = "magnitude",
    regrowth: Any = None,
    **kwargs: Any,
) -> Any:
    """Wrap a layer, a list of layers or a whole model so that it is pruned while it trains.

    Train with the callback `UpdatePruningStep`, then call `strip_pruning`. Compile the returned
    model before training.

    Args:
        to_prune: a layer, a list of layers, a Sequential or a Functional model (nested models and
            shared layers included), Keras 3 or tf_keras.
        pruning_schedule: when to prune and how much; 50 % from the start by default.
        block_size: (height, width) of blocks of weights that go together.
        block_pooling_type: "AVG" or "MAX", the score of a block.
        pruning_policy: a `PruningPolicy`, asked about each layer.
        sparsity_m_by_n: `(m, n)`: m zeros in every n neighbouring input channels, such as (2, 4).
        score: which weights matter, as in a `Rule`; "magnitude" by default.
        regrowth: whether cut weights may return, as in a `Rule`; None, never, by default.
        **kwargs: for the wrapper of a single layer, such as `name`.

    Returns:
        The wrapped layer, a list of them, or a new model. A Keras 3 model is copied, weights and
        all, and the one passed in stays as it is; a tf_keras model shares its layers, as in tfmot.

    Raises:
        ValueError: for something that is neither, a layer that cannot be pruned, a model in which
            nothing can be pruned, or a subclassed model (wrap its layers by hand).
        TypeError: for an argument that is not among these, or a policy that is none.

    Example:

    ```python
    pruned = tfprune.prune_low_magnitude(
        model, tfprune.PolynomialDecay(0.5, 0.8, begin_step=0, end_step=1000)
    )
    pruned.compile("adam", "sparse_categorical_crossentropy")
    pruned.fit(x, y, callbacks=[tfprune.UpdatePruningStep()])
    ```

    In a model or a list, layers that cannot be pruned are left as they are, and one warning lists
    them; asked for alone, such a layer is an error.

    Source: tfmot's `prune_low_magnitude`, which aborts on the first unknown layer instead.
    """
    schedule = get_schedule(pruning_schedule)
    pattern = patterns.from_tfmot(block_size, block_pooling_type, sparsity_m_by_n)
    criterion = Criterion(pattern, score, regrowth)
    criterion.require(schedule)

    require_policy(pruning_policy)

    def plan(layer: Any, path: str) -> _Plan:
        del path
        if pruning_policy is not None and not pruning_policy.allow_pruning(layer):
            return _Plan(reason=f"{type(pruning_policy).__name__} does not allow it")
        return _Plan(schedule, criterion)

    if isinstance(to_prune, (list, tuple)):
        _require_no_more(kwargs, "a list of layers")
        return _prune_list(list(to_prune), plan)
    keras_ = room(require_family(to_prune, "a layer, a list of layers, or a model"))
    agreement.require_place(to_prune, wrapping=True)
    if keras_.is_model(to_prune):
        _require_no_more(kwargs, "a model")
        _require_graph(to_prune, keras_)
        if pruning_policy is not None:
            pruning_policy.ensure_model_supports_pruning(to_prune)
        agreement.require_company(to_prune)
        chosen = _decide_all(to_prune, plan, keras_)
        _require_any(to_prune, chosen, keras_)
        return _wrap_model(to_prune, chosen, keras_)
    _require_magnitude(to_prune, criterion)
    reason = plan(to_prune, "").reason or keras_.reason_against(to_prune, schedule, pattern)
    if reason is not None:
        raise decisions.refusal(to_prune, reason)
    return keras_.wrap(to_prune, schedule, criterion, **kwargs)


def prune(model: Any, rules: Any) -> Any:
    """Wrap a model for pruning by rules: which layers, when, how much, in which pattern.

    Args:
        model: a built Sequential or Functional model, Keras 3 or tf_keras.
        rules: a list of `tfprune.Rule` (the first that matches a layer wins, a layer that none
            matches stays dense, unless a `tfprune.Distribution` ends the list), the path of a YAML
            file with the same rules, or a `tfprune.Allocation`. A number is a sparsity for the
            whole model: the smallest weights of all layers go, so that some layers become sparser
            than others, gradually over the run (see `tfprune.Gradual`; tf_keras: at once). One
            schedule is followed by every layer to the same sparsity.

    Returns:
        A new model, weights and all; compile it, and train it with `UpdatePruningStep`.

    Raises:
        ValueError: for a rule that matches no layer or none that can be pruned, a layer asked for
            by its plain name that cannot be pruned, or a model that is not built or subclassed.

    Example:

    ```python
    pruned = tfprune.prune(model, 0.9)  # 90 % of all weights, wherever they matter least

    pruned = tfprune.prune(model, [
        tfprune.Rule("conv1", schedule=0.5),                 # one input channel: no 2:4 there
        tfprune.Rule("conv2|dense_wide", schedule=0.5, pattern="2:4"),
        tfprune.Rule("logits", skip=True),
    ])
    ```

    Source: of a number, global magnitude pruning (Han et al. 2015), which kept most accuracy of
    what `benchmarks/fashion_mnist.py` has measured.
    """
    kind = require_family(model, "a model")
    keras_ = room(kind)
    if not keras_.is_model(model):
        raise ValueError(
            "`prune` takes a whole model; for one layer use `prune_low_magnitude(layer, ...)`. "
            f"Received: the layer {model.name!r}"
        )
    agreement.require_place(model, wrapping=True)
    agreement.require_company(model)
    _require_graph(model, keras_)
    if isinstance(rules, numbers.Real) and not isinstance(rules, bool):
        chosen = decide(model, shares.usual_schedule(kind, rules))
        layers = {id(layer): layer for _, layer in walk(model, keras_)}
        chosen = shares.share_out(chosen, layers, float(rules), keras_)
    else:
        chosen = decide(model, rules)
    return _wrap_model(model, chosen, keras_)


def decide(model: Any, rules: Any) -> dict[int, Decision]:
    """Return what rules decide about each layer of a model, by the layer's id.

    Args:
        model: a built Sequential or Functional model, Keras 3 or tf_keras.
        rules: as `prune` takes them.

    Raises:
        ValueError: as `prune` does.
    """
    keras_ = room(require_family(model, "a model"))
    rule_list = rules_.spread_out(model, rules_.get(rules))
    used: dict[Rule, list[str]] = {rule: [] for rule in rule_list}

    def plan(layer: Any, path: str) -> _Plan:
        rule = next((r for r in rule_list if r.matches(layer, path)), None)
        if rule is None:
            return _Plan(reason="no rule matches it")
        used[rule].append(path)
        if rule.skip:
            return _Plan(reason="a rule says to skip it")
        return _Plan(rule.schedule, rule.criterion, named_by=rule if rule.names(path) else None)

    chosen = _decide_all(model, plan, keras_)
    for rule in rule_list:
        _require_used(rule, used[rule], list(chosen.values()))
    _require_any(model, chosen, keras_)
    return chosen


def prune_scope() -> contextlib.AbstractContextManager:
    """Return a context in which wrapped models load; kept for old scripts.

    Keras 3 files need no scope. For tf_keras files that tfmot has saved it is tfmot's own scope.

    Example: `with tfprune.prune_scope(): model = keras.models.load_model("pruned.keras")`.

    Source: tfmot's `prune_scope`.
    """
    if "tf_keras" in sys.modules:
        return room("tf_keras").scope()
    room("keras")  # registers the wrapper
    return contextlib.nullcontext()


def _prune_list(items: list, plan: Callable[[Any, str], _Plan]) -> list:
    results, made = [], []
    for layer in items:
        keras_ = room(require_family(layer, "a list of layers"))
        agreement.require_place(layer, wrapping=True)
        decision = _decide(layer, layer.name, plan(layer, layer.name), keras_)
        made.append(decision)
        wrapped = None if decision.reason else (decision.schedule, decision.criterion)
        results.append(keras_.wrap(layer, *wrapped) if wrapped else layer)
    _warn_of_skipped(made)
    return results


def _decide_all(model: Any, plan: Callable[[Any, str], _Plan], keras_: Any) -> dict[int, Decision]:
    if not model.built or not model.layers:
        raise ValueError(
            "The model has no layers or is not built yet, so its weights cannot be judged. Add "
            "layers, and a `keras.Input(shape)` in front or `model.build(input_shape)`. "
            f"Received: {model.name!r} with {len(model.layers)} layers, built={model.built}"
        )
    chosen: dict[int, Decision] = {}
    for path, layer in walk(model, keras_):
        if id(layer) not in chosen:
            chosen[id(layer)] = _decide(layer, path, plan(layer, path), keras_)
    return chosen


def _require_any(model: Any, chosen: dict[int, Decision], keras_: Any) -> None:
    wrapped = any(keras_.is_wrapped(layer) for _, layer in walk(model, keras_))
    if all(d.reason for d in chosen.values()) and not wrapped:
        reasons = "; ".join(f"{d.path}: {d.reason}" for d in chosen.values())
        raise ValueError(
            f"Nothing in the model '{model.name}' can be pruned so. {reasons}. Change the rules, "
            f"the pattern or the policy. Received: model={model.name!r}"
        )


def _wrap_model(model: Any, chosen: dict[int, Decision], keras_: Any) -> Any:
    made = list(chosen.values())
    # Variables are made on all workers together: different ones would never come to be.
    agreement.require_same_rules(model, [decisions.line(decision) for decision in made])
    pruned = keras_.wrap_model(model, chosen)
    decisions.remember(pruned, made)
    _warn_of_skipped(made)
    return pruned


def _decide(layer: Any, path: str, plan: _Plan, keras_: Any) -> Decision:
    if keras_.is_wrapped(layer):
        return Decision(path, reason="wrapped already", expected=True)
    if plan.reason is not None:
        return Decision(path, reason=plan.reason, expected=True)
    if family(layer) is not None and keras_.pruned_layers(layer):  # not so for an operation
        return Decision(path, reason="layers inside it are wrapped already", expected=True)
    assert plan.schedule is not None
    assert plan.criterion is not None
    _require_magnitude(layer, plan.criterion)
    reason = keras_.reason_against(layer, plan.schedule, plan.criterion.pattern)
    if reason is None:
        return Decision(path, plan.schedule, plan.criterion)
    if plan.named_by is not None:
        raise plan.named_by.refusal(
            f"does not fit: the layer '{path}', asked for by name, cannot be pruned: {reason}. "
            "Change `layers` or `pattern`, or skip it (`skip=True`, in YAML `skip: true`)."
        )
    return Decision(path, reason=reason, expected=keras_.is_left_alone(layer))


def _warn_of_skipped(made: list[Decision]) -> None:
    skipped = [d for d in made if d.reason and not d.expected]
    if skipped:
        reasons = "; ".join(f"{d.path} ({d.reason})" for d in skipped)
        warnings.warn(f"Left dense, because they cannot be pruned: {reasons}.", stacklevel=4)


def _require_used(rule: Rule, paths: list[str], made: list[Decision]) -> None:
    if not paths:
        known = ", ".join(decision.path for decision in made)
        raise rule.refusal(
            f"matches no layer, or only layers that an earlier rule took. The layers are: {known}. "
            "Let `layers` match one of them, move the rule before the one that takes them, or "
            "leave it out."
        )
    matched = [d for d in made if d.path in paths]
    if not rule.skip and all(d.reason for d in matched):
        reasons = "; ".join(f"{d.path}: {d.reason}" for d in matched)
        raise rule.refusal(
            f"matches no layer that can be pruned. {reasons}. Change `layers` or `pattern`, or "
            "skip them (`skip=True`, in YAML `skip: true`)."
        )


def _require_magnitude(layer: Any, criterion: Criterion) -> None:
    if not criterion.plain and family(layer) == "tf_keras":
        raise ValueError(
            "tf_keras models are pruned by tfmot, which knows magnitudes only and brings no weight "
            "back: scores and regrowth need a Keras 3 model. "
            f"Received: score={str(criterion.score)!r}, regrowth={criterion.regrowth} for the "
            f"tf_keras layer '{layer.name}'"
        )


def _require_no_more(kwargs: dict[str, Any], what: str) -> None:
    if kwargs:
        raise TypeError(
            f"`prune_low_magnitude` takes no such arguments for {what}; those it knows are "
            "pruning_schedule, block_size, block_pooling_type, pruning_policy and "
            f"sparsity_m_by_n. Received: {', '.join(kwargs)}"
        )


def _require_graph(model: Any, keras_: Any) -> None:
    if not keras_.is_graph(model):
        raise ValueError(
            "A whole subclassed model cannot be wrapped: only its class knows how its layers are "
            "put together. Wrap the layers where the class makes them:\n\n"
            "    class MyModel(keras.Model):\n"
            "        def __init__(self):\n"
            "            super().__init__()\n"
            "            self.dense = tfprune.prune_low_magnitude(keras.layers.Dense(10))\n\n"
            f"Received: {type(model).__name__}"
        )
