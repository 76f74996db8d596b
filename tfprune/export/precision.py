"""Let a mixed-precision model compute in float32 while it is traced, and set it back.

TFLite has no float16 convolution or matrix multiplication outside of delegates, so the graph must
be float32. Under a mixed policy the variables are float32 already; only the casts must go.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras


def sublayers(model: Any) -> list[Any]:
    """Return the model and every layer in it, at any depth, by TensorFlow's public view."""
    import tensorflow as tf

    return [
        found
        for found in tf.train.TrackableView(model).descendants()
        if hasattr(found, "compute_dtype") and hasattr(found, "variable_dtype")
    ]


def check_dtypes(model: Any) -> None:
    """Raise unless all floating weights are float32 and the model is not quantized by Keras."""
    for layer in sublayers(model):
        if getattr(layer, "quantization_mode", None):
            raise ValueError(
                f"The layer '{layer.name}' is already quantized by Keras "
                f"({layer.quantization_mode}); export the float model and let `quantize=` of "
                "`export_tflite` quantize it."
            )
    for variable in model.variables:
        dtype = getattr(variable.dtype, "name", None) or str(variable.dtype)
        if dtype in ("float16", "bfloat16", "float64"):
            raise ValueError(
                f"The weight '{getattr(variable, 'path', variable.name)}' is {dtype}, and TFLite "
                "computes in float32. Build the model with the dtype policy 'float32' (or a mixed "
                "one, whose weights are float32) and hand over the weights: "
                "`model32.set_weights(model.get_weights())`."
            )


@contextlib.contextmanager
def in_float32(model: Any) -> Iterator[Any]:
    """Give a model that computes in float32: the one passed in, or a copy for tf_keras.

    A Keras 3 model gets its policies back at the end. tf_keras has no public way to change the
    policy of a layer, so a mixed one is rebuilt from its configuration.
    """
    mixed = [layer for layer in sublayers(model) if layer.compute_dtype in ("float16", "bfloat16")]
    if not mixed:
        yield model
    elif isinstance(model, keras.layers.Layer):
        policies = [layer.dtype_policy for layer in mixed]
        try:
            for layer in mixed:
                layer.dtype_policy = "float32"
            yield model
        finally:
            for layer, policy in zip(mixed, policies, strict=True):
                layer.dtype_policy = policy
    else:
        yield rebuilt(model, _float32)


def rebuilt(model: Any, edit: Callable[[Any], Any]) -> Any:
    """Return a tf_keras model made from its own configuration after an edit, weights and all.

    Args:
        model: Sequential or Functional, tf_keras.
        edit: called with every value in the configuration, innermost first; returns what to put
            in its place.

    Raises:
        ValueError: the model cannot be rebuilt.
    """
    classes = {type(layer).__name__: type(layer) for layer in sublayers(model)}
    try:
        copy = type(model).from_config(_edited(model.get_config(), edit), custom_objects=classes)
        copy.set_weights(model.get_weights())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"The tf_keras model '{model.name}' has to be rebuilt for this export, and its "
            f"configuration does not allow it ({error}). Build it with the dtype policy 'float32' "
            "and, for int8, recurrent layers with unroll=True; hand over the weights with "
            "`set_weights`, and export that."
        ) from error
    return copy


def _edited(config: Any, edit: Callable[[Any], Any]) -> Any:
    if isinstance(config, dict):
        config = {key: _edited(value, edit) for key, value in config.items()}
    elif isinstance(config, (list, tuple)):
        config = type(config)(_edited(part, edit) for part in config)
    return edit(config)


def _float32(value: Any) -> Any:
    if isinstance(value, dict) and value.get("class_name") in ("Policy", "DTypePolicy"):
        return "float32"
    return "float32" if value in ("mixed_float16", "mixed_bfloat16") else value
