"""`export_tflite`: check, strip, convert, run, compare, and only then write."""

from __future__ import annotations

import gzip
import importlib.metadata
import os
import pathlib
import warnings
from typing import Any

import numpy as np

from tfprune import strip, workers
from tfprune.export import (
    calibration,
    elsewhere,
    exponentials,
    metadata,
    naming,
    norms,
    runtime,
    samples,
    verify,
    zeros,
)
from tfprune.export.convert import QUANTIZE, convert, trace
from tfprune.export.encoding import check_sparse, plan
from tfprune.export.interface import Arrays, Interface
from tfprune.export.interfaces import interface_of
from tfprune.export.precision import check_dtypes, in_float32
from tfprune.export.result import ExportedWeight, ExportResult
from tfprune.export.sparse import Storage, rewrite
from tfprune.family import require_family
from tfprune.files import check_target, write_whole
from tfprune.weightfiles import constants as constants_
from tfprune.weightfiles import flatbuffer

_VERSIONS = ("tfprune", "tensorflow", "keras", "tf_keras", "ai-edge-litert", "numpy")
_DYNAMIC_LEAST = 1024  # TensorFlow leaves smaller weights in float32
_FLOAT16_LARGEST = 65504.0


def export_tflite(
    model: Any,
    path: str | os.PathLike,
    quantize: str | None = None,
    representative_data: Any = None,
    overwrite: bool = False,
    sample_inputs: Any = None,
    sparse: str | bool = "auto",
) -> ExportResult:
    """Write a Keras model as a `.tflite` file that has been run and compared with the model.

    Wrapped layers are stripped, the model is converted at batch size 1, weights with enough zeros
    get TFLite's sparse encoding where that is safe, the file is loaded in `ai-edge-litert` (in a
    process beside this one) on the default runtime and with XNNPACK off, its outputs are compared
    with those of Keras, and its zeros with those of the weights. Only then does it appear at
    `path`. Where Keras runs on JAX or PyTorch, a process of TensorFlow does all that with a copy of
    the model; classes of your own must then stand in a module that it can import, and compute with
    `keras.ops`.

    Args:
        model: a built Keras 3 or tf_keras model: Sequential, Functional or subclassed, wrapped or
            not, trained under any dtype policy with float32 weights. Pruned weights are set to
            zero where their masks are; nothing else of it changes.
        path: the file to write, in a folder that exists.
        quantize: None for float32; "float16" for weights in half precision, computed in float32;
            "dynamic" for int8 weights and float activations; "int8" for int8 weights and
            activations. **Inputs and outputs stay as the model has them** (float32, or integers
            for token ids) in every form, "int8" included, so that an app need not change; the
            file starts with QUANTIZE and ends with DEQUANTIZE operations.
        representative_data: inputs like those in use, needed by "int8" to choose ranges: an array
            (samples, ...); a list or dict of arrays for several inputs; or batches or single
            samples from a generator, a function that returns one, a list, or a
            `tf.data.Dataset`. (x, y) stands for x. At most 300 samples are used. Scale them as
            the model is to get its inputs: a file calibrated on other ranges answers nonsense,
            and only `sample_inputs` of the right range would show it.
        overwrite: whether an existing file may be replaced.
        sample_inputs: inputs to compare outputs on, in the same forms, at most 32 used. Without
            them, samples of `representative_data`, else seeded random ones.
        sparse: "auto" stores a weight in sparse encoding where that takes fewer bytes, unless the
            file would then be wrong on some phone or not load; True does the same and raises if
            that leaves nothing to encode; False stores all weights dense. The result says for each
            weight what was done and why, and whether sparse kernels will run.

    Returns:
        An `ExportResult`: sizes, errors, zeros and storage of each weight, and what XNNPACK's
        sparse kernels make of the file. It prints as a table. A note in it, and a warning, say so
        if a quantized file follows Keras only roughly.

    Example:

    ```python
    result = tfprune.export_tflite(model, "model.tflite", quantize="int8", representative_data=x)
    print(result)
    ```

    Raises:
        ValueError: a bad argument, a model that is not built or cannot be converted, weights or
            data with NaN, calibration data that are one value throughout, `sparse=True` for a
            model that it would make wrong or no smaller, a model of several workers that they
            must read together (save it, and export the file). Nothing is written.
        OSError: the path is taken (`overwrite=True` replaces it), its folder is missing, the disk
            is full. Nothing half-written stays.
        ExportMismatch: the file would not compute what the model does, or the runtime refuses it,
            crashes or hangs. Nothing is written.
        ChildProcessError: the process that runs files, or that of TensorFlow, does not start.

    Source: <https://ai.google.dev/edge/litert/models/convert_tf>.
    """
    target = check_target(path, overwrite)
    _check_arguments(model, quantize, representative_data)
    check_sparse(sparse)
    if elsewhere.is_needed(model):
        data = {"representative_data": representative_data, "sample_inputs": sample_inputs}
        choices = {"quantize": quantize, "overwrite": overwrite, "sparse": sparse}
        return elsewhere.export_elsewhere(model, path, data, **choices)
    runtimes = runtime.interpreters()
    runtimes.start()  # beside the conversion, so that nobody waits for it
    interface = interface_of(model, sample_inputs, representative_data)
    calibrating, compared = _data(model, interface, quantize, representative_data, sample_inputs)
    rules = strip.pruned_with(model)
    plain = _plain(model)
    _check_weights(plain, quantize)
    with in_float32(plain) as ready:
        function = trace(ready, interface)
        wanted = verify.keras_outputs(function, interface, compared)
        content = convert(ready, function, interface, quantize, calibrating)
        weights = zeros.used_weights(ready, function)
        names = naming.names_of(ready, function)
    constants = constants_.read_constants(content)
    matched, absent = zeros.check_zeros(weights, constants)
    planned = plan(content, sparse, names)
    rows = _rows(constants, matched, planned.storage)
    order = {path: position for position, path in enumerate(weights)}
    rows.sort(key=lambda row: order.get(row.name, len(order)))
    notes = _notes(quantize, content, rows, absent)
    size = sum(row.size for row in rows)
    sparsity = sum(row.zeros for row in rows) / size if size else 0.0
    content = rewrite(content, planned.storage, metadata.entry(sparsity, rules), names)
    found: dict[str, Any] = {}

    def write_and_verify(temporary: pathlib.Path) -> None:
        temporary.write_bytes(content)
        named = [interface.named(sample) for sample in compared]
        try:
            outputs = {
                name: runtimes.run(temporary, named, name)
                for name in (runtime.DEFAULT, runtime.XNNPACK_OFF)
            }
        except runtime.RuntimeFailure as error:
            raise verify.unusable(quantize, error) from error
        found["checks"], found["apart"] = verify.compare(
            quantize, wanted, outputs, _suspicion(quantize, plain, content)
        )

    write_whole(target, write_and_verify, overwrite)
    doubts = (*_emptied(rows), *verify.doubts(quantize, found["checks"]))
    for doubt in doubts:
        warnings.warn(f"{path}: {doubt}", stacklevel=2)
    return ExportResult(
        path=str(path),
        quantize=quantize,
        file_bytes=len(content),
        gzip_bytes=len(gzip.compress(content, compresslevel=9, mtime=0)),
        parameters=sum(c.size for c in constants),
        weights=tuple(rows),
        checks=found["checks"],
        runtimes_apart=found["apart"],
        tolerance=verify.TOLERANCE.get(quantize),
        samples=len(compared),
        inputs=tuple(str(one) for one in interface.inputs),
        outputs=tuple(wanted[0]),
        verdict=planned.verdict,
        notes=(*doubts, *notes),
        versions=_versions(),
    )


def _suspicion(quantize: str | None, model: Any, content: bytes) -> str:
    """Return what in the model may be the cause, should the outputs differ."""
    return exponentials.suspicion(content) if quantize == "int8" else norms.suspicion(model)


def _rows(
    constants: list[constants_.Constant], matched: dict[int, str], storage: list[Storage]
) -> list[ExportedWeight]:
    """Return what is known about each weight in the file."""
    stored = {(one.graph, one.tensor): one for one in storage}
    rows = []
    for index, constant in enumerate(constants):
        if not constant.is_weight and index not in matched:
            continue
        dense = constant.size * np.dtype(constant.dtype).itemsize
        one = stored.get(constant.place)
        rows.append(
            ExportedWeight(
                name=matched.get(index, constant.name),
                shape=constant.shape,
                dtype=constant.dtype,
                size=constant.size,
                zeros=constant.zeros,
                encoded=one is not None and one.encoded,
                reason=one.reason if one is not None else "of a kind that is not encoded",
                stored_bytes=one.stored_bytes if one is not None else dense,
            )
        )
    return rows


def _check_arguments(model: Any, quantize: str | None, representative_data: Any) -> None:
    require_family(model, "a model")
    if not hasattr(model, "predict"):
        raise ValueError(
            f"Expected a model, not a layer: put it into `keras.Sequential([...])`. "
            f"Received: {model!r}"
        )
    if quantize not in QUANTIZE:
        raise ValueError(
            "`quantize` must be None (float32), 'float16', 'dynamic' or 'int8'. "
            f"Received: quantize={quantize!r}"
        )
    if quantize == "int8" and representative_data is None:
        raise ValueError(
            "quantize='int8' needs calibration data, inputs like those in use, to choose the "
            "ranges of activations: pass `representative_data`, an array of a hundred samples "
            "for example. Received: representative_data=None"
        )
    if not model.built:
        raise ValueError(
            "The model must be built, so that it has weights: call it once, or give it an Input. "
            f"Received: {type(model).__name__} {model.name!r}, built=False"
        )
    shared = workers.read_by_all(model)
    if shared is not None:
        raise ValueError(
            "The model lives on several workers, and one that exports it would wait for the others "
            "for ever. Save it on all, `with workers.chief_path('small.keras', model) as path: "
            "model.save(path)` (`from tfprune import workers`), and export that file, "
            "`tfprune export small.keras`, or load and export it when training is over. "
            f"Received: the weight {shared!r}, which all workers read together"
        )


def _data(
    model: Any, interface: Interface, quantize: str | None, representative: Any, given: Any
) -> tuple[list[Arrays] | None, list[Arrays]]:
    """Return the samples to calibrate with (None if none are needed) and those to compare on."""
    real = None
    if representative is not None:
        limit = calibration.CALIBRATION_SAMPLES
        real = calibration.samples(representative, interface, "representative_data", limit)
        if quantize == "int8":
            calibration.check_variety(real, interface, "representative_data")
    if given is not None:
        limit = samples.COMPARED_SAMPLES
        compared = calibration.samples(given, interface, "sample_inputs", limit)
    elif real is not None:
        picks = np.linspace(0, len(real) - 1, min(len(real), samples.COMPARED_SAMPLES))
        compared = [real[int(i)] for i in picks]
    else:
        compared = samples.generated(interface, model)
    return real if quantize == "int8" else None, compared


def _plain(model: Any) -> Any:
    """Return the model without wrappers; a subclassed one as it is, its weights masked.

    Only its class can rebuild a subclassed model. Its wrappers multiply by constant masks, which
    the converter folds into the weights.
    """
    layers = strip.pruned_layers(model)
    if not layers:
        return model
    if strip.can_strip(model):
        return strip.strip_pruning(model)
    missed = strip.shortfalls(layers)
    if missed:
        warnings.warn(
            "Exporting a model that is not pruned as its schedules say: " + "; ".join(missed),
            stacklevel=3,
        )
    for layer in layers:
        layer.apply_masks()
    return model


def _check_weights(model: Any, quantize: str | None) -> None:
    check_dtypes(model)
    for variable in model.variables:
        values = np.asarray(variable.numpy())
        if values.dtype.kind != "f" or not values.size:
            continue
        name = getattr(variable, "path", variable.name)
        if not np.isfinite(values).all():
            raise ValueError(
                f"The weight '{name}' holds NaN or infinite values; train again from a good "
                f"checkpoint. Received: {np.count_nonzero(~np.isfinite(values))} such values"
            )
        if quantize == "float16" and np.abs(values).max() > _FLOAT16_LARGEST:
            raise ValueError(
                f"The weight '{name}' is too large for float16, which ends at 65504; use "
                f"quantize=None. Received: {np.abs(values).max():g}"
            )


def _notes(
    quantize: str | None, content: bytes, rows: list[ExportedWeight], absent: list[str]
) -> tuple[str, ...]:
    """Return what to know about the weights, or raise if int8 was asked for and not reached."""
    floats = [row.name for row in rows if row.dtype == "float32"]
    notes = []
    if quantize == "int8" and floats:
        raise ValueError(
            "quantize='int8' leaves weights in float32, because TFLite has no int8 kernel for the "
            f"operation: {', '.join(floats)}. Choose 'dynamic' or 'float16', or other layers."
        )
    if quantize == "int8" and (kinds := constants_.float_operations(content)):
        notes.append(f"operations that stay in float32: {', '.join(kinds)}")
    if quantize == "dynamic" and floats:
        small = all(row.size < _DYNAMIC_LEAST for row in rows if row.name in floats)
        why = f"fewer than {_DYNAMIC_LEAST} values each" if small else "see the table"
        notes.append(f"{len(floats)} of {len(rows)} weights stay float32 ({why})")
    if flatbuffer.keeps_data_behind(content):
        notes.append("a file beyond 2 GB: it holds no note about itself, and nothing is encoded")
    if absent:
        notes.append(f"computed away by the converter: {', '.join(absent)}")
    return tuple(notes)


def _emptied(rows: list[ExportedWeight]) -> list[str]:
    """Return a doubt about a model without a weight left: it passes every comparison."""
    if not rows or any(row.zeros < row.size for row in rows):
        return []
    return [
        "every weight is zero, so that the file answers nearly the same to every input. Load the "
        "trained weights before the export, or prune less"
    ]


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # run from a checkout, or without the legacy family
    return found
