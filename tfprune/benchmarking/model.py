"""What a benchmark must know of a `.tflite` file before it runs, and what must be chosen."""

from __future__ import annotations

import dataclasses
import gzip
import os
from collections.abc import Mapping

from tfprune.benchmarking.tables import (
    SCHEMA_VERSION,
    Contents,
    Described,
    Graph,
    Tensor,
    read_tables,
)
from tfprune.sources import check_source


@dataclasses.dataclass(frozen=True)
class Model:
    """One file that is to be measured.

    Attributes:
        path: as the user gave it.
        file_bytes: size of the file.
        gzip_bytes: size after gzip.
        signature: name of the signature to run; None if the file has none.
        subgraph: index of the graph to run.
        inputs: in the order of the graph.
        outputs: in the order of the graph.
        quantized: whether any tensor holds quantized integers.
        custom: names of custom operations.
        notes: what was decided, such as the length of a free axis.
    """

    path: str
    file_bytes: int
    gzip_bytes: int
    signature: str | None
    subgraph: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    quantized: bool
    custom: tuple[str, ...]
    notes: tuple[str, ...]


def read_model(
    path: str | os.PathLike,
    signature: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Model:
    """Return what is known of a file.

    Args:
        path: of a `.tflite` file.
        signature: which one to run, in a file with several.
        shapes: {name of an input: shape to run it with}, for inputs with free axes. Names that
            this file does not have are left alone: they may belong to another file.

    Example: `read_model("model.tflite").inputs[0].shape`

    Raises:
        TypeError: `path` is not a path.
        FileNotFoundError: there is no such file.
        ValueError: another kind of file, a damaged one, or one that needs a decision.
    """
    source = check_source(path, "a .tflite file")
    content = source.read_bytes()
    if len(content) < 16 or content[4:8] != b"TFL3":
        raise ValueError(
            f"{str(path)!r} is not a .tflite file: the bytes 4 to 8 must be b'TFL3'. Export the "
            "model with `tfprune.export_tflite`, or copy the file again. "
            f"Received: {len(content)} bytes with {content[4:8]!r} there"
        )
    try:
        found = read_tables(content)
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} is damaged or cut short: {error}. Copy or export it again. "
            f"Received: {len(content)} bytes"
        ) from error
    if found.version != SCHEMA_VERSION:
        raise ValueError(
            f"{str(path)!r} has another version of the .tflite schema than {SCHEMA_VERSION}, the "
            "one that runtimes read: convert the model again. "
            f"Received: version {found.version}"
        )
    graph = _chosen(found, str(path), signature)
    for tensor, _ in graph.outputs:
        if tensor.dtype.isupper():
            raise ValueError(
                f"The output '{tensor.name}' of {str(path)!r} holds {tensor.dtype}, which cannot "
                "be compared: numbers and booleans are expected. Measure the part of the model "
                f"before it. Received: {tensor.dtype}"
            )
    inputs, notes = _with_shapes(graph.inputs, str(path), shapes or {})
    packed = len(gzip.compress(content, compresslevel=6, mtime=0))
    sizes = (len(content), packed)
    return Model(
        str(path),
        *sizes,
        graph.signature,
        graph.subgraph,
        inputs,
        tuple(tensor for tensor, _ in graph.outputs),
        found.quantized,
        found.custom,
        notes,
    )


def _chosen(found: Contents, path: str, signature: str | None) -> Graph:
    names = [graph.signature for graph in found.graphs]
    if signature is None and len(names) == 1:
        return found.graphs[0]
    if signature in names and signature is not None:
        return found.graphs[names.index(signature)]
    known = ", ".join(repr(name) for name in names if name is not None) or "none"
    if signature is None:
        raise ValueError(
            f"{path!r} has {len(names)} signatures, and one is measured at a time: choose it with "
            f"`signature=` (`--signature` on the command line). Received: signatures {known}"
        )
    raise ValueError(
        f"{path!r} has no signature {signature!r}: choose one of those in the file, or none. "
        f"Received: signatures {known}"
    )


def _with_shapes(
    inputs: tuple[Described, ...], path: str, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[Tensor, ...], tuple[str, ...]]:
    done, notes = [], []
    for tensor, free in inputs:
        if tensor.dtype.isupper():
            raise ValueError(
                f"The input '{tensor.name}' of {path!r} holds {tensor.dtype}, for which no values "
                "can be made up: numbers and booleans are expected. Measure the part of the model "
                f"behind it. Received: {tensor.dtype}"
            )
        given = shapes.get(tensor.name)
        text = "x".join("any" if size < 0 else str(size) for size in free)
        if given is not None:
            given = tuple(given)
            if len(given) != len(free) or not all(
                got >= 1 and (want < 0 or want == got)
                for want, got in zip(free, given, strict=True)
            ):
                raise ValueError(
                    f"The input '{tensor.name}' of {path!r} has the shape {text}, which the given "
                    f"one does not fit. Received: shape {'x'.join(map(str, given))}"
                )
        elif -1 in free[1:]:
            example = "x".join("64" if size < 0 else str(size) for size in free).replace(
                "64", "1" if free[0] < 0 else "64", 1
            )
            raise ValueError(
                f"The input '{tensor.name}' of {path!r} has free axes, and the time depends on "
                "their lengths: choose them with "
                f"`shapes={{{tensor.name!r}: ({example.replace('x', ', ')})}}` "
                f"(`--shape {tensor.name}={example}` on the command line). "
                f"Received: shape {text}"
            )
        else:
            given = tuple(1 if size < 0 else size for size in free)
            if -1 in free:
                notes.append(f"{path}: the batch size of '{tensor.name}' is free; measured with 1")
        done.append(dataclasses.replace(tensor, shape=given))
    return tuple(done), tuple(notes)
