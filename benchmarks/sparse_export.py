"""Size, speed in WebAssembly, and cost of the sparse encoding.

Size and speed: MobileNetV1-224 whose first convolution can be run by XNNPACK's sparse inference
(`ZeroPadding2D(1)`, then "valid"), 100 classes, random weights, its 1x1 convolutions and its dense
layer pruned by magnitude. Each file is exported by `export_tflite` and measured by
`tfprune.benchmark(runtime="wasm")`: LiteRT.js in headless Chromium, one thread, interleaved. It is
the only runtime with sparse kernels that a PC runs without emulation.

Cost: seconds that encoding adds to the conversion of a model of 25 million weights at 90 %.

    python benchmarks/sparse_export.py --runs 30
    python benchmarks/sparse_export.py --only size cost
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import tempfile
import time
from typing import Any

import numpy as np
from environment import RESULTS, environment, save

CLASSES = 100
BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
BLOCKS += [(1024, 2), (1024, 1)]
FILES = {  # name: (sparsity, quantize, block of output channels)
    "dense": (0.0, None, 1),
    "70 %": (0.7, None, 1),
    "80 %": (0.8, None, 1),
    "90 %": (0.9, None, 1),
    "95 %": (0.95, None, 1),
    "90 % float16": (0.9, "float16", 1),
    "90 % in blocks of 4 outputs": (0.9, None, 4),
    "dense int8": (0.0, "int8", 1),
    "90 % int8": (0.9, "int8", 1),
}
REPEATS = 3


def mobilenet(size: int = 224) -> Any:
    """Return MobileNetV1 with paddings that sparse inference can take in."""
    import keras
    from keras import layers

    def normed(x: Any) -> Any:
        return layers.ReLU(6.0)(layers.BatchNormalization()(x))

    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    x = layers.ZeroPadding2D(1)(inputs)
    x = normed(layers.Conv2D(32, 3, 2, "valid", use_bias=False)(x))
    for filters, stride in BLOCKS:
        if stride == 2:
            x = layers.ZeroPadding2D(1)(x)
        padding = "valid" if stride == 2 else "same"
        x = normed(layers.DepthwiseConv2D(3, stride, padding, use_bias=False)(x))
        x = normed(layers.Conv2D(filters, 1, use_bias=False)(x))
    return keras.Model(inputs, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def prune_by_magnitude(model: Any, sparsity: float, block: int) -> None:
    """Set the smallest weights of 1x1 convolutions and dense layers to zero, by blocks."""
    from tfprune import layouts, patterns

    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None or (len(kernel.shape) == 4 and tuple(kernel.shape[:2]) != (1, 1)):
            continue
        if sparsity:
            values = kernel.numpy()
            pattern = patterns.Block((1, block)) if block > 1 else patterns.Unstructured()
            scores = np.abs(values)
            mask, _ = pattern.mask(scores, layouts.of_kernel(values.ndim), sparsity, sparsity)
            kernel.assign(values * mask)


def export_all(folder: pathlib.Path) -> dict[str, Any]:
    """Return {name: result of the export}; the files stay in the folder."""
    import tfprune

    data = np.random.default_rng(0).random((8, 224, 224, 3), np.float32)
    results = {}
    for number, (name, (sparsity, quantize, block)) in enumerate(FILES.items()):
        model = mobilenet()
        prune_by_magnitude(model, sparsity, block)
        calibration = data if quantize == "int8" else None
        path = folder / f"{number}.tflite"
        results[name] = tfprune.export_tflite(model, path, quantize, calibration)
        print(f"{name:30} {results[name].file_bytes:>12,} bytes", flush=True)
    return results


def sizes(results: dict[str, Any]) -> dict[str, Any]:
    """Return sizes, and how large each file is beside the dense float32 one."""
    dense = results["dense"].file_bytes
    return {
        name: {
            "bytes": one.file_bytes,
            "gzip": one.gzip_bytes,
            "of dense float32": round(one.file_bytes / dense, 4),
            "verdict": one.verdict.kind,
        }
        for name, one in results.items()
    }


def speed(results: dict[str, Any], runs: int, rounds: int, browser: str | None) -> dict[str, Any]:
    """Return medians in WebAssembly and ratios to the dense float32 file, of several rounds."""
    import tfprune

    paths = [one.path for one in results.values()]
    found: dict[str, list[float]] = {name: [] for name in results}
    ratios: dict[str, list[float]] = {name: [] for name in results}
    for _ in range(rounds):
        done = tfprune.benchmark(paths, "wasm", runs=runs, browser=browser)
        for name, row in zip(results, done.files, strict=True):
            if row.failure is not None:
                raise RuntimeError(f"{name}: {row.failure}")
            found[name].append(row.median_ms)
            ratios[name].append(done.files[0].median_ms / row.median_ms)
        print({name: round(values[-1], 2) for name, values in ratios.items()}, flush=True)
    return {
        "runtime": done.device,
        "runs of each file, rounds": [runs, rounds],
        "median ms": {name: round(statistics.median(ms), 2) for name, ms in found.items()},
        "times faster than dense float32": {
            name: [round(f(r), 2) for f in (min, statistics.median, max)]
            for name, r in ratios.items()
        },
    }


def cost() -> dict[str, Any]:
    """Return seconds for a model of 25 million weights: conversion, and what encoding adds."""
    import keras
    from keras import layers

    from tfprune.export.convert import converted
    from tfprune.export.sparse import decide, rewrite

    keras.utils.set_random_seed(0)
    stack = [layers.Dense(2500) for _ in range(4)]
    model = keras.Sequential([keras.Input((2500,)), *stack])
    prune_by_magnitude(model, 0.9, 1)
    start = time.perf_counter()
    content = converted(model)
    conversion = time.perf_counter() - start
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        done = rewrite(content, decide(content))
        seconds.append(time.perf_counter() - start)
    return {
        "weights": model.count_params(),
        "conversion s": round(conversion, 1),
        "encoding s": [round(f(seconds), 2) for f in (min, statistics.median, max)],
        "bytes": [len(content), len(done)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--browser", help="the Chromium to run, if not the one that is found")
    parser.add_argument("--only", nargs="+", choices=["size", "speed", "cost"])
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS / "sparse_export.json")
    options = parser.parse_args()
    wanted = options.only or ["size", "speed", "cost"]
    figures: dict[str, Any] = {"what": __doc__.splitlines()[0], "environment": environment()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        if "cost" in wanted:
            figures["cost"] = cost()
            print(figures["cost"], flush=True)
        if {"size", "speed"} & set(wanted):
            results = export_all(folder)
            figures["size"] = sizes(results)
            if "speed" in wanted:
                figures["speed"] = speed(results, options.runs, options.rounds, options.browser)
    save(options.out, figures)
    print(f"saved {options.out}")


if __name__ == "__main__":
    main()
