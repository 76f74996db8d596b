"""Exponentials in int8, whose 255 steps go to their largest values."""

from __future__ import annotations

from tfprune.export.graph import Graph, read_graphs


def suspicion(content: bytes) -> str:
    """Return which operations of a file take an exponential in int8, and what to do, or nothing.

    The converter writes softplus, and mish which has it within, as `log(exp(x) + 1)`. Where `x`
    goes from 0 to 11, `exp(x)` goes to 60,000: a step of int8 is 250 then, and every `x` below 5
    becomes the same value.

    Args:
        content: of a `.tflite` file.

    Example: `suspicion(content)` is "" for a file without softplus.

    Raises:
        ValueError: not a `.tflite` file, or a damaged one.
    """
    names = [name for graph in read_graphs(content) for name in _exponentials(graph)]
    if not names:
        return ""
    return (
        f"The likely cause: EXP of {', '.join(names)} has int8 outputs, and 255 steps cannot "
        "follow what grows exponentially. Softplus and mish are made of it: take another "
        "activation, such as ReLU or swish, or choose quantize='dynamic' or 'float16'."
    )


def _exponentials(graph: Graph) -> list[str]:
    found = []
    for operation in graph.operations:
        output = graph.tensors[operation.outputs[0]] if operation.outputs else None
        if operation.kind == "EXP" and output is not None and output.dtype == "int8":
            found.append(f"'{output.name}'")
    return found
