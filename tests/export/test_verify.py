"""What is close enough, by hand."""

import numpy as np
import pytest

from tfprune.export.runtime import DEFAULT, XNNPACK_OFF
from tfprune.export.verify import ExportMismatch, compare, errors

WANT = [{"y": np.array([[4.0, -2.0]])}, {"y": np.array([[1.0, 0.0]])}]


def off_by(*differences):
    return [{"y": w["y"] + d} for w, d in zip(WANT, differences, strict=True)]


def test_errors_by_hand():
    row = errors(WANT, off_by([[0.0, 0.0]], [[0.3, 0.4]]), "default")
    assert row.max_abs_error == pytest.approx(0.4)
    assert row.max_rel_error == pytest.approx(0.1)  # of 4, the largest output of all samples
    assert row.rms_error == pytest.approx(0.5 / np.sqrt(21))


def test_each_output_has_its_own_scale():
    want = [{"large": np.array([1000.0]), "small": np.array([0.01])}]
    got = [{"large": np.array([1000.0]), "small": np.array([0.011])}]
    assert errors(want, got, "default").max_rel_error == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(
    ("quantize", "difference", "passes"),
    [
        (None, 1e-4, True),
        (None, 6e-4, False),  # 1.5e-4 of the largest: a wrong sparse encoding showed 1.7e-4
        ("float16", 1e-2, True),
        ("float16", 4e-2, False),
        ("int8", 1.0, True),
        ("int8", 9.0, False),
        ("dynamic", 9.0, False),
    ],
)
def test_thresholds(quantize, difference, passes):
    outputs = {name: off_by(difference, difference) for name in (DEFAULT, XNNPACK_OFF)}
    if passes:
        rows, apart = compare(quantize, WANT, outputs)
        assert [row.runtime for row in rows] == [DEFAULT, XNNPACK_OFF]
        assert apart.max_abs_error == 0
    else:
        with pytest.raises(ExportMismatch, match="Nothing was written"):
            compare(quantize, WANT, outputs)


@pytest.mark.parametrize("wrong", [DEFAULT, XNNPACK_OFF])
def test_either_runtime_counts(wrong):
    outputs = {name: off_by(0.1 * (name == wrong), 0.0) for name in (DEFAULT, XNNPACK_OFF)}
    with pytest.raises(ExportMismatch, match=f"wrong on the runtime '{wrong}'"):
        compare(None, WANT, outputs)


def test_quantized_runtimes_must_agree():
    outputs = {DEFAULT: off_by(1.0, 1.0), XNNPACK_OFF: off_by(-1.0, -1.0)}
    with pytest.raises(ExportMismatch, match="with and without XNNPACK"):
        compare("int8", WANT, outputs)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_never_passes(value):
    outputs = {name: off_by(0.0, value) for name in (DEFAULT, XNNPACK_OFF)}
    for quantize in (None, "int8"):
        with pytest.raises(ExportMismatch, match="NaN or infinite"):
            compare(quantize, WANT, outputs)


def test_a_missing_or_reshaped_output():
    with pytest.raises(ExportMismatch, match="no output for 'y'"):
        errors(WANT, [{"z": w["y"]} for w in WANT], "default")
    with pytest.raises(ExportMismatch, match=r"shape \(1, 2, 1\)"):
        errors(WANT, [{"y": w["y"][..., None]} for w in WANT], "default")


def test_outputs_that_are_all_zero():
    want = [{"y": np.zeros((1, 3))}]
    same = {name: want for name in (DEFAULT, XNNPACK_OFF)}
    assert compare(None, want, same)[0][0].max_rel_error == 0
    with pytest.raises(ExportMismatch):
        compare(None, want, {name: [{"y": np.full((1, 3), 0.1)}] for name in same})
