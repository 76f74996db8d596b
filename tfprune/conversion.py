"""Turn a tf_keras model into a Keras 3 model of the same layers, weights and outputs.

Both families write a model down in nearly the same words; where tf_keras has a setting that Keras 3
does not, it is left out if it is at its default. The outputs are compared before anything is
returned. Neither tf_keras nor tfmot is imported: a model of theirs brings its methods with it.
"""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np

_WITHOUT_MEANING = {
    "groups": (1,),
    "time_major": (False,),
    "ragged": (False,),
    "optional": (False,),
    "renorm": (False,),
}
"""Settings of tf_keras that Keras 3 does not know, and the values at which they do nothing."""
_FREE = 32
_TOLERANCE = 1e-4


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
        new = _model(written)
        _copy_weights(model, new)
        apart = _apart(model, new)
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise _refusal(model, str(error).strip().splitlines()[0]) from error
    if not apart <= _TOLERANCE:
        raise _refusal(model, f"its outputs would be {apart:.2g} apart, relative to the largest")
    return new


def _refusal(model: Any, reason: str) -> ConversionError:
    return ConversionError(
        f"The tf_keras model '{model.name}' cannot be taken over into Keras 3: {reason}. Build it "
        "with `import keras` and hand over the weights (`new.set_weights(old.get_weights())`). "
        f"Received: {type(model).__module__}.{type(model).__name__}"
    )


# -- Configuration -------------------------------------------------------------------------------


def _model(written: dict[str, Any]) -> keras.Model:
    kind = {"Functional": keras.Model, "Model": keras.Model, "Sequential": keras.Sequential}
    config = _translated(written)["config"]
    if written["class_name"] not in kind:
        raise ValueError(f"its class {written['class_name']} is not one of Keras")
    new = kind[written["class_name"]].from_config(config)
    if isinstance(new, keras.Sequential):
        return new
    # What tf_keras has written takes lists of inputs, of one input too.
    heads, ends = (t[0] if len(t) == 1 else t for t in (new.inputs, new.outputs))
    return keras.Model(heads, ends, name=new.name)


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

    layers = [
        {**layer, "inbound_nodes": moved(layer["inbound_nodes"])} for layer in config["layers"]
    ]
    return {**config, "layers": layers, "output_layers": moved(config["output_layers"])}


def _settings(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return a layer's configuration without what Keras 3 does not know."""
    found = dict(config)
    shape = found.pop("batch_input_shape", None)
    if kind == "InputLayer":
        found.setdefault("batch_shape", shape)
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


def _apart(old: Any, new: keras.Model) -> float:
    """Return how far the outputs are apart on random inputs, relative to the largest."""
    rng = np.random.default_rng(0)
    inputs = []
    for tensor in new.inputs:
        shape = (2, *(_FREE if n is None else n for n in tensor.shape[1:]))
        floating = "float" in str(tensor.dtype)
        # Between 0 and 1, since floats may be numbers of words, of which only 0 is sure to exist.
        values = rng.random(shape) if floating else rng.integers(0, 2, shape)
        inputs.append(values.astype(tensor.dtype))
    given = inputs[0] if len(inputs) == 1 else inputs
    wanted = keras.tree.flatten(old(given, training=False)) or []
    found = keras.tree.flatten(new(given, training=False)) or []
    furthest = 0.0
    for one, other in zip(wanted, found, strict=True):
        one, other = np.asarray(one, float), np.asarray(keras.ops.convert_to_numpy(other), float)
        if one.shape != other.shape:
            raise ValueError(f"an output would have the shape {other.shape} and not {one.shape}")
        furthest = max(furthest, float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-9)))
    return furthest
