"""The mean shape of labels fills each box as the labels fill theirs."""

from __future__ import annotations

import numpy as np
import pytest

from monailabel_app.learning.mean_shape import mean_shape

DARK = np.zeros((40, 60), np.uint8)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(DARK.shape, bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def left_half(width: int, height: int) -> np.ndarray:
    """An L whose foot reaches the right side, so that its box is as wide as that."""
    mask = np.zeros((height, width), bool)
    mask[:, : width // 2] = mask[-1:] = True
    return mask


def test_rectangles_of_any_size_fill_the_box():
    draw = mean_shape([rectangle(3, 4, 20, 9), rectangle(30, 2, 33, 30)])
    np.testing.assert_array_equal(draw(DARK, np.array([10, 5, 40, 20])), rectangle(10, 5, 40, 20))


def test_the_shape_is_stretched_to_the_box():
    drawn = mean_shape([left_half(20, 20), left_half(32, 16)])(DARK, np.array([10, 0, 49, 39]))
    assert drawn[5:30, 11:28].all() and not drawn[5:30, 32:].any() and not drawn[:, :10].any()


def test_what_most_labels_lack_is_left_out():
    full, half = np.ones((20, 20), bool), left_half(20, 20)
    box = np.array([0, 0, 19, 19])
    picture = np.zeros((20, 20), np.uint8)
    assert not mean_shape([full, half, half])(picture, box)[:15, 12:].any()
    assert mean_shape([full, full, half])(picture, box).mean() > 0.9


@pytest.mark.parametrize("box", [(-5.0, -3.0, 8.0, 50.0), (59, 39, 59, 39), (50.4, 30.0, 80.0, 39.0)])
def test_a_box_that_reaches_out_of_the_picture_is_cut_off_and_colours_do_not_matter(box):
    coloured = np.zeros((*DARK.shape, 3), np.uint8)
    drawn = mean_shape([rectangle(3, 4, 20, 9)])(coloured, np.array(box))
    assert drawn.shape == DARK.shape and drawn.any()
