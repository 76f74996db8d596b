"""Export one graph of the zoo and run the file on this CPU; processes of a pool do it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import warnings
import zlib
from typing import Any

import keras
import numpy as np

from zoo import GRAPHS, prune_to

Sample = dict[str, np.ndarray]
SAMPLES = 4  # fewer do not tell how far outputs vary


@dataclasses.dataclass(frozen=True)
class Export:
    """What came of a graph.

    Attributes:
        path: the file.
        samples: inputs by name.
        keras, default, plain: the outputs for each of them, by name: those of the model, of the
            file on the default runtime, of the file with XNNPACK off.
        problem: why there is no file.
    """

    path: pathlib.Path
    samples: list[Sample] = dataclasses.field(default_factory=list)
    keras: list[Sample] = dataclasses.field(default_factory=list)
    default: list[Sample] = dataclasses.field(default_factory=list)
    plain: list[Sample] = dataclasses.field(default_factory=list)
    problem: str | None = None


def samples_for(model: keras.Model, count: int, seed: int) -> list[np.ndarray]:
    """Return inputs whose mean differs from sample to sample, so that averages do too."""
    rng = np.random.default_rng(seed)
    found = []
    for one in model.inputs:
        batch, *shape = one.shape
        means = rng.normal(size=(count, *[1] * (len(shape) - 1), shape[-1]))
        values = rng.normal(size=(count, *shape)) + means
        found.append(np.repeat(values, batch or 1, axis=0).astype("float32"))
    return found


def pruned(name: str, quantize: str | None) -> keras.Model:
    """Return a graph at a sparsity between 70 and 95 %, always the same."""
    seed = zlib.crc32(f"{name} {quantize}".encode())
    sparsity = np.random.default_rng(seed).uniform(0.70, 0.95)
    return prune_to(GRAPHS[name].build(0), float(sparsity), seed=0)


def names_of(model: keras.Model) -> list[str]:
    """Return the names of the inputs in the file's signature."""
    from tfprune.export.interfaces import interface_of

    return [one.name for one in interface_of(model, None, None).inputs]


def answers(model: keras.Model, samples: list[Sample]) -> list[Sample]:
    """Return Keras's outputs under the names that they get in the file."""
    from tfprune.export.convert import output_names

    found = []
    for sample in samples:
        inputs = list(sample.values())
        outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
        found.append({name: np.asarray(value) for name, value in output_names(outputs)})
    return found


def run(path: str | os.PathLike, samples: list[Sample], xnnpack: bool = True) -> list[Sample]:
    """Return the outputs of a file on this CPU."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    without = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_path=os.fspath(path),
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.AUTO if xnnpack else without,
    )
    runner = interpreter.get_signature_runner()
    wanted = runner.get_input_details()
    outputs = []
    for sample in samples:
        done = runner(**{name: value for name, value in sample.items() if name in wanted})
        outputs.append({name: np.array(value) for name, value in done.items()})
    return outputs


def error(want: list[Sample], got: list[Sample]) -> float:
    """Return the largest difference relative to the largest value of that output."""
    worst = 0.0
    for name in want[0]:
        scale = max(np.abs(one[name]).max() for one in want) + 1e-7
        for one, other in zip(want, got, strict=True):
            if one[name].shape != other[name].shape:  # XNNPACK may mistake one axis for another
                return np.inf
            apart = np.abs(one[name] - other[name]).max() / scale
            worst = max(worst, apart if np.isfinite(apart) else np.inf)
    return float(worst)


def export(name: str, quantize: str | None, folder: str, options: dict[str, Any]) -> Export:
    """Export a graph in one form, and run the file with XNNPACK and without.

    Args:
        name: which graph.
        quantize: which form.
        folder: where to put the file.
        options: more arguments for `export_tflite`.
    """
    import tfprune

    keras.utils.clear_session(free_memory=False)
    model = pruned(name, quantize)
    path = pathlib.Path(folder) / f"{name}.{quantize}.tflite"
    data = samples_for(model, 16, seed=1)
    several = data if len(data) > 1 else data[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # random weights do not always bear int8
            tfprune.export_tflite(
                model, path, quantize=quantize, representative_data=several, **options
            )
        arrays = zip(*(np.split(a, SAMPLES) for a in samples_for(model, SAMPLES, 2)), strict=True)
        samples = [dict(zip(names_of(model), one, strict=True)) for one in arrays]
        return Export(
            path,
            samples,
            answers(model, samples),
            run(path, samples),
            run(path, samples, xnnpack=False),
        )
    except (ValueError, RuntimeError) as error:  # refused, an ExportMismatch, or it does not load
        return Export(path, problem=f"{type(error).__name__}: {error}")
