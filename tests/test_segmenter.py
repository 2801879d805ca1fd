"""A loaded model opens pictures and volumes with what answers them best."""

from __future__ import annotations

import numpy as np
from fakes import BrightCubes, BrightRegionSam

from bundle.data.volume import Volume
from bundle.families.family import load_family
from bundle.interactive import segmenter
from bundle.interactive.guided_following import GuidedFollowing
from bundle.interactive.segmenter import Segmenter


def opened(name: str) -> Segmenter:
    return Segmenter(load_family(name), BrightRegionSam(), device="cpu")


def test_a_family_that_names_no_network_of_volumes_is_followed():
    assert opened("default").volume_model is None


def test_a_network_of_volumes_is_built_once_and_only_for_volumes(monkeypatch):
    built = []

    def build(family):
        built.append(family.name)
        return BrightCubes()

    monkeypatch.setattr(segmenter, "build_network", build)
    model = opened("default-with_3d")
    model.open(Volume(np.zeros((8, 8, 1), np.uint8), np.eye(4), "windowed"))
    assert built == []
    for _ in range(2):
        model.open(Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4), "windowed"))
    assert built == ["default_3d"] and type(model.volume_model) is GuidedFollowing
