"""Several processes: the same figures, deaths that cost a level, and what they cannot find."""

import json
import os
import signal

import keras
import numpy as np
import pytest

import tfprune
from tfprune.sensitivity import processes, units

L = keras.layers
LEVELS = (0.5, 0.9)


@keras.saving.register_keras_serializable("test_processes")
class Doubled(L.Layer):
    def call(self, x):
        return x * 2


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((10,)),
            L.Dense(16, "relu", name="a"),
            Doubled(),
            L.Dense(3, "softmax", name="b"),
        ]
    )


def data(n=300):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 10)).astype("float32"), rng.integers(0, 3, n)


def closeness(labels, outputs):
    return -float(np.abs(outputs.max(axis=1) - labels).mean())


def killed_once(labels, outputs):
    """End the process that runs this, the first time that it runs in a child."""
    mark = os.environ["TFPRUNE_TEST_MARK"]
    if os.getpid() != int(os.environ["TFPRUNE_TEST_PARENT"]) and not os.path.exists(mark):
        with open(mark, "w") as file:
            file.write("dead")
        os.kill(os.getpid(), signal.SIGKILL)
    return closeness(labels, outputs)


def always_killed(labels, outputs):
    os.kill(os.getpid(), signal.SIGKILL)


def broken(labels, outputs):
    raise KeyError("no such label")


@pytest.fixture
def counted(monkeypatch):
    """Count the processes that are started."""
    started = []

    class Counted(processes.Child):
        def __init__(self, *arguments):
            started.append(self)
            super().__init__(*arguments)

    monkeypatch.setattr(processes, "Child", Counted)
    return started


def test_figures_are_those_of_one_process_and_a_record_goes_on_in_either(tmp_path, counted):
    model = network()
    model.compile(loss="sparse_categorical_crossentropy")
    alone = tfprune.sensitivity(model, data(), LEVELS, "loss", record=tmp_path / "alone.json")
    lines = []

    def stop(text):
        lines.append(text)
        if text.startswith("Batch 2: 1 of"):
            raise KeyboardInterrupt

    record, options = tmp_path / "shared.json", {"processes": 2}
    with pytest.raises(KeyboardInterrupt):
        tfprune.sensitivity(model, data(), LEVELS, "loss", record=record, tell=stop, **options)
    assert len(counted) == 2
    assert not any(one.alive for one in counted)
    assert "Batch 1: 4 of 4 levels" in lines
    kept = json.loads(record.read_text())
    assert kept["samples"] == 256
    assert kept["identity"] == json.loads((tmp_path / "alone.json").read_text())["identity"]
    together = tfprune.sensitivity(model, data(), LEVELS, "loss", record=record)
    assert together.samples == alone.samples == 300
    assert together.dense == pytest.approx(alone.dense, rel=1e-6)
    for one, other in zip(together.weights, alone.weights, strict=True):
        assert (one.layer, one.weight, one.size) == (other.layer, other.weight, other.size)
        assert one.drops == pytest.approx(other.drops, abs=1e-6)


def test_a_process_that_dies_costs_its_own_level(tmp_path, monkeypatch, counted):
    monkeypatch.setenv("TFPRUNE_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("TFPRUNE_TEST_PARENT", str(os.getpid()))
    lines = []
    found = tfprune.sensitivity(
        network(), data(40), LEVELS, killed_once, processes=2, tell=lines.append
    )
    assert (tmp_path / "mark").exists()
    assert len(counted) == 3
    (report,) = [line for line in lines if "run again" in line]
    assert "was killed from outside (SIGKILL)" in report
    alone = tfprune.sensitivity(network(), data(40), LEVELS, closeness)
    for one, other in zip(found.weights, alone.weights, strict=True):
        assert one.drops == pytest.approx(other.drops, abs=1e-6)


def test_a_level_that_always_kills_its_process(monkeypatch, counted):
    monkeypatch.setattr(units, "_DEATHS", 2)
    with pytest.raises(RuntimeError, match=r"ended its process 2 times.*SIGKILL.*processes=2"):
        tfprune.sensitivity(network(), data(40), (0.5,), always_killed, layers=["a"], processes=2)
    assert not any(one.alive for one in counted)


def test_what_a_metric_raises_is_told(counted):
    with pytest.raises(ValueError, match="failed: 'no such label'"):
        tfprune.sensitivity(network(), data(40), LEVELS, broken, processes=2)
    assert len(counted) == 2  # nobody died


@pytest.mark.parametrize("metric", [lambda y, p: 0.0, type("Own", (), {"__call__": closeness})()])
def test_a_metric_that_other_processes_cannot_find(metric, counted):
    with pytest.raises(ValueError, match=r"cannot find the metric.*top of a module.*Received"):
        tfprune.sensitivity(network(), data(40), LEVELS, metric, processes=2)
    assert not counted


def test_a_metric_of_a_script(monkeypatch, counted):
    monkeypatch.setattr(closeness, "__module__", "__main__")
    monkeypatch.setattr("__main__.closeness", closeness, raising=False)
    with pytest.raises(ValueError, match="cannot find the metric"):
        tfprune.sensitivity(network(), data(40), LEVELS, closeness, processes=2)


@pytest.mark.parametrize("count", [0, True, 1.5])
def test_a_number_of_processes_that_is_none(count):
    with pytest.raises(ValueError, match=f"whole number.*Received: processes={count}"):
        tfprune.sensitivity(network(), data(40), LEVELS, processes=count)
