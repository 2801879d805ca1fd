"""A label map is brought onto its image, or refused with the distance; nothing is mirrored in silence."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_frames import affines

from bundle.data.grid import check_grid
from bundle.data.volume import Segment, Volume, VolumeError

SHAPE = (4, 5, 6)
TURNS = [(axes, flips) for axes in permutations(range(3)) for flips in product((False, True), repeat=3)]


def volume(array: np.ndarray | None = None, affine: np.ndarray | None = None, **about) -> Volume:
    array = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.uint8) if array is None else array
    return Volume(array, np.diag([-1.0, -2, 3, 1]) if affine is None else affine, **about)


def turned(label: Volume, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Volume:
    """The same voxels in the same places, stored with other axes and directions."""
    array = label.array.transpose(axes)
    index = np.zeros((4, 4))  # stored index -> index of the array before
    index[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        index[old, new] = -1 if flip else 1
        index[old, 3] = array.shape[new] - 1 if flip else 0
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    return replace(label, array=array[steps], affine=label.affine @ index)


@pytest.mark.parametrize(("axes", "flips"), TURNS)
@given(affine=affines())
@settings(max_examples=3, deadline=None)
def test_every_order_and_direction_of_axes_is_brought_back_exactly(axes, flips, affine):
    image = volume(affine=affine)
    back = check_grid(image, turned(image, axes, flips))
    np.testing.assert_array_equal(back.array, image.array)
    np.testing.assert_array_equal(back.affine, image.affine)


def test_what_lies_on_the_image_is_not_spoken_of_and_what_was_reordered_is(caplog):
    image = volume()
    check_grid(image, volume())
    assert not caplog.records
    check_grid(image, turned(image, (0, 1, 2), (True, False, False)))
    assert "reordered" in caplog.text
    assert len(caplog.records) == 1


def test_another_shape_is_refused_with_both_shapes():
    with pytest.raises(VolumeError, match=r"\(4, 5, 7\).*\(4, 5, 6\)"):
        check_grid(volume(), volume(np.zeros((4, 5, 7), np.uint8)))


@given(shift=st.tuples(*[st.floats(-200, 200)] * 3))
@settings(max_examples=30, deadline=None)
def test_a_label_map_that_was_moved_is_refused_with_the_distance(shift):
    affine = volume().affine.copy()
    affine[:3, 3] += shift
    far = float(np.linalg.norm(shift))
    if far <= 0.5:
        assert check_grid(volume(), volume(affine=affine)).shape == SHAPE
    else:
        with pytest.raises(VolumeError, match=rf"up to {far:.1f} mm off"):
            check_grid(volume(), volume(affine=affine))


def test_mirrored_and_moved_at_once_is_refused():
    moved = turned(volume(), (1, 0, 2), (True, False, True))
    moved.affine[:3, 3] += 100
    with pytest.raises(VolumeError, match=r"173\.2 mm off"):
        check_grid(volume(), moved)


@pytest.mark.parametrize(
    "change", [np.diag([1.1, 1, 1, 1]), [[0.9, -0.4, 0, 0], [0.4, 0.9, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]]
)
def test_another_spacing_or_a_turn_by_an_angle_is_refused(change):
    with pytest.raises(VolumeError, match="mm off"):
        big = np.zeros((40, 40, 6), np.uint8)
        check_grid(volume(big), volume(big, affine=np.asarray(change) @ volume().affine))


def test_a_part_of_a_voxel_is_taken_and_said(caplog):
    affine = volume().affine.copy()
    affine[0, 3] += 0.3
    check_grid(volume(), volume(affine=affine))
    assert "0.30 mm off" in caplog.text


def test_pictures_are_compared_by_shape_alone():
    image, label = volume(placed=False), volume(affine=np.diag([-7.0, -7, 1, 1]), placed=False)
    np.testing.assert_array_equal(check_grid(image, label).affine, image.affine)
    with pytest.raises(VolumeError, match="voxels"):
        check_grid(image, volume(np.zeros((5, 4, 6), np.uint8), placed=False))
    with pytest.raises(VolumeError, match="one does not say where it lies"):
        check_grid(image, volume(affine=np.diag([-7.0, -7, 1, 1])))


@given(
    low=st.tuples(*[st.integers(-3, 3)] * 3),
    size=st.tuples(*[st.integers(4, 9)] * 3),
    turn=st.sampled_from(TURNS),
)
@settings(max_examples=60, deadline=None)
def test_a_cropped_segmentation_is_put_back_into_its_place(low, size, turn):
    image = volume(np.zeros(SHAPE, np.int16))
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    crop = volume(np.arange(1, np.prod(size) + 1, dtype=np.uint32).reshape(size), affine, segments=(Segment("a", 1),))
    expected = np.zeros(SHAPE, np.uint32)
    for index in np.ndindex(size):
        place = np.add(index, low)
        if (place >= 0).all() and (place < SHAPE).all():
            expected[tuple(place)] = crop.array[index]
    np.testing.assert_array_equal(check_grid(image, turned(crop, *turn)).array, expected)


def test_a_segmentation_beside_its_image_is_refused_and_what_is_lost_is_said(caplog):
    affine = volume().affine.copy()
    affine[:3, 3] += 100
    with pytest.raises(VolumeError, match="outside"):
        check_grid(volume(), volume(affine=affine, segments=(Segment("a", 1),)))
    inside = volume().affine.copy()
    inside[2, 3] += 3
    check_grid(volume(), volume(np.ones(SHAPE, np.uint8), inside, segments=(Segment("a", 1),)))
    assert "20 labelled voxels" in caplog.text
