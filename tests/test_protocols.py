"""Prompt protocols: what is prompted, in which order, and that runs can be repeated and replayed."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.evaluation.protocols import (
    PROTOCOLS,
    BoxProtocol,
    CorrectionProtocol,
    PointsProtocol,
    ProtocolError,
    ReplayProtocol,
    object_rng,
    prompt_from_json,
    prompt_to_json,
    protocol_named,
    run_protocol,
    with_points,
)
from bundle.interactive.slice_model import SliceMask, SlicePrompt
from bundle.prompts.prompts import ObjectPrompts


def disc(shape=(128, 128), centre=(60, 70), radius=20):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


class Painter:
    """A model that paints a square around every positive point and erases one around every negative point."""

    def __init__(self, half=6):
        self.half, self.seen = half, []

    def __call__(self, prompt):
        self.seen.append(prompt)
        mask = np.zeros((128, 128), dtype=bool)
        for (x, y), label in zip(prompt.points.astype(int), prompt.point_labels, strict=True):
            mask[max(0, y - self.half) : y + self.half + 1, max(0, x - self.half) : x + self.half + 1] = label == 1
        return SliceMask(mask, logits=len(self.seen), iou=0.5)


def run(protocol, predict=None, truth=None, key="case"):
    truth = disc() if truth is None else truth
    return run_protocol(protocol, predict or Painter(), truth, rng=object_rng(0, key))


def test_a_box_is_tight_and_shifts_by_pixels_of_the_reference_square():
    (tight,) = run(BoxProtocol())
    (shifted,) = run(BoxProtocol(shift=16, reference=1024))
    assert tight.prompt.box.tolist() == [50, 40, 90, 80]
    assert shifted.prompt.box.tolist() == [48, 38, 92, 82]


def test_a_jittered_box_differs_between_objects_and_not_between_runs():
    first, again, other = (run(BoxProtocol(jitter=80), key=key)[0].prompt.box for key in ("a", "a", "b"))
    assert first.tolist() == again.tolist() != other.tolist()


def test_points_lie_on_the_object_and_the_first_is_its_centre():
    (interaction,) = run(PointsProtocol(5))
    points = interaction.prompt.points
    assert points[0].tolist() == [70, 60] and interaction.prompt.point_labels.tolist() == [1] * 5
    assert all(disc()[int(y), int(x)] for x, y in points)


def test_corrections_add_one_click_at_a_time_and_raise_the_score():
    interactions = run(CorrectionProtocol("point", clicks=8))
    assert [len(step.prompt.points) for step in interactions] == list(range(1, 10))
    assert interactions[-1].score.dsc > interactions[0].score.dsc + 0.2
    assert interactions[0].answer.iou == 0.5 and interactions[0].seconds >= 0


def test_corrections_can_start_from_a_box():
    first, second, *_ = run(CorrectionProtocol("box"))
    assert len(first.prompt.points) == 0 and len(second.prompt.points) == 1
    assert second.prompt.box.tolist() == first.prompt.box.tolist()


@pytest.mark.parametrize("name", ["clicks_from_point_3", "clicks_from_box_12"])
def test_a_name_says_how_many_corrections_follow_the_start(name):
    *_, start, clicks = name.split("_")
    assert protocol_named(name) == CorrectionProtocol(start, clicks=int(clicks))
    assert len(run(protocol_named("clicks_from_point_3"))) == 1 + 3


@pytest.mark.parametrize("name", ["clicks_from_point_0", "clicks_from_point_", "clicks_from_scribble_3", "box_3"])
def test_other_numbers_and_other_starts_are_refused(name):
    with pytest.raises(ProtocolError, match="another number of corrections"):
        protocol_named(name)


def test_micro_sam_adds_a_positive_and_a_negative_click_at_a_time():
    interactions = run(CorrectionProtocol("box", clicks=7, rule="paired"))
    assert len(interactions) == 8
    assert interactions[-1].prompt.point_labels.tolist() == [1, 0] * 7


def test_corrections_stop_when_nothing_is_wrong():
    interactions = run(CorrectionProtocol("point"), lambda prompt: SliceMask(disc(), logits=None, iou=1.0))
    assert len(interactions) == 1 and interactions[0].score.dsc == 1


@pytest.mark.parametrize(("mask_prompt", "expected"), [(True, [None, 1, 2]), (False, [None, None, None])])
def test_the_former_answer_goes_along_only_with_a_mask_prompt(mask_prompt, expected):
    painter = Painter()
    run(CorrectionProtocol("point", clicks=2, mask_prompt=mask_prompt), painter)
    seen = [prompt.previous and prompt.previous.logits for prompt in painter.seen]
    assert seen == expected


def test_stored_prompts_are_replayed_to_another_model():
    interactions = run(CorrectionProtocol("box", clicks=4, rule="random"))
    stored = [prompt_from_json(prompt_to_json(step.prompt)) for step in interactions]
    replayed = run(ReplayProtocol(stored), Painter(half=2))
    assert [prompt_to_json(step.prompt) for step in replayed] == [prompt_to_json(step.prompt) for step in interactions]
    assert replayed[-1].score.dsc != interactions[-1].score.dsc


def test_prompts_of_volumes_are_stored_as_well():
    prompt = with_points(ObjectPrompts(box=np.array([[1, 2, 3], [4, 5, 6]])), [[1, 2, 3], [0, 0, 0]], [1, -1])
    again = prompt_from_json(prompt_to_json(prompt), ObjectPrompts)
    assert prompt_to_json(again) == prompt_to_json(prompt)
    assert again.points.tolist() == [[1, 2, 3]]


def test_an_empty_prompt_survives_storing():
    assert prompt_to_json(prompt_from_json(prompt_to_json(SlicePrompt())))["points"] == []


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_named_protocol_runs_and_repeats_itself(name):
    first, again = (run(protocol_named(name)) for _ in range(2))
    assert [prompt_to_json(step.prompt) for step in first] == [prompt_to_json(step.prompt) for step in again]


def test_scores_follow_the_spacing_and_the_tolerance():
    def shifted(prompt):
        return SliceMask(np.roll(disc(), 3, axis=1), logits=None, iou=1.0)

    options = {"truth": disc(), "rng": object_rng(0, "a")}
    (coarse,) = run_protocol(BoxProtocol(), shifted, **options, spacing=(2, 2), tolerance=2)
    (fine,) = run_protocol(BoxProtocol(), shifted, **options, spacing=(0.5, 0.5), tolerance=2)
    assert fine.score.nsd == 1 > coarse.score.nsd


def test_an_unknown_protocol_is_named_with_the_known_ones():
    with pytest.raises(ProtocolError, match="box_shift_5"):
        protocol_named("boxes")


@pytest.mark.parametrize("options", [{"start": "mask"}, {"rule": "best"}])
def test_impossible_corrections_are_refused(options):
    with pytest.raises(ProtocolError, match="got"):
        CorrectionProtocol(**options)
