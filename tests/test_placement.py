"""Slices in the model's square and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from segment_anything.utils.transforms import ResizeLongestSide

from bundle.transforms.placement import BOX_MAPPINGS, INTERPOLATIONS, Placement
from bundle.transforms.simulation import tight_box
from bundle.transforms.window import Window

sides = st.integers(1, 90)
rules = st.sampled_from(["longest", "stretch", "pad_center"])
spacings = st.tuples(st.floats(0.2, 8.0), st.floats(0.2, 8.0))


@given(sides, sides, rules, spacings, st.integers(0, 2**31))
def test_a_mask_that_goes_into_a_larger_square_comes_back(height, width, rule, spacing, seed):
    placement = Placement.of(height, width, size=96, rule=rule, pixel_spacing=spacing)
    assume(min(placement.scale) >= 1)
    mask = np.random.default_rng(seed).integers(0, 9, (height, width))
    np.testing.assert_array_equal(placement.mask_to_slice(placement.mask_to_square(mask)), mask)


@given(sides, sides, rules, spacings)
def test_points_return_to_where_they_were(height, width, rule, spacing):
    placement = Placement.of(height, width, size=64, rule=rule, pixel_spacing=spacing)
    points = np.array([[0.0, 0.0], [width - 1.0, height - 1.0], [width / 3, height / 7]])
    np.testing.assert_allclose(placement.to_slice(placement.to_square(points)), points, atol=1e-9)


@given(sides, sides, rules, st.data())
def test_a_pixel_maps_to_the_pixel_of_the_square_that_shows_it(height, width, rule, data):
    placement = Placement.of(height, width, size=96, rule=rule)
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[y, x] = 1
    # +0.5 pixel of the square: SAM's prompt encoder moves a prompt to the middle of the pixel that it names.
    column, row = (placement.to_square(np.array([x, y])) + 0.5).astype(int)
    if min(placement.scale) >= 1:
        assert placement.mask_to_square(mask)[row, column] == 1


@given(sides, sides, rules, st.data())
def test_a_tight_box_becomes_the_tight_box_of_the_enlarged_mask(height, width, rule, data):
    placement = Placement.of(height, width, size=96, rule=rule)
    assume(min(placement.scale) >= 1)
    x0, x1 = sorted(data.draw(st.tuples(st.integers(0, width - 1), st.integers(0, width - 1))))
    y0, y1 = sorted(data.draw(st.tuples(st.integers(0, height - 1), st.integers(0, height - 1))))
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[y0 : y1 + 1, x0 : x1 + 1] = 1
    wanted = tight_box(placement.mask_to_square(mask))
    assert np.abs(placement.box_to_square(np.array([x0, y0, x1, y1])) - wanted).max() <= 1


@given(sides, sides, rules)
def test_content_stays_inside_the_square(height, width, rule):
    placement = Placement.of(height, width, size=64, rule=rule)
    corners = placement.to_square(np.array([[0, 0], [width, height]]))
    assert (corners >= 0).all() and (corners <= 64 + 1e-9).all()


@given(st.integers(1, 2000), st.integers(1, 2000), st.data())
def test_a_box_lies_where_the_official_code_puts_it(height, width, data):
    """To the bit, in the float32 that every one of them hands to its prompt encoder."""
    x, y = (st.tuples(st.integers(0, side - 1), st.integers(0, side - 1)) for side in (width, height))
    (x0, x1), (y0, y1) = data.draw(x), data.draw(y)
    box = np.array([x0, y0, x1, y1])

    def placed(size: int, rule: str, mapping: str) -> np.ndarray:
        placement = Placement.of(height, width, size=size, rule=rule, box_mapping=mapping)
        return placement.box_to_square(box).astype(np.float32)

    def float32(values) -> np.ndarray:
        return np.asarray(values, dtype=np.float64).astype(np.float32)

    sam = ResizeLongestSide(1024).apply_boxes(box[None], (height, width))[0]  # SAM, MobileSAM, MedicoSAM
    np.testing.assert_array_equal(placed(1024, "longest", "scaled"), float32(sam))
    medsam = box / np.array([width, height, width, height]) * 1024  # MedSAM_Inference.py
    np.testing.assert_array_equal(placed(1024, "stretch", "scaled"), float32(medsam))
    ratio = 256 / max(height, width)  # resize_box_to_256 of LiteMedSAM
    np.testing.assert_array_equal(placed(256, "longest", "truncated"), float32([int(side * ratio) for side in box]))
    if max(height, width) >= 256:  # SAM-Med2D's predictor stretches every picture; its loader pads smaller ones
        sammed = [side * (256 / length) for side, length in zip(box, (width, height) * 2, strict=True)]
        np.testing.assert_array_equal(placed(256, "pad_center", "scaled"), float32(sammed))


def test_a_box_of_a_padded_picture_moves_with_it():
    placement = Placement.of(100, 50, size=256, rule="pad_center", box_mapping="scaled")
    assert placement.box_to_square(np.array([0, 0, 49, 99])).tolist() == [103, 78, 152, 177]


@pytest.mark.parametrize("mapping", BOX_MAPPINGS)
def test_a_box_of_a_window_is_counted_from_its_corner(mapping):
    window = Window(10, 20, 32, 32)
    part = Placement.of(100, 100, size=64, window=window, box_mapping=mapping)
    whole = Placement.of(32, 32, size=64, box_mapping=mapping)
    box = np.array([window.left + 3, window.top + 4, window.left + 20, window.top + 30])
    np.testing.assert_array_equal(part.box_to_square(box), whole.box_to_square(np.array([3, 4, 20, 30])))


def test_the_longest_side_fills_the_square_as_in_segment_anything():
    for height, width in [(512, 512), (600, 399), (37, 255), (1024, 2000)]:
        placement = Placement.of(height, width, size=1024)
        official = ResizeLongestSide(1024)
        assert (placement.content_height, placement.content_width) == official.get_preprocess_shape(height, width, 1024)
        points = np.array([[3.0, 5.0], [width - 1.0, height - 1.0]])
        np.testing.assert_allclose(placement.to_square(points), official.apply_coords(points, (height, width)))


def test_physical_aspect_gives_thick_slices_their_height():
    placement = Placement.of(30, 100, size=256, pixel_spacing=(5.0, 1.0))
    assert (placement.content_height, placement.content_width) == (256, 171)


def test_small_slices_are_centred_without_scaling():
    placement = Placement.of(100, 50, size=256, rule="pad_center")
    assert placement.scale == (1.0, 1.0) and (placement.top, placement.left) == (78, 103)


def test_large_slices_are_stretched_where_small_ones_are_centred():
    placement = Placement.of(300, 50, size=256, rule="pad_center")
    assert (placement.content_height, placement.content_width) == (256, 256)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_interpolation_keeps_a_constant_image_constant(interpolation):
    placement = Placement.of(20, 31, size=48, rule="stretch")
    image = np.full((20, 31, 3), 77, dtype=np.uint8)
    content = placement.image_to_content(image, interpolation)
    # Away from the border, where MedSAM's constant padding darkens.
    assert content.shape == (48, 48, 3) and np.abs(content[8:-8, 8:-8].astype(int) - 77).max() <= 1


def test_logits_return_to_the_slice_at_its_size():
    placement = Placement.of(40, 60, size=64)
    logits = torch.full((2, 3, 16, 16), -1.0)
    logits[..., :4, :4] = 1.0
    back = placement.logits_to_slice(logits)
    assert back.shape == (2, 3, 40, 60) and back[0, 0, 0, 0] > 0 > back[0, 0, 39, 59]


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="must be one of longest, stretch, pad_center, got 'squeeze'"):
        Placement.of(4, 4, size=8, rule="squeeze")
    with pytest.raises(ValueError, match="must be one of inclusive, scaled, truncated, got 'exclusive'"):
        Placement.of(4, 4, size=8, box_mapping="exclusive")
