"""Every model of `keras.applications` passes the gate.

A: removing nothing changes nothing. B: channels of a family may be shuffled. C: cutting is masking.
D: exactly what was asked for. E: what could be removed, by model. F: the small model saves, loads,
trains, is cut again from its history, and exports to a smaller file. G: five steps get as far as
one.

The small models of five families run A to E in the ordinary suite; everything else is marked
`slow_sweep` (`pytest -m slow_sweep`).
"""

import concurrent.futures
import contextlib
import fcntl
import gc
import json
import multiprocessing

import keras
import numpy as np
import pytest

import tfprune
from channels.checks import (
    answers,
    coverage,
    difference,
    inputs_for,
    masked,
    permuted,
    randomise,
    ranked,
)
from tfprune.channels import importance
from tfprune.channels.history import replay
from tfprune.channels.structure import NOTHING, read

TOLERANCE = 1e-4

FAMILIES = (
    *("VGG16", "ResNet50", "ResNet50V2", "DenseNet121", "InceptionV3", "Xception", "MobileNet"),
    *("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "NASNetMobile"),
    "ConvNeXtTiny",
)
QUICK = ("VGG16", "ResNet50", "DenseNet121", "MobileNetV2", "MobileNetV3Small")
LARGE = (
    *("VGG19", "DenseNet169", "MobileNetV3Large", "ResNet101", "ResNet101V2"),
    *("EfficientNetB1", "EfficientNetB2", "EfficientNetB3"),
    *("EfficientNetV2B1", "EfficientNetV2B2", "EfficientNetV2B3", "EfficientNetV2S"),
    *("ConvNeXtSmall", "ConvNeXtBase"),
    *("ResNet152", "ResNet152V2", "DenseNet201", "InceptionResNetV2", "NASNetLarge"),
    *("EfficientNetB4", "EfficientNetB5", "EfficientNetB6", "EfficientNetB7"),
    *("EfficientNetV2M", "EfficientNetV2L", "ConvNeXtLarge", "ConvNeXtXLarge"),
)
HEAVIEST = ("NASNetLarge", "EfficientNetV2L", "ConvNeXtLarge", "ConvNeXtXLarge")
"""Not two of them at once: up to 10 GB each."""
EVERY = (*FAMILIES, *LARGE)

SIZES = {"Xception": 71, "InceptionV3": 75, "InceptionResNetV2": 75}
"""Smallest legal sides of images; 32 for all others."""

CHAOTIC = "EfficientNet"
"""Hundreds of norms and swishes, each enlarging a little: a millionth of the input became a third
of the output in EfficientNetV2S, and what float32 rounds away depends on the processor. The large
ones are judged in float64, where shuffling channels leaves all but 1e-7."""
CALM = {
    "EfficientNetV2B0": (0.8, 1.8),
    "EfficientNetV2B1": (0.8, 1.8),
    "EfficientNetV2B2": (0.8, 1.8),
    "EfficientNetV2B3": (0.8, 1.8),
    "EfficientNetV2S": (0.8, 1.8),
    "EfficientNetV2M": (0.8, 1.8),
    "EfficientNetV2L": (1.2, 2.4),
    "EfficientNetB7": (0.8, 1.8),
}
"""Variances of norms: float32 must do in an exported file, and EfficientNetV2M loses all digits of
float64 with the usual ones."""

CHANNELS: dict[str, tuple[int, int, float]] = {
    "VGG16": (12_416, 12_416, 1.0),
    "ResNet50": (26_560, 11_456, 1.0),
    "ResNet50V2": (26_560, 11_456, 1.0),
    "DenseNet121": (10_240, 10_240, 1.0),
    "InceptionV3": (17_216, 17_216, 1.0),
    "Xception": (27_264, 19_304, 1.0),
    "MobileNet": (5_984, 5_984, 1.0),
    "MobileNetV2": (9_920, 9_128, 1.0),
    "MobileNetV3Small": (7_512, 4_872, 1.0),
    "EfficientNetB0": (21_388, 11_404, 1.0),
    "EfficientNetV2B0": (30_864, 15_840, 1.0),
    "NASNetMobile": (18_369, 11_956, 1.0),
    "ConvNeXtTiny": (34_560, 27_936, 1.0),
    "VGG19": (13_696, 13_696, 1.0),
    "DenseNet169": (14_208, 14_208, 1.0),
    "MobileNetV3Large": (13_544, 8_696, 1.0),
    "ResNet101": (52_672, 20_160, 1.0),
    "ResNet101V2": (52_672, 20_160, 1.0),
    "EfficientNetB1": (31_600, 16_208, 1.0),
    "EfficientNetB2": (34_410, 17_658, 1.0),
    "EfficientNetB3": (44_464, 22_544, 1.0),
    "EfficientNetV2B1": (36_196, 18_468, 1.0),
    "EfficientNetV2B2": (41_910, 21_286, 1.0),
    "EfficientNetV2B3": (55_638, 27_902, 1.0),
    "EfficientNetV2S": (78_400, 38_784, 1.0),
    "ConvNeXtSmall": (69_120, 55_584, 1.0),
    "ConvNeXtBase": (92_160, 74_112, 1.0),
    "ResNet152": (75_712, 27_840, 1.0),
    "ResNet152V2": (75_712, 27_840, 1.0),
    "DenseNet201": (17_024, 17_024, 1.0),
    "InceptionResNetV2": (76_032, 30_272, 1.0),
    "NASNetLarge": (98_334, 64_440, 1.0),
    "EfficientNetB4": (63_776, 31_912, 1.0),
    "EfficientNetB5": (88_000, 43_568, 1.0),
    "EfficientNetB6": (114_344, 56_248, 1.0),
    "EfficientNetB7": (158_320, 77_232, 1.0),
    "EfficientNetV2M": (148_812, 72_740, 1.0),
    "EfficientNetV2L": (261_216, 126_688, 1.0),
    "ConvNeXtLarge": (138_240, 111_168, 1.0),
    "ConvNeXtXLarge": (184_320, 148_224, 1.0),
}
"""Channels that kernels make, atoms that they add up to, and the fraction that may go."""

FLOOR = 0.95
CLASSES = 10


def build(name):
    """Return a model with random weights and statistics."""
    variance = CALM.get(name, (0.5, 1.5))
    size = SIZES.get(name, 32)
    model = getattr(keras.applications, name)(
        weights=None,
        input_shape=(size, size, 3),
        classes=CLASSES,
        classifier_activation=None,
    )
    return randomise(model, variance=variance)


def images(model):
    """Return random images, of 0 to 255 or so where the model scales them down."""
    scaled = any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    return inputs_for(model) * (100.0 if scaled else 1.0)


@pytest.fixture(autouse=True)
def _free():
    """Let go of each model before the next one is built."""
    yield
    keras.utils.clear_session()
    gc.collect()


@pytest.fixture
def apart(tmp_path_factory):
    """Return (model's name, function, its arguments) -> None: it runs in a process of its own.

    TensorFlow keeps what it once had of memory, 10 GB for the largest; an ended process does not.
    """
    spawn = multiprocessing.get_context("spawn")
    # Processes of one test run have folders side by side.
    lock = tmp_path_factory.getbasetemp().parent / "heaviest.lock"

    def run(name, function, *arguments):
        with contextlib.ExitStack() as stack:
            if name in HEAVIEST:
                fcntl.flock(stack.enter_context(lock.open("w")), fcntl.LOCK_EX)
            process = stack.enter_context(
                concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn)
            )
            process.submit(function, *arguments).result()

    return run


def test_no_model_is_left_out():
    named = [n for n in dir(keras.applications) if n[0].isupper()]
    assert sorted(EVERY) == sorted(named)
    assert len(EVERY) == len(set(EVERY)) == 40


def a_to_e(name):
    """Assert the gates that need no training."""
    model = build(name)
    structure = read(model)
    x = images(model)
    before = answers(model, x)

    assert difference(answers(structure.without(NOTHING)[0], x), before) < 1e-6  # A

    with permuted(structure):
        assert difference(answers(model, x), before) < TOLERANCE  # B

    scores = importance.random(structure.atoms, 0)
    removed = ranked(structure, scores, "local").up_to(0.4)  # of every family
    small, _ = structure.without(removed)
    with masked(structure, removed):
        wanted = answers(model, x)
    assert difference(answers(small, x), wanted) < TOLERANCE  # C
    assert difference(wanted, before) > 1e-2
    assert small.count_params() == structure.cost.params(removed)
    assert read(small).cost.macs(NOTHING) == structure.cost.macs(removed)

    exactness(structure)
    assert not structure.trace.unknown
    made = sum(p.ids.size for p in structure.outputs()) - CLASSES
    found = coverage(structure)
    assert found >= FLOOR
    assert (made, structure.atoms.count, found) == CHANNELS[name]


def exactness(structure):
    """Assert that targets are met exactly, and that more is never less (gate D)."""
    atoms, cost = structure.atoms, structure.cost
    scores = importance.of_kernels(atoms, importance.l2)
    order = ranked(structure, scores)

    params, last = [cost.params(NOTHING)], NOTHING
    for ratio in (0.05, 0.2, 0.35, 0.5, 0.65, 0.8):
        wanted = int(ratio * atoms.count)
        removed = order.first(lambda r, wanted=wanted: r.size >= wanted)
        assert removed.size == wanted
        assert np.isin(last, removed).all()
        params.append(cost.params(removed))
        last = removed
    assert params == sorted(params, reverse=True)
    assert len(set(params)) == len(params)

    for count in (cost.macs, cost.params):
        most = 0.5 * count(NOTHING)
        removed = order.first(lambda r, count=count, most=most: count(r) <= most)
        assert count(removed) <= most < count(removed[:-1])

    lengths = atoms.lengths(NOTHING)
    numbers = {id(p): n for n, p in enumerate(atoms.places)}
    made = [numbers[id(p)] for p in structure.outputs()]
    for limits in ({"round_to": 8}, {"round_to": 8, "min_channels": 12, "max_ratio": 0.7}):
        rounded = ranked(structure, scores, **limits)
        for stop in rounded.stops[[-1, rounded.stops.size // 2, rounded.stops.size // 3]]:
            after = atoms.lengths(rounded.atoms[:stop])[made]
            cut = after < lengths[made]
            assert cut.any()
            assert not (after[cut] % 8).any()
            assert (after[cut] >= limits.get("min_channels", 1)).all()
            share = 1 - limits.get("max_ratio", 0.9)
            assert (after >= np.floor(share * lengths[made] - 1e-6)).all()


def replayed(model, tmp_path):
    """Assert that a cut is done again from its history and survives saving; return the model."""
    x = images(model)
    small, report = tfprune.shrink(model, macs=0.5, round_to=8)
    assert report.macs_after <= 0.5 * report.macs_before
    assert report.params_after == small.count_params() < model.count_params()
    after = answers(small, x)
    assert difference(answers(replay(model, json.loads(json.dumps(report.history))), x), after) == 0
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert difference(answers(loaded, x), after) < 1e-6
    return small


def lifecycle(model, tmp_path, run_eagerly=False):
    """Assert gates F and G."""
    small = replayed(model, tmp_path)
    path = tmp_path / "small.tflite"
    tfprune.export_tflite(small, path)  # compares with Keras
    assert path.stat().st_size < 4 * model.count_params()
    small.compile(
        keras.optimizers.SGD(1e-6),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=run_eagerly,
    )
    trained = small.fit(images(model), np.array([0, 1]), verbose=0)
    assert np.isfinite(trained.history["loss"]).all()
    steps(model)


def steps(model):
    """Assert that five steps remove as much as one (gate G)."""
    at_once, one = tfprune.shrink(model, channels=0.4)
    slowly, five = tfprune.shrink(model, channels=0.4, steps=5)
    assert one.channels_removed == five.channels_removed == int(0.4 * one.channels_before)
    x = images(model)
    assert np.isfinite(answers(slowly, x)[0]).all()
    assert [y.shape for y in answers(at_once, x)] == [y.shape for y in answers(slowly, x)]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow_sweep) for n in FAMILIES],
)
def test_families(name):
    a_to_e(name)


@pytest.mark.slow_sweep
@pytest.mark.parametrize("name", FAMILIES)
def test_lifecycle_of_families(name, tmp_path):
    lifecycle(build(name), tmp_path)


@pytest.mark.slow_sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LARGE)
def test_large_ones(name, apart):
    apart(name, exact_a_to_e if name.startswith(CHAOTIC) else a_to_e, name)


def exact_a_to_e(name):
    """Assert the same in float64, in a process of its own."""
    keras.config.set_floatx("float64")
    a_to_e(name)


@pytest.mark.slow_sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LARGE)
def test_lifecycle_of_large_ones(name, tmp_path, apart):
    apart(name, eager_lifecycle, name, tmp_path)


def eager_lifecycle(name, tmp_path):
    """Assert gates F and G; a traced step of training alone would take a minute for each."""
    lifecycle(build(name), tmp_path, run_eagerly=True)
