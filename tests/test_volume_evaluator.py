"""Evaluations of volumes."""

from __future__ import annotations

import json

from test_evaluator import Thresholds

from bundle.data.phantom import make_phantom
from bundle.evaluation.evaluator import EvaluationSettings
from bundle.evaluation.volume_evaluator import VolumeCase, evaluate_volumes
from bundle.evaluation.volume_protocols import VolumeProtocol


def test_volumes_are_prompted_and_scored_in_millimetres(tmp_path):
    image, labels, names = make_phantom(shape=(40, 36, 20), spacing=(8.0, 8.0, 9.0), seed=0)
    organ, label = next(iter(names.items()))
    case = VolumeCase("patient-0", image, labels)
    protocols = {"slice": VolumeProtocol("slice_box"), "box": VolumeProtocol("box")}
    records = evaluate_volumes(
        Thresholds(),
        {"phantom-0": lambda: case},
        organs={label: organ},
        protocols=protocols,
        folder=tmp_path,
        settings=EvaluationSettings(tuple(protocols)),
    )
    assert [record["protocol"] for record in records] == ["slice", "box"]
    assert records[0]["voxels_truth"] == (labels.array == label).sum()
    assert json.loads((tmp_path / "settings.json").read_text())["protocols"] == ["slice", "box"]
