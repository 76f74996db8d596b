"""The examples run as a user runs them, and reach the figures that no seed can change."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "examples"


@pytest.fixture
def example(tmp_path):
    """Return a function that runs an example with `--fast`: its figures, and what it printed."""

    def run(name):
        written = tmp_path / "figures.json"
        ran = subprocess.run(
            [sys.executable, str(FOLDER / f"{name}.py"), "--fast", "--json", str(written)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-4000:]
        assert list(tmp_path.iterdir()) == [written], "it leaves nothing else behind"
        return json.loads(written.read_text()), ran.stdout

    return run


@pytest.mark.journey
def test_iterative_magnitude_ends_at_half(example):
    found, printed = example("iterative_magnitude")
    assert found["cuts"] == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert found["zeros"] == dict.fromkeys(("conv1", "conv2", "conv3", "output"), 0.5)
    before, after, int8 = (found["files"][name] for name in ("before", "after", "after, int8"))
    # conv2, conv3 and output: four bytes a weight before; after, for half of them, one more each
    saved = (9 * 16 * 32 + 9 * 32 * 64 + 512 * 10) * (4 - 5 / 2) / 1e3
    assert before["size, KB"] - after["size, KB"] == pytest.approx(saved, abs=5)
    assert int8["gzip, KB"] < after["gzip, KB"] < before["gzip, KB"]
    assert min(one["inference, ms"] for one in (before, after, int8)) > 0
    (power,) = [line for line in printed.splitlines() if "power" in line]
    assert ("no meter" in power) == (before["power, W"] is None)
    assert "92.5 -> 89.7 %" in printed


@pytest.mark.journey
def test_ways_to_prune_each_remove_half(example):
    found = example("ways_to_prune")[0]["ways"]
    kernels = 9 * (1 * 16 + 16 * 32 + 32 * 64)
    assert found["not pruned, trained on"]["nonzero"] == kernels + 4 * 112 + 65 * 10 == 24_282
    for name in ("weights, static, hard", "weights, dynamic (RigL)", "weights, dynamic, soft"):
        assert found[name]["zeros"] == {"conv1": 0.5, "conv2": 0.5, "conv3": 0.5}, name
        assert found[name]["nonzero"] == 24_282 - kernels // 2, name
        assert found[name]["parameters"] == 24_282, name
    for name in ("channels, static, hard", "channels, dynamic, soft"):
        assert found[name]["channels"] == [8, 16, 32], name
        small = 9 * (1 * 8 + 8 * 16 + 16 * 32) + 4 * 56 + 33 * 10
        assert found[name]["parameters"] == small == 6_386, name
        macs = 9 * (8 * 16**2 + 8 * 16 * 8**2 + 16 * 32 * 4**2) + 32 * 10
        assert found[name]["macs"] == macs, name
    first, second, third = found["Network Slimming"]["channels"]
    assert first + second + third == 56
    assert found["Network Slimming"]["parameters"] == (
        9 * (first + first * second + second * third) + 4 * 56 + (third + 1) * 10
    )


@pytest.mark.journey
def test_global_threshold_leaves_four_fifths(example):
    found = example("global_threshold")[0]["stages"]
    sizes = {"conv1": 200, "conv2": 3_200, "conv4": 145_800, "fc": 10_800}
    assert found["trained"]["weights"] == sizes
    assert found["trained"]["all"] == 160_000
    assert found["cut"]["all"] == found["cut, retrained"]["all"] == 128_000
    assert found["cut"]["weights"] == found["cut, retrained"]["weights"]
    parts = {found["cut"]["weights"][name] / size for name, size in sizes.items()}
    assert len(parts) == 4, "one threshold leaves another part of each layer"


@pytest.mark.journey
def test_rules_per_layer_hold_in_each_layer(example):
    found = example("rules_per_layer")[0]["models"]
    dense, whole, *by_layer = found.values()
    assert set(dense["zeros"].values()) == {0.0}
    # 288, 18,432, 1,048,576 and 10,240 weights, of which a fifth stays, rounded as tfmot does
    kept = {"conv1": 58, "conv2": 3_686, "dense_wide": 209_715, "output": 2_048}
    sizes = {"conv1": 288, "conv2": 18_432, "dense_wide": 1_048_576, "output": 10_240}
    for name, size in sizes.items():
        assert whole["zeros"][name] == pytest.approx(1 - kept[name] / size, abs=1e-9), name
    assert len(by_layer) == 3
    for one in by_layer:
        assert one["zeros"] == {"conv1": 0.5, "conv2": 0.5, "dense_wide": 0.5, "output": 0.0}
        assert one["zeros in four"] == {"conv2": [2], "dense_wide": [2]}
        assert one["int8 accuracy"] == pytest.approx(one["accuracy"], abs=0.05)
    assert whole["int8 gzip"] < by_layer[0]["int8 gzip"] < dense["int8 gzip"]


@pytest.mark.journey
def test_resnet18_channels_has_the_write_ups_counts(example):
    found, printed = example("resnet18_channels")
    size = found["size"]
    assert size["parameters"] == [11_181_642, 11_138_392]
    assert size["channels"] == [128, 103]
    # 25 channels of 4x4: 9 x 64 products to make one, 9 x 128 in what reads it
    assert size["macs"][0] - size["macs"][1] == 25 * 16 * 9 * (64 + 128) == 691_200
    assert size["macs"][0] == pytest.approx(37.03e6, rel=1e-3)
    touched = {"layer2_0_conv1", "layer2_0_bn1", "layer2_0_conv2", "fc"}
    assert touched < set(found["unfrozen"])
    kernels = {name for name in found["unfrozen"] if "conv" in name}
    assert kernels == {"layer2_0_conv1", "layer2_0_conv2"}
    assert "81.42 -> 83.28 %" in printed


@pytest.mark.journey
def test_images_have_the_shape_of_an_example_and_all_classes(run_python):
    code = """
import argparse, json, numpy as np, experiment
from tfprune import datasets
colours = np.full((2, 4, 4, 3), [0.1, 0.2, 0.6], "float32")
grey = np.full((2, 8, 8, 1), 0.5, "float32")
found = [experiment._shaped(colours, (17, 10, 1)), experiment._shaped(grey, (32, 32, 3))]
halves = np.repeat([[[[0.0]], [[1.0]]]], 2, 2)
found.append(experiment._shaped(halves.astype("float32"), (4, 2, 1)))
shapes = [[one.shape, one[0, :, 0].tolist()] for one in found]
images = np.zeros((1000, 2, 2, 1), "float32")
labels = np.repeat(np.arange(10), 100)
whole = datasets.Dataset("sorted", images, labels, images, labels, tuple("0123456789"), "made")
datasets.load = lambda name, data_dir: whole
chosen = argparse.Namespace(dataset="", data_dir=None, images=200, fast=True)
part = experiment.load(chosen, (2, 2, 1))
classes = [np.unique(y).size for y in (part.y_train, part.y_test)]
print(json.dumps([shapes, classes, [len(part.x_train), len(part.x_test)]]))
"""
    printed = run_python(code, PYTHONPATH=f"{FOLDER}{os.pathsep}{ROOT}")
    shapes, classes, counts = json.loads(printed)
    (mean_shape, mean), (three_shape, three), (_, ramp) = shapes
    assert mean_shape == [2, 17, 10, 1]
    assert mean == [[pytest.approx(0.3)]] * 17
    assert three_shape == [2, 32, 32, 3]
    assert three == [[0.5] * 3] * 32
    assert ramp == [[0.0], [0.25], [0.75], [1.0]]
    assert counts == [200, 256]
    assert classes == [10, 10], "of a set that is sorted by class"


def test_the_readme_tells_of_each_example():
    text = (FOLDER / "README.md").read_text()
    told = set(re.findall(r"`(\w+\.py)`", text))
    assert {path.name for path in FOLDER.glob("*.py")} <= told
