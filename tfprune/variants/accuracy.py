"""Outputs of the Keras model and of its files, for the same evaluation data."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from tfprune import strip
from tfprune.export import runtime, verify
from tfprune.export.convert import trace
from tfprune.export.interface import Interface
from tfprune.export.precision import in_float32
from tfprune.export.quiet import quiet
from tfprune.progress import Steps
from tfprune.variants.data import Evaluation


def keras_outputs(model: Any, interface: Interface, data: Evaluation, steps: Steps) -> Any:
    """Return the outputs of the Keras model, computed in float32, its pruned weights at zero.

    An array (samples, ...), or a dict of them by name for several outputs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the export says the same
        ready = strip.strip_pruning(model) if _wrapped(model) else model
    with in_float32(ready) as single, quiet():
        function = trace(single, interface)
        found = [
            verify.keras_outputs(function, interface, [sample])[0]
            for sample in steps.over(data.samples, "Keras model: accuracy")
        ]
    return _joined(found)


def file_outputs(
    path: str | os.PathLike, interface: Interface, data: Evaluation, steps: Steps, name: str
) -> Any:
    """Return the outputs of a `.tflite` file on the default runtime, in the same form.

    Raises:
        RuntimeFailure: the runtime refuses the file, crashes, or fails on a sample.
    """
    samples = steps.over(data.samples, f"{name}: accuracy")
    named = (interface.named(sample) for sample in samples)
    found = list(runtime.interpreters().outputs(path, named, runtime.DEFAULT))
    return _joined(found)


def _wrapped(model: Any) -> bool:
    return bool(strip.pruned_layers(model)) and strip.can_strip(model)


def _joined(found: list[dict[str, np.ndarray]]) -> Any:
    names = list(found[0])
    joined = {name: np.concatenate([np.atleast_1d(one[name]) for one in found]) for name in names}
    return joined[names[0]] if len(names) == 1 else joined
