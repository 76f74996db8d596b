"""What is close enough, by hand."""

import numpy as np
import pytest

from tfprune.export.runtime import DEFAULT, XNNPACK_OFF
from tfprune.export.verify import ExportMismatch, compare, doubts, errors

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


# Four samples that vary by 2 around 0 or around something else.
VARYING = np.array([2.0, -2.0, 2.0, -2.0])


def check(offset, difference, quantize="int8", wanted=VARYING):
    """Compare outputs around an offset with others that are off by +-difference."""
    want = [{"y": np.array([[offset + v]])} for v in wanted]
    sign = [1, 1, -1, -1]
    got = [{"y": w["y"] + s * difference} for w, s in zip(want, sign, strict=False)]
    return compare(quantize, want, {name: got for name in (DEFAULT, XNNPACK_OFF)})[0]


@pytest.mark.parametrize("quantize", ["int8", "dynamic"])
@pytest.mark.parametrize("offset", [0.0, 3.0, -15.0])
def test_at_least_half_of_the_variance_must_be_explained(offset, quantize):
    """The same limits whatever the offset: 0.7071 of 2 is 1.4142."""
    assert check(offset, 1.41, quantize)[0].unexplained == pytest.approx(0.705)
    words = r"explains 50% of how Keras's outputs vary.*Nothing was written"
    with pytest.raises(ExportMismatch, match=words):
        check(offset, 1.42, quantize)


@pytest.mark.parametrize("answer", [0.0, 3.0])
def test_a_file_that_always_answers_the_same_is_refused(answer):
    """3 is the mean of the outputs, the best of all constants; 0 is what zeros calibrate to."""
    want = [{"y": np.array([[3 + v]])} for v in VARYING]
    same = [{"y": np.array([[answer]])}] * 4
    with pytest.raises(ExportMismatch, match=r"explains 0%.*calibration data"):
        compare("int8", want, {name: same for name in (DEFAULT, XNNPACK_OFF)})


def test_the_cause_named_depends_on_the_form():
    with pytest.raises(ExportMismatch, match="likely cause is calibration data unlike the inputs"):
        check(0.0, 3.0, "int8")
    with pytest.raises(ExportMismatch, match="do not bear int8: choose quantize='float16'"):
        check(0.0, 3.0, "dynamic")


@pytest.mark.parametrize(("difference", "noted"), [(0.39, False), (0.41, True), (1.41, True)])
def test_a_file_that_follows_roughly_is_noted(difference, noted):
    """0.2 of 2 is 0.4."""
    rows = check(1.0, difference)
    notes = doubts("int8", rows)
    assert len(notes) == noted
    assert all("only roughly" in note and "calibration data" in note for note in notes)
    assert doubts("float16", rows) == doubts(None, rows) == ()


def test_the_worse_runtime_is_noted():
    want = [{"y": np.array([[v]])} for v in VARYING]
    rows = (errors(want, want, DEFAULT), check(0.0, 1.0)[1])
    (note,) = doubts("int8", rows)
    assert XNNPACK_OFF in note
    assert "explains 75%" in note


def test_what_varies_too_little_for_int8_counts_as_a_tenth():
    """Outputs of 100 that vary by 0.1: an error of 1 is ten times that, and a tenth of 10."""
    rows = check(100.0, 1.0, wanted=VARYING / 20)
    assert rows[0].unexplained == pytest.approx(0.1, rel=1e-3)
    with pytest.raises(ExportMismatch):
        check(100.0, 7.2, wanted=VARYING / 20)


@pytest.mark.parametrize(
    "wanted", [VARYING[:3] + 4, np.full(4, 4.0)], ids=["three samples", "all equal"]
)
def test_where_variation_cannot_be_told_the_outputs_themselves_count(wanted):
    row = check(0.0, 1.0, wanted=wanted)[0]
    assert row.unexplained == pytest.approx(row.rms_error, rel=1e-6)


def test_samples_of_different_lengths():
    want = [{"y": np.full((1, n), 2.0)} for n in (1, 2, 3, 4)]
    got = [{"y": w["y"] + 1} for w in want]
    assert errors(want, got, DEFAULT).unexplained == pytest.approx(0.5)


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
