"""What the tests share: quiet TensorFlow, two threads, a picture of one small model."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import sys

import keras
import numpy as np
import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Start each test with fresh layer names, seeds and float32."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def small_model():
    """A built convolutional classifier of 8x8 images with two channels and three classes."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(8, 3, padding="same", name="conv1"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Conv2D(16, 3, strides=2, name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(32, activation="relu", name="wide"),
            layers.Dense(3, name="logits"),
        ],
        name="small",
    )


@pytest.fixture
def batch():
    """64 random images and labels for `small_model`."""
    rng = np.random.default_rng(0)
    return rng.random((64, 8, 8, 2), np.float32), rng.integers(0, 3, 64)


@pytest.fixture
def run_python():
    """Return a function that runs code in a fresh Python process and returns its output."""
    import subprocess

    def run(code: str, **environment: str) -> str:
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": ROOT, **environment},
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-4000:]
        return result.stdout

    return run
