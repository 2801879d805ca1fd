"""Studies: what one evaluation is made of, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_runner import ORGANS, slices
from training_room import CONTRACT, make_network

from bundle.data.labelled_slices import resized
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_label, write_label, write_volume
from bundle.engines.cache import PreparedCache
from bundle.errors import RunStateError
from bundle.evaluation.baselines import ellipse, otsu
from bundle.evaluation.metrics import MetricError
from bundle.evaluation.models import open_baseline
from bundle.evaluation.protocols import ProtocolError
from bundle.evaluation.records import EvaluationError, read_failures, read_records
from bundle.evaluation.semantic import AutomaticModel
from bundle.evaluation.study import SliceStudy, VolumeStudy, spread
from bundle.interactive.slice_model import SlicePredictor

PROTOCOLS = ("box", "box_jitter_20")


def study(folder, baseline=ellipse, items=None, **options):
    return SliceStudy(
        open_baseline(baseline), items or slices(), organs=ORGANS, protocols=PROTOCOLS, folder=folder, **options
    )


def test_a_study_ends_in_a_report_that_compares_with_an_earlier_one(tmp_path):
    study(tmp_path / "ellipse").run()
    page = study(tmp_path / "otsu", otsu, name="otsu", before={"ellipse": tmp_path / "ellipse"}).run()
    assert "ellipse → otsu" in page.read_text()
    content = json.loads((page.parent / "summary.json").read_text())
    assert {row["protocol"] for row in content["comparison"]} == set(PROTOCOLS)


def test_a_replayed_study_shows_the_same_prompts(tmp_path):
    study(tmp_path / "first").evaluate()
    study(tmp_path / "second", otsu, replay=tmp_path / "first", seed=7).evaluate()
    first, second = read_records(tmp_path / "first"), read_records(tmp_path / "second")
    assert [record["prompt"] for record in first] == [record["prompt"] for record in second]


def test_a_misspelt_protocol_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ProtocolError, match="known are"):
        SliceStudy(open_baseline(ellipse), [], organs=ORGANS, protocols=["bocks"], folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def predictor(seed=0, network=None):
    return SlicePredictor(network or make_network(seed), CONTRACT, store=PreparedCache(), device="cpu")


def test_a_network_is_evaluated_with_its_own_prompts_and_logits(tmp_path):
    SliceStudy(predictor(), slices(1), organs={1: "liver"}, protocols=["sam_med2d"], folder=tmp_path).evaluate()
    records = read_records(tmp_path)
    assert [len(record["prompt"]["points"]) for record in records] == list(range(1, len(records) + 1))
    assert all(record["predicted_iou"] is not None for record in records)
    assert records[0]["encode_seconds"] > 0 and not any(record["encode_seconds"] for record in records[1:])


def test_a_run_never_goes_on_with_other_weights_or_other_slices(tmp_path):
    options = {"organs": ORGANS, "protocols": ["box"], "folder": tmp_path}
    SliceStudy(predictor(), slices(1), **options).evaluate()
    for model, items in ((predictor(seed=1), slices(1)), (predictor(), slices(2))):
        with pytest.raises(RunStateError, match="choose another folder"):
            SliceStudy(model, items, **options).evaluate()


def test_a_run_with_another_seed_or_unit_is_not_compared(tmp_path):
    study(tmp_path / "ellipse").evaluate()
    with pytest.raises(EvaluationError, match="expected seed 1"):
        study(tmp_path / "otsu", otsu, before={"ellipse": tmp_path / "ellipse"}, seed=1)
    with pytest.raises(EvaluationError, match="expected pixels_of 64"):
        study(tmp_path / "otsu", otsu, before={"ellipse": tmp_path / "ellipse"}, pixels_of=64)
    with pytest.raises(EvaluationError, match="evaluate into it first"):
        study(tmp_path / "otsu", otsu, before={"ellipse": tmp_path / "nothing"})


@pytest.mark.parametrize("way", ["before", "replay"])
def test_a_run_of_the_same_slices_in_another_size_is_neither_compared_nor_replayed(way, tmp_path):
    study(tmp_path / "full").evaluate()
    earlier = {"before": {"full": tmp_path / "full"}, "replay": tmp_path / "full"}[way]
    small = [resized(part, 32) for part in slices()]
    with pytest.raises(EvaluationError, match="in the same size"):
        study(tmp_path / "small", items=small, **{way: earlier})
    assert not (tmp_path / "small").exists()


def test_there_must_be_a_run_to_replay(tmp_path):
    with pytest.raises(EvaluationError, match="evaluate into it first"):
        study(tmp_path / "run", replay=tmp_path / "nothing")


def test_a_network_without_prompts_is_scored_by_its_label_maps(tmp_path):
    model = AutomaticModel(make_network(classes=3), CONTRACT, values=list(ORGANS))
    SliceStudy(model, slices(2), organs=ORGANS, protocols=["automatic"], folder=tmp_path).evaluate()
    assert {record["organ"] for record in read_records(tmp_path)} == set(ORGANS.values())


def test_a_network_without_prompts_is_not_prompted_and_has_to_know_the_organs(tmp_path):
    options = {"organs": ORGANS, "folder": tmp_path}
    with pytest.raises(ProtocolError, match="evaluate_automatic"):
        SliceStudy(predictor(network=make_network(classes=3)), slices(1), protocols=["box"], **options)
    few = AutomaticModel(make_network(classes=2), CONTRACT, values=list(ORGANS))
    with pytest.raises(EvaluationError, match="expected logits of 3 classes"):
        SliceStudy(few, slices(1), protocols=["automatic"], **options).evaluate()


@pytest.fixture
def phantom(tmp_path):
    """A generated CT as an item of a layout, and its first organ: label -> name."""
    image, labels, names = make_phantom(shape=(24, 20, 8), spacing=(14.0, 14.0, 25.0), seed=0)
    write_volume(image, tmp_path / "ct.nii.gz")
    write_label(labels.array, labels, tmp_path / "label.nii.gz")
    item = {"image": str(tmp_path / "ct.nii.gz"), "label": str(tmp_path / "label.nii.gz"), "patient": "p0"}
    organ, label = next(iter(names.items()))
    return item, {label: organ}


def test_volumes_are_studied_one_at_a_time_and_reported_with_pictures(phantom, tmp_path):
    item, organs = phantom
    (organ,) = organs.values()
    options = {"organs": organs, "protocols": ["slice_box"], "folder": tmp_path / "run"}
    page = VolumeStudy(predictor(), [item], **options).run().read_text()
    assert "NSD at 2 mm" in page and f"best, median and worst: {organ}, slice_box" in page
    assert "DSC of each organ with slice_box" in page and "<h2>Predicted IoU</h2>" in page
    assert [record["key"] for record in read_records(tmp_path / "run")] == ["p0/ct.nii.gz"]


def test_a_study_goes_on_after_a_volume_that_cannot_be_read_and_ends_with_its_name(phantom, tmp_path):
    item, organs = phantom
    bad = {**item, "image": str(tmp_path / "bad.nii.gz"), "patient": "p1"}
    (tmp_path / "bad.nii.gz").write_text("nothing")
    options = {"organs": organs, "protocols": ["slice_box"], "folder": tmp_path / "run"}
    with pytest.raises(EvaluationError, match=r"(?s)1 cases could not be read.*p1/bad\.nii\.gz: cannot read"):
        VolumeStudy(predictor(), [bad, item], **options).run()
    assert {record["key"] for record in read_records(tmp_path / "run")} == {"p0/ct.nii.gz"}
    assert "Without p1/bad.nii.gz, which could not be read" in (tmp_path / "run" / "report.html").read_text("utf-8")
    VolumeStudy(predictor(), [item], **{**options, "folder": tmp_path / "mended"}).run()
    assert read_failures(tmp_path / "run") and not read_failures(tmp_path / "mended")


def test_a_study_of_slices_names_at_its_end_what_could_not_be_read(tmp_path):
    unreadable = [("p8/bad.nii.gz", "cannot read it"), ("p9/bad.nii.gz", "there is no file")]
    with pytest.raises(EvaluationError, match=r"(?s)2 cases.*p8/bad\.nii\.gz: cannot read it.*p9/bad\.nii\.gz: there"):
        study(tmp_path / "run", unreadable=unreadable).run()
    read = study(tmp_path / "whole").evaluate()
    assert [(r["key"], r["dsc"]) for r in read_records(tmp_path / "run")] == [(r["key"], r["dsc"]) for r in read]
    assert "Without p9/bad.nii.gz, which could not be read" in (tmp_path / "run" / "report.html").read_text("utf-8")
    with pytest.raises(RunStateError, match="choose another folder"):
        study(tmp_path / "run").evaluate()  # a list without the two files is other data


def test_a_study_of_nothing_but_unreadable_files_names_them(tmp_path):
    with pytest.raises(EvaluationError, match=r"(?s)1 cases.*p8/bad\.nii\.gz: cannot read it"):
        SliceStudy(
            open_baseline(ellipse),
            [],
            unreadable=[("p8/bad.nii.gz", "cannot read it")],
            organs=ORGANS,
            protocols=PROTOCOLS,
            folder=tmp_path,
        ).run()


def test_a_study_of_volumes_replays_and_travels_along_the_axis_that_it_cuts(phantom, tmp_path):
    item, organs = phantom
    options = {"organs": organs, "protocols": ["slice_box"], "axis": 1}
    VolumeStudy(predictor(), [item], folder=tmp_path / "first", **options).evaluate()
    VolumeStudy(predictor(1), [item], folder=tmp_path / "second", replay=tmp_path / "first", **options).evaluate()
    first, second = (read_records(tmp_path / name)[0]["prompt"] for name in ("first", "second"))
    assert first == second and first["box"][0][1] == first["box"][1][1]


def test_a_run_of_volumes_whose_files_have_changed_is_not_replayed_and_a_copy_of_them_is(phantom, tmp_path):
    item, organs = phantom
    options = {"organs": organs, "protocols": ["slice_box"]}
    VolumeStudy(predictor(), [item], folder=tmp_path / "first", **options).evaluate()
    copy = {**item, "label": str(tmp_path / "copy.nii.gz")}
    Path(copy["label"]).write_bytes(Path(item["label"]).read_bytes())
    VolumeStudy(predictor(), [copy], folder=tmp_path / "second", replay=tmp_path / "first", **options)
    write_label(np.zeros(read_label(item["label"]).shape, np.uint8), read_label(item["label"]), item["label"])
    with pytest.raises(EvaluationError, match="got one of others"):
        VolumeStudy(predictor(), [item], folder=tmp_path / "third", replay=tmp_path / "first", **options)


def test_a_network_without_prompts_is_studied_on_volumes(phantom, tmp_path):
    item, organs = phantom
    model = AutomaticModel(make_network(classes=2), CONTRACT, values=list(organs))
    options = {"organs": organs, "folder": tmp_path / "run"}
    page = VolumeStudy(model, [item], protocols=["automatic"], **options).run()
    assert "automatic" in page.read_text()
    with pytest.raises(ProtocolError, match="evaluate_automatic"):
        VolumeStudy(model, [item], protocols=["slice_box"], **options)


def test_each_organ_may_have_its_own_tolerance(tmp_path):
    tolerance = {"liver": 3.0, "pancreas": 0.5}
    page = study(tmp_path / "own", tolerance=tolerance).run()
    assert "NSD at 3 (liver), 0.5 (pancreas) pixels" in page.read_text()
    for organ, value in tolerance.items():
        study(tmp_path / organ, tolerance=value).evaluate()
        own, alone = (read_records(tmp_path / name) for name in ("own", organ))
        chosen = [n for n, record in enumerate(own) if record["organ"] == organ]
        assert [own[n]["nsd"] for n in chosen] == [alone[n]["nsd"] for n in chosen]
    with pytest.raises(MetricError, match="'pancreas'"):
        study(tmp_path / "lacks one", tolerance={"liver": 3.0})


def test_a_limit_takes_images_from_the_whole_list():
    assert spread(range(10), 3) == [0, 4, 9]
    assert spread(range(3), None) == spread(range(3), 5) == [0, 1, 2]
    assert spread(range(3), 1) == [0]


def test_a_case_whose_label_map_was_stored_in_another_order_is_scored_on_its_image(tmp_path):
    image, labels, _ = make_phantom(shape=(30, 28, 8), spacing=(9, 9, 20), seed=0)
    write_volume(image, tmp_path / "image.nii.gz")
    flip = np.diag([-1.0, -1, 1, 1])
    flip[:2, 3] = 29, 27
    mirrored = Volume(labels.array[::-1, ::-1], labels.affine @ flip)
    write_label(mirrored.array, mirrored, tmp_path / "label.nii.gz")
    item = {"image": tmp_path / "image.nii.gz", "label": tmp_path / "label.nii.gz", "patient": "p"}
    options = {"organs": ORGANS, "protocols": ["box"], "folder": tmp_path / "run"}
    ((_, read),) = VolumeStudy(predictor(), [item], **options).cases.items()
    np.testing.assert_array_equal(read().labels, labels.array)
    ((_, read),) = VolumeStudy(predictor(), [item | {"read_as": "other"}], **options).cases.items()
    assert read().image.modality == "other"
