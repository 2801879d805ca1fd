"""The tables of several models on the sets of every modality."""

from __future__ import annotations

from bundle.evaluation.set_tables import expected_table, set_table

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
