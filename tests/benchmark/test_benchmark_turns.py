"""Who runs when, with runners that only write down what they are asked."""

import numpy as np
import pytest

from tfprune.benchmarking.energy import find_meter
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.figures import Plan
from tfprune.benchmarking.turns import Loaded, take_turns


class Scripted:
    """Takes 1, 2, 3 ... ms; may fail at a step."""

    def __init__(self, name, log, fail=None, error=FileFailure):
        self.name, self.log, self.fail, self.error = name, log, fail, error
        self.clock, self.closed = 0, 0

    def _step(self, what):
        self.log.append((self.name, what))
        if self.fail == what:
            raise self.error(f"{self.name} broke")

    def load(self):
        self._step("load")
        return Loaded(7.0, 8.0, (np.zeros(1),))

    def run(self, count):
        self._step(count)
        self.clock += count
        return [float(t) for t in range(self.clock - count, self.clock)]

    def memory(self):
        self._step("memory")
        return 42

    def close(self):
        self.closed += 1


def turns(runners, runs, meter=None, warmup=5):
    return take_turns(runners, Plan(1, runs, warmup, 9.0), meter, lambda text: None)


def test_files_take_turns_of_five_and_the_order_moves():
    log = []
    turns([Scripted(name, log) for name in "abc"], 12)
    assert log == [
        *(("a", "load"), ("a", 4), ("b", "load"), ("b", 4), ("c", "load"), ("c", 4)),
        *(("a", 6), ("b", 6), ("c", 6)),
        *(("b", 6), ("c", 6), ("a", 6)),
        *(("c", 3), ("a", 3), ("b", 3)),
        *(("a", "memory"), ("b", "memory"), ("c", "memory")),
    ]


def test_figures_leave_out_the_warm_up_and_each_turns_first_run():
    """Runs 0-3 warm up, 4 and 10 open a turn; 5-9 and 11-15 count: the median is 10."""
    [one] = turns([Scripted("a", [])], 10)
    assert one.times == (5, 6, 7, 8, 9, 11, 12, 13, 14, 15)
    assert one.median_ms == 10
    assert one.p5_ms == pytest.approx(5.45)  # 0.05 * 9 places behind the first
    assert one.p95_ms == pytest.approx(14.55)
    assert (one.load_ms, one.first_ms, one.memory, one.runs) == (7, 8, 42, 10)
    assert one.energy_mj is None


@pytest.mark.parametrize("step", ["load", 4, 6, "memory"])
def test_one_failure_leaves_the_others_alone(step):
    runners = [Scripted("a", []), Scripted("b", [], fail=step), Scripted("c", [])]
    first, failed, last = turns(runners, 10)
    assert failed.failure == "b broke"
    assert failed.median_ms is None
    assert first.times == last.times == (5, 6, 7, 8, 9, 11, 12, 13, 14, 15)
    assert [runner.closed for runner in runners] == [1, 1, 1]


def test_a_bug_is_not_a_failure_and_still_closes():
    runners = [Scripted("a", []), Scripted("b", [], fail=6, error=KeyError)]
    with pytest.raises(KeyError):
        turns(runners, 10)
    assert [runner.closed for runner in runners] == [1, 1]


class ScriptedMeter:
    """Each reading is 3 joules after the one before."""

    def __init__(self):
        self.count = 0

    def read(self):
        self.count += 3_000_000
        return (self.count,)

    def joules(self, before, after):
        return (after[0] - before[0]) / 1e6


def test_energy_counts_every_run_of_the_turns():
    """Two turns of 3 J each, of 6 runs each: 500 mJ a run."""
    [one] = turns([Scripted("a", [])], 10, ScriptedMeter())
    assert one.energy_mj == pytest.approx(500)


def powercap(root, **counters):
    for name, (energy, most) in counters.items():
        folder = root / name.replace("_", "-").replace("-c", ":")
        folder.mkdir()
        (folder / "energy_uj").write_text(f"{energy}\n")
        (folder / "max_energy_range_uj").write_text(f"{most}\n")


def test_the_meter_adds_packages_and_goes_round(tmp_path):
    powercap(tmp_path, intel_rapl_c0=(900, 1000), intel_rapl_c1=(5, 1000))
    powercap(tmp_path, intel_rapl_c0_c0=(1, 1000))  # a part of the first, not to be counted twice
    (tmp_path / "intel-rapl").mkdir()
    meter, where = find_meter(tmp_path)
    before = meter.read()
    assert before == (900, 5)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100\n")  # 200 later, once round
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("55\n")
    assert meter.joules(before, meter.read()) == pytest.approx(250e-6)
    assert "intel-rapl:0, intel-rapl:1" in where


def test_no_meter(tmp_path):
    assert find_meter(tmp_path / "none") == (None, "no meter")
    assert find_meter(tmp_path) == (None, "no meter")
    (tmp_path / "intel-rapl:0").mkdir()
    assert find_meter(tmp_path) == (None, "no meter")


def test_a_meter_for_root_only(tmp_path, monkeypatch):
    powercap(tmp_path, intel_rapl_c0=(1, 1000))
    import pathlib

    read = pathlib.Path.read_text

    def refuse(path, *arguments):
        if path.name == "energy_uj":
            raise PermissionError(path)
        return read(path, *arguments)

    monkeypatch.setattr(pathlib.Path, "read_text", refuse)
    meter, why = find_meter(tmp_path)
    assert meter is None
    assert why.startswith("no meter that this user may read")
