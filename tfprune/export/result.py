"""What an export gives back: figures, decisions, and how to show them."""

from __future__ import annotations

import dataclasses

from rich.console import Group
from rich.table import Table
from rich.text import Text

from tfprune.export.verify import RuntimeCheck
from tfprune.export.xnnpack.verdict import Verdict
from tfprune.results import Result


@dataclasses.dataclass(frozen=True)
class ExportedWeight:
    """One weight as it stands in the file.

    Attributes:
        name: path of the weight in the Keras model, or name of the tensor if it was not found.
        shape: in the file, input channels last.
        dtype: "float32", "float16" or "int8".
        size: number of values.
        zeros: those that are exactly zero.
        encoded: whether it is stored in TFLite's sparse encoding.
        reason: for that.
        stored_bytes: what its values take in the file, indices included.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    zeros: int
    encoded: bool
    reason: str
    stored_bytes: int

    @property
    def sparsity(self) -> float:
        """Fraction of zeros."""
        return self.zeros / self.size


@dataclasses.dataclass(frozen=True)
class ExportResult(Result):
    """A verified `.tflite` file: print it, or take its figures.

    Example:

    ```python
    result = tfprune.export_tflite(model, "model.tflite")
    print(result)
    result.to_json("model.json")
    ```

    Attributes:
        path: of the file.
        quantize: None, "float16", "dynamic" or "int8".
        file_bytes: size of the file.
        gzip_bytes: size after gzip, about what a store makes of it for the download.
        parameters: constants in the file, zeros and biases included: the dense count.
        weights: one `ExportedWeight` for each matrix, kernel or table.
        checks: errors against Keras on the default runtime and with XNNPACK off.
        runtimes_apart: the same between those two.
        tolerance: largest relative error allowed; None if quantization sets it.
        samples: how many inputs were compared.
        inputs: the input tensors, in words.
        outputs: names of the outputs.
        verdict: what XNNPACK's sparse kernels make of the file, on ARM and in WebAssembly.
        notes: what to know about this file.
        versions: of the libraries that took part.

    Source: made by `tfprune.export_tflite`.
    """

    path: str
    quantize: str | None
    file_bytes: int
    gzip_bytes: int
    parameters: int
    weights: tuple[ExportedWeight, ...]
    checks: tuple[RuntimeCheck, ...]
    runtimes_apart: RuntimeCheck
    tolerance: float | None
    samples: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    verdict: Verdict
    notes: tuple[str, ...]
    versions: dict[str, str]

    @property
    def sparsity(self) -> float:
        """Fraction of exact zeros among the weights in the file."""
        size = sum(weight.size for weight in self.weights)
        return sum(weight.zeros for weight in self.weights) / size if size else 0.0

    @property
    def max_abs_error(self) -> float:
        """Largest error against Keras on either runtime."""
        return max(check.max_abs_error for check in self.checks)

    @property
    def max_rel_error(self) -> float:
        """Largest error against Keras on either runtime, relative to the largest output."""
        return max(check.max_rel_error for check in self.checks)

    def to_dict(self) -> dict:
        """Return the figures as plain values, `sparsity` included."""
        done = dataclasses.asdict(self)
        done["sparsity"] = self.sparsity
        for row, weight in zip(done["weights"], self.weights, strict=True):
            row["sparsity"] = weight.sparsity
        return done

    def table(self) -> Table:
        """Return the table of weights that `print` shows."""
        table = Table(
            title=f"{self.path}: {self.quantize or 'float32'}, verified on two runtimes",
            title_justify="left",
            expand=False,
        )
        table.add_column("weight", overflow="fold")
        table.add_column("shape", no_wrap=True)
        table.add_column("dtype", no_wrap=True)
        table.add_column("zeros", justify="right", no_wrap=True)
        table.add_column("bytes", justify="right", no_wrap=True)
        table.add_column("stored", overflow="fold")
        for weight in self.weights:
            shape = "x".join(map(str, weight.shape))
            how = ("sparse: " if weight.encoded else "dense: ") + weight.reason
            numbers = f"{weight.sparsity:.1%}", f"{weight.stored_bytes:,}"
            table.add_row(weight.name, shape, weight.dtype, *numbers, how)
        if len(self.weights) != 1:
            stored = sum(weight.stored_bytes for weight in self.weights)
            table.add_section()
            table.add_row("all weights", "", "", f"{self.sparsity:.1%}", f"{stored:,}", "")
        return table

    def lines(self) -> list[str]:
        """Return the figures that stand under the table."""
        allowed = f", {self.tolerance:g} allowed" if self.tolerance is not None else ""
        return [
            f"{self.file_bytes:,} bytes: what the installed app keeps on the device and maps into "
            "memory",
            f"{self.gzip_bytes:,} bytes after gzip: about what the app's download grows by",
            f"{self.parameters:,} parameters",
            f"sparse kernels (ARM, WebAssembly): {self.verdict.kind}: {self.verdict.reason}",
            *([f"to change that: {self.verdict.advice}"] if self.verdict.advice else []),
            *(
                f"largest error against Keras, {check.runtime}: {check.max_abs_error:.2g} "
                f"({check.max_rel_error:.2g} of the largest output{allowed})"
                for check in self.checks
            ),
            *(f"note: {note}" for note in self.notes),
        ]

    def __rich__(self) -> Group:
        """Return what rich prints: the table and the lines under it."""
        return Group(self.table(), *(Text(line) for line in self.lines()))
