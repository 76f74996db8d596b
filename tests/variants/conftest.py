"""A small classifier whose answers numpy can work out, its data, and a benchmark of fixed times."""

import keras
import numpy as np
import pytest

from tfprune.benchmarking import BenchmarkResult, FileBenchmark
from tfprune.benchmarking.cpu import Cpu
from tfprune.variants import measurement

MEDIANS = {"float32": 4.0, "float16": 3.0, "dynamic": 2.0, "int8": 1.0}


@pytest.fixture(scope="session")
def net():
    """A classifier of 16 features: 90 % of the hidden kernel is zero, 75 % of the answers right."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((16,)), layers.Dense(256, "relu", name="hidden"), layers.Dense(3, name="out")],
        name="net",
    )
    kernel = model.layers[0].kernel.numpy()
    kernel[np.abs(kernel) < np.quantile(np.abs(kernel), 0.9)] = 0
    model.layers[0].kernel.assign(kernel)
    return model


@pytest.fixture(scope="session")
def answers(net):
    """Return a function that works out the outputs of `net` by numpy."""
    w1, b1, w2, b2 = net.get_weights()
    return lambda x: np.maximum(x @ w1 + b1, 0) @ w2 + b2


@pytest.fixture(scope="session")
def x():
    return np.random.default_rng(0).normal(size=(40, 16)).astype("float32")


@pytest.fixture(scope="session")
def y(answers, x):
    """Labels of which the model gets 30 of 40 right."""
    labels = answers(x).argmax(axis=1)
    labels[:10] = (labels[:10] + 1) % 3
    return labels


@pytest.fixture(scope="session")
def files(tmp_path_factory, net, x, y):
    """The model and its data, as files."""
    folder = tmp_path_factory.mktemp("net")
    net.save(folder / "net.keras")
    np.savez(folder / "calibration.npz", x=x)
    np.savez(folder / "test.npz", x=x, y=y)
    return folder


@pytest.fixture
def measured(monkeypatch):
    """Replace the benchmark by one of fixed times; return the lists of files it was given."""
    calls = []

    def benchmark(paths, runtime, *, threads, runs, shapes, tell):
        names = [path.stem.partition("-")[2] for path in paths]
        calls.append(names)
        rows = tuple(
            FileBenchmark(
                str(path), 1, 1, median_ms=MEDIANS[name.removesuffix("-sparse")], p5_ms=0.5,
                p95_ms=9.0, peak_memory_bytes=2_000_000, max_rel_error=0.0, tolerance=1e-5,
            )
            for path, name in zip(paths, names, strict=True)
        )  # fmt: skip
        cpu = Cpu("test chip", "x86_64", 2, ("avx",))
        return BenchmarkResult(runtime, "here", cpu, threads, 5, rows, "no meter", (), {})

    monkeypatch.setattr(measurement, "benchmark", benchmark)
    return calls
