"""What a batch run leaves behind."""

from __future__ import annotations

import csv
import json
import logging

import numpy as np
import pytest
from batch_room import AFFINE, FAMILY, SHAPE, bright_case, two_bars
from dicom_files import write_slice
from fakes import BrightRegionSam

from bundle.batch.case_files import CaseFiles
from bundle.batch.cases import Case, CaseError, FailedCase
from bundle.batch.results import SaveResults, write_report
from bundle.batch.workflow import CaseEvaluator, PromptInferer
from bundle.data.volume import Volume, read_label, read_volume
from bundle.errors import VolumeError
from bundle.evaluation.metrics import evaluate_label_map
from bundle.prompts.label_boxes import boxes_of_label

pytestmark = pytest.mark.usefixtures("told")


@pytest.fixture
def told(caplog):
    """Let the log be seen that a run ends with."""
    caplog.set_level(logging.INFO, "bundle")


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


def test_a_run_leaves_a_label_map_on_the_grid_and_a_report(tmp_path, caplog):
    report = run(tmp_path)
    written = read_label(tmp_path / "out" / report["label_map"])
    assert written.shape == SHAPE
    np.testing.assert_allclose(written.affine, AFFINE)
    assert report["family"] == "bright" and report["modality"] == "CT"
    assert [row["name"] for row in report["objects"]] == ["bar", "block"]
    assert all(row["dsc"] > 0.8 and 0 < row["nsd"] <= 1 and row["predicted_iou"] == 0.9 for row in report["objects"])
    assert report["seconds"]["total"] >= report["seconds"]["encode"] > 0
    assert "dsc" in caplog.text and "block" in caplog.text and "mean of 2" in caplog.text


def test_a_run_that_found_one_object_ends_with_the_line_of_means_too(tmp_path, caplog):
    boxes = boxes_of_label(two_bars(), {"bar": 1})
    CaseEvaluator(
        device="cpu",
        val_data_loader=[bright_case(boxes)],
        network=BrightRegionSam(),
        inferer=PromptInferer(FAMILY, device="cpu"),
        val_handlers=[SaveResults(tmp_path / "out", output_ext=".nrrd")],
    ).run()
    assert "mean of 1" in caplog.text


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


def test_without_a_truth_nothing_is_scored(tmp_path, caplog):
    assert all("dsc" not in row for row in run(tmp_path, truth=False)["objects"])
    assert "dsc" not in caplog.text


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


def test_a_run_goes_on_after_a_bad_case_and_ends_with_the_list(tmp_path, caplog):
    bad = FailedCase(CaseFiles("bad", tmp_path / "bad.nii.gz"), "cannot read bad.nii.gz")
    good = bright_case(boxes_of_label(two_bars(), {"bar": 1}))
    results = run_with_failures(tmp_path, bad, good)
    assert read_label(tmp_path / "out" / "bars.nrrd").array.any()
    report = json.loads((tmp_path / "out" / "bad.json").read_text())
    assert report == {"image": str(tmp_path / "bad.nii.gz"), "error": "cannot read bad.nii.gz"}
    assert "not segmented: cannot read bad.nii.gz" in caplog.text
    with (tmp_path / "out" / "report.csv").open(newline="") as file:
        assert [(row["case"], row["error"]) for row in csv.DictReader(file)] == [
            ("bars", ""),
            ("bad", "cannot read bad.nii.gz"),
        ]
    with pytest.raises(
        CaseError, match=r"(?s)1 of 2 cases could not .* --resume True\):\n  bad: cannot read bad.nii.gz"
    ):
        results.check()


def test_the_only_case_ends_with_its_own_sentence(tmp_path):
    results = run_with_failures(tmp_path, FailedCase(CaseFiles("bad", tmp_path / "bad.nii.gz"), "it is damaged"))
    with pytest.raises(CaseError, match=r"^it is damaged$"):
        results.check()


def test_a_run_without_failures_ends_well(tmp_path):
    run_with_failures(tmp_path, bright_case(boxes_of_label(two_bars(), {"bar": 1}))).check()


def test_the_report_is_about_all_cases_also_those_of_other_workers(tmp_path):
    (tmp_path / "a.json").write_text('{"objects": [{"name": "liver", "ml": 3.5}, {"name": "spleen", "ml": 1.0}]}')
    (tmp_path / "b.json").write_text('{"error": "it is damaged"}')
    with write_report(tmp_path, ["a", "b", "not there yet"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["name"], row["ml"], row["error"]) for row in rows] == [
        ("a", "liver", "3.5", ""),
        ("a", "spleen", "1.0", ""),
        ("b", "", "", "it is damaged"),
    ]


def test_statistics_and_a_preview_come_by_option(tmp_path):
    results = SaveResults(tmp_path, statistics=True, preview=True, digest=lambda files: f"of {files.name}")
    CaseEvaluator(
        device="cpu",
        val_data_loader=[bright_case(boxes_of_label(two_bars(), {"bar": 1}))],
        network=BrightRegionSam(),
        inferer=PromptInferer(FAMILY, device="cpu"),
        val_handlers=[results],
    ).run()
    report = json.loads((tmp_path / "bars.json").read_text())
    (row,) = report["objects"]
    assert row["ml"] == pytest.approx(row["voxels"] * 2 / 1000) and row["mean"] > 90 and report["inputs"] == "of bars"
    assert (tmp_path / "bars.preview.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "report.csv").is_file()
