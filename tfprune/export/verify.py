"""Compare the outputs of an exported file with those of the Keras model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfprune.export.interface import Arrays, Interface
from tfprune.export.runtime import DEFAULT, XNNPACK_OFF

TOLERANCE = {None: 5e-5, "float16": 5e-3}
"""Largest error allowed, relative to the largest output; README.md says where these come from."""
ABSURD = 1.0
"""Quantized: an error as large as the outputs themselves, by root mean square."""
DISAGREEMENT = 0.25
"""Quantized: how far the two runtimes may be apart, by root mean square, before one is wrong."""
_FLOOR = 1e-7  # outputs so small are rounding noise themselves

Outputs = list[dict[str, np.ndarray]]


class ExportMismatch(RuntimeError):
    """The exported file does not compute what the Keras model does; it was not written."""


@dataclasses.dataclass(frozen=True)
class RuntimeCheck:
    """How far the file is from Keras on one runtime.

    Attributes:
        runtime: "default" or "XNNPACK off".
        max_abs_error: largest difference of any output value.
        max_rel_error: the same relative to the largest value of that output.
        rms_error: root of the mean squared difference relative to that of the output.
    """

    runtime: str
    max_abs_error: float
    max_rel_error: float
    rms_error: float


def keras_outputs(function: Any, interface: Interface, samples: list[Arrays]) -> Outputs:
    """Return the named outputs of the traced Keras model in inference mode.

    Raises:
        ValueError: the model gives NaN or infinite values, with which nothing can be compared, or
            cannot take a sample.
    """
    import tensorflow as tf

    results = []
    for sample in samples:
        tensors = [tf.constant(array) for array in sample]
        try:
            named = function(*tensors)
        except (tf.errors.InvalidArgumentError, ValueError) as error:
            shapes = ", ".join(
                f"{one.name}: {a.shape}" for one, a in _zip(interface.inputs, sample)
            )
            raise ValueError(
                f"The Keras model cannot take the inputs to compare outputs on ({shapes}): pass "
                f"some that it can as `sample_inputs`. Keras says: {error}"
            ) from error
        results.append({name: value.numpy() for name, value in named.items()})
    for outputs in results:
        for name, value in outputs.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise ValueError(
                    f"The Keras model itself gives NaN or infinite values in '{name}', so the "
                    "exported file cannot be checked. Pass inputs it can take as `sample_inputs`, "
                    "or look for NaN in the weights."
                )
    return results


def errors(wanted: Outputs, got: Outputs, runtime: str) -> RuntimeCheck:
    """Return the largest errors over all samples and outputs.

    Raises:
        ExportMismatch: the outputs differ in name, shape or finiteness.
    """
    absolute = relative = rms = 0.0
    for name in wanted[0]:
        pairs = [(_floats(w[name]), _take(g, name, w[name], runtime)) for w, g in _zip(wanted, got)]
        worst = max((np.abs(w - g).max(initial=0.0) for w, g in pairs), default=0.0)
        scale = max(np.abs(w).max(initial=0.0) for w, _ in pairs) + _FLOOR
        squares = sum(float(np.square(w - g).sum()) for w, g in pairs)
        power = sum(float(np.square(w).sum() + w.size * _FLOOR**2) for w, _ in pairs)
        absolute, relative = max(absolute, float(worst)), max(relative, float(worst / scale))
        rms = max(rms, float(np.sqrt(squares / power)) if power else 0.0)
    return RuntimeCheck(runtime, absolute, relative, rms)


def _zip(first, second):
    return zip(first, second, strict=True)


def _floats(value: np.ndarray) -> np.ndarray:
    return value.astype("float64")


def _take(outputs: dict[str, np.ndarray], name: str, like: np.ndarray, runtime: str) -> np.ndarray:
    value = outputs.get(name)
    if value is None or value.shape != like.shape:
        raise ExportMismatch(
            f"The exported file ({runtime}) gives "
            f"{'no output' if value is None else f'shape {value.shape}'} for '{name}', where Keras "
            f"gives shape {like.shape}. Nothing was written."
        )
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ExportMismatch(
            f"The exported file ({runtime}) gives NaN or infinite values in '{name}', where Keras "
            "gives finite ones. Nothing was written."
        )
    return _floats(value)


def compare(
    quantize: str | None, wanted: Outputs, by_runtime: dict[str, Outputs]
) -> tuple[tuple[RuntimeCheck, ...], RuntimeCheck]:
    """Return the errors on each runtime, and how far the two runtimes are apart.

    Raises:
        ExportMismatch: an error is beyond what the form of the weights explains.
    """
    rows = tuple(errors(wanted, outputs, name) for name, outputs in by_runtime.items())
    apart = errors(by_runtime[XNNPACK_OFF], by_runtime[DEFAULT], "between the two")
    for row in rows:
        if quantize in TOLERANCE and not row.max_rel_error <= TOLERANCE[quantize]:
            raise ExportMismatch(
                f"The exported file is wrong on the runtime '{row.runtime}': its outputs are up to "
                f"{row.max_rel_error:.2g} of the largest output away from Keras's, and at most "
                f"{TOLERANCE[quantize]:g} is explained by rounding"
                f"{_advice(quantize)}. Nothing was written."
            )
        if quantize not in TOLERANCE and not row.rms_error < ABSURD:
            raise ExportMismatch(
                f"The {quantize} file answers nonsense on the runtime '{row.runtime}': the error "
                f"({row.rms_error:.2g} of the outputs by root mean square) is as large as the "
                "outputs themselves. Give calibration data (`representative_data`) like the inputs "
                "in use, or choose quantize='float16'. Nothing was written."
            )
    if quantize not in TOLERANCE and not apart.rms_error <= DISAGREEMENT:
        raise ExportMismatch(
            f"The {quantize} file answers differently with and without XNNPACK "
            f"({apart.rms_error:.2g} of the outputs by root mean square), so one of the two is "
            "wrong. Choose quantize='float16'. Nothing was written."
        )
    return rows, apart


def _advice(quantize: str | None) -> str:
    if quantize == "float16":
        return "; if the float32 file is right, some weights or outputs do not bear float16"
    return "; an output that jumps (argmax, rounding) needs `sample_inputs` away from the jumps"
