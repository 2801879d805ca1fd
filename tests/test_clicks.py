"""Number of clicks and the challenge's four numbers, against values worked out by hand."""

from __future__ import annotations

import pytest
from test_report import records

from bundle.evaluation.clicks import (
    ALL_OBJECTS,
    CLICK_TARGETS,
    challenge_rows,
    challenge_scores,
    challenge_table,
    click_rows,
    click_table,
)


def steps(dsc, nsd=None, iou=None, *, key="k", organ="liver", protocol="cvpr25"):
    about = {"key": key, "case": key, "organ": organ, "protocol": protocol}
    scores = zip(dsc, nsd or dsc, iou or dsc, strict=True)
    return [{**about, "step": n, "dsc": d, "nsd": s, "iou": i} for n, (d, s, i) in enumerate(scores)]


def test_clicks_are_counted_to_the_target():
    rows = click_rows({"base": records(steps=3)})
    liver, pancreas, whole = (row for row in rows if row["score"] == "dsc")
    # Liver starts at 0.80..0.85 and reaches 0.90 with the first correction; pancreas ends at 0.75.
    assert (liver["interactions"], liver["noc"], liver["never"]) == (2, 2, 0)
    assert (pancreas["interactions"], pancreas["noc"], pancreas["never"], pancreas["limit"]) == (4, 3, 1, 3)
    assert (whole["organ"], whole["objects"], whole["noc"], whole["never"]) == (ALL_OBJECTS, 12, 2.5, 0.5)
    assert {(row["score"], row["target"]) for row in rows} == set(CLICK_TARGETS)
    assert click_rows({"base": records()}) == []


def test_an_object_that_never_gets_there_counts_with_the_limit_as_in_ritm():
    good = steps([0.5, 0.86, 0.95], key="a", protocol="clicks_20")
    poor = steps([0.1] * 20, key="b", protocol="clicks_20")
    noc = {row["target"]: row for row in click_rows({"run": good + poor}) if row["score"] == "iou"}
    assert [(noc[t]["noc"], noc[t]["never"]) for t in (0.85, 0.90)] == [((2 + 20) / 2, 0.5), ((3 + 20) / 2, 0.5)]
    (row,) = click_table(list(click_rows({"run": good + poor}))).rows
    assert row[3:] == ["2", "20", "12.00", "50.0%", "11.00", "50.0%", "11.50", "50.0%"]


def test_a_target_that_is_reached_and_lost_again_was_reached():
    lost = steps([0.5, 0.9, 0.2])
    assert {row["never"] for row in click_rows({"run": lost}) if row["score"] == "iou"} == {0}


def test_the_challenges_areas_are_trapezoids_over_the_clicks_without_the_start():
    found = challenge_scores(steps([0.0, 0.5, 0.6, 0.7, 0.8, 0.9], nsd=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5]))
    assert found["dsc_auc"] == pytest.approx(0.55 + 0.65 + 0.75 + 0.85) and found["dsc_final"] == 0.9
    assert found["nsd_auc"] == pytest.approx(0.15 + 0.25 + 0.35 + 0.45) and found["nsd_final"] == 0.5


def test_a_surface_counts_only_where_the_dice_is_above_a_fifth():
    found = challenge_scores(steps([0.0, 0.2, 0.21, 0.1, 0.1, 0.1], nsd=[1.0] * 6))
    assert found["nsd_auc"] == pytest.approx(0.5 + 0.5) and found["nsd_final"] == 0


def test_an_object_that_is_right_at_once_has_the_best_numbers():
    best = {"dsc_auc": 4, "nsd_auc": 4, "dsc_final": 1, "nsd_final": 1}
    assert challenge_scores(steps([1.0])) == challenge_scores(steps([0.3, 1.0])) == best


def test_the_challenge_counts_five_clicks_of_longer_corrections_and_leaves_shorter_ones_out():
    long = steps([0.1] + [0.5] * 8, protocol="clicks_from_box")
    short = steps([0.5, 0.6], protocol="clicks_from_point_1")
    rows = challenge_rows({"run": long + short})
    assert {row["protocol"] for row in rows} == {"clicks_from_box"}
    assert {row["mean"] for row in rows if row["score"] == "dsc_auc"} == {2}


def test_the_challenge_is_named_also_where_every_object_is_right_at_once():
    perfect = steps([1.0], key="a") + steps([1.0], key="b", organ="spleen")
    table = challenge_table(challenge_rows({"run": perfect}))
    assert [row[2:5] for row in table.rows] == [["liver", "1", "1"], ["spleen", "1", "1"], ["macro mean", "2", "2"]]
    assert all(row[5].startswith("4.000") and row[7].startswith("1.000") for row in table.rows)
