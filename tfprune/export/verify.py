"""Compare the outputs of an exported file with those of the Keras model."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfprune.export.interface import Arrays, Interface
from tfprune.export.runtime import DEFAULT, XNNPACK_OFF, RuntimeFailure

TOLERANCE = {None: 5e-5, "float16": 5e-3}
"""Largest error allowed, relative to the largest output; README.md says where these come from."""
REFUSED = 0.5**0.5
"""Quantized: an error so large, relative to how far the outputs vary, that the file explains less
than half of their variance: it is more noise than answer."""
DOUBTED = 0.2
"""Quantized: an error above which a note says so; 4 % of the variance is lost."""
_SPREAD_COUNTED = 0.1  # an int8 output has 255 steps, too few for what varies by less of its size
_SPREAD_SAMPLES = 4  # fewer do not tell how far outputs vary
DISAGREEMENT = 0.25
"""Quantized: how far the two runtimes may be apart, by root mean square, before one is wrong."""
_FLOOR = 1e-7  # outputs so small are rounding noise themselves

Outputs = list[dict[str, np.ndarray]]


class ExportMismatch(RuntimeError):
    """The file would not compute what the Keras model does, or not run; it was not written."""


@dataclasses.dataclass(frozen=True)
class RuntimeCheck:
    """How far the file is from Keras on one runtime.

    Attributes:
        runtime: "default" or "XNNPACK off".
        max_abs_error: largest difference of any output value.
        max_rel_error: the same relative to the largest value of that output.
        rms_error: root of the mean squared difference relative to that of the output.
        unexplained: the same relative to how far the output varies from sample to sample, which
            counts as at least a tenth of the output. A file that answers the same to every input
            is at 1 or more, even where a bias makes `rms_error` small; the file explains
            `1 - unexplained**2` of the variance.
    """

    runtime: str
    max_abs_error: float
    max_rel_error: float
    rms_error: float
    unexplained: float


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
    absolute = relative = rms = unexplained = 0.0
    for name in wanted[0]:
        pairs = [(_floats(w[name]), _take(g, name, w[name], runtime)) for w, g in _zip(wanted, got)]
        worst = max((np.abs(w - g).max(initial=0.0) for w, g in pairs), default=0.0)
        scale = max(np.abs(w).max(initial=0.0) for w, _ in pairs) + _FLOOR
        squares = sum(float(np.square(w - g).sum()) for w, g in pairs)
        power = sum(float(np.square(w).sum() + w.size * _FLOOR**2) for w, _ in pairs)
        absolute, relative = max(absolute, float(worst)), max(relative, float(worst / scale))
        rms = max(rms, float(np.sqrt(squares / power)) if power else 0.0)
        spread = max(_spread([w for w, _ in pairs]), _SPREAD_COUNTED**2 * power)
        unexplained = max(unexplained, float(np.sqrt(squares / spread)) if spread else 0.0)
    return RuntimeCheck(runtime, absolute, relative, rms, unexplained)


def _spread(values: list[np.ndarray]) -> float:
    """Return the sum of the squared distances of an output from its mean over the samples.

    The sum of its squares if there are too few samples to tell, or none differs from the others.
    """
    power = sum(float(np.square(value).sum()) for value in values)
    if len(values) < _SPREAD_SAMPLES or len({value.shape for value in values}) > 1:
        return power
    mean = np.mean(values, axis=0)
    spread = sum(float(np.square(value - mean).sum()) for value in values)
    return spread if spread > _FLOOR * power else power


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
    quantize: str | None, wanted: Outputs, by_runtime: dict[str, Outputs], suspicion: str = ""
) -> tuple[tuple[RuntimeCheck, ...], RuntimeCheck]:
    """Return the errors on each runtime, and how far the two runtimes are apart.

    Args:
        quantize: the form.
        wanted: outputs of Keras.
        by_runtime: outputs of the file.
        suspicion: what in the model may be the cause, should the outputs differ.

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
                f"{TOLERANCE[quantize]:g} is explained by rounding. "
                f"{suspicion or _advice(quantize)}. Nothing was written."
            )
        if quantize not in TOLERANCE and not row.unexplained <= REFUSED:
            raise ExportMismatch(
                f"The {quantize} file answers nonsense on the runtime '{row.runtime}': "
                f"{_explained(row)}, and at least half is expected. "
                f"{suspicion or _cause(quantize)} Nothing was written."
            )
    if quantize not in TOLERANCE and not apart.rms_error <= DISAGREEMENT:
        raise ExportMismatch(
            f"The {quantize} file answers differently with and without XNNPACK "
            f"({apart.rms_error:.2g} of the outputs by root mean square), so one of the two is "
            "wrong. Choose quantize='float16'. Nothing was written."
        )
    return rows, apart


def unusable(quantize: str | None, failure: RuntimeFailure) -> ExportMismatch:
    """Return the error for a file that the runtime refuses or does not survive."""
    if quantize == "int8":
        cause = (
            "Seen where the outputs of a layer were 0 in all calibration data, so that XNNPACK "
            "finds no scale for them: pass data like those in use, scaled as the model is to get "
            "them, as `representative_data`, train on if the layer is dead, or choose "
            "quantize='dynamic' or 'float16'."
        )
    else:
        others = [one for one in (None, "float16", "dynamic") if one != quantize]
        cause = f"Another form may do: quantize={others[0]!r} or {others[1]!r}."
    return ExportMismatch(f"{failure}. {cause} Nothing was written.")


def doubts(quantize: str | None, rows: tuple[RuntimeCheck, ...]) -> tuple[str, ...]:
    """Return a note if a quantized file that was not refused follows Keras only roughly."""
    worst = max(rows, key=lambda row: row.unexplained)
    if quantize in TOLERANCE or worst.unexplained <= DOUBTED:
        return ()
    return (
        f"the file follows Keras only roughly: {_explained(worst)} on the runtime "
        f"'{worst.runtime}'. Measure its accuracy on real data before you use it. "
        f"{_cause(quantize)}",
    )


def _explained(row: RuntimeCheck) -> str:
    part = max(0.0, 1.0 - row.unexplained**2)
    return (
        f"it explains {part:.0%} of how Keras's outputs vary (error {row.unexplained:.2g} of their "
        "variation by root mean square)"
    )


def _cause(quantize: str | None) -> str:
    if quantize == "int8":
        return (
            "The likely cause is calibration data unlike the inputs in use: pass such inputs, "
            "scaled as the model is to get them, as `representative_data`. Some models do not bear "
            "int8 activations: then choose quantize='dynamic' or 'float16'."
        )
    return "Its weights do not bear int8: choose quantize='float16'."


def _advice(quantize: str | None) -> str:
    if quantize == "float16":
        return "If the float32 file is right, some weights or outputs do not bear float16"
    return "An output that jumps (argmax, rounding) needs `sample_inputs` away from the jumps"
