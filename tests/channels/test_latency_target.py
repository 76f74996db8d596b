"""Shrinking to a latency, with a measurement that is made up, and once with a real one."""

import keras
import numpy as np
import pytest

import tfprune
from tfprune import latency_target

layers = keras.layers


def network(filters=32):
    given = keras.Input((8, 8, 2))
    x = layers.Conv2D(filters, 3, activation="relu", name="conv1")(given)
    x = layers.Conv2D(filters, 3, activation="relu", name="conv2")(x)
    return keras.Model(given, layers.Dense(3, name="logits")(layers.Flatten()(x)))


def macs(model):
    one, two = (model.get_layer(name).filters for name in ("conv1", "conv2"))
    return 36 * 18 * one + 16 * 9 * one * two + 16 * two * 3


@pytest.fixture
def clock(monkeypatch):
    """A machine that does a million MACs in 10 ms, and has an overhead of 0.1 ms."""
    measured = []

    def measure(model):
        measured.append(0.1 + macs(model) / 1e5)
        return measured[-1]

    monkeypatch.setattr(latency_target, "measure", measure)
    return measured


def test_the_largest_model_that_is_fast_enough(clock):
    model = network()
    whole = macs(model)  # 169,728 MACs, 1.797 ms
    said = []
    small, report = tfprune.shrink(model, latency_ms=1.0, tell=said.append)
    assert len(clock) == 6
    assert clock[0] == pytest.approx(0.1 + whole / 1e5) == report.latency_before_ms
    assert report.latency_after_ms == pytest.approx(0.1 + macs(small) / 1e5)
    smallest = round((clock[1] - 0.1) * 1e5)
    # Sizes lie a sixteenth of what can be saved apart: the next larger would be too slow.
    step = (whole - smallest) / 16 / 1e5
    assert 1.0 - step - 0.05 < report.latency_after_ms <= 1.0
    assert sum("of the MACs take" in line for line in said) == 6
    assert "100% of the MACs take 1.797 ms" in said
    assert report.macs_after == macs(small)
    assert "latency" in str(report)
    assert "1.797 ms" in str(report)


def test_a_model_that_is_fast_enough_stays_as_it_is(clock):
    said = []
    small, report = tfprune.shrink(network(), latency_ms=2.0, tell=said.append)
    assert macs(small) == macs(network())
    assert report.latency_after_ms == report.latency_before_ms
    assert len(clock) == 1
    assert any("already: nothing is removed" in line for line in said)


def test_what_cannot_be_reached_says_how_fast_it_gets(clock):
    with pytest.raises(tfprune.ImpossibleTarget) as caught:
        tfprune.shrink(network(), latency_ms=0.11, max_ratio=0.5)
    # Half of 32 channels each: 10,368 + 36,864 + 768 MACs.
    assert "the fastest reached is 0.580 ms" in str(caught.value)
    assert "takes 1.797 ms" in str(caught.value)
    assert "max_ratio=0.5" in str(caught.value)
    assert len(clock) == 2


def test_limits_and_scope_hold(clock):
    small, _ = tfprune.shrink(network(), latency_ms=1.0, round_to=8, scope="local")
    assert small.get_layer("conv1").filters % 8 == 0
    assert small.get_layer("conv2").filters % 8 == 0
    assert 0.1 + macs(small) / 1e5 <= 1.0


def test_in_several_steps(clock):
    small, report = tfprune.shrink(network(), latency_ms=1.0, steps=3)
    assert 0.1 + macs(small) / 1e5 == pytest.approx(report.latency_after_ms)
    assert report.latency_after_ms <= 1.0
    assert len(clock) <= 8


def test_a_size_that_did_not_get_smaller_is_measured_once(clock):
    tfprune.shrink(network(2), latency_ms=0.115, scope="local")
    assert len(clock) == len(set(clock)) == 3  # one channel of one layer, or of both, may go


@pytest.mark.parametrize("given", [0, -1.0, float("inf"), float("nan")])
def test_no_latency(given, clock):
    with pytest.raises(ValueError, match="`latency_ms` must be above 0"):
        tfprune.shrink(network(), latency_ms=given)
    assert not clock


def test_an_open_size_is_refused_before_any_work(clock):
    given = keras.Input((None, 8, 2), name="image")
    x = layers.Conv2D(4, 3, name="conv1")(given)
    model = keras.Model(given, layers.Conv2D(3, 1)(x))
    with pytest.raises(ValueError, match=r"fixed `keras.Input`.*'image' \(None, None, 8, 2\)"):
        tfprune.shrink(model, latency_ms=1.0)
    assert not clock


def test_a_model_that_is_fast_enough_is_told_in_the_report(clock):
    _, report = tfprune.shrink(network(), latency_ms=2.0)
    assert report.notes == (
        "nothing was removed: the model takes 1.797 ms, and latency_ms=2 was asked for",
    )


def test_measured_on_this_machine(monkeypatch):
    """A target between the whole model and the smallest is met by what was measured."""
    monkeypatch.setattr(latency_target, "RUNS", 20)
    monkeypatch.setattr(latency_target, "SIZES", 1)  # the whole model and the smallest only
    model = network(64)
    before = latency_target.measure(model)
    assert 0 < before < 1000
    _, report = tfprune.shrink(model, latency_ms=before * 0.8)
    assert report.latency_after_ms <= before * 0.8
    assert report.macs_after < report.macs_before
    assert np.isfinite(report.latency_before_ms)
