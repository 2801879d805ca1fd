"""What a network that has learnt answers, beside the one from before."""

from __future__ import annotations

import pytest

from bundle.evaluation.learning_table import gate_table, learning_rows, learning_table, loop_table, settings_table
from bundle.evaluation.statistics import StatisticsError


def played(structure: str, patient: str, prompt: str, *dsc: float) -> dict:
    scores = [{"dsc": value, "nsd": value / 2} for value in dsc]
    return {"structure": structure, "patient": patient, "prompt": prompt, "scores": scores}


BEFORE = [
    *(played("liver", "a", "box", 0.8), played("liver", "b", "box", 0.9)),
    *(played("liver", "a", "clicks", 0.6, 0.7, 0.8), played("liver", "b", "clicks", 0.8, 0.95)),
]
AFTER = [
    *(played("liver", "a", "box", 0.9), played("liver", "b", "box", 0.94)),
    *(played("liver", "a", "clicks", 0.7, 0.91), played("liver", "b", "clicks", 0.92)),
]


def test_scores_are_means_of_first_answers_and_clicks_are_counted_to_the_target():
    first, last = learning_rows({"before": [BEFORE], "1 label": [AFTER]})
    assert first["dsc_box"] == pytest.approx(0.85) and first["dsc_point"] == pytest.approx(0.7)
    assert first["nsd_box"] == pytest.approx(0.425) and first["objects"] == 2
    assert (first["clicks"], first["never"]) == (3.0, 0.5)  # 4 (3 and one more) and 2
    assert (last["clicks"], last["never"]) == (1.5, 0.0)


def test_the_change_is_that_of_the_patients_over_box_and_point():
    first, last = learning_rows({"before": [BEFORE], "1 label": [AFTER]})
    assert first["change"] == [0, 0, 0]
    assert last["change"] == pytest.approx([0.09, 0.08, 0.1])  # a gains 0.1, b 0.08


def test_of_more_trainings_the_mean_is_told_and_the_change_of_each():
    _, last = learning_rows({"before": [BEFORE], "1 label": [AFTER, BEFORE]})
    assert last["objects"] == 2 and last["dsc_box"] == pytest.approx(0.885) and last["clicks"] == 2.25
    assert last["change"] == pytest.approx([0.045, 0.04, 0.05])  # the half of 0.1 and of 0.08: one gained nothing
    assert last["changes"] == pytest.approx([0.09, 0.0])


def test_networks_that_were_asked_other_things_are_not_compared():
    with pytest.raises(StatisticsError, match="same patients"):
        learning_rows({"before": [BEFORE], "1 label": [AFTER[:1]]})


def test_the_tables_say_what_is_lost_and_why_the_gate_refused():
    text = learning_table({"rows": learning_rows({"before": [AFTER], "1 label": [BEFORE, AFTER]})}).as_markdown()
    assert "-0.045 [-0.050, -0.040] |    -0.090 +0.000" in text and "25%" in text
    scores = {"before": 0.9, "after": 0.8}
    gate = {"network": "5 labels", "accepted": False, "reasons": ["DSC of liver fell"], "share": 0.25, "steps": 40}
    gate["seed"] = 2
    text = gate_table({"gate": [{**gate, "dsc": scores, "nsd": scores, "box": 0.64, "shape": 0.73}]}).as_markdown()
    assert "refused: DSC of liver fell" in text and "0.900 to 0.800" in text and "25%" in text
    assert "0.640 |      0.730" in text


def test_settings_are_shown_by_what_each_changed_in_a_box_and_from_a_point():
    run = {"setting": "`lora`", "steps": 40, "share": 0.5, "dsc": {"liver": {"box": 0.93, "point": 0.74}}}
    table = settings_table({"before": {"liver": {"box": 0.9, "point": 0.75}}, "runs": [run]})
    assert table.columns[-1] == "liver" and table.rows == [["`lora`", "40", "50%", "+0.030 / -0.010"]]


def test_a_round_says_what_came_of_each_label():
    sample = {"image": "a", "reason": "drawn at random"}
    trained = {**sample, "training": "DONE", "dsc": 0.81}
    rounds = [
        {**trained, "version": 1, "gate_dsc": {"before": 0.7, "after": 0.75}},
        {**trained, "version": None, "gate_reasons": ["DSC of liver fell", "DSC of aorta fell"]},
        {**trained, "version": None, "training": "ERROR"},
        sample,
    ]
    rows = loop_table({"dsc_before": 0.8, "rounds": rounds}).rows
    assert rows[0] == ["0", "", "", "", "0.800"]
    assert [row[3] for row in rows[1:]] == [
        "published as version 1: held-out DSC 0.700 to 0.750",
        "refused: DSC of liver fell; DSC of aorta fell",
        "ended as ERROR",
        "none asked for",
    ]
    assert [row[4] for row in rows[1:]] == ["0.810", "0.810", "0.810", ""]
