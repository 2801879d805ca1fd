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
    SliceAnswer,
    SlicePrompt,
    object_rng,
    protocol_named,
    run_protocol,
)


def disc(shape=(128, 128), centre=(60, 70), radius=20):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


class Painter:
    """A model that paints a square around every positive point and erases one around every negative point."""

    def __init__(self, half=6):
        self.half, self.seen = half, []

    def __call__(self, prompt, logits):
        self.seen.append((prompt, logits))
        mask = np.zeros((128, 128), dtype=bool)
        for (x, y), label in zip(prompt.points.astype(int), prompt.labels, strict=True):
            mask[max(0, y - self.half) : y + self.half + 1, max(0, x - self.half) : x + self.half + 1] = label == 1
        return SliceAnswer(mask, predicted_iou=0.5, logits=len(self.seen))


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
    assert points[0].tolist() == [70, 60] and interaction.prompt.labels.tolist() == [1] * 5
    assert all(disc()[int(y), int(x)] for x, y in points)


def test_corrections_add_one_click_at_a_time_and_raise_the_score():
    interactions = run(CorrectionProtocol("point", clicks=8))
    assert [len(step.prompt.points) for step in interactions] == list(range(1, 10))
    assert interactions[-1].score.dsc > interactions[0].score.dsc + 0.2
    assert interactions[0].answer.predicted_iou == 0.5 and interactions[0].seconds >= 0


def test_corrections_can_start_from_a_box():
    first, second, *_ = run(CorrectionProtocol("box"))
    assert len(first.prompt.points) == 0 and len(second.prompt.points) == 1
    assert second.prompt.box.tolist() == first.prompt.box.tolist()


def test_micro_sam_adds_a_positive_and_a_negative_click_at_a_time():
    interactions = run(CorrectionProtocol("box", clicks=7, rule="paired"))
    assert len(interactions) == 8
    assert interactions[-1].prompt.labels.tolist() == [1, 0] * 7


def test_corrections_stop_when_nothing_is_wrong():
    interactions = run(CorrectionProtocol("point"), lambda prompt, logits: SliceAnswer(disc()))
    assert len(interactions) == 1 and interactions[0].score.dsc == 1


@pytest.mark.parametrize(("mask_prompt", "expected"), [(True, [None, 1, 2]), (False, [None, None, None])])
def test_the_former_logits_go_along_only_with_a_mask_prompt(mask_prompt, expected):
    painter = Painter()
    run(CorrectionProtocol("point", clicks=2, mask_prompt=mask_prompt), painter)
    assert [logits for _, logits in painter.seen] == expected


def test_stored_prompts_are_replayed_to_another_model():
    interactions = run(CorrectionProtocol("box", clicks=4, rule="random"))
    stored = [SlicePrompt.from_json(step.prompt.to_json()) for step in interactions]
    replayed = run(ReplayProtocol(stored), Painter(half=2))
    assert [step.prompt.to_json() for step in replayed] == [step.prompt.to_json() for step in interactions]
    assert replayed[-1].score.dsc != interactions[-1].score.dsc


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_named_protocol_runs_and_repeats_itself(name):
    first, again = (run(protocol_named(name)) for _ in range(2))
    assert [step.prompt.to_json() for step in first] == [step.prompt.to_json() for step in again]


def test_scores_follow_the_spacing_and_the_tolerance():
    def shifted(prompt, logits):
        return SliceAnswer(np.roll(disc(), 3, axis=1))

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
