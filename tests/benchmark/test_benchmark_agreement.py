"""Errors by hand."""

import numpy as np
import pytest

from tfprune.benchmarking.agreement import max_rel_error, tolerance
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.model import Model
from tfprune.benchmarking.tables import Tensor


def model(*outputs, quantized=False):
    return Model("m", 1, 1, None, 0, (), outputs, quantized, (), ())


FLOAT = Tensor("y", 0, (3,), (3,), "float32")
INT8 = Tensor("q", 1, (2,), (2,), "int8", scale=0.5, zero_point=-10)


def test_the_largest_difference_by_the_largest_value():
    wanted, got = np.array([1.0, -4.0, 2.0]), np.array([1.0, -4.0, 2.5])
    assert max_rel_error(model(FLOAT), [wanted], [got]) == 0.125


def test_tiny_outputs_are_compared_too():
    wanted, got = np.array([1e-12, 2e-12, 0]), np.array([1e-12, 1e-12, 0])
    assert max_rel_error(model(FLOAT), [wanted], [got]) == pytest.approx(0.5)


def test_quantized_values_stand_for_numbers():
    """-10 is 0, -6 is 2, -8 is 1: the error is 1 of 2."""
    wanted, got = np.array([-10, -6], "int8"), np.array([-10, -8], "int8")
    assert max_rel_error(model(INT8), [wanted], [got]) == 0.5


def test_the_worst_output_counts():
    right, wrong = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0])
    assert max_rel_error(model(FLOAT, FLOAT), [right, right], [right, wrong]) == 0.25
    assert max_rel_error(model(FLOAT, FLOAT), [right, right], [wrong, right]) == 0.25


def test_nan_on_one_side_is_infinitely_wrong():
    nan, number = np.array([np.nan, 1, 1]), np.array([0.0, 1, 1])
    assert max_rel_error(model(FLOAT), [number], [nan]) == float("inf")
    assert max_rel_error(model(FLOAT), [nan], [number]) == float("inf")
    assert max_rel_error(model(FLOAT), [nan], [nan]) == 0


def test_zeros_agree_with_zeros():
    assert max_rel_error(model(FLOAT), [np.zeros(3)], [np.zeros(3)]) == 0


@pytest.mark.parametrize("got", [[], [np.zeros(4)]])
def test_other_outputs_fail(got):
    with pytest.raises(FileFailure, match="Received"):
        max_rel_error(model(FLOAT), [np.zeros(3)], got)


def test_tolerances():
    label = Tensor("label", 2, (1,), (1,), "int64")
    assert tolerance(model(FLOAT)) == 5e-5
    assert tolerance(model(INT8, quantized=True)) == 0.25
    assert tolerance(model(FLOAT, quantized=True)) == 0.25
    assert tolerance(model(FLOAT, label)) is None
