"""Turn a tf_keras model into a Keras 3 model of the same layers, weights and outputs.

Both families write a model down in nearly the same words; where tf_keras has a setting that Keras 3
does not, it is left out if it is at its default. The outputs are compared before anything is
returned. Neither tf_keras nor tfmot is imported: a model of theirs brings its methods with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfprune import cloning

_WITHOUT_MEANING = {
    "groups": (1,),
    "time_major": (False,),
    "ragged": (False,),
    "optional": (False,),
    "renorm": (False,),
    "softmax_robust_masking": (False,),
}
"""Settings of tf_keras that Keras 3 does not know, and the values at which they do nothing."""
_OF_BUILDING = ("query_shape", "key_shape", "value_shape")
"""What attention layers of tf_keras write down that Keras 3 finds out when they are called."""
_FREE = 32
_TOLERANCES = {"float16": 1e-2, "bfloat16": 8e-2}
"""How far outputs may be apart by rounding, relative to the largest; some 20 roundings."""
_TOLERANCE = 1e-4
_ROUNDING = 2e-6
"""What float32 differs by in two orders of adding up; some 20 roundings."""


class ConversionError(ValueError):
    """A tf_keras model cannot be written in Keras 3; the message says which part and why."""


def to_keras3(model: Any) -> keras.Model:
    """Return a Keras 3 model that computes what a tf_keras one does; it is not compiled.

    Args:
        model: a built Sequential or Functional model of tf_keras, without pruning wrappers; it is
            not changed.

    Example: `to_keras3(tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(2)]))`

    Raises:
        ConversionError: a layer or setting has no counterpart, or the outputs are not the same.
    """
    if not model.built or not any(kind.__name__ == "Functional" for kind in type(model).__mro__):
        raise _refusal(model, "it is not a built Sequential or Functional model")
    try:
        written = json.loads(model.to_json())
        new = _model(written, model.input, model.output)
        _copy_weights(model, new)
        _require_same(model, new)
    except ConversionError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        # Keras puts a page around what a layer has to say.
        inner = str(error).rsplit("Exception encountered:", 1)[-1].strip()
        raise _refusal(model, inner.splitlines()[0]) from error
    return new


def _refusal(model: Any, reason: str) -> ConversionError:
    return ConversionError(
        f"The tf_keras model '{model.name}' cannot be taken over into Keras 3: {reason}. Build it "
        "with `import keras` and hand over the weights (`new.set_weights(old.get_weights())`). "
        f"Received: {type(model).__module__}.{type(model).__name__}"
    )


# -- Configuration -------------------------------------------------------------------------------


def _model(written: dict[str, Any], given: Any, results: Any) -> keras.Model:
    """Return a model as it is written down, with inputs and outputs structured like two others."""
    kind = {"Functional": keras.Model, "Model": keras.Model, "Sequential": keras.Sequential}
    config = _translated(written)["config"]
    if written["class_name"] not in kind:
        raise ValueError(f"its class {written['class_name']} is not one of Keras")
    new = kind[written["class_name"]].from_config(config)
    if isinstance(new, keras.Sequential):
        return new
    # What tf_keras has written takes lists of inputs, of one input too.
    heads = keras.tree.pack_sequence_as(given, new.inputs)
    return keras.Model(heads, keras.tree.pack_sequence_as(results, new.outputs), name=new.name)


def _translated(part: Any) -> Any:
    """Return a piece of a configuration in the words of Keras 3."""
    if isinstance(part, list):
        return [_translated(one) for one in part]
    if not isinstance(part, dict):
        return part
    if part.get("class_name") == "Policy":
        return part["config"]["name"]
    if "class_name" not in part or "config" not in part:
        return {key: _translated(value) for key, value in part.items()}
    found = {key: _translated(value) for key, value in part.items() if key != "build_config"}
    name = part["class_name"]
    if name in ("Functional", "Model"):
        found |= {"class_name": "Functional", "module": "keras.src.models.functional"}
        found["config"] = _numbered(found["config"])
    elif name == "Sequential":
        found["module"] = "keras"
    elif hasattr(keras.layers, name):
        found["module"] = "keras.layers"
        found["config"] = _settings(name, found["config"])
    elif "inbound_nodes" in part or str(part.get("module")).startswith("tf_keras"):
        own = part["config"].get("name")
        raise ValueError(f"the layer '{own}' is a {name}, which Keras 3 does not have")
    return found


def _numbered(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a graph in which the calls of models count from 0.

    In tf_keras call 0 of a model is the one on its own inputs.
    """
    models = {
        layer["config"]["name"]
        for layer in config["layers"]
        if layer["class_name"] in ("Functional", "Sequential")
        and layer["config"]["layers"][0]["class_name"] == "InputLayer"
    }

    def moved(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: moved(value) for key, value in part.items()}
        if not isinstance(part, list):
            return part
        if len(part) > 2 and isinstance(part[0], str) and part[0] in models:
            return [part[0], part[1] - 1, *moved(part[2:])]
        return [moved(one) for one in part]

    names = {layer["config"]["name"] for layer in config["layers"]}
    layers = [
        {**layer, "inbound_nodes": [_call(node, names) for node in moved(layer["inbound_nodes"])]}
        for layer in config["layers"]
    ]
    return {**config, "layers": layers, "output_layers": moved(config["output_layers"])}


def _call(node: Any, names: set[str]) -> Any:
    """Return a call as Keras 3 writes it down if tensors are passed by name, else as it is.

    Of those that tf_keras writes down (layer, call, output), Keras 3 finds the first argument only.
    """

    def is_tensor(part: Any) -> bool:
        kinds = [type(one) for one in part] if isinstance(part, list) else []
        return kinds == [str, int, int] and part[0] in names

    def tensor(part: Any) -> Any:
        config = {"shape": [], "dtype": "float32", "keras_history": part}  # the last one counts
        return {"class_name": "__keras_tensor__", "config": config}

    def seen(part: Any) -> Any:
        if is_tensor(part):
            return tensor(part)
        if isinstance(part, list):
            return [seen(one) for one in part]
        return {k: seen(v) for k, v in part.items()} if isinstance(part, dict) else part

    plain = isinstance(node, list) and all(isinstance(one, list) for one in node)
    if not plain or not node or any(len(one) != 4 for one in node):
        return node
    named = seen(node[0][3])
    if named == node[0][3]:
        return node
    first = [tensor(one[:3]) for one in node]
    return {"args": first if len(first) == 1 else [first], "kwargs": named}


def _settings(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return a layer's configuration without what Keras 3 does not know."""
    found = dict(config)
    shape = found.pop("batch_input_shape", None)
    if kind == "InputLayer":
        found.setdefault("batch_shape", shape)
    for key in _OF_BUILDING:
        found.pop(key, None)
    known = set(getattr(keras.layers, kind).__init__.__code__.co_varnames)
    for key in found.keys() - known:
        # Weights are copied, so that it does not matter how they would have been drawn.
        if found[key] in _WITHOUT_MEANING.get(key, (None,)) or key.endswith("_initializer"):
            del found[key]
    if kind == "BatchNormalization" and isinstance(found.get("axis"), list):
        (found["axis"],) = found["axis"]
    return found


# -- Weights and outputs -------------------------------------------------------------------------


def _copy_weights(old: Any, new: keras.Model) -> None:
    for layer in old.layers:
        if not layer.weights:
            continue
        twin = new.get_layer(layer.name)
        if isinstance(twin, keras.Model):
            _copy_weights(layer, twin)
        else:
            twin.set_weights(layer.get_weights())
            if hasattr(twin, "finalize_state"):
                twin.finalize_state()  # `Normalization` derives constants from its weights


def _require_same(old: Any, new: keras.Model) -> None:
    """Raise unless the outputs are the same on random inputs, but for rounding."""
    types = {layer.compute_dtype for layer in cloning.leaves(new)}
    tolerance = max(_TOLERANCES.get(kind, _TOLERANCE) for kind in types)
    for one, other in _answers(old, new):
        largest = max(float(np.abs(one).max()), 1e-9)
        apart = float(np.abs(one - other).max())
        if not apart <= tolerance * largest:
            far = f"{apart / largest:.2g} apart, relative to the largest"
            raise _refusal(old, f"its outputs would be {far}")
        # Those of an untrained network hardly depend on what goes in.
        spread = float(np.abs(one[0] - one[1]).max())
        if tolerance == _TOLERANCE and apart > max(_ROUNDING * largest, spread):
            far = f"{apart:.2g} apart, and for other inputs they are {spread:.2g} apart"
            raise _refusal(old, f"its outputs would be {far}")


def _answers(old: Any, new: keras.Model) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield what both models make of two random samples, output by output."""
    rng = np.random.default_rng(0)
    inputs = []
    for tensor in new.inputs:
        shape = (2, *(_FREE if n is None else n for n in tensor.shape[1:]))
        floating = "float" in str(tensor.dtype)
        # Between 0 and 1, since floats may be numbers of words, of which only 0 is sure to exist.
        values = rng.random(shape) if floating else rng.integers(0, 2, shape)
        inputs.append(values.astype(tensor.dtype))
    given = keras.tree.pack_sequence_as(old.input, inputs)
    wanted = keras.tree.flatten(old(given, training=False)) or []
    found = keras.tree.flatten(new(given, training=False)) or []
    for one, other in zip(wanted, found, strict=True):
        one, other = np.asarray(one, float), np.asarray(keras.ops.convert_to_numpy(other), float)
        if one.shape != other.shape:
            raise ValueError(f"an output would have the shape {other.shape} and not {one.shape}")
        yield one, other
