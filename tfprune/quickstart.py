"""The main job end to end, in functions small enough to copy: train, prune, strip, export, compare.

`quickstart()` is what the command `tfprune quickstart` runs. The network and the rules are those of
tfmot's 2:4 guide: half of the first convolution, 2:4 on the second convolution and the wide dense
layer, nothing on the output.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import tfprune
from tfprune import datasets
from tfprune.benchmarking import BenchmarkFailure
from tfprune.comparison import QuickstartResult, Variant
from tfprune.files import write_whole
from tfprune.quickstart_folder import (
    FORMATS,
    TFLITE_FILES,
    checked_folder,
    made_folder,
    room,
    told_of_full_disk,
)

_MEASURED = 2000  # test images at most for each file: ten thousand take LiteRT minutes
_CALIBRATION = 200  # training images that the ranges of int8 are taken from
_FIGURES = ("median_ms", "peak_memory_bytes", "energy_mj")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How large a network and how long a training suit one set of images."""

    kernel: int
    wide: int
    batch: int
    dense_epochs: int
    pruned_epochs: int


RECIPES = {
    "digits": Recipe(kernel=3, wide=256, batch=32, dense_epochs=15, pruned_epochs=12),
    "mnist": Recipe(kernel=5, wide=1024, batch=128, dense_epochs=1, pruned_epochs=1),
    "fashion_mnist": Recipe(kernel=5, wide=1024, batch=128, dense_epochs=2, pruned_epochs=2),
    "cifar10": Recipe(kernel=3, wide=512, batch=128, dense_epochs=4, pruned_epochs=3),
}


def build_model(image_shape: tuple[int, ...], classes: int, recipe: Recipe) -> keras.Model:
    """Return the CNN of tfmot's 2:4 guide, its kernel and wide layer scaled to the images."""
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Conv2D(32, recipe.kernel, padding="same", activation="relu", name="conv1"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(64, recipe.kernel, padding="same", name="conv2"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(recipe.wide, activation="relu", name="dense_wide"),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(classes, name="output"),
        ],
        name="quickstart",
    )


def pruning_rules(steps: int) -> list[tfprune.Rule]:
    """Return the rules for a training of `steps` steps: sparser and sparser, then time to recover.

    The first convolution has one input channel (or three), too few for groups of four.
    """
    gradual = tfprune.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=0.5,
        begin_step=0,
        end_step=max(1, steps * 6 // 10),
        frequency=max(1, steps // 50),
    )
    return [
        tfprune.Rule("conv1", schedule=gradual),
        tfprune.Rule("conv2|dense_wide", schedule=gradual, pattern="2:4"),
        tfprune.Rule("output", skip=True),
    ]


def train(
    model: keras.Model,
    data: datasets.Dataset,
    epochs: int,
    batch: int,
    learning_rate: float,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Compile and train a classifier that returns logits."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        data.x_train,
        data.y_train,
        batch_size=batch,
        epochs=epochs,
        callbacks=callbacks,
        verbose=0,  # pyright: ignore[reportArgumentType] -- Keras types it by its default
    )


def tflite_accuracy(path: str | os.PathLike, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of a .tflite classifier; LiteRT runs the images one by one."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=os.fspath(path))
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    exit_ = interpreter.get_output_details()[0]["index"]
    right = 0
    for image, label in zip(images, labels, strict=True):
        interpreter.set_tensor(entry, image[None])
        interpreter.invoke()
        right += int(interpreter.get_tensor(exit_).argmax() == label)
    return right / len(images)


def quickstart(
    out: str | os.PathLike = "tfprune-quickstart",
    dataset: str = "digits",
    data_dir: str | os.PathLike | None = None,
    *,
    overwrite: bool = False,
    seed: int = 0,
    recipe: Recipe | None = None,
) -> QuickstartResult:
    """Train a small CNN, prune it, export it as .tflite, and compare before and after.

    Writes into `out`: `model.keras` (pruned, without wrappers), `dense-float32.tflite`, the pruned
    `.tflite` files in four number formats, TensorBoard `logs/` and, last, `report.json`.

    ```python
    from tfprune.quickstart import quickstart

    result = quickstart("demo", overwrite=True)
    print(result)
    ```

    Args:
        out: The folder for the results, made if needed.
        dataset: "digits" (ships with tfprune), "fashion_mnist", "mnist" or "cifar10".
        data_dir: The folder that holds the dataset's files (see `tfprune.datasets.load`).
        overwrite: Whether the results of an earlier quickstart in `out` may be replaced.
        seed: The seed of the initial weights, of shuffling and of dropout.
        recipe: Another network size or another number of epochs than `RECIPES[dataset]`.

    Raises:
        FileExistsError: `out` is a file, or holds something that may not be replaced.
        ValueError, FileNotFoundError, OSError: see `tfprune.datasets.load`.
    """
    started = time.perf_counter()
    folder = checked_folder(out, overwrite)
    data = datasets.load(dataset, data_dir)
    recipe = recipe or RECIPES[dataset]
    keras.utils.set_random_seed(seed)
    epoch = math.ceil(len(data.x_train) / recipe.batch)  # in steps
    steps = {
        "train dense": recipe.dense_epochs * epoch,
        "prune": recipe.pruned_epochs * epoch,
        "export": len(TFLITE_FILES),
        "measure": 1,
    }
    with told_of_full_disk(out), room(made_folder(folder)) as inside, _progress() as progress:
        bars = {
            name: progress.add_task(name, total=total, start=False, note="")
            for name, total in steps.items()
        }

        dense = build_model(data.image_shape, len(data.classes), recipe)
        bar = _Advance(progress, bars["train dense"])
        train(dense, data, recipe.dense_epochs, recipe.batch, 1e-3, [bar])

        wrapped = tfprune.prune(dense, pruning_rules(steps["prune"]))
        callbacks = [
            tfprune.UpdatePruningStep(),
            tfprune.PruningSummaries(str(inside / "logs")),
            _Advance(progress, bars["prune"]),
        ]
        train(wrapped, data, recipe.pruned_epochs, recipe.batch, 5e-4, callbacks)
        layers = tfprune.summary(wrapped).rows
        pruned = tfprune.strip_pruning(wrapped)

        write_whole(inside / "model.keras", lambda path: pruned.save(path), overwrite=True)
        variants = []
        progress.start_task(bars["export"])
        for variant in _export_all(dense, pruned, data, inside):
            variants.append(variant)
            progress.update(bars["export"], advance=1, note=variant.file)
        progress.start_task(bars["measure"])
        variants, conditions, energy = _measured(variants, inside)
        progress.update(bars["measure"], advance=1, note="latency and memory")
        result = QuickstartResult(
            str(out),
            data.name,
            data.source,
            min(_MEASURED, len(data.x_test)),
            seed,
            recipe.dense_epochs,
            recipe.pruned_epochs,
            time.perf_counter() - started,
            layers,
            tuple(variants),
            conditions,
            energy,
        )
        result.to_json(inside / "report.json", overwrite=True)
    return result


def _export_all(
    dense: keras.Model, pruned: keras.Model, data: datasets.Dataset, folder: pathlib.Path
) -> Iterator[Variant]:
    """Export the dense model and every form of the pruned one, and measure each file."""
    samples = data.x_train[datasets.spaced(len(data.x_train), _CALIBRATION)]
    yield _export(dense, folder / TFLITE_FILES[0], "dense float32", data)
    for file, name in zip(TFLITE_FILES[1:], FORMATS, strict=True):
        quantize = None if name == "float32" else name
        calibration = {"representative_data": samples} if quantize == "int8" else {}
        yield _export(
            pruned, folder / file, f"pruned {name}", data, quantize=quantize, **calibration
        )


def _export(
    model: keras.Model, path: pathlib.Path, name: str, data: datasets.Dataset, **options: Any
) -> Variant:
    exported = tfprune.export_tflite(model, path, overwrite=True, **options)
    measured = datasets.spaced(len(data.x_test), _MEASURED)
    counted = tfprune.count(model)
    return Variant(
        name,
        path.name,
        tflite_accuracy(path, data.x_test[measured], data.y_test[measured]),
        exported.parameters,
        exported.parameters - sum(int(weight.zeros) for weight in exported.weights),
        exported.file_bytes,
        exported.gzip_bytes,
        counted.macs,
        counted.nonzero_macs,
    )


def _measured(
    variants: Sequence[Variant], folder: pathlib.Path
) -> tuple[list[Variant], tuple[str, ...], str]:
    """Run all files side by side; return them with their figures, how, and with which meter."""
    try:
        result = tfprune.benchmark([folder / variant.file for variant in variants])
    except BenchmarkFailure as error:
        return list(variants), (f"It could not be measured: {error}",), "not measured"
    measured = [
        dataclasses.replace(variant, **{name: getattr(file, name) for name in _FIGURES})
        for variant, file in zip(variants, result.files, strict=True)
    ]
    notes = (result.cpu.statement(), f"Processor: {result.cpu}.", *result.notes)
    return measured, notes, result.energy


def _progress() -> Progress:
    console = Console()
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        disable=not (console.is_terminal or console.is_jupyter),
    )


class _Advance(keras.callbacks.Callback):
    """Moves a progress bar on with every batch and shows the training accuracy."""

    def __init__(self, progress: Progress, task: Any):
        super().__init__()
        self._progress, self._task = progress, task

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._progress.start_task(self._task)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._progress.stop_task(self._task)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._progress.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs:
            note = f"training accuracy {logs['accuracy']:.1%}"
            self._progress.update(self._task, note=note)
