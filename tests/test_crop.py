"""The window around an object: where it lies, and that everything maps into it and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bundle.transforms.contract import Contract, ContractError
from bundle.transforms.crop import Window, Zoom
from bundle.transforms.placement import NOT_SEEN, Placement

sides = st.integers(40, 400)
shares = st.floats(0, 1)


@st.composite
def boxes(draw):
    """A slice (H, W) with a box in it."""
    height, width = draw(sides), draw(sides)
    x0, x1 = sorted((draw(shares) * (width - 1), draw(shares) * (width - 1)))
    y0, y1 = sorted((draw(shares) * (height - 1), draw(shares) * (height - 1)))
    return height, width, np.round([x0, y0, x1, y1])


@given(boxes(), st.floats(0.4, 3.0), st.floats(0.4, 3.0), st.floats(0.0, 1.5))
def test_a_window_lies_in_the_slice_and_holds_the_box(drawn, dy, dx, margin):
    height, width, box = drawn
    window = Zoom(margin=margin).window(box, height, width, (dy, dx))
    if window is None:
        return
    assert window.top >= 0 and window.top + window.height <= height
    assert window.left >= 0 and window.left + window.width <= width
    assert window.left <= box[0] and box[2] < window.left + window.width
    assert window.top <= box[1] and box[3] < window.top + window.height


@given(boxes(), st.floats(0.5, 2.0))
def test_a_window_is_square_in_mm_unless_the_slice_ends(drawn, ratio):
    height, width, box = drawn
    window = Zoom().window(box, height, width, (ratio, 1.0))
    if window is not None and window.height < height and window.width < width:
        assert abs(window.height * ratio - window.width) <= 1 + ratio


def test_a_box_that_fills_the_slice_gets_the_whole_slice():
    assert Zoom(whole=0.7).window(np.array([20, 20, 180, 180]), 256, 256) is None
    assert Zoom(whole=0.7).window(np.array([100, 100, 120, 120]), 256, 256) is not None


def test_a_tiny_box_is_not_magnified_beyond_the_smallest_window():
    assert Zoom(smallest=32).window(np.array([100, 100, 102, 102]), 256, 256) == Window(86, 86, 32, 32)


@given(boxes(), st.integers(0, 2**32 - 1))
def test_coordinates_come_back_from_a_window(drawn, seed):
    height, width, box = drawn
    window = Zoom().window(box, height, width)
    placement = Placement.of(height, width, size=256, window=window)
    xy = np.random.default_rng(seed).uniform(0, 40, (5, 2))
    assert np.allclose(placement.to_slice(placement.to_square(xy)), xy)


@given(boxes())
def test_a_mask_in_its_window_comes_back_where_it_was(drawn):
    height, width, box = drawn
    x0, y0, x1, y1 = box.astype(int)
    mask = np.zeros((height, width), bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    window = Zoom().window(box, height, width)
    if window is None:
        return
    placement = Placement.of(height, width, size=512, window=window)  # larger than any window: nothing is lost
    assert np.array_equal(placement.mask_to_slice(placement.mask_to_square(mask)), mask)


def test_logits_outside_of_the_window_are_not_the_object():
    placement = Placement.of(100, 80, size=64, window=Window(10, 20, 40, 40))
    logits = placement.logits_to_slice(torch.full((1, 1, 16, 16), 3.0))
    assert logits.shape == (1, 1, 100, 80)
    inside = torch.zeros(100, 80, dtype=torch.bool)
    inside[10:50, 20:60] = True
    assert torch.allclose(logits[0, 0][inside], torch.tensor(3.0)) and (logits[0, 0][~inside] == NOT_SEEN).all()


def test_logits_of_the_slice_become_those_of_the_window():
    logits = torch.zeros(1, 1, 100, 80)
    logits[..., 10:50, 20:60] = 5
    placement = Placement.of(100, 80, size=64, window=Window(10, 20, 40, 40))
    assert torch.allclose(placement.logits_to_square(logits, 16), torch.full((1, 1, 16, 16), 5.0))


def test_the_picture_of_a_window_is_the_picture_there():
    picture = np.arange(100 * 80, dtype=np.float32).reshape(100, 80, 1)
    placement = Placement.of(100, 80, size=40, window=Window(10, 20, 40, 40))
    assert np.array_equal(placement.image_to_content(picture, "bilinear"), picture[10:50, 20:60])


def contract(**zoom) -> Contract:
    rule = {"kind": "identity"}
    channel = {"CT": rule, "other": rule, "windowed": rule}
    config = {"size": 64, "resize": "longest", "interpolation": "bilinear", "channels": [channel]}
    return Contract.from_config({**config, "normalise": {"scale": "0-1"}, **({"zoom": zoom} if zoom else {})})


def test_only_a_contract_with_zoom_cuts_windows():
    box = np.array([10, 10, 20, 20])
    assert contract().placement(100, 100, around=box).window is None
    assert contract(margin=0.5).placement(100, 100, around=box).window is not None
    assert contract(margin=0.5).placement(100, 100).window is None


def test_an_unknown_zoom_key_is_named():
    with pytest.raises(ContractError, match="'margins'"):
        contract(margins=0.5)
