"""Trace a Keras model at batch size 1 and convert it with TensorFlow's own converter."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfprune.export import elsewhere
from tfprune.export.interface import Arrays, Interface, named_leaves
from tfprune.export.interfaces import interface_of
from tfprune.export.naming import Names, names_of
from tfprune.export.precision import in_float32, rebuilt, sublayers
from tfprune.export.quiet import quiet
from tfprune.family import family, room

QUANTIZE = (None, "float16", "dynamic", "int8")


def output_names(outputs: Any) -> list[tuple[str, Any]]:
    """Return (name, tensor) of what a model returned: dict keys, else output_0, output_1, ..."""
    leaves = named_leaves(outputs)
    if len(leaves) == 1 and not leaves[0][0]:
        return [("output", leaves[0][1])]
    return [(f"output_{k}" if k[:1].isdigit() else re.sub(r"\W", "_", k), v) for k, v in leaves]


def trace(model: Any, interface: Interface) -> Any:
    """Return the concrete function of the model in inference mode, with named flat tensors.

    Raises:
        ValueError: the model cannot be traced, or changes its own state while it predicts.
    """
    import tensorflow as tf

    specs = [tf.TensorSpec(one.shape, one.dtype, name=one.name) for one in interface.inputs]

    def serve(*flat):
        return dict(output_names(model(interface.pack(flat), training=False)))

    # tf_keras lets autograph rewrite the `if` and `for` of a `call`, Keras 3 does not.
    autograph = family(model) == "tf_keras"
    function = tf.function(serve, input_signature=specs, autograph=autograph)
    with room("tf_keras").without_masking(model) if autograph else contextlib.nullcontext():
        function = function.get_concrete_function()
    writes = {kind for _, kind in _operations(function) if kind.startswith("Assign")}
    if writes:
        raise ValueError(
            f"The model '{model.name}' keeps state from one call to the next, which a .tflite file "
            "made from it would lose: build recurrent layers with `stateful=False`, and layers of "
            "your own so that they assign nothing when `training=False`. "
            f"Received: a graph with {', '.join(sorted(writes))}"
        )
    return function


def converted(model: Any) -> bytes:
    """Return a model as a float32 `.tflite` file in memory; see `named`."""
    return named(model)[0]


def named(model: Any) -> tuple[bytes, Names]:
    """Return a model as a float32 `.tflite` file in memory, and names of layers for its tensors.

    Args:
        model: built, without wrappers, of either family.

    Raises:
        ValueError: the model cannot be converted, or Keras runs on another backend.
    """
    if elsewhere.is_needed(model):
        raise elsewhere.another_backend("A look at the exported file")
    interface = interface_of(model, None, None)
    with in_float32(model) as ready:
        function = trace(ready, interface)
        return convert(ready, function, interface, None, None), names_of(ready, function)


def convert(
    model: Any,
    function: Any,
    interface: Interface,
    quantize: str | None,
    calibration: list[Arrays] | None,
) -> bytes:
    """Return the `.tflite` file.

    Args:
        model: a float32 model without wrappers, of either family.
        function: what `trace` made of it.
        interface: its inputs.
        quantize: one of `QUANTIZE`.
        calibration: samples for "int8".

    Raises:
        ValueError: the model cannot be converted; the message names the operations.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    with quiet() as chatter:
        if quantize == "int8":
            function = _without_loops(model, function, interface)
        if family(model) == "tf_keras":
            function = _inlined(function)
        # The module keeps the variables alive and known, so that the converter freezes them.
        # Passing the Keras 3 model itself leaves them behind as uninitialized resources.
        module = tf.Module()
        module.held = list(function.variables)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
        if quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: _feed(calibration or [], interface)
        try:
            return bytes(converter.convert())
        except (ConverterError, RuntimeError, ValueError, TypeError) as error:
            raise ValueError(_explain(model, quantize, error, chatter.errors())) from error


def _feed(samples: list[Arrays], interface: Interface) -> Iterator[dict[str, np.ndarray]]:
    names = [one.name for one in interface.inputs]
    for sample in samples:
        yield dict(zip(names, sample, strict=True))


def _without_loops(model: Any, function: Any, interface: Interface) -> Any:
    """Trace recurrent layers step by step: TensorFlow's int8 calibrator crashes on loops."""
    if not _loops(function):
        return function
    reason = ""
    try:
        if family(model) == "tf_keras":
            function = trace(rebuilt(model, _unrolled), interface)
        else:
            function = _trace_unrolled(model, interface)
    except ValueError as error:  # Keras refuses to unroll over a free number of steps
        reason = f" ({str(error).strip()})"
    if _loops(function):
        raise ValueError(
            f"The model '{model.name}' has a loop that cannot be unrolled, and TensorFlow's int8 "
            "calibrator crashes on loops. Give recurrent layers a fixed number of time steps, or "
            f"choose quantize='dynamic' or 'float16'. Received: {', '.join(_loops(function))}"
            f"{reason}"
        )
    return function


def _trace_unrolled(model: Any, interface: Interface) -> Any:
    layers = [layer for layer in sublayers(model) if getattr(layer, "unroll", None) is False]
    try:
        for layer in layers:
            layer.unroll = True
        return trace(model, interface)
    finally:
        for layer in layers:
            layer.unroll = False


def _unrolled(value: Any) -> Any:
    """Edit the configuration of a recurrent layer; tf_keras decides at construction."""
    return {**value, "unroll": True} if isinstance(value, dict) and "unroll" in value else value


def _loops(function: Any) -> list[str]:
    return [name for name, kind in _operations(function) if kind.endswith("While")]


def _operations(function: Any) -> list[tuple[str, str]]:
    """Return (name, type) of the operations of a graph and of the functions that it calls."""
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return [(node.name, node.op) for node in nodes]


def _inlined(function: Any) -> Any:
    """Return the function with its variables as constants and its calls inlined.

    tf_keras marks its LSTM so that the converter puts TFLite's own LSTM in its place, whose state
    survives from one `invoke` to the next: right once, wrong from the second call on. Inlining
    takes the mark away.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    names = sorted(function.structured_outputs)
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    _, named = function.structured_input_signature
    specs = [*function.structured_input_signature[0], *named.values()]

    def serve(*flat):
        return dict(zip(names, frozen(*flat), strict=True))

    return tf.function(serve, input_signature=specs, autograph=False).get_concrete_function()


def _explain(model: Any, quantize: str | None, error: Exception, logged: list[str]) -> str:
    text = "\n".join([str(error), *logged])
    missing = sorted(set(re.findall(r"'?\b(tf\.[A-Z]\w+)'? op is neither", text)))
    if quantize == "int8" and not missing:
        missing = sorted(set(re.findall(r"(tfl\.\w+)'? op", text)))
    if missing:
        reason = f"TFLite has no kernel for {', '.join(missing)}" + (
            " in int8; try quantize='dynamic' or 'float16'" if quantize == "int8" else ""
        )
    else:
        lines = [line for line in text.splitlines() if line.strip()]
        reason = lines[0][:500] if lines else type(error).__name__
    return (
        f"TensorFlow's converter cannot convert the model '{model.name}' "
        f"(quantize={quantize!r}): {reason}. The full message is the cause of this error."
    )
