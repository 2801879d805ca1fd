"""Where structures lie, as labelled images say it to one without a label."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.active.places import content_box, mean_places, places_of
from bundle.data.volume import Volume

NAMES = {1: "liver", 2: "spleen"}


def an_image(shape=(20, 24, 12), affine=None) -> Volume:
    """Bright all over, so that what it shows is all of it."""
    array = np.full(shape, 100.0)
    array[0, 0, 0] = 0
    return Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine)


def labels_in(shape, box, value=1) -> np.ndarray:
    (i0, j0, k0), (i1, j1, k1) = box
    labels = np.zeros(shape, np.uint8)
    labels[i0 : i1 + 1, j0 : j1 + 1, k0 : k1 + 1] = value
    return labels


def test_a_place_is_found_again_in_its_own_image():
    image, box = an_image(), [[2, 3, 4], [9, 12, 8]]
    place = mean_places([places_of(image, labels_in(image.shape, box), NAMES)])["liver"]
    assert np.allclose(place.box_in(image), box)


def test_a_place_is_the_same_share_of_an_image_of_another_size():
    image, other = an_image((21, 21, 11)), an_image((41, 41, 21))
    place = mean_places([places_of(image, labels_in(image.shape, [[5, 10, 2], [10, 15, 5]]), NAMES)])["liver"]
    assert np.allclose(place.box_in(other), [[10, 20, 4], [20, 30, 10]])


@pytest.mark.parametrize("flips", [(0,), (1,), (0, 1), (2,)])
def test_a_place_lies_at_the_same_side_of_the_patient_whatever_way_the_file_is_stored(flips):
    image = an_image()
    labels = labels_in(image.shape, [[2, 3, 4], [9, 12, 8]])
    affine = np.array(image.affine)
    for axis in flips:
        affine[:3, 3] += affine[:3, axis] * (image.shape[axis] - 1)
        affine[:3, axis] *= -1
    turned = Volume(np.flip(image.array, flips), affine)
    place = mean_places([places_of(image, labels, NAMES)])["liver"]
    low, high = place.box_in(turned)
    there = np.argwhere(np.flip(labels, flips))
    assert np.allclose([low, high], [there.min(axis=0), there.max(axis=0)])


def test_axes_in_another_order_say_the_same():
    image = an_image()
    labels = labels_in(image.shape, [[2, 3, 4], [9, 12, 8]])
    place = mean_places([places_of(image, labels, NAMES)])["liver"]
    turned = Volume(image.array.transpose(2, 0, 1), image.affine[:, [2, 0, 1, 3]])
    assert np.allclose(place.box_in(turned), [[4, 2, 3], [8, 9, 12]])


def test_the_mean_of_two_images_lies_between_them_and_spreads_as_they_do():
    image = an_image((21, 21, 11))
    boxes = [[[4, 4, 2], [8, 8, 4]], [[8, 4, 2], [12, 8, 4]]]
    place = mean_places(places_of(image, labels_in(image.shape, box), NAMES) for box in boxes)["liver"]
    assert np.allclose(place.box_in(image), [[6, 4, 2], [10, 8, 4]])
    assert place.spread[0, 0] == pytest.approx(2 / 20) and place.spread[0, 1] < 0.02


def test_drawn_boxes_begin_with_the_mean_and_stay_inside():
    image = an_image()
    place = mean_places([places_of(image, labels_in(image.shape, [[0, 0, 0], [19, 23, 11]]), NAMES)])["liver"]
    boxes = place.boxes_in(image, 20, np.random.default_rng(0))
    assert np.allclose(boxes[0], place.box_in(image)) and len({box.tobytes() for box in boxes}) > 10
    assert (boxes >= 0).all() and (boxes <= np.array(image.shape) - 1).all() and (boxes[:, 0] <= boxes[:, 1]).all()


def test_values_without_a_name_are_passed_over():
    image = an_image()
    assert places_of(image, labels_in(image.shape, [[1, 1, 1], [2, 2, 2]], value=7), NAMES) == {}


def test_an_image_shows_what_is_not_as_dark_as_its_rim():
    array = np.full((40, 40, 20), -1000.0)
    array[8:32, 12:28, 4:16] = 40.0
    first, last = content_box(Volume(array, np.eye(4), "CT"))
    assert (np.abs(first - [8, 12, 4]) <= 4).all() and (np.abs(last - [31, 27, 15]) <= 4).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 1), (6, 6, 2, 3)])
def test_an_image_of_one_value_shows_all_of_itself(shape):
    first, last = content_box(Volume(np.zeros(shape), np.eye(4)))
    assert first.tolist() == [0, 0, 0] and last.tolist() == [size - 1 for size in shape[:3]]
