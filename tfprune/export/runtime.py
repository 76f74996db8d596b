"""Run a `.tflite` file in ai-edge-litert, as an app would and with XNNPACK off."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tfprune.export.interface import Arrays, Interface
from tfprune.export.quiet import quiet

DEFAULT = "default"
XNNPACK_OFF = "XNNPACK off"


class RuntimeFailure(RuntimeError):
    """A file that the runtime could not load or run."""


def run(
    path: str | os.PathLike, interface: Interface, samples: list[Arrays], runtime: str
) -> list[dict[str, np.ndarray]]:
    """Return the named outputs of the file for each sample.

    Args:
        path: the `.tflite` file.
        interface: the inputs it was made with.
        samples: one array for each input.
        runtime: `DEFAULT` (XNNPACK where it applies) or `XNNPACK_OFF` (plain kernels).

    Raises:
        RuntimeFailure: the runtime refuses the file or fails on a sample.
    """
    try:
        with quiet():
            runner = _runner(path, runtime)
            wanted = runner.get_input_details()
            outputs = []
            for sample in samples:
                named = {one.name: v for one, v in zip(interface.inputs, sample, strict=True)}
                # An input that the graph does not use is dropped by the converter.
                done = runner(**{k: v for k, v in named.items() if k in wanted})
                outputs.append({name: np.array(value) for name, value in done.items()})
            return outputs
    except (RuntimeError, ValueError) as error:
        raise RuntimeFailure(
            f"ai-edge-litert ({runtime}) cannot run the exported file: {error}"
        ) from error


def _runner(path: str | os.PathLike, runtime: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {
        DEFAULT: OpResolverType.AUTO,
        XNNPACK_OFF: OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    }[runtime]
    interpreter = Interpreter(
        model_path=os.fspath(path), experimental_op_resolver_type=resolver, num_threads=1
    )
    return interpreter.get_signature_runner("serving_default")
