"""An answer that may be wrong says so."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.data.volume import Volume
from bundle.interactive.doubts import Doubts
from bundle.interactive.regions import Region
from bundle.prompts.interactions import Box, Point

SHAPE = (20, 20, 6)


def doubts(modality: str = "CT", value: float = 50.0) -> Doubts:
    array = np.full(SHAPE, -1000.0, np.float32)
    array[4:16, 4:16] = value
    return Doubts(Volume(array, np.eye(4), modality))


def said_of(about: Doubts, scores, found: Region, axis: int, given) -> tuple[str, ...]:
    """What is doubtful about an answer on every slice."""
    return about.of(scores, found, axis, given, answered=range(SHAPE[axis]))


def mask(*sides: int) -> Region:
    """A square of these sides on each slice from the first on."""
    found = np.zeros(SHAPE, bool)
    for index, side in enumerate(sides):
        found[:side, :side, index] = True
    return Region.of(found)


def test_a_good_answer_is_not_doubted():
    assert (
        said_of(doubts(), {0: 0.71, 1: 0.9}, mask(10, 11, 12), 2, [Point((8, 8, 3)), Box([[0, 0, 0], [3, 3, 3]])]) == ()
    )


def test_a_low_predicted_iou_is_named_with_its_slices():
    (said,) = said_of(doubts(), {3: 0.9, 7: 0.4, 5: 0.69}, mask(10), 2, [])
    assert "below 0.7 on 2 of 3 slices (5, 7), lowest 0.40 on slice 7" in said
    (said,) = said_of(doubts(), dict.fromkeys(range(9), -0.5), mask(10), 2, [])
    assert "on 9 of 9 slices (0, 1, 2, 3, 4, 5, ...), lowest 0.00 on slice 0" in said


def test_a_jump_of_the_area_is_named_but_not_where_the_object_is_small_or_ends():
    scores = dict.fromkeys(range(5), 0.9)
    (said,) = said_of(doubts(), scores, mask(10, 10, 15, 15), 2, [])
    assert "from 100 to 225 pixels between slices 1 and 2" in said
    assert said_of(doubts(), scores, mask(2, 7, 9, 11, 9), 2, []) == ()


@pytest.mark.parametrize(("index", "between"), [(0, "0 and 1"), (1, "0 and 1"), (3, "3 and 4"), (2, None)])
def test_the_answer_on_a_slice_is_blamed_for_no_jump_elsewhere(index, between):
    said = said_of(doubts(), {index: 0.9}, mask(8, 12, 12, 12, 8), 2, [])
    assert said == () if between is None else said[0].endswith(f"between slices {between}")


def test_what_slices_of_another_plane_show_of_a_slice_is_no_jump():
    found, scores = mask(10, 10, 15, 15), dict.fromkeys(range(4), 0.9)
    for answered, count in (({0, 1, 2, 3}, 1), ({1, 2}, 1), ({2, 3}, 0), ({0, 1}, 0), ({1, 3}, 0)):
        assert len(doubts().of(scores, found, 2, [], answered=answered)) == count


def test_a_point_in_air_is_named_but_not_one_off_the_object_or_in_lung():
    (said,) = said_of(doubts(), {}, mask(10), 2, [Point((1, 1, 2)), Point((0, 0, 0), positive=False)])
    assert "[1.0, 1.0, 2.0] lies in air (-1000 HU" in said
    assert said_of(doubts(value=-830), {}, mask(10), 2, [Point((8, 8, 2))]) == ()
    assert said_of(doubts(), {}, mask(10), 2, [Point((3, 3, 2))]) == ()  # beside the body: a hand is not that steady


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("beside", [(4, 7, 3), (5, 8, 3), (5, 7, 2)])
def test_a_point_is_judged_with_the_pixels_around_it_on_the_plane_of_the_answer(axis, beside):
    array = np.full(SHAPE, -1000.0, np.float32)
    array[beside] = 50.0
    said = said_of(Doubts(Volume(array, np.eye(4), "CT")), {}, mask(10), axis, [Point((5, 7, 3))])
    assert bool(said) == ((5, 7, 3)[axis] != beside[axis])  # the bright voxel lies on another slice


@pytest.mark.parametrize(("placed", "name"), [(True, "coronal"), (False, "axis 1")])
def test_what_numbers_slices_of_another_axis_than_the_third_says_so(placed, name):
    about = Doubts(Volume(np.full(SHAPE, 50.0, np.float32), np.eye(4), "CT", placed=placed))
    found = np.zeros(SHAPE, bool)
    found[:10, 3, :5] = found[:, 4] = True
    low, jump = said_of(about, {3: 0.4}, Region.of(found), 1, [])
    assert low.startswith(f"{name}: predicted IoU") and jump.startswith(f"{name}: the area jumps")
    assert said_of(about, {3: 0.4}, mask(10), 2, [])[0].startswith("predicted IoU")


@pytest.mark.parametrize("modality", ["other", "windowed"])
def test_a_point_in_the_background_of_another_image_is_named(modality):
    (said,) = said_of(doubts(modality, 200), {}, mask(10), 2, [Point((1, 1, 2)), Point((8, 8, 2))])
    assert "[1.0, 1.0, 2.0] lies in the dark background" in said


def test_a_colour_picture_has_a_background_too():
    array = np.zeros((20, 20, 1, 3), np.uint8)
    array[5:15, 5:15] = (200, 0, 0)
    judge = Doubts(Volume(array, np.eye(4), "windowed"))
    assert len(judge.of({}, Region.empty(), 2, [Point((1, 1, 0)), Point((9, 9, 0))], answered=())) == 1
