"""The page of an audit: its sentences, and the picture of what they are about."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_audit import NAMES, with_a_tiny_spleen, with_another_value, write

from bundle.data.audit import audit
from bundle.data.audit_page import FLAGGED, write_page
from bundle.data.datasets import folders
from bundle.data.palette import color_of


@pytest.fixture
def page(tmp_path):
    """The page of three patients, two of whom are remarkable."""
    write(tmp_path / "set", "<b>", seed=0, change=with_another_value)
    write(tmp_path / "set", "small", seed=1, change=with_a_tiny_spleen)
    write(tmp_path / "set", "plain", seed=2)
    items = folders(tmp_path / "set", names=NAMES)
    result = audit(items, tmp_path, min_voxels=20, fractions=(1, 0, 0))
    return write_page(result, dict(zip(result.facts, items, strict=True)), tmp_path, name="<mine>")


def test_the_page_says_what_is_wrong_and_how_large_the_objects_are(page):
    text = page.read_text()
    assert "1 findings have to be mended" in text and "9 (3 voxels)" in text and 'src="check.png"' in text
    assert "<td>spleen</td>" in text and "<mine>" not in text and "<b>" not in text.replace("<body>", "")


def test_the_picture_shows_outlines_of_labels_and_marks_what_was_found(page):
    pixels = np.asarray(Image.open(page.parent / "check.png").convert("RGB")).reshape(-1, 3)
    marks = [[int(FLAGGED[n : n + 2], 16) for n in (1, 3, 5)], *(np.multiply(color_of(value), 255) for value in (1, 2))]
    for colour in marks:
        assert (np.abs(pixels - colour).max(axis=1) < 40).sum() > 5, colour
