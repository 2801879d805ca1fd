"""What is counted of the answers on the sets of every modality."""

from __future__ import annotations

import pytest

from bundle.evaluation.set_scores import BOX, CLICKS, restricted, rounds_of, scores_of


def record(organ: str, key: str, protocol: str, step: int, score: float, patient: str = "p") -> dict:
    return {
        "organ": organ,
        "key": key,
        "case": patient,
        "protocol": protocol,
        "step": step,
        "dsc": score,
        "nsd": score / 2,
        "iou": score,
        "predicted_iou": 0.9,
    }


def clicked(organ: str, key: str, *scores: float) -> list[dict]:
    return [record(organ, key, CLICKS, step, score) for step, score in enumerate(scores)]


def test_a_model_beside_is_counted_on_the_same_sets():
    records = [record(organ, "x", BOX, 0, score) for organ, score in (("a", 0.4), ("b", 0.8))]
    records += [record(organ, "x", CLICKS, step, 0.5) for organ in "ab" for step in (0, 3)]
    scores = restricted(scores_of(records), ["b"])
    assert list(scores["sets"]) == ["b"] and scores["macro"]["box"]["dsc"] == pytest.approx(0.8)


def test_an_object_that_needed_no_more_corrections_keeps_its_last_scores():
    records = [record("a", key, BOX, 0, 0.8) for key in ("x", "y")]
    records += clicked("a", "x", 0.2, 0.4, 0.6, 0.8) + clicked("a", "y", 0.4, 1.0)
    scores = scores_of(records)
    assert scores["sets"]["a"]["objects"] == 2
    assert (scores["sets"]["a"]["point"]["dsc"], scores["sets"]["a"]["point"]["nsd"]) == pytest.approx((0.3, 0.15))
    assert scores["macro"]["corrected"]["dsc"] == pytest.approx(0.9)
    assert scores["expected"]["box"]["mae"] == pytest.approx(0.1)


def test_a_patient_with_many_objects_counts_once_among_patients():
    records = [record("a", key, BOX, 0, 1.0, "first") for key in ("x", "y", "z")]
    records.append(record("a", "u", BOX, 0, 0.2, "second"))
    scores = scores_of(records)
    assert scores["sets"]["a"] | {"box": None} == {"objects": 4, "patients": 2, "box": None}
    assert scores["sets"]["a"]["box"]["dsc"] == pytest.approx(0.8)
    assert scores["macro"]["box"]["of_patients"] == pytest.approx({"dsc": 0.6, "nsd": 0.3})


def test_of_the_box_alone_no_clicks_are_counted():
    scores = scores_of([record("a", "x", BOX, 0, 0.5)])
    assert list(scores["macro"]) == ["box"] and scores["rounds"] is None


def test_every_round_is_counted_and_what_corrections_have_harmed_is_listed():
    records = clicked("a", "x", 0.5, 0.6, 0.7, 0.8) + clicked("a", "y", 0.9, 1.0)
    records += clicked("c", "w", 0.9, 0.85)  # 0.05 less, which is not more than that
    records += clicked("b", "z", 0.4, 0.6, 0.3, 0.3) + clicked("b", "u", 0.5, 0.4, 0.3, 0.45)
    found = rounds_of(records)
    assert found["macro"] == pytest.approx(
        [(0.7 + 0.45 + 0.9) / 3, (0.8 + 0.5 + 0.85) / 3, (0.85 + 0.3 + 0.85) / 3, (0.9 + 0.375 + 0.85) / 3]
    )
    assert found["objects"] == 5
    assert found["harmed"] == [{"object": "z", "set": "b", "before": 0.4, "after": 0.3}]
