"""No file of the zoo is wrong: not on this CPU, not with XNNPACK off, not without AVX.

The graphs of `CORE` are exported in every form at a sparsity between 70 and 95 %; half the forms of
most, and all of the `SLOW`, are left to `pytest -m slow_sweep`. `TFPRUNE_ZOO=all` exports every
graph of the zoo, which takes four times as long.
"""

import functools
import multiprocessing
import os
import pathlib
import re
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import keras
import numpy as np
import pytest
from emulation import Failure, require_emulator, run_without_avx
from zoo import GRAPHS, mobiles, prune_to
from zoo.core import CORE, EVERY_FORM, SLOW
from zoo.exports import SAMPLES, Export, answers, error, export, names_of, run, samples_for

from tfprune.export.convert import trace
from tfprune.export.graph import read_graphs
from tfprune.export.interfaces import interface_of
from tfprune.export.xnnpack.verdict import judge

# The exports of all cases are made by one worker.
pytestmark = pytest.mark.xdist_group("zoo")


def _is_slow(quantize, name):
    """Tell whether a case is left to `pytest -m slow_sweep`."""
    slow = name in SLOW or (name not in EVERY_FORM and quantize in ("float16", "dynamic"))
    return slow and not EVERYTHING


FORMS = (None, "float16", "dynamic", "int8")
OPTIONS = {"sparse": "auto"}
TOLERANCE = {None: 5e-5, "float16": 5e-3}
# With random weights its outputs are small differences of large values, and rounding the weights
# moves them by 5 %: the exporter refuses to call that right, and writes nothing.
BEYOND_ROUNDING = {
    ("float16", "efficientnet_v2_b0"): "do not bear float16",
    # They jump from one value to another where rounding moves a value over the edge.
    ("float16", "beside_sign"): "do not bear float16",
    ("float16", "beside_above"): "do not bear float16",
    # The 255 steps of int8 cannot follow the exponential within softplus.
    ("int8", "activation_softplus"): "EXP of .*Softplus",
    ("int8", "activation_mish"): "EXP of .*Softplus",
}
APART = 0.25  # between runtimes by root mean square, where weights are int8
EVERYTHING = os.environ.get("TFPRUNE_ZOO") == "all"
CASES = [
    pytest.param(q, name, marks=pytest.mark.slow_sweep if _is_slow(q, name) else ())
    for q in FORMS
    for name in GRAPHS
    if EVERYTHING or name in CORE | SLOW
]

BROKEN = [
    "beside_flip",
    "beside_rejoined",
    "gated_sigmoid",
    "gated_silu_conv",
    "max_pool",
    "average_pool",
    "concat_of_two_convs",
    "conv_3x3",
    "depthwise_3x3_stride_2_same",
    "rescaling",
    "multiply_by_a_constant_in_front",
    "second_output_of_the_trunk",
    "end_padded_pointwise",
    "head_average_keepdims_alone",
    "head_keepdims_conv",
    "head_keepdims_dense",
]
NOT_LOADED = ("gated_sigmoid", "head_keepdims_conv", "head_keepdims_dense")
RIGHT = [
    "gated_conv",
    "plain",
    "residual_add",
    "squeeze_conv_sigmoid",
    "entry_same",
    "head_flatten",
]


def rms(want, got):
    """Return the root mean squared difference relative to that of the output itself."""
    worst = 0.0
    for name in want[0]:
        first = np.stack([one[name] for one in want]).astype("float64")
        second = np.stack([one[name] for one in got])
        if first.shape != second.shape:
            return np.inf
        worst = max(worst, float(np.sqrt(np.mean((first - second) ** 2) / np.mean(first**2))))
    return worst


class Sweep:
    """The exports of all forms, made side by side; each form then goes through the emulator."""

    def __init__(self, pool, folder, cases):
        self.folder, self.jobs = folder, {q: {} for q in FORMS}
        for quantize, name in cases:
            job = pool.submit(export, name, quantize, folder, OPTIONS)
            self.jobs[quantize][name] = job

    @functools.cache  # noqa: B019 - it lives as long as the session
    def export(self, quantize, name):
        try:
            return self.jobs[quantize][name].result()
        except BrokenProcessPool:
            return self._alone(quantize, name)

    def _alone(self, quantize, name):
        """Export again in a process of its own: a crash of another graph took this one along."""
        folder = tempfile.mkdtemp(dir=self.folder)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            job = pool.submit(export, name, quantize, folder, OPTIONS)
            try:
                return job.result()
            except BrokenProcessPool:
                return Export(pathlib.Path(folder), problem="the process crashed")

    @functools.cache  # noqa: B019
    def without_avx(self, quantize):
        made = {name: self.export(quantize, name) for name in self.jobs[quantize]}
        return run_without_avx(
            {name: (one.path, one.samples) for name, one in made.items() if one.problem is None}
        )


@pytest.fixture(scope="session")
def sweep(request, tmp_path_factory):
    """The cases that this session asks for, so that a single one is quick."""
    cases = [
        (item.callspec.params["quantize"], item.callspec.params["name"])
        for item in request.session.items
        if "sweep" in getattr(item, "fixturenames", ())
    ]
    cases = list(dict.fromkeys(cases))
    # TensorFlow must not be forked. A process for each core, as conversion uses one.
    context = multiprocessing.get_context("spawn")
    workers = max(1, min(os.cpu_count() or 1, len(cases) // 8))
    with ProcessPoolExecutor(workers, context) as pool:
        yield Sweep(pool, str(tmp_path_factory.mktemp("zoo")), cases)


def check(quantize, want, got, other):
    """Compare with Keras where that is possible, with the other runtime everywhere."""
    if quantize in TOLERANCE:
        assert error(want, got) <= TOLERANCE[quantize]
    assert rms(other, got) <= APART


@pytest.mark.timeout(1200)  # the first of a form waits for the exports of all
@pytest.mark.parametrize(("quantize", "name"), CASES)
def test_right_on_this_cpu(sweep, quantize, name):
    made = sweep.export(quantize, name)
    if quantize in GRAPHS[name].refused:
        assert "no int8 kernel" in made.problem
        return
    if (quantize, name) in BEYOND_ROUNDING:
        assert re.search(BEYOND_ROUNDING[quantize, name], made.problem)
        return
    assert made.problem is None, made.problem
    check(quantize, made.keras, made.default, made.plain)
    check(quantize, made.keras, made.plain, made.default)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("quantize", "name"), CASES)
def test_right_without_avx(sweep, quantize, name):
    require_emulator()
    made = sweep.export(quantize, name)
    if quantize in GRAPHS[name].refused or (quantize, name) in BEYOND_ROUNDING:
        return
    assert made.problem is None, made.problem
    got = sweep.without_avx(quantize)[name]
    assert not isinstance(got, Failure), got.reason
    check(quantize, made.keras, got, made.plain)


def test_the_mobile_models_of_keras_are_there():
    made = {model for _, model, _ in mobiles.MODELS.values()}
    names = [name for name in dir(keras.applications) if "Mobile" in name]
    for name in (*names, "EfficientNetB0", "EfficientNetV2B0"):
        assert getattr(keras.applications, name) in made, name


def test_the_zoo_is_large_and_has_all_kinds():
    assert len(GRAPHS) >= 60
    assert len(CORE) >= 60
    assert set(GRAPHS) >= CORE
    for expect in ("fast", "dense", "broken"):
        assert sum(GRAPHS[name].expect == expect for name in CORE) >= 12


@pytest.fixture(scope="session")
def converted(tmp_path_factory):
    """Files that the converter itself encoded: inputs, answers of Keras, of the emulator."""
    import tensorflow as tf

    require_emulator()
    folder, jobs, plain = tmp_path_factory.mktemp("converted"), {}, {}
    for name in [*BROKEN, *RIGHT]:
        model = prune_to(GRAPHS[name].build(0), 0.9, seed=0)
        data = zip(*(np.split(a, SAMPLES) for a in samples_for(model, SAMPLES, 2)), strict=True)
        samples = [dict(zip(names_of(model), one, strict=True)) for one in data]
        function = trace(model, interface_of(model, None, None))
        holder = tf.Module()
        holder.held = list(function.variables)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        path = folder / f"{name}.tflite"
        path.write_bytes(converter.convert())
        jobs[name] = path, samples
        plain[name] = run(path, samples, xnnpack=False)
        # On this CPU, if it has AVX, and with XNNPACK off, nothing shows.
        assert error(answers(model, samples), plain[name]) < TOLERANCE[None]
    return plain, run_without_avx(jobs)


@pytest.mark.parametrize("name", BROKEN)
def test_the_converters_own_encoding_is_caught(converted, name):
    plain, emulated = converted
    assert GRAPHS[name].expect == "broken"
    got = emulated[name]
    assert isinstance(got, Failure) or error(plain[name], got) > 2 * TOLERANCE[None]
    assert isinstance(got, Failure) == (name in NOT_LOADED)


@pytest.mark.parametrize("name", RIGHT)
def test_graphs_that_bear_the_converters_encoding(converted, name):
    plain, emulated = converted
    assert GRAPHS[name].expect != "broken"
    assert error(plain[name], emulated[name]) < TOLERANCE[None]


# What the verdict is stricter about than the emulated runtime: older runtimes, or not modelled.
STRICTER = {
    "activation_clip",
    "dense_of_4d",
    "head_dense_of_4d_then_average",
    "head_keepdims_two_convs",
    "head_mean_over_channels",
    "head_mean_over_everything",
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("quantize", "name"), [c for c in CASES if c.values[0] is None])
def test_the_verdict_is_what_was_seen_or_stricter(sweep, quantize, name):
    graph = read_graphs(sweep.export(quantize, name).path.read_bytes())[0]
    weights = {graph.constant(i).index for op in graph.operations for i in op.inputs if i >= 0}
    found = judge(graph, {i for i in weights if graph.is_constant(i)}).kind
    seen = {"broken": "wrong"}.get(GRAPHS[name].expect, GRAPHS[name].expect)
    assert found == ("wrong" if name in STRICTER else seen)
    assert name not in STRICTER or seen != "wrong"
