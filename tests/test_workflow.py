"""Batch inference: cases asked of a network, written with scores."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from dicom_files import write_slice
from fakes import BrightRegionSam, bright_contract
from torch import nn

from bundle.batch.cases import Case, CaseError, CaseFiles, FailedCase, find_cases
from bundle.batch.workflow import CaseEvaluator, PromptInferer, SaveResults
from bundle.data.volume import Volume, read_label, read_volume
from bundle.errors import VolumeError
from bundle.evaluation.metrics import evaluate_label_map
from bundle.interactive.segmenter import Segmenter
from bundle.networks.interface import ModelSpec
from bundle.prompts.label_boxes import boxes_of_label
from bundle.prompts.prompts import ObjectPrompts, PromptError

SHAPE = (40, 36, 24)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
FAMILY = SimpleNamespace(name="bright", contract=bright_contract())


def two_bars():
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:18, 6:20, 2:16] = 1
    labels[22:36, 10:30, 6:20] = 3
    return labels


def bright_case(prompts, tmp_path=None, truth=True):
    labels = two_bars()
    image = Volume(np.where(labels > 0, 100, 0).astype(np.int16), AFFINE, "CT")
    return Case(CaseFiles("bars", "bars.nii.gz"), image, prompts, Volume(labels, AFFINE) if truth else None)


# ---- asking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_boxes_of_a_label_find_its_objects(dimension, axis):
    names = {"bar": 1, "block": 3}
    boxes = boxes_of_label(two_bars(), names, dimension=dimension, axis=axis)
    result = PromptInferer(FAMILY, dimension=dimension, axis=axis, device="cpu")(bright_case(boxes), BrightRegionSam())
    scores = evaluate_label_map(result.labels, two_bars(), spacing=(1, 1, 2), labels=names)
    assert min(score.dsc for score in scores) > 0.8
    assert [(row.name, row.label) for row in result.objects] == [("bar", 1), ("block", 3)]
    assert [row.voxels for row in result.objects] == [np.count_nonzero(result.labels == value) for value in (1, 3)]


def test_a_flat_prompt_is_followed_in_3d_and_stays_on_its_slice_in_2d():
    prompt = ObjectPrompts(box=np.array([[4, 6, 4], [17, 19, 4]]), name="bar")
    slices = {}
    for dimension in (2, 3):
        result = PromptInferer(FAMILY, dimension=dimension, device="cpu")(bright_case([prompt]), BrightRegionSam())
        slices[dimension] = np.flatnonzero(result.labels.any(axis=(0, 1))).tolist()
        assert result.objects[0].slices == len(slices[dimension])
    assert slices == {2: [4], 3: list(range(2, 16))}


def test_slices_that_look_the_same_are_encoded_once():
    network, boxes = BrightRegionSam(), boxes_of_label(two_bars(), {"bar": 1, "block": 3}, dimension=2)
    inferer = PromptInferer(FAMILY, dimension=2, device="cpu")
    assert inferer(bright_case(boxes), network).encoded_slices == 3  # the bar alone, both, and the block alone
    assert inferer(bright_case(boxes), network).encoded_slices == 0


def test_a_prompt_that_cannot_be_used_names_its_object():
    inferer = PromptInferer(FAMILY, device="cpu")
    case = bright_case([ObjectPrompts(points=[[99, 0, 0]], point_labels=[1], name="tip")])
    with pytest.raises(PromptError, match="object 'tip': point"):
        inferer.answer(case, Segmenter(FAMILY, BrightRegionSam(), device="cpu"))
    found = inferer(case, BrightRegionSam())
    assert isinstance(found, FailedCase) and found.reason.startswith("object 'tip': point")


class Automatic(nn.Identity):
    spec = ModelSpec(input_shape=(3, 64, 64), prompts=(), classes=4)


def test_a_network_without_prompts_and_a_fourth_dimension_are_refused():
    with pytest.raises(CaseError, match="takes no prompts"):
        PromptInferer(FAMILY)(bright_case([]), Automatic())
    with pytest.raises(CaseError, match="dimension must be 2 or 3"):
        PromptInferer(FAMILY, dimension=4)
    with pytest.raises(CaseError, match="axis must be 0, 1 or 2, got 3"):
        PromptInferer(FAMILY, axis=3)


# ---- writing --------------------------------------------------------------------------------------------------------


def run(tmp_path, *, truth=True, score=evaluate_label_map):
    boxes = boxes_of_label(two_bars(), {"bar": 1, "block": 3})
    CaseEvaluator(
        device="cpu",
        val_data_loader=[bright_case(boxes, truth=truth)],
        network=BrightRegionSam(),
        inferer=PromptInferer(FAMILY, device="cpu"),
        val_handlers=[SaveResults(tmp_path / "out", output_ext=".nrrd", score=score, settings={"family": "bright"})],
    ).run()
    return json.loads((tmp_path / "out" / "bars.json").read_text())


def test_a_run_leaves_a_label_map_on_the_grid_and_a_report(tmp_path, capsys):
    report = run(tmp_path)
    written = read_label(tmp_path / "out" / report["label_map"])
    assert written.shape == SHAPE
    np.testing.assert_allclose(written.affine, AFFINE)
    assert report["family"] == "bright" and report["modality"] == "CT"
    assert [row["name"] for row in report["objects"]] == ["bar", "block"]
    assert all(row["dsc"] > 0.8 and 0 < row["nsd"] <= 1 and row["predicted_iou"] == 0.9 for row in report["objects"])
    assert report["seconds"]["total"] >= report["seconds"]["encode"] > 0
    printed = capsys.readouterr().out
    assert "dsc" in printed and "block" in printed and "mean of 2" in printed


def run_dicom(image, tmp_path, network):
    labels = np.zeros(image.shape, np.uint8)
    labels[4:18, 6:20, 2:16], labels[22:36, 10:30, 6:20] = 1, 2
    boxes = boxes_of_label(labels, {"liver": 1, "spleen": 2})
    CaseEvaluator(
        device="cpu",
        val_data_loader=[Case(CaseFiles("study", image.source), image, boxes)],
        network=network,
        inferer=PromptInferer(FAMILY, device="cpu"),
        val_handlers=[SaveResults(tmp_path / "out", output_ext=".dcm")],
    ).run()


def test_a_dicom_series_is_answered_by_a_dicom_seg_with_names(tmp_path):
    bars = two_bars()
    for k in range(SHAPE[2]):
        pixels = np.where(bars[:, :, k] > 0, 100, 0).astype(np.uint16).T
        write_slice(tmp_path / f"{k}.dcm", pixels, (0, 0, 2 * k), InstanceNumber=k + 1)
    image = read_volume(tmp_path)
    run_dicom(image, tmp_path, BrightRegionSam())
    seg = read_label(tmp_path / "out" / "study.dcm")
    assert [segment.name for segment in seg.segments] == ["liver", "spleen"]
    first = round(np.linalg.solve(image.affine, seg.affine[:, 3])[2])
    np.testing.assert_array_equal(seg.array > 0, bars[:, :, first : first + seg.shape[2]] > 0)
    assert seg.shape[2] == np.count_nonzero(bars.any(axis=(0, 1)))


def test_a_dicom_seg_of_an_image_that_is_no_dicom_is_refused_before_anything_is_computed(tmp_path):
    image = Volume(np.zeros(SHAPE, np.int16), AFFINE, source=tmp_path / "bars.nii.gz")
    with pytest.raises(VolumeError, match="refers to the DICOM series it belongs to"):
        run_dicom(image, tmp_path, None)  # without a network: nothing may ask it


def test_without_a_truth_nothing_is_scored(tmp_path, capsys):
    assert all("dsc" not in row for row in run(tmp_path, truth=False)["objects"])
    assert "dsc" not in capsys.readouterr().out


def run_with_failures(tmp_path, *cases):
    results = SaveResults(tmp_path / "out", output_ext=".nrrd")
    CaseEvaluator(
        device="cpu",
        val_data_loader=list(cases),
        network=BrightRegionSam(),
        inferer=PromptInferer(FAMILY, device="cpu"),
        val_handlers=[results],
    ).run()
    return results


def test_a_run_goes_on_after_a_bad_case_and_ends_with_the_list(tmp_path, capsys):
    bad = FailedCase(CaseFiles("bad", tmp_path / "bad.nii.gz"), "cannot read bad.nii.gz")
    good = bright_case(boxes_of_label(two_bars(), {"bar": 1}))
    results = run_with_failures(tmp_path, bad, good)
    assert read_label(tmp_path / "out" / "bars.nrrd").array.any()
    report = json.loads((tmp_path / "out" / "bad.json").read_text())
    assert report == {"image": str(tmp_path / "bad.nii.gz"), "error": "cannot read bad.nii.gz"}
    printed = capsys.readouterr().out
    assert "not segmented: cannot read bad.nii.gz" in printed and "mean of 1" in printed
    with pytest.raises(CaseError, match=r"(?s)1 of 2 cases could not .* --resume True:\n  bad: cannot read bad.nii.gz"):
        results.check()


def test_the_only_case_ends_with_its_own_sentence(tmp_path):
    results = run_with_failures(tmp_path, FailedCase(CaseFiles("bad", tmp_path / "bad.nii.gz"), "it is damaged"))
    with pytest.raises(CaseError, match=r"^it is damaged$"):
        results.check()


def test_a_run_without_failures_ends_well_and_is_done(tmp_path):
    run_with_failures(tmp_path, bright_case(boxes_of_label(two_bars(), {"bar": 1}))).check()
    (tmp_path / "bars.nrrd").touch(), (tmp_path / "p.json").touch()
    assert find_cases(tmp_path / "bars.nrrd", prompts=tmp_path / "p.json", done_in=tmp_path / "out") == []
