"""What the examples share: their options, their images, and the table and JSON at the end.

Also here, so that it is done before Keras is loaded: a quiet TensorFlow, and `benchmarks/` on the
path, whose ResNet-18 and whose training on images the examples use.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "benchmarks"))

import keras
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from tfprune import datasets, files

logging.getLogger("tensorflow").setLevel(logging.ERROR)  # a step is traced for each model

FAST = 256
"""Training images, and at most as many test images, with `--fast`."""


def options(about: str | None, images: int | None = None, logs: bool = False) -> argparse.Namespace:
    """Read the command line; refuse a results file that cannot be written before any work is done.

    Args:
        about: the docstring of the example.
        images: training images where `--images` is not given; None takes all.
        logs: whether the example writes curves, and so has `--logs`.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", choices=datasets.NAMES, default="digits")
    parser.add_argument("--data-dir", help="folder with its files; without it they are downloaded")
    parser.add_argument("--images", type=int, default=images, help="training images to use")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help=f"{FAST} images, an epoch or two each")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--overwrite", action="store_true", help="replace that file")
    if logs:
        parser.add_argument("--logs", help="folder for the curves of `tfprune board`")
    chosen = parser.parse_args()
    if chosen.images is not None and chosen.images < 1:
        parser.error(f"--images must be 1 or more. Received: --images {chosen.images}")
    if chosen.fast:
        chosen.images = FAST
    if chosen.json:
        files.check_target(chosen.json, chosen.overwrite)
    keras.utils.set_random_seed(chosen.seed)
    return chosen


def load(chosen: argparse.Namespace, shape: tuple[int, int, int]) -> datasets.Dataset:
    """Return the images asked for, in an order drawn once for all.

    Args:
        chosen: what `options` returned.
        shape: height, width and channels (1 or 3) that the images are brought to.
    """
    data = datasets.load(chosen.dataset, chosen.data_dir)
    drawn, tested = (  # some sets are sorted by class
        np.random.default_rng(0).permutation(len(labels))[:count]
        for labels, count in (
            (data.y_train, chosen.images),
            (data.y_test, FAST if chosen.fast else None),
        )
    )
    return dataclasses.replace(
        data,
        x_train=_shaped(data.x_train[drawn], shape),
        y_train=data.y_train[drawn],
        x_test=_shaped(data.x_test[tested], shape),
        y_test=data.y_test[tested],
    )


def _shaped(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Return images of another size; grey ones become three equal colours, colours their mean."""
    height, width, channels = shape
    if images.shape[-1] != channels:
        images = np.repeat(images.mean(-1, keepdims=True), channels, -1)
    if images.shape[1:3] == (height, width):
        return images
    resized: Any = keras.ops.image.resize(images, (height, width))
    return np.asarray(resized)


def zeros(model: keras.Model, layers: Sequence[str]) -> dict[str, float]:
    """Return the fraction of zeros in the kernels of some layers, by their names."""
    return {name: float((np.asarray(model.get_layer(name).kernel) == 0).mean()) for name in layers}


def show(
    chosen: argparse.Namespace,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    figures: dict[str, Any],
    notes: Sequence[str] = (),
) -> None:
    """Print the table and the notes under it; write the figures, if a file was named."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=not index)
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    if chosen.json:
        budget = {name: getattr(chosen, name) for name in ("dataset", "images", "fast", "seed")}
        text = json.dumps({"run": budget, **figures}, indent=2)
        files.write_whole(chosen.json, text.encode(), chosen.overwrite)
        console.print(f"Written: {chosen.json}", highlight=False)
