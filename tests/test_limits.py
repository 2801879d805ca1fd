"""The limits have one table, and the environment moves them."""

from __future__ import annotations

import pytest

from bundle.data.limits import LimitError, Limits, variable_of


def test_a_variable_moves_its_limit_and_no_other():
    assert Limits.from_environment({variable_of("voxels"): "7", "MONAI_SAM_MAX_NOTHING": "x"}) == Limits(voxels=7)


@pytest.mark.parametrize("text", ["", "0", "-1", "1e9", "many", "²"])
def test_a_limit_that_is_no_number_is_named(text):
    with pytest.raises(LimitError, match=f"MONAI_SAM_MAX_POINTS must be a whole number above 0, got '{text}'"):
        Limits.from_environment({"MONAI_SAM_MAX_POINTS": text})


def test_a_float64_volume_of_the_largest_size_fits_into_the_bytes():
    assert Limits().voxels * 8 <= Limits().data_bytes
