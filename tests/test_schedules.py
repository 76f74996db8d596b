"""When to prune and how much, by values worked out by hand."""

import json
import math
import pathlib
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfprune import schedules
from tfprune.schedules import (
    ConstantSparsity,
    FunctionSchedule,
    Gradual,
    Iterative,
    OneShot,
    PolynomialDecay,
    PruningSchedule,
)

quick = settings(max_examples=50, deadline=None, derandomize=True)


# -- PolynomialDecay -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "sparsity"),
    [
        (0, 0.5),  # 0.8 - 0.3 * 1
        (100, 0.5813),  # 0.8 - 0.3 * 0.9**3 = 0.8 - 0.3 * 0.729
        (500, 0.7625),  # 0.8 - 0.3 * 0.125
        (900, 0.7997),  # 0.8 - 0.3 * 0.001
        (1000, 0.8),
        (5000, 0.8),
    ],
)
def test_polynomial_decay_is_cubic(step, sparsity):
    schedule = PolynomialDecay(0.5, 0.8, begin_step=0, end_step=1000)
    assert schedule(step)[1] == pytest.approx(sparsity, abs=1e-12)
    assert schedule.sparsity(step) == schedule(step)[1]


def test_polynomial_decay_counts_from_begin_step_and_is_flat_before_it():
    schedule = PolynomialDecay(0.2, 0.6, begin_step=100, end_step=300, power=1)
    assert [schedule.sparsity(t) for t in (0, 100, 150, 200, 300, 301)] == pytest.approx(
        [0.2, 0.2, 0.3, 0.4, 0.6, 0.6], abs=1e-12
    )


@pytest.mark.parametrize(("power", "halfway"), [(1, 0.4), (2, 0.6), (3, 0.7), (0.5, 0.234314575)])
def test_the_power_bends_the_curve(power, halfway):
    # 0.8 * (1 - 0.5 ** power)
    schedule = PolynomialDecay(0.0, 0.8, 0, 1000, power=power)
    assert schedule.sparsity(500) == pytest.approx(halfway, abs=1e-9)


def test_polynomial_decay_may_fall():
    schedule = PolynomialDecay(0.8, 0.5, 0, 100, power=1)
    assert schedule.sparsity(50) == pytest.approx(0.65)
    assert schedule.final_sparsity == 0.5


def test_polynomial_decay_ends_at_exactly_its_target():
    for final in (0.1, 0.3, 0.7, 0.9, 0.98):
        assert PolynomialDecay(0.05, final, 3, 1003).sparsity(1003) == final


def test_defaults_are_those_of_tfmot():
    polynomial = PolynomialDecay(0.1, 0.9, 0, 10)
    assert (polynomial.power, polynomial.frequency) == (3, 100)
    constant = ConstantSparsity(0.5, 7)
    assert (constant.end_step, constant.frequency) == (-1, 100)


# -- When an update is due -------------------------------------------------------------------------


def fires(schedule, steps):
    return [step for step in steps if schedule(step)[0]]


def test_updates_at_both_ends_even_if_the_frequency_does_not_divide_the_range():
    schedule = PolynomialDecay(0.0, 0.5, begin_step=10, end_step=65, frequency=20)
    assert fires(schedule, range(200)) == [10, 30, 50, 65]


def test_a_frequency_longer_than_the_range_leaves_the_two_ends():
    assert fires(PolynomialDecay(0.0, 0.5, 0, 64), range(500)) == [0, 64]


def test_a_frequency_that_divides_the_range_gives_the_end_once():
    assert fires(ConstantSparsity(0.5, 0, end_step=30, frequency=10), range(99)) == [0, 10, 20, 30]


def test_endless_updates():
    schedule = ConstantSparsity(0.5, begin_step=5, frequency=10)
    assert fires(schedule, range(40)) == [5, 15, 25, 35]
    assert schedule.update_between(10**9, 10**9 + 10) == 10**9 + 5
    assert schedule(10**9 + 5) == (True, 0.5)


@pytest.mark.parametrize(
    ("after", "step", "due"),
    [
        (-1, 0, None),  # before begin
        (-1, 9, None),
        (-1, 10, 10),  # begin itself
        (9, 10, 10),
        (10, 10, None),  # seen already
        (10, 29, None),
        (10, 30, 30),
        (29, 31, 30),  # crossed, not hit
        (-1, 31, 30),  # two crossed: the last counts
        (30, 60, 50),
        (50, 64, None),
        (50, 65, 65),  # end, off the grid
        (50, 1000, 65),  # end crossed by a jump
        (-1, 1000, 65),
        (64, 66, 65),
        (65, 66, None),
        (65, 1000, None),
        (200, 100, None),  # nothing in an empty interval
    ],
)
def test_update_between_at_every_edge(after, step, due):
    schedule = PolynomialDecay(0.0, 0.5, begin_step=10, end_step=65, frequency=20)
    assert schedule.update_between(after, step) == due


@quick
@given(
    begin=st.integers(0, 40),
    length=st.integers(1, 60),
    frequency=st.integers(1, 70),
    endless=st.booleans(),
    after=st.integers(-1, 120),
    jump=st.integers(0, 50),
)
def test_update_between_finds_the_last_step_at_which_the_schedule_fires(
    begin, length, frequency, endless, after, jump
):
    end = -1 if endless else begin + length
    schedule = ConstantSparsity(0.5, begin, end, frequency)
    fired = fires(schedule, range(after + 1, after + jump + 1))
    assert schedule.update_between(after, after + jump) == (fired[-1] if fired else None)


@quick
@given(
    begin=st.integers(0, 30),
    length=st.integers(1, 100),
    frequency=st.integers(1, 40),
    jumps=st.lists(st.integers(1, 25), min_size=20, max_size=40),
)
def test_a_loop_that_jumps_ends_with_the_last_update(begin, length, frequency, jumps):
    schedule = PolynomialDecay(0.1, 0.9, begin, begin + length, frequency=frequency)
    step, last = 0, schedule.update_between(-1, 0)
    for jump in [*jumps, begin + length]:
        due = schedule.update_between(step, step + jump)
        step += jump
        assert due is None or last is None or due > last
        last = due if due is not None else last
    assert last == begin + length
    assert schedule.sparsity(last) == 0.9


# -- OneShot, Iterative ----------------------------------------------------------------------------


def test_one_shot_fires_once():
    schedule = OneShot(0.8, step=1000)
    assert fires(schedule, range(3000)) == [1000]
    assert schedule(1000) == (True, 0.8)
    assert schedule.final_sparsity == 0.8
    between = schedule.update_between
    assert [between(998, 999), between(999, 1000), between(0, 5000), between(1000, 5000)] == [
        None,
        1000,
        1000,
        None,
    ]


def test_one_shot_before_training():
    assert OneShot(0.5).update_between(-1, 0) == 0
    assert OneShot(0.5).update_between(0, 100) is None


def test_iterative_climbs_a_stair():
    schedule = Iterative([0.1, 0.3, 0.5], every=20, begin_step=10)
    assert fires(schedule, range(200)) == [10, 30, 50]
    assert [schedule.sparsity(t) for t in (0, 10, 29, 30, 49, 50, 999)] == [
        *(0.1, 0.1, 0.1),
        *(0.3, 0.3),
        *(0.5, 0.5),
    ]
    assert (schedule.final_sparsity, schedule.end_step) == (0.5, 50)
    assert schedule.update_between(10, 1000) == 50
    assert schedule.update_between(10, 49) == 30


def test_iterative_with_one_cut():
    schedule = Iterative([0.4], every=5, begin_step=3)
    assert fires(schedule, range(50)) == [3]
    assert schedule.update_between(-1, 50) == 3
    assert schedule.update_between(3, 50) is None


@pytest.mark.parametrize("kind", [list, tuple, np.array, iter])
def test_iterative_takes_any_sequence_of_numbers(kind):
    schedule = Iterative(kind([0.1, 0.2]), every=10)
    assert schedule.sparsities == (0.1, 0.2)
    assert all(type(s) is float for s in schedule.sparsities)


# -- FunctionSchedule ------------------------------------------------------------------------------


def test_a_function_is_tabulated_at_its_update_steps():
    asked = []

    def function(step):
        asked.append(step)
        return step / 100

    schedule = FunctionSchedule(function, end_step=55, begin_step=5, frequency=20)
    assert asked == [5, 25, 45, 55]
    assert schedule.table == (0.05, 0.25, 0.45, 0.55)
    assert fires(schedule, range(200)) == [5, 25, 45, 55]
    assert [schedule.sparsity(t) for t in (0, 5, 24, 25, 45, 54, 55, 200)] == [
        *(0.05, 0.05, 0.05),
        *(0.25, 0.45, 0.45),
        *(0.55, 0.55),
    ]
    assert schedule.final_sparsity == 0.55
    assert len(asked) == 4  # never called again


def test_a_cosine():
    cosine = FunctionSchedule(lambda t: 0.4 * (1 - math.cos(math.pi * t / 1000)), 1000)
    assert cosine(500) == (True, pytest.approx(0.4))
    assert cosine.final_sparsity == pytest.approx(0.8)


def test_a_function_may_return_numpy_scalars():
    schedule = FunctionSchedule(lambda t: np.asarray(0.5, "float64"), 100)
    assert schedule.table == (0.5, 0.5)
    assert all(type(s) is float for s in schedule.table)


def test_a_function_schedule_goes_through_a_config_as_numbers():
    schedule = FunctionSchedule(lambda t: t / 1000, 250, begin_step=50, frequency=100)
    config = json.loads(json.dumps(schedule.get_config()))
    assert config == {
        "class_name": "FunctionSchedule",
        "config": {
            "function": [0.05, 0.15, 0.25],
            "end_step": 250,
            "begin_step": 50,
            "frequency": 100,
        },
    }
    assert schedules.get(config) == schedule


# -- Configs, equality -----------------------------------------------------------------------------

EXAMPLES = [
    ConstantSparsity(0.5, 0),
    ConstantSparsity(0.25, 10, 90, 20),
    PolynomialDecay(0.1, 0.9, 5, 500, power=2, frequency=7),
    OneShot(0.7, 30),
    Iterative([0.1, 0.2, 0.4], every=10, begin_step=2),
    FunctionSchedule(lambda t: t / 1000, 500),
]


@pytest.mark.parametrize("schedule", EXAMPLES, ids=lambda s: type(s).__name__)
def test_config_round_trip(schedule):
    config = json.loads(json.dumps(schedule.get_config()))
    assert sorted(config) == ["class_name", "config"]
    again = schedules.get(config)
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert repr(again) == repr(schedule)
    assert type(schedule).from_config(config["config"]) == schedule
    assert [again(t) for t in range(0, 600, 5)] == [schedule(t) for t in range(0, 600, 5)]


def test_the_config_has_the_form_of_tfmot():
    assert PolynomialDecay(0.5, 0.8, 0, 1000).get_config() == {
        "class_name": "PolynomialDecay",
        "config": {
            "initial_sparsity": 0.5,
            "final_sparsity": 0.8,
            "power": 3,
            "begin_step": 0,
            "end_step": 1000,
            "frequency": 100,
        },
    }


def test_equality():
    assert OneShot(0.5) == OneShot(0.5, 0)
    assert OneShot(0.5) != OneShot(0.6)
    assert OneShot(0.5) != ConstantSparsity(0.5, 0)
    assert OneShot(0.5) != 0.5
    whole, same = PolynomialDecay(0, 0.5, 0, 9, power=3), PolynomialDecay(0, 0.5, 0, 9, power=3.0)
    assert whole == same
    assert hash(whole) == hash(same)


def test_a_number_is_a_constant_sparsity():
    assert schedules.get(0.5) == ConstantSparsity(0.5, 0)
    assert schedules.get(np.float64(0.5)) == ConstantSparsity(0.5, 0)
    schedule = OneShot(0.5)
    assert schedules.get(schedule) is schedule


# -- Numbers of all kinds --------------------------------------------------------------------------


def test_numpy_integers_and_whole_floats_are_steps():
    end = np.ceil(1000 / 32) * 4  # as in tfmot's guides: a float
    schedule = PolynomialDecay(0.5, 0.8, np.int64(0), end, frequency=np.int32(10))
    assert (schedule.begin_step, schedule.end_step, schedule.frequency) == (0, 128, 10)
    steps = (schedule.begin_step, schedule.end_step, schedule.frequency)
    assert {type(v) for v in steps} == {int}
    assert fires(schedule, range(100, 200)) == [100, 110, 120, 128]
    assert OneShot(0.5, step=np.float32(7)).begin_step == 7
    assert Iterative([0.1, 0.2], every=np.ceil(4.2)).end_step == 5
    assert ConstantSparsity(0.5, 0, end_step=-1.0).end_step == -1
    assert ConstantSparsity(0.5, 0, end_step=np.int64(-1)).end_step == -1


def test_numbers_of_numpy_end_up_plain_so_that_configs_are_json():
    schedule = PolynomialDecay(
        np.float32(0.5), np.float64(0.75), np.int8(0), np.int64(100), power=np.float32(2)
    )
    assert json.loads(json.dumps(schedule.get_config()))["config"]["power"] == 2.0
    schedule = PolynomialDecay(0.5, 0.75, 0, 100, power=np.int64(2))
    assert json.loads(json.dumps(schedule.get_config()))["config"]["power"] == 2


def test_fractions_are_sparsities():
    assert OneShot(Fraction(3, 4)).final_sparsity == 0.75
    assert OneShot(0).final_sparsity == 0.0


# -- A schedule of one's own -----------------------------------------------------------------------


class LinearToTarget(PruningSchedule):
    """As tfmot's documentation has it: `__call__` and `get_config`, nothing else."""

    def __init__(self, final, end_step):
        self.final_sparsity, self.end_step = final, end_step

    def __call__(self, step):
        done = min(1.0, step / self.end_step)
        return step % 100 == 0 or step == self.end_step, self.final_sparsity * done

    def get_config(self):
        return {
            "class_name": "LinearToTarget",
            "config": {"final": self.final_sparsity, "end_step": self.end_step},
        }


class EveryTen(PruningSchedule):
    """Uses the helper that tfmot's own schedules use, and says its steps."""

    def __init__(self, begin_step=0, end_step=45):
        self.begin_step, self.end_step, self.frequency = begin_step, end_step, 10

    def __call__(self, step):
        fires = self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)
        return fires, 0.5

    def get_config(self):
        config = {"begin_step": self.begin_step, "end_step": self.end_step}
        return {"class_name": "EveryTen", "config": config}


def test_a_custom_schedule_without_steps_is_asked_step_by_step():
    schedule = LinearToTarget(0.8, 250)
    assert schedule.final_sparsity == 0.8
    assert schedule.update_between(-1, 0) == 0
    assert schedule.update_between(0, 99) is None
    assert schedule.update_between(0, 240) == 200
    assert schedule.update_between(200, 260) == 250
    assert schedule.sparsity(125) == pytest.approx(0.4)


def test_a_custom_schedule_that_says_its_steps():
    schedule = EveryTen()
    assert schedule.final_sparsity is None
    assert fires(schedule, range(100)) == [0, 10, 20, 30, 40, 45]
    assert schedule.update_between(40, 100) == 45
    endless = EveryTen(begin_step=3, end_step=-1)
    assert endless.update_between(0, 100) == 93
    assert fires(endless, range(90, 110)) == [93, 103]


@pytest.mark.parametrize("schedule", [LinearToTarget(0.8, 250), EveryTen(5)])
def test_a_custom_schedule_is_found_again_by_its_name(schedule):
    config = json.loads(json.dumps(schedule.get_config()))
    assert schedules.get(config) == schedule
    assert repr(schedule).startswith(f"{type(schedule).__name__}(")


def test_the_final_sparsity_of_a_custom_schedule_is_checked():
    with pytest.raises(ValueError, match=r"`final_sparsity`.*Received: final_sparsity=1.5"):
        LinearToTarget(1.5, 100)


def test_the_base_class_has_no_instances():
    with pytest.raises(TypeError, match="abstract"):
        PruningSchedule()


# -- Bad input -------------------------------------------------------------------------------------

BAD_SPARSITIES = [1.0, 1, 1.5, -0.1, 80, math.nan, math.inf, -math.inf, "0.5", None, True, [0.5]]
BAD_SPARSITIES += [Fraction(10**20 - 1, 10**20)]  # below 1, but 1.0 as a float


@pytest.mark.parametrize(
    "value", [*BAD_SPARSITIES, np.float32("nan"), 10**400, -(10**400)], ids=lambda v: repr(v)[:9]
)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("target_sparsity", lambda v: ConstantSparsity(v, 0)),
        ("initial_sparsity", lambda v: PolynomialDecay(v, 0.5, 0, 10)),
        ("final_sparsity", lambda v: PolynomialDecay(0.5, v, 0, 10)),
        ("sparsity", OneShot),
        (r"sparsities\[1\]", lambda v: Iterative([0.1, v], 10)),
        ("sparsity at step 0", lambda v: FunctionSchedule(lambda t: v, 10)),
    ],
)
def test_a_sparsity_outside_0_1_is_refused_by_name(name, make, value):
    with pytest.raises(
        ValueError, match=rf"`{name}` must be a sparsity.*\[0, 1\).*Received: {name}="
    ):
        make(value)


@pytest.mark.parametrize(
    "value", [-1, -2, 0.5, math.nan, math.inf, "10", None, True, [1], np.array([1, 2])]
)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("begin_step", lambda v: ConstantSparsity(0.5, v)),
        ("begin_step", lambda v: PolynomialDecay(0.1, 0.5, v, 10)),
        ("begin_step", lambda v: Iterative([0.5], 10, v)),
        ("frequency", lambda v: ConstantSparsity(0.5, 0, frequency=v)),
        ("frequency", lambda v: PolynomialDecay(0.1, 0.5, 0, 10, frequency=v)),
        ("frequency", lambda v: FunctionSchedule(lambda t: 0.5, 10, frequency=v)),
        ("every", lambda v: Iterative([0.5], v)),
        ("step", lambda v: OneShot(0.5, v)),
    ],
)
def test_a_bad_step_is_refused_by_name(name, make, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be a whole number.*Received: {name}="):
        make(value)


@pytest.mark.parametrize("value", [-2, 0.5, math.nan, "10", None, np.array([1, 2])])
@pytest.mark.parametrize(
    "make",
    [
        lambda v: ConstantSparsity(0.5, 0, v),
        lambda v: PolynomialDecay(0.1, 0.5, 0, v),
        lambda v: FunctionSchedule(lambda t: 0.5, v),
    ],
)
def test_a_bad_end_step_is_refused(make, value):
    with pytest.raises(ValueError, match=r"`end_step` must be a whole number.*Received: end_step="):
        make(value)


@pytest.mark.parametrize("frequency", [0, -100])
def test_a_frequency_below_one_is_refused(frequency):
    with pytest.raises(ValueError, match=rf"at least 1\. Received: frequency={frequency}"):
        ConstantSparsity(0.5, 0, frequency=frequency)


@pytest.mark.parametrize(("begin", "end"), [(10, 10), (10, 9), (10, 0), (0, 0)])
@pytest.mark.parametrize(
    "make",
    [
        lambda b, e: ConstantSparsity(0.5, b, e),
        lambda b, e: PolynomialDecay(0.1, 0.5, b, e),
        lambda b, e: FunctionSchedule(lambda t: 0.5, e, b),
    ],
)
def test_an_end_at_or_before_the_begin_is_refused_and_one_shot_offered(make, begin, end):
    message = (
        rf"after `begin_step`.*OneShot\(sparsity, step={begin}\)"
        rf".*Received: begin_step={begin}, end_step={end}"
    )
    with pytest.raises(ValueError, match=message):
        make(begin, end)


@pytest.mark.parametrize(
    "make",
    [lambda: PolynomialDecay(0.1, 0.5, 0, -1), lambda: FunctionSchedule(lambda t: 0.5, -1)],
)
def test_for_ever_is_refused_where_a_schedule_must_arrive(make):
    with pytest.raises(ValueError, match=r"cannot be -1 .*steps_per_epoch.*Received: end_step=-1"):
        make()


@pytest.mark.parametrize("power", [0, -3, math.nan, math.inf, "3", None, True])
def test_a_bad_power_is_refused(power):
    with pytest.raises(ValueError, match=r"`power` must be a positive number.*Received: power="):
        PolynomialDecay(0.1, 0.5, 0, 10, power=power)


@pytest.mark.parametrize("sparsities", [[], (), 0.5, None, iter([]), np.array([])])
def test_iterative_needs_sparsities(sparsities):
    with pytest.raises(ValueError, match=r"at least one sparsity.*Received: sparsities="):
        Iterative(sparsities, 10)


@pytest.mark.parametrize("sparsities", [[0.5, 0.3], [0.3, 0.3], [0.1, 0.5, 0.4]])
def test_iterative_sparsities_rise(sparsities):
    message = r"`sparsities` must rise.*Received: sparsities=\[0"
    with pytest.raises(ValueError, match=message):
        Iterative(sparsities, 10)


def test_a_function_that_leaves_the_range_is_told_the_step():
    with pytest.raises(ValueError, match=r"`sparsity at step 300`.*Received: .*=1.5"):
        FunctionSchedule(lambda t: 1.5 if t == 300 else 0.5, 400)


@pytest.mark.parametrize("value", [np.array([0.1, 0.2]), np.array([0.1]), None, "0.5", b"0.5"])
def test_a_function_that_returns_no_number_is_refused(value):
    with pytest.raises(ValueError, match=r"`sparsity at step 0`.*Received: "):
        FunctionSchedule(lambda t: value, 100)


def test_a_function_that_returns_pairs_is_refused():
    with pytest.raises(ValueError, match=r"`sparsity at step 0`.*Received: .*\(True, 0.5\)"):
        FunctionSchedule(OneShot(0.5), 100)


@pytest.mark.parametrize("function", [0.5, None, OneShot])
def test_a_function_schedule_needs_a_function_or_a_table(function):
    expected = ValueError if not callable(function) else (TypeError, ValueError)
    with pytest.raises(expected, match=r"Received: |sparsity at step"):
        FunctionSchedule(function, 100)


def test_a_table_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"each of the 3 update steps\. Received: 2 values"):
        FunctionSchedule([0.1, 0.2], 200)


def test_an_unknown_class_lists_the_known_ones():
    message = r"Unknown schedule class.*PolynomialDecay.*Received: class_name='Cosine'"
    with pytest.raises(ValueError, match=message):
        schedules.get({"class_name": "Cosine", "config": {}})
    with pytest.raises(ValueError, match=r"Received: class_name=\['OneShot'\]"):
        schedules.get({"class_name": ["OneShot"]})


def test_a_config_that_is_no_dict_is_refused():
    message = r"dict of its arguments: OneShot\(sparsity, step=0\).*Received: config=0.5"
    with pytest.raises(ValueError, match=message):
        schedules.get({"class_name": "OneShot", "config": 0.5})


@pytest.mark.parametrize("value", ["0.5", None, True, [0.5], {}, {"config": {}}])
def test_something_that_is_no_schedule_is_refused(value):
    with pytest.raises(ValueError, match=r"Expected a pruning schedule.*Received: .*\(of type"):
        schedules.get(value)


def test_a_bare_function_is_told_about_function_schedule():
    with pytest.raises(ValueError, match=r"FunctionSchedule\(function, end_step=.*Received: <func"):
        schedules.get(lambda t: 0.5)


def test_arguments_of_names_the_arguments():
    assert schedules.arguments_of("OneShot") == "(sparsity, step=0)"


def test_schedules_need_nothing_but_the_standard_library():
    files = pathlib.Path(schedules.__file__).parent.glob("*.py")
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    imported = {line.split()[1] for line in lines if line.startswith(("import", "from"))}
    foreign = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert foreign
    assert all(name.startswith("tfprune.schedules.") for name in foreign)


class TestGradual:
    def test_over_a_run(self):
        # 1000 steps: three quarters are 750, in 50 updates of 15 steps.
        wanted = PolynomialDecay(0.0, 0.8, begin_step=0, end_step=750, frequency=15)
        assert Gradual(0.8).over(0, 1000) == wanted
        later = PolynomialDecay(0.2, 0.8, begin_step=100, end_step=150, frequency=1)
        assert Gradual(0.8, 0.2, part=0.5).over(100, 200) == later
        assert Gradual(0.8).over(5, 6).end_step == 6

    def test_before_the_run_nothing_is_due(self):
        assert Gradual(0.8, 0.1)(0) == (False, 0.1)
        assert Gradual(0.8).update_between(-1, 1000) is None
        assert Gradual(0.8).final_sparsity == 0.8

    def test_a_run_of_unknown_length(self):
        with pytest.raises(ValueError, match=r"how long this one is.*UpdatePruningStep\(steps"):
            Gradual(0.8).over(0, None)

    @pytest.mark.parametrize("part", [0, 1.5, True, "half", float("nan")])
    def test_part_out_of_range(self, part):
        with pytest.raises(ValueError, match="`part` is the part of the run"):
            Gradual(0.8, part=part)

    def test_other_ends_and_round_trip(self):
        assert schedules.with_final(Gradual(0.8, 0.4), 0.4) == Gradual(0.4, 0.2)
        assert schedules.get(Gradual(0.8, part=0.5).get_config()) == Gradual(0.8, part=0.5)
        assert schedules.get(0.5).over(0, None) == schedules.get(0.5)
