"""An image of the datastore is read alike, whoever reads it."""

from __future__ import annotations

import numpy as np
import pytest
from app_room import a_volume
from pacs_room import FakeClient, PacsApp, store_of, write_series

from bundle.data.volume import Volume, read_volume, write_label, write_volume
from monailabel_app.datastore.reading import image_path, names_listed, read_stored
from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.learning.accepted import accepted_labels
from monailabel_app.learning.material import write_material
from monailabel_app.server.batch_routes import _segment
from monailabel_app.server.images import find_image

UID = "1.2.3.1"


@pytest.fixture
def store(tmp_path):
    """A PACS with a CT that shows no air, and a final label of it."""
    series = write_series(tmp_path / "series", UID)
    image = read_volume(series)
    assert image.array.min() > -900 and image.modality == "CT"
    labels = np.zeros(image.shape, np.uint8)
    labels[:, :, 1:3] = 1
    store = store_of(FakeClient(series), tmp_path / "cache")
    label = write_label(labels, image, tmp_path / "label.nii.gz")
    store.save_label(UID, str(label), "final", {"label_info": [{"name": "liver", "idx": 1}]})
    return store


def test_clicks_batches_trainings_and_scores_read_the_dicom_files_of_a_pacs_which_say_that_it_is_a_ct(store, tmp_path):
    app = PacsApp(store, tmp_path / "sessions")
    asked = []
    app.infer = lambda request: asked.append(request["image"]) or {"file": str(tmp_path / "none"), "params": NOTHING}
    _segment(app, UID, "original", {"model": "sam_auto"})
    (accepted,) = accepted_labels(store)
    paths = {image_path(store, UID), str(find_image(app, UID, "")), accepted.image, *asked}
    assert paths == {store.series_folder(UID)}
    assert read_stored(store, UID, modality=None).modality == "CT"


NOTHING = {"label_names": {}}


def test_what_the_server_was_told_of_all_images_holds_for_trainings_too(tmp_path):
    write_volume(Volume(np.zeros((6, 6, 4), np.int16), np.eye(4)), tmp_path / "studies/a.nii.gz")
    store = StudyFolder(tmp_path / "studies")
    label = write_label(np.ones((6, 6, 4), np.uint8), read_volume(tmp_path / "studies/a.nii.gz"), tmp_path / "l.nii.gz")
    store.save_label("a", str(label), "final", {"label_info": [{"name": "liver", "idx": 1}]})
    accepted = [one.to_json() for one in accepted_labels(store, modality="CT")]
    content = write_material(accepted, {"a": "training"}, tmp_path / "data")
    assert [one["read_as"] for side in ("training", "validation") for one in content[side]] == ["CT", "CT"]
    assert read_stored(store, "a", modality="CT").modality == "CT"
    assert read_stored(store, "a", modality=None).modality == "other"


def test_only_a_pacs_lists_the_names_of_segments_without_being_asked_for_them(store, tmp_path):
    a_volume(tmp_path / "studies/a.nii.gz")
    assert names_listed(store, UID) == ("liver",) and names_listed(store, "1.2.3.9") is None
    assert names_listed(StudyFolder(tmp_path / "studies"), "a") is None
