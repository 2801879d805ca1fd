"""What the builders of networks refuse."""

from __future__ import annotations

import pytest
import torch

from bundle.families.builders import sam_tiny_vit, sam_vit


@pytest.mark.parametrize("options", [{"candidates": "never"}, {"mask_prompt": "percent"}, {"propagated": ["x"]}])
def test_an_unknown_way_of_asking_is_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must (be|list at least) one of"), torch.device("meta"):
        sam_vit(image_size=64, **options)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sam_vit("vit_b", image_size=100), "multiple of 16"),
        (lambda: sam_vit("vit_g"), "vit_b, vit_l, vit_h"),
        (lambda: sam_tiny_vit(image_size=256, grid=64), "grid must be 16"),
    ],
)
def test_sizes_that_cannot_work_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
