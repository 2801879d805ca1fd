"""A loaded model opens pictures and volumes with what answers them best."""

from __future__ import annotations

import numpy as np
from fakes import BrightCubes, BrightRegionSam

from bundle.data.volume import Volume
from bundle.evaluation.study import VolumeStudy
from bundle.families.family import load_family
from bundle.interactive import segmenter
from bundle.interactive.guided_following import GuidedFollowing
from bundle.interactive.segmenter import Segmenter


def opened(name: str) -> Segmenter:
    return Segmenter(load_family(name), BrightRegionSam(), device="cpu")


def test_a_family_that_names_no_network_of_volumes_is_followed():
    assert opened("default-without_3d").volume_model is None


def test_a_network_of_volumes_is_built_once_and_only_for_volumes(monkeypatch):
    built = []

    def build(family):
        built.append(family.name)
        return BrightCubes()

    monkeypatch.setattr(segmenter, "build_network", build)
    model = opened("default")
    model.open(Volume(np.zeros((8, 8, 1), np.uint8), np.eye(4), "windowed"))
    assert built == []
    for _ in range(2):
        model.open(Volume(np.zeros((8, 8, 8), np.uint8), np.eye(4), "windowed"))
    assert built == ["default_3d"] and type(model.volume_model) is GuidedFollowing


def test_with_a_network_of_volumes_it_is_another_model_though_its_slices_are_answered_alike(monkeypatch):
    monkeypatch.setattr(segmenter, "build_network", lambda family: BrightCubes())
    alone, both, again = (opened(name) for name in ("default-without_3d", "default", "default"))
    assert alone.predictor.identity == both.predictor.identity == alone.identity
    assert alone.identity != both.identity == again.identity


def test_a_study_of_volumes_goes_on_with_the_same_network_of_volumes_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(segmenter, "build_network", lambda family: BrightCubes())
    model = opened("default")
    study = VolumeStudy(model, [], organs={1: "liver"}, protocols=["box"], folder=tmp_path)
    assert study.settings.model == model.identity
