"""The Slicer plugin's own client code gets through its whole session with the server."""

from __future__ import annotations

import numpy as np
import pytest
from app_server import ORGAN, Study, shared_study

from bundle.data.volume import read_label, write_label
from bundle.evaluation.metrics import dice
from monailabel_app.demo.slicer_user import SlicerError, SlicerUser


@pytest.fixture(scope="module")
def study() -> Study:
    return shared_study()


@pytest.fixture
def user(study, tmp_path) -> SlicerUser:
    user = SlicerUser(study.url, tmp_path / "slicer", client_id="user-xyz")
    user.open_volume(study.ct)
    return user


@pytest.mark.parametrize("name", ["brain1.nrrd", "brain1.nii.gz", "brain1.MHA", "brain1"])
def test_an_image_is_stored_under_its_name_without_the_ending(tmp_path, monkeypatch, name):
    user, calls = SlicerUser("http://127.0.0.1:9", tmp_path), []
    monkeypatch.setattr(user, "_call", lambda *args, **options: calls.append(args) or {"session_id": "1"})
    user.open_volume(tmp_path / name)
    user.submit(tmp_path / name, tmp_path / "label.nii.gz", [])
    assert calls[1] == ("upload_image", str(tmp_path / name), "brain1")


def test_a_box_on_a_slice_answers_on_that_slice_alone(study, user):
    answer = user.click("sam_2d", ORGAN, roi=study.roi(), slice_index=study.index)
    assert answer.mask.shape == study.image.shape
    assert np.unique(np.nonzero(answer.mask)[2]).tolist() == [study.index]
    assert dice(answer.mask[:, :, study.index], study.organ[:, :, study.index]) > 0.6
    assert answer.params["label_names"] == {ORGAN: 1}


def test_a_reversed_roi_of_an_lps_volume_means_the_same_box(study, user):
    i0, i1, j0, j1, k0, k1 = study.roi()
    straight = user.click("sam_2d", ORGAN, roi=[i0, i1, j0, j1, k0, k1], slice_index=study.index, reset=True)
    reversed_ = user.click("sam_2d", ORGAN, roi=[i1, i0, j1, j0, k0, k1], slice_index=study.index, reset=True)
    assert np.array_equal(straight.mask, reversed_.mask)


def test_clicks_after_the_first_do_not_run_the_encoder(study, user):
    user.click("sam_2d", ORGAN, foreground=[study.inside()], slice_index=study.index)
    corner = [0, 0, study.index]
    again = user.click("sam_2d", ORGAN, foreground=[study.inside()], background=[corner], slice_index=study.index)
    assert again.params["encoded_slices"] == 0


def test_slices_that_slicer_does_not_show_keep_their_points_to_themselves(study, user):
    elsewhere = [*study.inside()[:2], study.index - 1]
    answer = user.click("sam_2d", ORGAN, foreground=[elsewhere, study.inside()], slice_index=study.index, reset=True)
    alone = user.click("sam_2d", ORGAN, foreground=[study.inside()], slice_index=study.index, reset=True)
    assert np.array_equal(answer.mask, alone.mask)


def test_a_box_in_3d_stays_within_its_slices(study, user):
    i, j, k = np.nonzero(study.organ)
    roi = [int(v) for v in (i.min(), i.max(), j.min(), j.max(), k.min(), k.max())]
    answer = user.click("sam_3d", ORGAN, roi=roi)
    assert np.nonzero(answer.mask)[2].min() >= roi[4] and np.nonzero(answer.mask)[2].max() <= roi[5]
    assert dice(answer.mask, study.organ) > 0.5


def test_a_point_in_3d_is_carried_to_other_slices(study, user):
    answer = user.click("sam_3d", ORGAN, foreground=[study.inside()])
    assert len(np.unique(np.nonzero(answer.mask)[2])) > 1


def test_a_volume_with_a_slash_in_its_name_works_through_its_session(study, user):
    user._image_id = "CT w/contrast 1/2"
    assert user.click("sam_2d", ORGAN, foreground=[study.inside()], slice_index=study.index).mask.any()


def test_a_refusal_reaches_the_user_as_a_sentence(user):
    with pytest.raises(SlicerError, match="no prompt"):
        user.click("sam_2d", ORGAN)


def test_a_submitted_label_comes_back_and_counts_as_done(study, user, tmp_path):
    user._image_id = "mine"
    label = write_label(study.truth.array, study.image, tmp_path / "label.nii.gz")
    user.submit(study.ct, label, [{"name": ORGAN, "idx": 1}])
    assert np.array_equal(read_label(user.fetch_label()).array, study.truth.array)
    assert user.info()["datastore"]["completed"] >= 1


def test_a_closed_volume_is_gone(study, user):
    user.close_volume()
    with pytest.raises(SlicerError, match="expired"):
        user.click("sam_2d", ORGAN, foreground=[study.inside()])
