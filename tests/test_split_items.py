"""Training, validation, test and folds are made of whole patients."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.data.splits import SPLITS, SplitError, check_disjoint, k_folds, split_items

PATIENTS = st.lists(st.integers(0, 30).map(str), min_size=1, max_size=60)


@given(PATIENTS, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_no_patient_stands_in_two_splits(patients, seed):
    items = [{"patient": patient, "n": n} for n, patient in enumerate(patients)]
    splits = split_items(items, seed=seed)
    homes = [{item["patient"] for item in splits[name]} for name in SPLITS]
    assert sum(map(len, homes)) == len(set(patients)) == len(set.union(*homes))
    assert sorted(item["n"] for part in splits.values() for item in part) == list(range(len(items)))
    assert splits == split_items(items, seed=seed)
    if len(set(patients)) >= 3:
        assert all(homes)


@given(PATIENTS.filter(lambda patients: len(set(patients)) >= 4), st.integers(2, 4), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_each_patient_validates_in_exactly_one_fold(patients, k, seed):
    items = [{"patient": patient} for patient in patients]
    folds = k_folds(items, k=k, seed=seed)
    validating = [patient for fold in folds for patient in {item["patient"] for item in fold["validation"]}]
    assert sorted(validating) == sorted(set(patients))
    for fold in folds:
        check_disjoint(fold)


def test_patients_of_a_test_split_stand_in_no_fold():
    items = [{"patient": patient, "split": split} for patient, split in zip("abcd", [*SPLITS, "training"], strict=True)]
    for fold in k_folds([*items, {"patient": "c"}], k=2):
        assert {item["patient"] for part in fold.values() for item in part} == {"a", "b", "d"}


def test_ten_patients_split_eight_one_one():
    splits = split_items([{"patient": str(n)} for n in range(10)])
    assert [len(splits[name]) for name in SPLITS] == [8, 1, 1]


def test_splits_that_cannot_be_are_refused():
    items = [{"patient": "x", "split": "training"}, {"patient": "x", "split": "test"}]
    with pytest.raises(SplitError, match="patient x stands in training and in test"):
        split_items(items)
    with pytest.raises(SplitError, match="sum to 1"):
        split_items([{"patient": "x"}], fractions=(0.5, 0.1, 0.1))
    with pytest.raises(SplitError, match="number of patients"):
        k_folds([{"patient": "x"}, {"patient": "y"}], k=3)
