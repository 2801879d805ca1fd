"""What was answered already is remembered within a budget, and no answer of a session hangs on it."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from session_room import LEFT, RIGHT, open_session, point, state

from bundle.errors import PromptError
from bundle.interactive.answer_memory import Answered, Memory
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.prompts.prompts import ObjectPrompts

ANSWER = SliceMask(np.zeros((8, 8), bool), logits=torch.zeros(4, 4))
BYTES = 64 + 64


def answered() -> Answered:
    return Answered(SlicePrompt(), ANSWER)


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.sampled_from([LEFT, RIGHT, (6, 6, 5), (5, 9, 7)]), st.booleans()), min_size=1, max_size=6),
    st.sampled_from([0, 5000, 12_000]),
)
def test_the_budget_holds_and_no_answer_of_a_session_hangs_on_it(clicks, budget):
    small, other = open_session(), open_session()
    small._memory.slice_bytes = budget
    for voxel, positive in clicks:
        for session in (small, other):
            with suppress(PromptError):
                session.add(point(voxel, positive), "left", dimension=2)
        assert state(small) == state(other) and small._memory.held_bytes <= budget


def test_a_prompt_whose_earlier_answers_were_dropped_still_goes_on_from_them():
    session = open_session()
    session._memory.slice_bytes = 0
    session.add(point(LEFT), "left", dimension=2)
    session.add(point((6, 6, 5)), "left", dimension=2)
    assert session.predictor.network.masks_seen == [False, False, True]


def test_of_one_slice_the_earliest_answers_go_first():
    memory = Memory(slice_bytes=2 * BYTES)
    history = memory.on_slice("liver", 2, 5)
    history += [answered() for _ in range(3)]
    memory.trim()
    assert [one.answer is None for one in history] == [True, False, False] and memory.held_bytes == 2 * BYTES


def test_the_slice_that_was_used_longest_ago_is_forgotten_before_others():
    memory = Memory(slice_bytes=2 * BYTES)
    for index in (5, 6):
        memory.on_slice("liver", 2, index).append(answered())
    memory.on_slice("liver", 2, 5)
    memory.on_slice("spleen", 2, 5).append(answered())
    memory.trim()
    assert memory.on_slice("liver", 2, 6) == [] and memory.held_bytes == 2 * BYTES
    memory.forget("liver")
    assert memory.held_bytes == BYTES
    memory.forget()
    assert memory.held_bytes == 0


def test_of_an_object_that_is_removed_or_reset_nothing_is_remembered():
    session = open_session()
    for end in (session.remove_object, session.reset):
        session.add(point(LEFT), "left", dimension=2)
        session.segment_slice(ObjectPrompts([point(LEFT)], name="left"))
        assert session._memory.held_bytes
        end("left")
        assert session._memory.held_bytes == 0
