"""Options of a training: an allow-list; whatever a request says becomes a number, a word of a list or a switch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monailabel_app.errors import RequestError
from monailabel_app.learning.options import BACKGROUND, OPTIONS, option_table, read_options


def test_nothing_said_is_lora_without_the_heads():
    assert read_options({}) == {name: option.default for name, option in OPTIONS.items()}
    assert read_options({})["tuning"] == "lora_only"


def test_the_text_that_slicers_table_makes_of_values_is_read():
    sent = {name: str(value) for name, value in read_options({}).items()}
    assert read_options(sent) == read_options({})
    assert read_options({"steps": "", "resume": "true", "model": "finetune", "client_id": "x"})["resume"] is True


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"max_epochs": 3}, "no option 'max_epochs'"),
        ({"tuning": "$__import__('os')"}, "tuning must be one of lora_only, lora, norms, decoder, full"),
        ({"tuning": ["lora"]}, "tuning must be one of"),
        ({"steps": "@network"}, "steps must be a whole number from 1 to 100000"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"steps": True}, "steps must be a whole number"),
        ({"minutes": 0}, "minutes must be a number from 0.1 to 1440"),
        ({"minutes": "nan"}, "minutes must be a number"),
        ({"learning_rate": 1e400}, "learning_rate must be a number from 0 to 0.1"),
        ({"learning_rate": [1]}, "learning_rate must be a number"),
        ({"resume": "perhaps"}, "resume must be true or false"),
    ],
)
def test_anything_else_is_refused_with_what_would_be_right(request_, sentence):
    with pytest.raises(RequestError, match=sentence):
        read_options(request_)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda part: st.lists(part, max_size=3)
)


@given(st.dictionaries(st.sampled_from(list(OPTIONS)), VALUES))
def test_whatever_is_sent_a_value_is_of_its_kind_and_in_its_range(request_):
    try:
        found = read_options(request_)
    except RequestError:
        return
    for name, option in OPTIONS.items():
        assert type(found[name]) is type(option.default)
        assert not option.choices or found[name] in option.choices
        assert option.choices or isinstance(found[name], bool) or option.low <= found[name] <= option.high


def test_a_table_shows_a_choice_as_a_list_whose_first_entry_is_the_default():
    table = option_table()
    assert table["tuning"][0] == "lora_only" and table["steps"] == 2000 and table["resume"] is False
    told = OPTIONS["steps"].told()
    assert (told["type"], told["low"], told["high"]) == ("integer", 1, 100_000)


def test_a_training_beside_annotation_has_two_minutes():
    assert read_options(BACKGROUND)["minutes"] == 2.0
