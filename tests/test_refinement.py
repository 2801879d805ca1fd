"""A rough answer outlined by a model of slices."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.interactive.refinement import refined
from bundle.interactive.slice_model import SliceMask


@pytest.mark.parametrize("propagated", [("box",), ("mask",), ("box", "mask")])
def test_a_network_is_shown_of_the_rough_answer_what_it_was_trained_with(propagated):
    mask = np.zeros((20, 30), bool)
    mask[5:10, 8:20] = True
    rough, asked = SliceMask(mask), {}
    refined({3: rough}, lambda index, prompt: asked.setdefault(index, prompt), propagated=propagated)
    box = asked[3].box
    assert (None if box is None else box.tolist()) == ([7, 4, 20, 10] if "box" in propagated else None)
    assert asked[3].previous is (rough if "mask" in propagated else None)
