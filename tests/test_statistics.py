"""Means with intervals, paired comparisons, and curves over clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from bundle.evaluation.statistics import (
    MACRO,
    StatisticsError,
    case_means,
    click_auc,
    compare,
    curve,
    interactions_to,
    summarise,
)


def records(values, organ="liver"):
    return [{"organ": organ, "case": f"p{n}", "dsc": value} for n, value in enumerate(values)]


def test_slices_of_one_patient_count_once():
    many = [*records([0.0]), *[{"organ": "liver", "case": "p1", "dsc": 1.0}] * 9]
    liver, macro = summarise(many)
    assert liver.mean == macro.mean == 0.5 and liver.cases == 2


def test_the_macro_mean_gives_each_organ_the_same_weight():
    rows = summarise([*records([0.9] * 8), *records([0.5, 0.5], "pancreas")])
    assert [row.organ for row in rows] == ["liver", "pancreas", MACRO]
    assert rows[-1].mean == pytest.approx(0.7)


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(0.8, 0.05, 100)
    liver, _ = summarise(records(values))
    half = 1.96 * values.std(ddof=1) / 10
    assert (liver.low, liver.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.003)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(0, 99))
def test_an_interval_lies_around_its_mean_and_a_seed_decides_it(values, seed):
    liver, macro = summarise(records(values), seed=seed)
    assert min(values) - 1e-9 <= liver.low <= liver.high <= max(values) + 1e-9
    assert macro == summarise(records(values), seed=seed)[-1]


def test_an_organ_of_one_patient_only_does_not_spoil_the_macro_mean():
    rows = summarise([*records([0.9, 0.8, 0.7]), {"organ": "gallbladder", "case": "p0", "dsc": 0.1}])
    assert all(np.isfinite([row.low, row.high]).all() for row in rows)


def test_unknown_scores_are_left_out():
    assert case_means(records([0.5, None, float("nan")]), "dsc") == {"liver": {"p0": 0.5}}
    with pytest.raises(StatisticsError, match="'dsc'"):
        summarise(records([None]))


def test_a_model_that_is_better_for_every_patient_is_significantly_better():
    before = np.linspace(0.5, 0.8, 12)
    liver, macro = compare(records(before), records(before + 0.05))
    assert liver.difference == pytest.approx(0.05) and liver.low > 0
    # The smallest p that the exact signed-rank test can give with 12 pairs.
    assert liver.p_value == pytest.approx(2 / 2**12)
    assert macro.organ == MACRO and macro.after == pytest.approx(liver.after)


def test_a_model_does_not_differ_from_itself():
    (row, _) = compare(records([0.4, 0.6]), records([0.4, 0.6]))
    assert (row.difference, row.p_value) == (0, 1)


def test_models_that_saw_different_patients_are_not_compared():
    with pytest.raises(StatisticsError, match="same patients"):
        compare(records([0.4, 0.6]), records([0.4]))


def test_the_macro_mean_before_and_after_is_that_of_the_scores():
    """Three patients of one organ and one of another, as far apart as organ means and patients' means can be."""
    before = [*records([0.2, 0.4, 0.3]), *records([0.7], "aorta")]
    after = [*records([0.5, 0.4, 0.3]), *records([0.6], "aorta")]
    *_, macro = compare(before, after, seed=3)
    for value, run in ((macro.before, before), (macro.after, after)):
        assert value == pytest.approx(summarise(run)[-1].mean)
    assert macro.difference == pytest.approx(macro.after - macro.before) == pytest.approx(0.0)
    assert macro.cases == 3


def test_differences_and_scores_have_one_bootstrap():
    """Against a model that scores 0, the difference is the score, interval and all."""
    rng = np.random.default_rng(0)
    after = [*records(rng.uniform(0.5, 0.9, 9)), *records(rng.uniform(0.3, 0.6, 4), "pancreas")]
    differences = compare([{**record, "dsc": 0.0} for record in after], after, seed=5)
    for row, summary in zip(differences, summarise(after, seed=5), strict=True):
        assert (row.difference, row.low, row.high) == pytest.approx((summary.mean, summary.low, summary.high))


def test_the_macro_test_is_over_patients_and_each_patients_organs():
    before = [*records([0.2, 0.4, 0.3, 0.5]), *records([0.6, 0.6], "aorta")]
    after = [*records([0.4, 0.5, 0.5, 0.6]), *records([0.5, 0.9], "aorta")]
    assert compare(before, after)[-1].p_value == pytest.approx(wilcoxon([0.05, 0.2, 0.2, 0.1]).pvalue)


def test_a_curve_that_stopped_early_keeps_its_last_score():
    assert curve([0.5, 0.9], 4).tolist() == [0.5, 0.9, 0.9, 0.9]
    assert curve([0.5, 0.9, 1.0], 2).tolist() == [0.5, 0.9]


def test_interactions_are_counted_until_the_target():
    assert interactions_to([0.5, 0.91, 0.7], 0.9, cap=20) == 2
    assert interactions_to([0.5, 0.6], 0.9, cap=20) == 20


def test_the_area_over_five_clicks_goes_up_to_four():
    assert click_auc([1, 1, 1, 1, 1]) == 4
    assert click_auc([0, 0, 0, 0, 1]) == 0.5
    with pytest.raises(StatisticsError, match="5 clicks"):
        click_auc([1, 1])
