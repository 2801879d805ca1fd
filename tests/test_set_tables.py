"""The tables of several models on the sets of every modality."""

from __future__ import annotations

from bundle.evaluation.set_tables import expected_table, harm_table, round_table, set_table

SCORES = {key: {"dsc": 0.5, "nsd": 0.25} for key in ("box", "point", "corrected")}
EXPECTED = {"predicted": 0.8, "reached": 0.7, "mae": 0.1, "rank_correlation": None}
MODEL = {
    "sets": {"a-set": {"objects": 3, **SCORES}, "b-set": {"objects": 4, **SCORES}},
    "macro": SCORES,
    "expected": dict.fromkeys(SCORES, EXPECTED),
}
RESULT = {"models": {"old": MODEL, "new": MODEL}}


def test_every_set_has_a_row_with_all_models_and_the_mean_stands_last():
    table = set_table(RESULT)
    assert table.columns[:4] == ["set", "objects", "box, old", "box, new"] and len(table.columns) == 8
    assert [row[:2] for row in table.rows] == [["a-set", "3"], ["b-set", "4"], ["macro mean", "7"]]
    assert all(cell == "0.500 / 0.250" for row in table.rows for cell in row[2:])


def test_what_is_expected_stands_beside_what_is_reached():
    table = expected_table(RESULT)
    assert table.rows[0] == ["old", "box", "0.800", "0.700", "0.100", "-"] and len(table.rows) == 6


def test_patients_are_told_and_averaged_where_they_were_counted():
    scored = {key: {"dsc": 0.5, "nsd": 0.25, "of_patients": {"dsc": 0.6, "nsd": 0.3}} for key in SCORES}
    model = {"sets": {"a-set": {"objects": 3, "patients": 2, **scored}}, "macro": scored, "expected": None}
    bar = {"sets": {"a-set": {"objects": 3, "patients": 2, "box": scored["box"]}}, "macro": {"box": scored["box"]}}
    table = set_table({"models": {"ellipse": bar, "new": model}})
    assert table.columns == [
        "set",
        "objects of patients",
        "box, ellipse",
        "box, new",
        "one point, new",
        "3 corrections, new",
    ]
    assert [row[:3] for row in table.rows] == [
        ["a-set", "3 of 2", "0.500 / 0.250"],
        ["macro mean", "3 of 2", "0.500 / 0.250"],
        ["macro mean over patients", "", "0.600 / 0.300"],
    ]


def test_rounds_and_what_they_harmed_are_told():
    harmed = [
        {"object": "x", "set": "b-set", "before": 0.9, "after": 0.5},
        {"object": "y", "set": "b-set", "before": 0.9, "after": 0.8},
    ]
    rounds = {"macro": [0.5, 0.6, 0.7, 0.8], "objects": 7, "harmed": harmed}
    result = {"models": {"bar": MODEL, "new": {**MODEL, "rounds": rounds}}}
    assert round_table(result).rows == [["new", "0.500", "0.600", "0.700", "0.800", "2 of 7 (28.6 %)"]]
    assert harm_table(result).rows == [["b-set", "2 of 4", "x: 0.900 to 0.500"]]
