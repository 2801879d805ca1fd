"""A network of volumes is asked through a cube that grows with the object, or slides along it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes import BrightCubes, bright_contract

from bundle.data.volume import Volume
from bundle.interactive.cube_network import CubeNetwork
from bundle.interactive.cube_predictor import CubePredictor
from bundle.interactive.parts import bounds_of
from bundle.interactive.volume_model import HowFar
from bundle.prompts.cube_maps import OFF, ON, SO_FAR
from bundle.prompts.interactions import Box, Lasso, Mask, Point, Scribble
from bundle.prompts.prompts import ObjectPrompts

SHAPE = (48, 40, 32)
WHOLE = tuple(slice(0, size) for size in SHAPE)
ALIKE = 0.65  # where the cells' middles lie between voxels, the fake network loses a voxel on each side
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def block(*where: slice, shape=SHAPE) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[where] = True
    return mask


ORGAN = block(slice(18, 30), slice(14, 26), slice(12, 18))
BESIDE = block(slice(36, 44), slice(14, 26), slice(12, 18))


def opened(objects: np.ndarray, *, modality: str = "CT"):
    network = CubeNetwork(CubePredictor(BrightCubes(), replace(bright_contract(), size=32)))
    state = network.start(Volume(objects.astype(np.float32) * 100, AFFINE, modality))
    return network, state


def asked(model_and_state, *interactions, previous=None, **options):
    network, state = model_and_state
    return network.predict(state, ObjectPrompts(interactions).validated(state.volume.shape), previous, **options)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return (found & truth).sum() / (found | truth).sum()


STARTS = {
    "flat box": Box([[18, 14, 15], [29, 25, 15]]),
    "flat box on another plane": Box([[24, 14, 12], [24, 25, 17]]),
    "3D box": Box([[18, 14, 12], [29, 25, 17]]),
    "point": Point([24, 20, 15]),
    "scribble": Scribble([[20, 20, 15], [27, 20, 15]]),
    "lasso": Lasso([[18, 14, 15], [29, 14, 15], [29, 25, 15], [18, 25, 15]]),
    "mask of a slice": Mask(block(slice(18, 30), slice(14, 26), slice(15, 16))),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("axis", [0, 2])
def test_any_prompt_on_any_plane_finds_the_object_and_not_its_neighbour(start, axis):
    found = asked(opened(ORGAN | BESIDE), start, axis=axis).segmentation
    assert found.axis == axis and overlap(found.mask, ORGAN) > ALIKE and not (found.mask & BESIDE).any()


def test_the_cube_grows_until_the_object_fits():
    large = block(slice(4, 44), slice(4, 36), slice(4, 28))
    model = opened(large)
    found = asked(model, Box([[20, 16, 15], [26, 22, 15]]))  # a box that is too small
    assert overlap(found.segmentation.mask, large) > 0.85
    assert found.memory.states[0].looks > 1 and len(model[0].predictor.network.seen) == found.memory.states[0].looks


def test_cubes_slide_along_a_long_object():
    shape = (24, 24, 150)
    tube = np.zeros(shape, bool)
    tube[9:15, 9:15, 4:146] = True
    network, _ = opened(ORGAN)
    model = network, network.start(Volume(tube.astype(np.float32) * 100, np.diag([1.0, 1.0, 1.0, 1.0]), "CT"))
    found = asked(model, Box([[9, 9, 70], [14, 14, 70]]))
    answer = found.memory.states[0]
    assert overlap(found.segmentation.mask, tube) > 0.8 and len(answer.cubes) > 3
    assert all(cube.side == answer.cubes[0].side for cube in answer.cubes)


def test_corrections_see_the_answer_so_far_and_hold():
    touching = ORGAN | block(slice(30, 38), slice(14, 26), slice(12, 18))
    model = opened(touching)
    first = asked(model, STARTS["point"])
    click = Point([36, 20, 15], positive=False)
    second = asked(model, STARTS["point"], click, previous=first)
    maps = model[0].predictor.network.seen[-1]
    assert maps[OFF].any() and maps[ON].any() and (maps[SO_FAR] > 0).any()
    assert not second.segmentation.mask[36, 20, 15]


def test_the_answer_does_not_hang_on_what_was_asked_before():
    model = opened(ORGAN | BESIDE)
    prompts = STARTS["flat box"], Point([40, 20, 15]), Point([24, 20, 15])
    steps = [None]
    for count in (1, 2, 3):
        steps.append(asked(model, *prompts[:count], previous=steps[-1]))
    at_once = asked(opened(ORGAN | BESIDE), *prompts)
    assert np.array_equal(steps[-1].segmentation.mask, at_once.segmentation.mask)
    back = asked(model, prompts[0], previous=steps[-1])
    assert np.array_equal(back.segmentation.mask, steps[1].segmentation.mask)


def test_what_was_asked_already_is_not_asked_again():
    model = opened(ORGAN)
    first = asked(model, STARTS["3D box"])
    looks = len(model[0].predictor.network.seen)
    asked(model, STARTS["3D box"], previous=first)
    assert len(model[0].predictor.network.seen) == looks


def test_a_segmentation_of_several_slices_is_its_own_answer():
    model = opened(ORGAN)
    found = asked(model, Mask(BESIDE))
    assert np.array_equal(found.segmentation.mask, BESIDE) and not model[0].predictor.network.seen


def test_nothing_is_answered_beyond_the_limits():
    found = asked(opened(ORGAN), STARTS["flat box"], limits=(14, 16)).segmentation
    assert set(found.mask.nonzero()[2]) <= {14, 15, 16} and found.mask.any()


def test_a_picture_in_colour_is_seen():
    network, _ = opened(ORGAN)
    coloured = np.repeat((ORGAN * 255).astype(np.uint8)[..., None], 3, axis=3)
    model = network, network.start(Volume(coloured, AFFINE, "windowed"))
    assert overlap(asked(model, STARTS["flat box"]).segmentation.mask, ORGAN) > ALIKE


def test_every_look_is_told():
    told = []
    asked(opened(ORGAN), STARTS["flat box"], progress=told.append)
    assert told == [HowFar(15, slices=0, of=None)]


def test_a_correction_of_a_given_segmentation_is_asked_in_a_cube_around_it():
    model = opened(ORGAN | BESIDE)
    given = Mask(ORGAN)
    found = asked(model, given, Point([40, 20, 15])).segmentation.mask
    assert found[40, 20, 15] and (found & ORGAN).sum() > 0.5 * ORGAN.sum()
    assert (model[0].predictor.network.seen[-1][SO_FAR] > 0).any()


def test_a_cube_across_another_plane_is_told_by_the_slice_that_is_asked_for():
    told = []
    asked(opened(ORGAN), STARTS["flat box on another plane"], axis=2, progress=told.append)
    assert [far.index for far in told] == [14]


def test_an_object_that_something_else_found_is_corrected_in_a_cube_around_it_and_the_click():
    network, state = opened(ORGAN | BESIDE)
    before = network.taken_over(state.volume, ORGAN, WHOLE, axis=2, iou=0.8)
    assert np.array_equal(before.mask(SHAPE), ORGAN) and before.iou == 0.8
    click = Point([40, 20, 15]).validated(SHAPE)
    now = network.correct(state, before, [STARTS["point"].validated(SHAPE), click], axis=2)
    cube = now.cubes[-1]
    assert now.mask(SHAPE)[40, 20, 15] and now.looks == 1
    assert cube.centre == (29.0, 19.5, 14.5) and cube.side == pytest.approx(1.6 * 23)


def test_of_a_long_object_the_part_around_a_click_is_looked_at():
    tube = np.zeros((24, 24, 200), bool)
    tube[9:15, 9:15, 4:196] = True
    network, _ = opened(ORGAN)
    state = network.start(Volume(tube.astype(np.float32) * 100, np.eye(4), "CT"))
    before = network.taken_over(state.volume, tube, bounds_of(np.ones_like(tube)), axis=2, iou=0.8)
    click = Point([15, 12, 180]).validated(tube.shape)
    cube = network.correct(state, before, [click], axis=2).cubes[-1]
    assert cube.centre == (15.0, 12.0, 180.0) and cube.side == pytest.approx(6 * 6)


def test_an_object_that_was_taken_away_is_looked_for_around_the_click():
    network, state = opened(ORGAN)
    before = network.taken_over(state.volume, ORGAN, WHOLE, axis=2, iou=0.8).overwritten(
        ORGAN, np.zeros_like(ORGAN), WHOLE
    )
    assert not before.mask(SHAPE).any()
    cube = network.correct(state, before, [STARTS["point"].validated(SHAPE)], axis=2).cubes[-1]
    assert cube.centre == (24.0, 20.0, 15.0) and cube.side == before.cubes[-1].side
