"""Prompt protocols: what is prompted, on slices and in volumes, in which order, and that it repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.evaluation.interaction import Prediction, run_protocol
from bundle.evaluation.protocols import (
    PROTOCOLS,
    Box,
    ClickProtocol,
    Points,
    ProtocolError,
    ReplayProtocol,
    central_slice,
    object_rng,
    protocol_named,
)
from bundle.evaluation.stored_prompts import prompt_from_json, prompt_to_json
from bundle.interactive.slice_model import SlicePrompt
from bundle.prompts.prompts import ObjectPrompts
from bundle.prompts.simulation import shift_box, tight_box


def disc(shape=(128, 128), centre=(60, 70), radius=20):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def cone():
    """A cone along k that grows from slice 4 to slice 15, with its largest slice last."""
    rows, columns, height = np.ogrid[:40, :40, :20]
    radius = (height - 3) * ((height >= 4) & (height <= 15))
    return ((rows - 18) ** 2 + (columns - 22) ** 2 <= radius**2) & (radius > 0)


class Painter:
    """A model that paints the box, then a square around every point: on the object or off it."""

    def __init__(self, truth, half=6):
        self.shape, self.half = truth.shape, half

    def __call__(self, prompt, previous):
        mask = np.zeros(self.shape, dtype=bool)
        if prompt.box is not None:
            low, high = np.reshape(prompt.box, (2, -1)).astype(int)
            mask[self._around(low, high, 0)] = True
        for point, label in zip(prompt.points.astype(int), prompt.point_labels, strict=True):
            mask[self._around(point, point, self.half)] = label == 1
        return Prediction(mask, iou=0.5)

    def _around(self, low, high, margin):
        order = [1, 0] if len(self.shape) == 2 else [0, 1, 2]
        return tuple(slice(max(0, low[n] - margin), high[n] + margin + 1) for n in order)


def run(protocol, predict=None, truth=None, key="case"):
    truth = disc() if truth is None else truth
    return run_protocol(protocol, predict or Painter(truth), truth, rng=object_rng(0, key))


def prompts_of(steps):
    return [prompt_to_json(step.prompt) for step in steps]


# ---- starts ---------------------------------------------------------------------------------------------------------


def test_a_box_is_tight_and_shifts_by_pixels_of_the_reference_square():
    (tight,) = run(ClickProtocol(Box()))
    (shifted,) = run(ClickProtocol(Box(shift=16, reference=1024)))
    assert tight.prompt.box.tolist() == [50, 40, 90, 80]
    assert shifted.prompt.box.tolist() == [48, 38, 92, 82]


def test_a_jittered_box_differs_between_objects_and_not_between_runs():
    first, again, other = (run(ClickProtocol(Box(jitter=80)), key=key)[0].prompt.box for key in ("a", "a", "b"))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_box_in_a_volume_is_tight():
    (step,) = run(protocol_named("box"), truth=cone())
    assert step.prompt.box.tolist() == [[6, 10, 4], [30, 34, 15]]


def test_a_flat_box_lies_on_the_central_or_the_largest_slice():
    (central,) = run(protocol_named("slice_box"), truth=cone())
    (largest,) = run(ClickProtocol(Box("largest", flat=True)), truth=cone())
    assert central.prompt.box[:, 2].tolist() == [central_slice(cone())] * 2
    assert largest.prompt.box.tolist() == [[6, 10, 15], [30, 34, 15]]


def test_the_challenges_box_takes_the_range_of_the_object_and_the_outline_of_the_middle():
    (step,) = run(protocol_named("middle_box"), truth=cone())
    (slice_step,) = run(protocol_named("slice_box"), truth=cone())
    assert step.prompt.box[:, 2].tolist() == [4, 15]
    assert step.prompt.box[:, :2].tolist() == slice_step.prompt.box[:, :2].tolist()


def test_a_shift_in_a_volume_widens_what_is_drawn_and_not_the_range_of_slices():
    (step,) = run(ClickProtocol(Box(shift=2, reference=40)), truth=cone())
    assert step.prompt.box.tolist() == [[4, 8, 4], [32, 36, 15]]


@given(st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_along_every_axis_the_starts_are_those_of_the_moved_volume(axis, seed):
    """The object turned so that `axis` comes last gives the same prompts, turned."""
    truth = np.random.default_rng(seed).random((5, 6, 7)) > 0.8
    truth[2, 3, 4] = True
    turned = np.moveaxis(truth, axis, 2)
    for start in (Box(), Box("central"), Box("largest", flat=True), Box(shift=1, reference=7)):
        found, wanted = start(truth, None, axis).box, start(turned, None, 2).box
        np.testing.assert_array_equal(np.delete(found, axis, axis=1), wanted[:, :2])
        np.testing.assert_array_equal(found[:, axis], wanted[:, 2])
    point = Points(1, "central")(truth, None, axis).points
    np.testing.assert_array_equal(
        np.append(np.delete(point, axis), point[0, axis]), Points(1, "central")(turned, None, 2).points[0]
    )


@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_on_a_slice_every_box_is_the_tight_one_shifted(seed, shift):
    truth = np.random.default_rng(seed).random((12, 9)) > 0.9
    truth[4, 5] = True
    wanted = shift_box(tight_box(truth), shift, truth.shape)
    for outline in ("whole", "central", "largest"):
        prompt = Box(outline, shift=shift, reference=12)(truth, None, 2)
        np.testing.assert_array_equal(prompt.box, wanted)


def test_points_lie_on_the_object_and_the_first_is_its_centre():
    (interaction,) = run(ClickProtocol(Points(5)))
    points = interaction.prompt.points
    assert points[0].tolist() == [70, 60] and interaction.prompt.point_labels.tolist() == [1] * 5
    assert all(disc()[int(y), int(x)] for x, y in points)


def test_points_lie_in_a_volume_and_on_its_central_slice_where_that_is_asked():
    (anywhere,) = run(protocol_named("points_3"), truth=cone())
    assert all(cone()[tuple(point)] for point in anywhere.prompt.points.astype(int))
    (step,) = run(protocol_named("slice_point"), truth=cone())
    assert step.prompt.points.tolist() == [[18, 22, central_slice(cone())]]


def test_the_central_slice_holds_the_middle_voxel():
    truth = cone()
    middle = central_slice(truth)
    below, with_it = truth[:, :, :middle].sum(), truth[:, :, : middle + 1].sum()
    assert below <= truth.sum() // 2 < with_it


# ---- clicks ---------------------------------------------------------------------------------------------------------


def test_corrections_add_one_click_at_a_time_and_raise_the_score():
    interactions = run(protocol_named("clicks_from_point"))
    assert [len(step.prompt.points) for step in interactions] == list(range(1, 10))
    assert interactions[-1].score.dsc > interactions[0].score.dsc + 0.2


def test_in_a_volume_there_are_as_many_corrections_as_in_the_challenge():
    steps = run(protocol_named("clicks_from_point"), Painter(cone(), half=4), cone())
    assert [len(step.prompt.points) for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1].score.dsc > steps[0].score.dsc


@pytest.mark.parametrize("truth", [disc(), cone()], ids=["slice", "volume"])
def test_corrections_can_start_from_a_box(truth):
    first, second, *rest = run(protocol_named("cvpr25"), truth=truth)
    assert len(first.prompt.points) == 0 and len(second.prompt.points) == 1 and len(rest) == 4
    assert second.prompt.box.tolist() == first.prompt.box.tolist()


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("clicks_from_point_3", Points(1)),
        ("clicks_from_box_12", Box()),
        ("clicks_from_slice_box_3", Box("central", flat=True)),
    ],
)
def test_a_name_says_how_many_corrections_follow_the_start(name, start):
    assert protocol_named(name) == ClickProtocol(start, clicks=int(name.rpartition("_")[2]))


@pytest.mark.parametrize(
    "name", ["clicks_from_point_0", "clicks_from_point_", "clicks_from_brush_3", "box_3", "cvpr25_3", "boxes"]
)
def test_other_names_are_refused_with_the_known_ones(name):
    with pytest.raises(ProtocolError, match=r"box_shift_5.*another number of corrections"):
        protocol_named(name)


def test_micro_sam_adds_a_positive_and_a_negative_click_at_a_time():
    interactions = run(protocol_named("micro_sam_from_box"))
    assert len(interactions) == 8
    assert interactions[-1].prompt.point_labels.tolist() == [1, 0] * 7


@pytest.mark.parametrize("truth", [disc(), cone()], ids=["slice", "volume"])
def test_corrections_stop_when_nothing_is_wrong(truth):
    interactions = run(protocol_named("cvpr25"), lambda prompt, previous: Prediction(truth), truth)
    assert len(interactions) == 1 and interactions[0].score.dsc == 1


@pytest.mark.parametrize("truth", [disc(), cone()], ids=["slice", "volume"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_named_protocol_runs_and_repeats_itself(name, truth):
    first, again = (run(protocol_named(name), truth=truth) for _ in range(2))
    assert prompts_of(first) == prompts_of(again)
    assert {type(step.prompt) for step in first} == {SlicePrompt if truth.ndim == 2 else ObjectPrompts}


@pytest.mark.parametrize("truth", [disc(), cone()], ids=["slice", "volume"])
def test_stored_prompts_are_replayed_to_another_model(truth):
    interactions = run(protocol_named("micro_sam_from_box"), truth=truth)
    stored = [prompt_from_json(prompt) for prompt in prompts_of(interactions)]
    replayed = run(ReplayProtocol(stored), Painter(truth, half=2), truth)
    assert prompts_of(replayed) == prompts_of(interactions)
    assert replayed[-1].score.dsc != interactions[-1].score.dsc


@pytest.mark.parametrize(
    "impossible",
    [
        lambda: ClickProtocol(Box(), rule="best"),
        lambda: Box("corner"),
        lambda: Box(flat=True),
        lambda: Points(1, "largest"),
    ],
)
def test_impossible_protocols_are_refused(impossible):
    with pytest.raises(ProtocolError, match="got"):
        impossible()
