"""Evaluations of volumes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract
from test_evaluator import Thresholds
from test_semantic import ORGAN, BrightStacks, ct, model

from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume
from bundle.engines.cache import PreparedCache
from bundle.evaluation.evaluator import AUTOMATIC, EvaluationSettings
from bundle.evaluation.records import EvaluationError, read_mask
from bundle.evaluation.report import extreme_records, overlays_of
from bundle.evaluation.volume_evaluator import (
    VolumeAnswer,
    VolumeCase,
    evaluate_automatic_volumes,
    evaluate_volumes,
    prompt_on_slice,
    scenes_of,
)
from bundle.evaluation.volume_protocols import VolumeProtocol, central_slice
from bundle.interactive.slice_model import SlicePredictor
from bundle.transforms.frames import SliceFrame

ORGANS = {ORGAN: "liver"}


def predictor():
    return SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache())


def case(**about):
    volume, inside = ct()
    return VolumeCase("p0", volume, Volume(np.where(inside, ORGAN, 0).astype(np.uint8), volume.affine), **about)


def evaluate(folder, protocols, *, cases=None, **options):
    return evaluate_volumes(
        predictor(),
        cases or {"a": case},
        organs=ORGANS,
        protocols=protocols,
        folder=folder,
        settings=EvaluationSettings(tuple(protocols), replayed="replay" in options),
        **options,
    )


def test_volumes_are_prompted_and_scored_in_millimetres(tmp_path):
    image, labels, names = make_phantom(shape=(40, 36, 20), spacing=(8.0, 8.0, 9.0), seed=0)
    organ, label = next(iter(names.items()))
    protocols = {"slice": VolumeProtocol("slice_box"), "box": VolumeProtocol("box")}
    records = evaluate_volumes(
        Thresholds(),
        {"phantom-0": lambda: VolumeCase("patient-0", image, labels)},
        organs={label: organ},
        protocols=protocols,
        folder=tmp_path,
        settings=EvaluationSettings(tuple(protocols)),
    )
    assert [record["protocol"] for record in records] == ["slice", "box"]
    assert records[0]["voxels_truth"] == (labels.array == label).sum()
    assert json.loads((tmp_path / "settings.json").read_text())["protocols"] == ["slice", "box"]


def test_a_record_has_the_estimate_the_times_and_the_slice_that_is_kept(tmp_path):
    (record,) = evaluate(tmp_path, {"box": VolumeProtocol("box")})
    truth = ct()[1]
    assert record["predicted_iou"] == pytest.approx(0.9)
    assert 0 < record["encode_seconds"] < 60 and record["seconds"] > 0
    assert record["slice"] == central_slice(truth)
    frame = SliceFrame.along(truth.shape, ct()[0].affine, 2)
    wanted = frame.extract(truth, record["slice"])
    assert np.count_nonzero(read_mask(tmp_path, record) != wanted) < 0.1 * wanted.sum()


def test_the_estimate_of_a_volume_counts_slices_by_their_answer():
    mask = np.zeros((4, 4, 3), bool)
    mask[:3, 0, 0], mask[0, 0, 1] = True, True
    found = SimpleNamespace(mask=mask, axis=2, scores={0: 0.8, 1: 0.4, 2: 0.1}, seconds={"encode": 6.0}, encoded=3)
    answer = VolumeAnswer.of(found)
    assert answer.iou == pytest.approx((3 * 0.8 + 0.4) / 4) and (answer.encoded, answer.encode_seconds) == (3, 6)
    found.mask = np.zeros_like(mask)
    assert VolumeAnswer.of(found).iou == pytest.approx(1.3 / 3)


@pytest.mark.parametrize("axis", [0, 2])
def test_an_overlay_shows_the_middle_of_the_object_with_truth_answer_and_prompt(tmp_path, axis):
    protocols = {"slice_box": VolumeProtocol("slice_box", axis=axis), "point": VolumeProtocol("point", axis=axis)}
    records = evaluate(tmp_path, protocols, axis=axis)
    scenes = scenes_of({"a": case}, records, organs=ORGANS, contract=bright_contract(), axis=axis)
    picks = extreme_records(records)
    for heading, (overlay,) in overlays_of(picks, tmp_path, scenes).items():
        assert overlay.picture[overlay.truth].min() == 255 and overlay.picture[~overlay.truth].max() == 0
        assert np.count_nonzero(overlay.prediction != overlay.truth) < 0.1 * overlay.truth.sum()
        rows, columns = np.nonzero(overlay.truth)
        if "box" in heading:
            assert overlay.prompt.box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
        assert f"slice {records[0]['slice']}" in overlay.title
    spacing = {2: (1, 2), 0: (3, 2)}[axis]  # height and width of a pixel in mm
    assert overlay.aspect == pytest.approx(spacing[0] / spacing[1])


def test_of_a_prompt_in_a_volume_a_slice_shows_what_lies_on_it():
    frame = SliceFrame.along((40, 56, 11), ct()[0].affine, 2)
    stored = {"points": [[3, 4, 5], [6, 7, 8]], "point_labels": [1, 0], "box": [[1, 2, 4], [10, 20, 6]]}
    there, beyond = (prompt_on_slice(stored, frame=frame, index=index) for index in (5, 8))
    assert frame.to_voxels(there.points, 5).tolist() == [[3, 4, 5]] and there.point_labels.tolist() == [1]
    corners = frame.to_voxels(there.box.reshape(2, 2), 5)
    assert np.sort(corners, axis=0).tolist() == [[1, 2, 5], [10, 20, 5]]
    assert beyond.box is None and beyond.point_labels.tolist() == [0]


def test_a_second_model_is_shown_the_prompts_of_the_first(tmp_path):
    clicks = {"clicks": VolumeProtocol("point", clicks=2)}
    first = evaluate(tmp_path / "a", clicks)
    moved = [{**r, "prompt": {**r["prompt"], "points": [[20, 20, 3]], "point_labels": [1]}} for r in first[:1]]
    again = evaluate(tmp_path / "b", clicks, replay=moved)
    assert [record["prompt"] for record in again] == [record["prompt"] for record in moved]
    with pytest.raises(EvaluationError, match="same list"):
        evaluate(tmp_path / "c", clicks, cases={"other": case}, replay=first)


def test_an_automatic_network_is_scored_in_3d_on_what_was_looked_for(tmp_path):
    def run(name, **about):
        settings = EvaluationSettings((AUTOMATIC,), pixels_of=None)
        organs = {ORGAN: "liver", 8: "spleen"}
        where = {"organs": organs, "folder": tmp_path / name, "settings": settings}
        return evaluate_automatic_volumes(model(BrightStacks(), values=(ORGAN,)), {"a": about["case"]}, **where)

    (record,) = run("found", case=case)
    assert (record["organ"], record["protocol"], record["slice"]) == ("liver", AUTOMATIC, central_slice(ct()[1]))
    assert record["nsd"] > 0.9 and record["voxels_truth"] == ct()[1].sum()
    empty = Volume(np.zeros(ct()[0].shape, np.uint8), ct()[0].affine)
    (invented,) = run("invented", case=lambda: VolumeCase("p0", ct()[0], empty))
    assert (invented["organ"], invented["dsc"]) == ("liver", 0) and read_mask(tmp_path / "invented", invented).any()
    assert run("not asked", case=lambda: VolumeCase("p0", ct()[0], empty, annotated=(8,))) == []
