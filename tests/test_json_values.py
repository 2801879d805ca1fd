"""JSON of clients is bounded before it is used, and clean before it is kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.data.limits import LIMITS
from monailabel_app.errors import RequestError
from monailabel_app.wire.json_values import check_info, check_json, read_json, repaired_info

NAMES = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=10,
)


def nested(depth: int) -> dict:
    value: object = 1
    for _ in range(depth - 1):
        value = [value]
    return {"x": value}


@given(st.dictionaries(NAMES, VALUES))
def test_ordinary_values_pass_unchanged(value):
    assert read_json(json.dumps(value), "params", kept=True) == value


@pytest.mark.parametrize("text", ["{", "[]", "1", '"a"', "null", "[" * 100_000, '{"a": ' + "1" * 5000 + "}"])
def test_parameters_must_be_a_json_object(text):
    with pytest.raises(RequestError, match="JSON"):
        read_json(text, "params")


def test_an_empty_text_is_an_empty_object():
    assert read_json("", "params") == {}


def test_the_depth_has_a_limit():
    assert read_json(json.dumps(nested(LIMITS.json_depth)), "params")
    with pytest.raises(RequestError, match=f"nested {LIMITS.json_depth + 1} deep, at most {LIMITS.json_depth}"):
        read_json(json.dumps(nested(LIMITS.json_depth + 1)), "params")


def test_the_size_has_a_limit_in_bytes():
    for text in ('{"x": "' + "a" * LIMITS.json_bytes + '"}', '{"x": "' + "é" * (LIMITS.json_bytes // 2 + 1) + '"}'):
        with pytest.raises(RequestError, match="MONAI_SAM_MAX_JSON_BYTES") as refusal:
            read_json(text, "params")
        assert refusal.value.status == 413


def test_not_a_number_may_stand_in_a_prompt_but_is_not_kept():
    text = '{"x": [NaN, Infinity]}'
    assert len(read_json(text, "params")["x"]) == 2
    with pytest.raises(RequestError, match="finite"):
        read_json(text, "params", kept=True)


def test_half_a_letter_is_refused():
    with pytest.raises(RequestError, match="no Unicode"):
        read_json('{"label": "\\ud800"}', "params")
    with pytest.raises(RequestError, match="no Unicode"):
        check_json({"\ud800": 1}, "params")


@pytest.mark.parametrize("notes", [5, [], {"random": 5}, {"random": [1]}])
def test_the_servers_own_note_keeps_its_form(notes):
    with pytest.raises(RequestError, match="server's own note"):
        check_info({"strategy": notes}, "info")


@pytest.mark.parametrize("names", [5, [5], [{}], [{"name": 5}], {"name": "liver"}])
def test_names_of_segments_that_training_could_not_read_are_not_kept(names):
    with pytest.raises(RequestError, match="label_info must be"):
        check_info({"label_info": names}, "params")
    assert repaired_info({"label_info": names}) == ({}, ["label_info"])
    check_info({"label_info": [{"name": "liver", "idx": "1"}, {"name": "spleen"}]}, "params")


@pytest.mark.parametrize("idx", ["one", 1.5])
def test_stored_names_with_a_value_that_is_none_stay_for_who_reads_the_label_to_say(idx):
    info = {"label_info": [{"name": "liver", "idx": idx}]}
    with pytest.raises(RequestError, match="idx"):
        check_info(info, "params")
    assert repaired_info(info) == (info, [])


def test_stored_information_loses_only_what_cannot_be_kept():
    info = {"a": 1, "b": float("inf"), "strategy": {"random": {"ts": 5}}, "c": nested(100), "d": None}
    assert repaired_info(info) == ({"a": 1, "strategy": {"random": {"ts": 5}}, "d": None}, ["b", "c"])
