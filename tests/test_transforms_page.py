"""docs/transforms.md shows code that runs, and an answer that is the product's own."""

from __future__ import annotations

import re

import numpy as np
import pytest
from training_room import one_thread as one_thread

import bundle


@pytest.fixture(scope="module")
def page(repository) -> str:
    return (repository / "docs" / "transforms.md").read_text("utf-8")


@pytest.mark.usefixtures("one_thread")
def test_the_example_finds_the_organ_on_the_volumes_grid(page):
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    made: dict = {}
    exec(code, made)
    mask, truth = made["volume_mask"][0], made["data"]["label"][0] == made["liver"]
    assert mask.shape == made["ct"].shape and mask.dtype == bool
    (index,) = np.flatnonzero(mask.any(axis=(0, 1)))
    shown = truth[:, :, index]
    assert 2 * (mask[:, :, index] & shown).sum() > 0.8 * (mask.sum() + shown.sum())


def test_the_page_names_every_transform_of_the_public_door(page):
    transforms = [name for name in bundle.__all__ if name.endswith("d") and name[0].isupper()]
    assert len(transforms) == 6 and all(f"`{name}`" in page for name in transforms)


def test_the_configs_name_what_the_page_says(page, repository):
    for config, names in {
        "train": ("IntensityViewsd", "NetworkInputd", "SliceBoxd"),
        "evaluate": ("IntensityViewsd",),
        "inference": ("VolumeBoxesd",),
    }.items():
        text = (repository / "configs" / f"{config}.json").read_text("utf-8")
        assert f"`configs/{config}.json`" in page and all(f'{name}"' in text for name in names)
