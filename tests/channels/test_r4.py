"""A fifth of one convolution of ResNet-18 removed: sizes to the digit, as they were published.

11,181,642 parameters, 11,138,392 after (without the statistics of norms, as PyTorch counts), 37.0 M
and 36.3 M multiplications. By hand: 25 of 128 channels take 25 x 64 x 9 values of the kernel that
makes them, 25 x 128 x 9 of the one that reads them, 2 x 25 of the norm between: 43,250; both
kernels are used at 4 x 4 positions: (14,400 + 28,800) x 16 = 691,200.
"""

import pathlib

import keras
import numpy as np
import pytest

import tfprune

BENCHMARKS = pathlib.Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture
def resnet18(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from resnet18 import resnet18

    return resnet18()


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype("float32")


def test_parameters_and_macs_to_the_digit(resnet18, images):
    small, report = tfprune.shrink(
        resnet18, channels={"layer2_0_conv1": 0.2}, importance="activation", data=images
    )
    before, after = tfprune.count(resnet18), tfprune.count(small)
    assert small.get_layer("layer2_0_conv1").filters == 128 - 25
    assert (before.trainable, after.trainable) == (11_181_642, 11_138_392)
    assert (before.macs, after.macs) == (37_016_576, 37_016_576 - 691_200)
    assert (report.macs_before, report.macs_after) == (before.macs, after.macs)
    assert (report.params_before, report.params_after) == (before.parameters, after.parameters)


def test_the_least_active_channels_go(resnet18, images):
    """What `layer2_0_relu1` shows is what the next convolution reads."""
    seen = keras.Model(resnet18.input, resnet18.get_layer("layer2_0_relu1").output)
    activity = np.abs(seen.predict(images, verbose=0)).mean((0, 1, 2))
    _, report = tfprune.shrink(
        resnet18, channels={"layer2_0_conv1": 0.2}, importance="activation", data=images
    )
    (entry,) = report.history
    assert (entry["layer"], entry["of"]) == ("layer2_0_conv1", 128)
    assert set(entry["removed"]) == set(np.argsort(activity)[:25].tolist())


def test_only_what_the_cut_touched_is_tuned(resnet18, images):
    small, report = tfprune.shrink(
        resnet18, channels={"layer2_0_conv1": 0.2}, importance="activation", data=images
    )
    tuned = set(tfprune.unfreeze_only(small, report))
    norms = {
        layer.name for layer in small.layers if isinstance(layer, keras.layers.BatchNormalization)
    }
    assert tuned == {"layer2_0_conv1", "layer2_0_conv2", "fc"} | norms
