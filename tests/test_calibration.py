"""Predicted IoU against true IoU."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.evaluation.calibration import ALL_PROTOCOLS, calibrate, calibration_rows

SHARES = st.floats(0, 1)


def answers(pairs, protocol="box"):
    return [{"predicted_iou": predicted, "iou": reached, "protocol": protocol} for predicted, reached in pairs]


@given(st.lists(SHARES, min_size=1, max_size=30))
def test_a_model_that_knows_its_answers_is_calibrated(reached):
    found = calibrate(answers([(value, value) for value in reached]))
    assert found.mae == 0 and found.ece == pytest.approx(0)
    assert sum(part.answers for part in found.bins) == len(reached)


@given(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=30))
def test_the_error_of_bins_is_never_above_the_error_of_answers(pairs):
    found = calibrate(answers(pairs))
    assert found.ece <= found.mae + 1e-9
    assert all(part.low - 1e-9 <= part.predicted <= part.high + 1e-9 for part in found.bins)


def test_the_errors_are_those_of_a_calculation_by_hand():
    """Two answers in the bin from 0.8 to 0.9, one in the last: 2/3 of |0.85 - 0.6| and 1/3 of |0.95 - 0.95|."""
    found = calibrate(answers([(0.82, 0.7), (0.88, 0.5), (0.95, 0.95)]))
    assert found.mae == pytest.approx((0.12 + 0.38) / 3)
    assert found.ece == pytest.approx(2 / 3 * 0.25)
    assert [part.answers for part in found.bins] == [2, 1]


def test_a_constant_guess_at_the_mean_has_no_bin_error_and_no_rank_correlation():
    found = calibrate(answers([(0.6, 0.4), (0.6, 0.8)]))
    assert found.ece == pytest.approx(0) and found.rank_correlation is None


def test_an_estimate_beyond_one_falls_into_the_last_bin():
    found = calibrate(answers([(1.2, 0.9), (-0.1, 0.0)]))
    assert [(part.low, part.answers) for part in found.bins] == [(0.0, 1), (0.9, 1)]
    assert found.mae == pytest.approx(0.2)


def test_worse_answers_that_are_expected_to_be_worse_have_a_rank_correlation_of_one():
    reached = np.linspace(0.1, 0.9, 5)
    assert calibrate(answers(zip(reached / 2, reached, strict=True))).rank_correlation == pytest.approx(1)


def test_a_run_of_several_protocols_is_calibrated_as_a_whole_and_by_protocol():
    both = answers([(0.5, 0.5)]) + answers([(0.9, 0.7)], "points_1")
    rows = calibration_rows({"a": both, "b": answers([(None, 0.3)])})
    assert [(row["run"], row["protocol"], row["answers"]) for row in rows] == [
        ("a", ALL_PROTOCOLS, 2),
        ("a", "box", 1),
        ("a", "points_1", 1),
    ]
