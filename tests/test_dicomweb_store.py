"""A DICOMweb server as datastore: what is listed, fetched, saved and read back, and what happens if it fails."""

from __future__ import annotations

import copy
import json
import os
import shutil
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from app_room import client_over
from pacs_room import FakeClient, PacsApp, away, refusing, store_of, write_series
from requests.exceptions import ReadTimeout

from bundle.data.volume import read_label, read_volume, write_label
from monailabel_app.datastore.dicomweb_store import cache_folder, store_at
from monailabel_app.errors import RequestError
from monailabel_app.learning.accepted import accepted_labels
from monailabel_app.work import Cancelled, WorkQueue, doing

FIRST, SECOND = "1.2.3.1", "1.2.3.2"
INFO = {"label_info": [{"name": "liver", "idx": 1}, {"name": "aorta", "idx": 5, "color": [10, 20, 30]}]}


@pytest.fixture
def series(tmp_path):
    return [write_series(tmp_path / "in" / uid, uid) for uid in (FIRST, SECOND)]


@pytest.fixture
def pacs(series):
    return FakeClient(*series)


@pytest.fixture
def store(pacs, tmp_path):
    return store_of(pacs, tmp_path / "cache")


@pytest.fixture
def label(series, tmp_path):
    """Values 1, 3 and 5 of the first series."""
    image = read_volume(series[0])
    labels = np.zeros(image.shape, np.uint8)
    labels[1:3, 1, 1], labels[2, 2, 2], labels[4, 3, 5] = 1, 3, 5
    return write_label(labels, image, tmp_path / "label.nii.gz")


def test_all_series_are_listed_without_fetching_any(store, pacs):
    assert store.list_images() == [FIRST, SECOND]
    assert store.json()["objects"][SECOND]["image"]["info"]["StudyInstanceUID"] == "1.2.3"
    assert store.status() == {"total": 2, "completed": 0, "label_tags": {"final": 0}}
    assert set(pacs.asked) == {"search"}


def test_who_waits_for_a_series_that_another_fetches_is_cancelled_at_once(store, monkeypatch):
    begun, may_end, fetch = threading.Event(), threading.Event(), store._fetch

    def held(*arguments) -> None:
        begun.set()
        assert may_end.wait(60)
        fetch(*arguments)

    monkeypatch.setattr(store, "_fetch", held)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(store.get_image_uri, FIRST)
        assert begun.wait(60)
        with WorkQueue().admitted("anna", "sam_2d") as work, doing(work):
            work.cancel()
            with pytest.raises(Cancelled):
                store.get_image_uri(FIRST)
        assert not first.done()
        may_end.set()
        assert Path(first.result(60)).is_file()


def test_a_server_without_a_series_of_the_filter_is_said_once_to_have_none(pacs, tmp_path, caplog):
    for instance in pacs.instances:
        instance.Modality = "MR"
    store = store_of(pacs, tmp_path / "cache")
    assert store.list_images() == [] == store.list_images()
    (record,) = caplog.records
    assert "no series of {'Modality': 'CT'}; MONAI_LABEL_DICOMWEB_SEARCH_FILTER" in record.getMessage()
    for instance in pacs.instances:
        instance.Modality = "CT"
    assert store.list_images() == [FIRST, SECOND] and len(caplog.records) == 1


def test_a_series_is_fetched_once_and_read_from_its_own_files(store, pacs, series):
    for _ in range(2):
        folder = store.series_folder(FIRST)
        np.testing.assert_array_equal(read_volume(folder).array, read_volume(series[0]).array)
    assert pacs.asked.count("series") == 1
    np.testing.assert_array_equal(read_volume(store.get_image_uri(FIRST)).array, read_volume(series[0]).array)


@pytest.mark.parametrize("uid", ["1.2.3.9", "*", "1.2.3.?", "..", "1" * 65, "1.2.3.1/..", "liver"])
def test_a_series_that_is_not_there_leads_to_nothing(store, uid):
    assert store.series_folder(uid) == "" and store.get_image_uri(uid) == "" and store.get_image_info(uid) == {}


def test_a_final_label_is_stored_at_the_server_with_names_colours_and_references(store, pacs, label, series):
    assert store.save_label(FIRST, str(label), "final", dict(INFO)) == FIRST
    seg = pacs.instances[-1]
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["liver", "label 3", "aorta"]
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == FIRST and seg.PatientName == "Doe^Jane"
    instances = {one.SOPInstanceUID for one in pacs.instances if one.SeriesInstanceUID == FIRST}
    assert {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence} == (
        instances
    )
    assert store.status()["completed"] == 1 and store.get_unlabeled_images() == [SECOND]


def test_a_saved_label_is_read_back_as_it_was_sent(store, label):
    store.save_label(FIRST, str(label), "final", dict(INFO))
    np.testing.assert_array_equal(read_label(store.get_label_uri(FIRST, "final")).array, read_label(label).array)
    told = store.get_label_info(FIRST, "final")["label_info"]
    assert [(entry["name"], entry["idx"]) for entry in told] == [("liver", 1), ("label 3", 3), ("aorta", 5)]


def test_another_server_reads_the_label_from_the_pacs_on_the_grid_of_its_image(store, pacs, label, tmp_path):
    store.save_label(FIRST, str(label), "final", dict(INFO))
    other = store_of(pacs, tmp_path / "other")
    found = read_label(other.get_label_uri(FIRST, "final")).array
    np.testing.assert_array_equal(found > 0, read_label(label).array > 0)  # the standard numbers without gaps
    told = {entry["idx"]: entry for entry in other.get_label_info(FIRST, "final")["label_info"]}
    assert {value: entry["name"] for value, entry in told.items()} == {1: "liver", 2: "label 3", 3: "aorta"}
    np.testing.assert_allclose(told[3]["color"], [10, 20, 30], atol=1)
    by_series = str(pacs.instances[-1].SeriesInstanceUID)
    assert other.get_label_uri(by_series, "final") == other.get_label_uri(FIRST, "final")


def test_the_segmentation_that_was_made_last_counts_and_the_one_before_is_a_version(store, pacs, label, tmp_path):
    store.save_label(FIRST, str(label), "final", dict(INFO))
    other = store_of(pacs, tmp_path / "other")
    image = read_volume(other.series_folder(FIRST))
    more = write_label(np.ones(image.shape, np.uint8), image, tmp_path / "more.nii.gz")
    other.save_label(FIRST, str(more), "final", dict(INFO))
    assert read_label(store.get_label_uri(FIRST, "final")).array.all()
    assert [version.number for version in store.label_versions(FIRST, "final")] == [1]


def test_a_label_that_was_removed_at_the_server_is_gone_here(store, pacs, label):
    store.save_label(FIRST, str(label), "final", dict(INFO))
    pacs.instances.pop()
    assert store.get_label_uri(FIRST, "final") == "" and store.get_labels_by_image_id(FIRST) == {}
    assert store.status()["completed"] == 0 and store.datalist() == []


def test_a_series_that_was_removed_at_the_server_is_gone_here(store, pacs, tmp_path):
    assert store.get_image_uri(FIRST)
    pacs.instances = [one for one in pacs.instances if one.SeriesInstanceUID != FIRST]
    assert store.get_image_uri(FIRST) == ""
    assert not list((tmp_path / "cache").rglob(f"*{FIRST}*"))


def test_a_label_of_another_tag_stays_here(store, pacs, label):
    store.save_label(FIRST, str(label), "original", {})
    assert "store" not in pacs.asked and store.get_labels_by_image_id(FIRST) == {"original": FIRST}
    store.remove_label(FIRST, "original")
    assert store.get_labels_by_image_id(FIRST) == {}


def test_what_happens_at_the_server_is_refused_here(store):
    for change in (
        lambda: store.add_image("x", "x.nii.gz", {}),
        lambda: store.remove_image(FIRST),
        lambda: store.remove_label(FIRST, "final"),
        lambda: store.set_name("x"),
    ):
        with pytest.raises(RequestError, match="DICOMweb server") as refusal:
            change()
        assert refusal.value.status == 405


@pytest.mark.parametrize("color", [5, [1, 2], [0, 0, 300], ["red", 0, 0], [float("nan")] * 3])
def test_a_colour_that_is_none_is_refused_before_anything_is_sent(store, pacs, label, color):
    with pytest.raises(RequestError, match="color in label_info"):
        store.save_label(FIRST, str(label), "final", {"label_info": [{"name": "liver", "idx": 1, "color": color}]})
    assert "store" not in pacs.asked


def test_an_empty_label_is_refused(store, series, tmp_path):
    image = read_volume(series[0])
    empty = write_label(np.zeros(image.shape, np.uint8), image, tmp_path / "empty.nii.gz")
    with pytest.raises(RequestError, match="empty"):
        store.save_label(FIRST, str(empty), "final", {})


@pytest.mark.parametrize("info", [5, [5], [{}], [{"name": 5}], [{"name": "liver", "idx": "one"}], {"name": "liver"}])
def test_names_of_segments_that_are_none_are_refused(store, label, info):
    with pytest.raises(RequestError, match="label_info must be"):
        store.save_label(FIRST, str(label), "final", {"label_info": info})


@pytest.mark.parametrize(
    ("fault", "status"),
    [(away(), 502), (refusing(500), 502), (refusing(404), 502), (ReadTimeout(), 504), (ValueError("no DICOM"), 502)],
)
def test_a_server_that_fails_is_an_answer_with_a_sentence(pacs, store, label, fault, status):
    store.get_image_uri(FIRST)
    pacs.fault = fault
    for ask in (
        lambda: store.get_image_uri(SECOND),
        lambda: store.save_label(FIRST, str(label), "final", {}),
        store_of(pacs, store_cache := store._series.parent).list_images,
    ):
        with pytest.raises(RequestError, match="DICOMweb server") as refusal:
            ask()
        assert refusal.value.status == status
    assert store_cache.is_dir() and not [name for name in os.listdir(store._series) if name.startswith(".")]


def test_what_was_fetched_is_served_while_the_server_is_away(store, pacs, caplog):
    folder = store.series_folder(FIRST)
    pacs.fault = away()
    assert store.series_folder(FIRST) == folder and store.list_images() == [FIRST, SECOND]
    assert "older one" in caplog.text


def test_a_series_that_breaks_off_leaves_nothing(store, pacs, monkeypatch, tmp_path):
    def broken(study, series):
        yield pacs.instances[0]
        raise away()

    monkeypatch.setattr(pacs, "iter_series", broken)
    with pytest.raises(RequestError, match="no answer"):
        store.series_folder(FIRST)
    assert os.listdir(tmp_path / "cache/.series") == []


def test_what_a_killed_server_left_half_fetched_goes_at_the_next_start(pacs, tmp_path):
    (tmp_path / "cache/.series/.half").mkdir(parents=True)
    store_of(pacs, tmp_path / "cache")
    assert os.listdir(tmp_path / "cache/.series") == []


def test_a_segmentation_whose_segments_have_no_numbers_stops_no_listing(store, pacs, label):
    store.save_label(FIRST, str(label), "final", {})
    del pacs.instances[-1].SegmentSequence[0].SegmentNumber
    again = store_of(pacs, store._series.parent)
    assert again.get_labeled_images() == [FIRST] and again.status()["completed"] == 1


def test_a_segmentation_without_references_is_no_label(store, pacs, label, caplog):
    store.save_label(FIRST, str(label), "final", {})
    del pacs.instances[-1].ReferencedSeriesSequence
    again = store_of(pacs, store._series.parent)
    assert again.get_labeled_images() == [] and "refer to no images" in caplog.text


def test_segments_of_one_name_are_told_apart_at_the_server_as_here(store, pacs, label, tmp_path):
    sent = [{"name": "cyst", "idx": 1}, {"name": "liver", "idx": 3}, {"name": "cyst", "idx": 5}]
    store.save_label(FIRST, str(label), "final", {"label_info": sent})
    told = store_of(pacs, tmp_path / "other").get_label_info(FIRST, "final")["label_info"]
    assert [entry["name"] for entry in told] == ["cyst (1)", "liver", "cyst (5)"]


def foreign_segmentation(pacs):
    """The last segmentation again, made later by another program, and half a metre off."""
    other = copy.deepcopy(pacs.instances[-1])
    other.SeriesInstanceUID, other.ContentDate = "1.2.77", "20991231"
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.77.1"
    for frame in other.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient = [float(place.ImagePositionPatient[0]) + 500, *place.ImagePositionPatient[1:]]
    pacs.instances.append(other)


def test_a_segmentation_that_does_not_lie_on_its_image_is_left_out_and_stops_nobody(store, pacs, label, series, caplog):
    store.save_label(FIRST, str(label), "final", dict(INFO))
    image = read_volume(series[1])
    both = write_label(read_label(label).array, image, label.with_name("second.nii.gz"))
    store.save_label(SECOND, str(both), "final", dict(INFO))
    foreign_segmentation(pacs)
    assert [Path(pair["image"]).name for pair in store.datalist()] == [f"{FIRST}.nii.gz"]
    assert [one.image for one in accepted_labels(store)] == [store.series_folder(FIRST)]
    with zipfile.ZipFile(path := store.get_dataset_archive(None)) as archive:
        assert not any(SECOND in name for name in archive.namelist())
    os.unlink(path)
    assert f"The label of the series {SECOND} is left out: the segmentation 1.2.77 cannot be used" in caplog.text
    assert [version.number for version in store.label_versions(SECOND, "final")] == [1]


def test_what_nobody_used_for_long_is_purged_but_labels_that_lie_here_alone(store, label):
    store.save_label(FIRST, str(label), "original", {})
    store.get_image_uri(SECOND)
    store.purge(time.time() + 10)
    assert os.listdir(store._series) == [] and store.get_label_uri(FIRST, "original")
    assert SECOND not in store._kept.list_images() and FIRST in store._kept.list_images()


def test_the_data_set_is_fetched_as_pairs(store, label):
    store.save_label(FIRST, str(label), "final", dict(INFO))
    (pair,) = store.datalist()
    assert read_volume(pair["image"]).shape == read_label(pair["label"]).shape
    path = store.get_dataset_archive(1)
    assert os.path.getsize(path) > 0
    os.unlink(path)


def test_an_answer_can_be_had_as_dicom_seg_with_names(store, label, tmp_path, monkeypatch):
    answer = tmp_path / "answer.nii.gz"
    shutil.copyfile(label, answer)
    monkeypatch.setattr(PacsApp, "info", lambda self: {"models": {"sam_3d": {}}})
    monkeypatch.setattr(PacsApp, "infer", lambda self, request: {"file": str(answer), "params": {}})
    with client_over(PacsApp(store, tmp_path / "sessions")) as client:
        reply = client.post(f"/infer/sam_3d?image={FIRST}&output=dicom_seg", data={"params": json.dumps(INFO)})
        refused = client.post(f"/infer/sam_3d?image={FIRST}&output=dicom_seg", data={"params": "{}"})
    (tmp_path / "got.dcm").write_bytes(reply.content)
    assert [segment.name for segment in read_label(tmp_path / "got.dcm").segments] == ["liver", "label 3", "aorta"]
    assert not answer.exists() and refused.status_code == 400 and "label_info" in refused.json()["detail"]


def test_what_was_fetched_lies_in_a_folder_of_its_server(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = (cache_folder(f"http://{name}/dicom-web") for name in ("one", "two"))
    assert first != second and first.is_relative_to(tmp_path)
    both = [store_at(f"http://127.0.0.1:9/dicom-web{end}") for end in ("", "/")]  # asks nobody yet
    assert both[0].name() == both[1].name() and both[0]._series == both[1]._series
