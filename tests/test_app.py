"""The app's parts: open images, the infer task, the folder of studies, and what MONAI Label finds in main.py."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fakes import BrightRegionSam, bright_contract
from monailabel.interfaces.utils.app import get_class_of_subclass_from_file
from PIL import Image
from test_work import until

from bundle.data.volume import Volume, VolumeError, read_label, read_volume, write_volume
from bundle.engines.cache import PreparedCache
from bundle.errors import SessionError
from bundle.interactive import doubts
from bundle.interactive.journal import Journal
from bundle.interactive.session import InteractiveSession
from bundle.interactive.slice_model import SlicePredictor
from bundle.prompts.interactions import Box, Point
from monailabel_app.errors import RequestError, without_folders
from monailabel_app.main import MonaiSam
from monailabel_app.server.access import SettingsError
from monailabel_app.server.app import create_app
from monailabel_app.server.launch import APP, free_port, server_command, server_environment
from monailabel_app.server.start import make_app_folder
from monailabel_app.server.uploads import check_name
from monailabel_app.tasks import open_images
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.open_images import ImageSessions, file_identity
from monailabel_app.wire.fields import plane_of
from monailabel_app.wire.labels import read_label_names
from monailabel_app.work import WorkQueue, doing

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 1.5, 0, -7], [0, 0, 4.0, 3], [0, 0, 0, 1]])


@dataclass
class Opener:
    """Stands in for a segmenter; counts what it opens."""

    opened: int = 0
    delay: float = 0.0

    def open(self, volume: Volume) -> InteractiveSession:
        time.sleep(self.delay)
        self.opened += 1
        return InteractiveSession(volume, SlicePredictor(BrightRegionSam(), bright_contract(), store=PreparedCache()))


@pytest.fixture
def ct(tmp_path) -> Path:
    """All of it is bright: what lies in a box is the object."""
    return write_volume(Volume(np.full((8, 7, 6), 100, np.int16), AFFINE), tmp_path / "ct.nii.gz")


def another(ct: Path, name: str) -> Path:
    copy = ct.with_name(name)
    copy.write_bytes(ct.read_bytes())
    return copy


# ---- open images ----------------------------------------------------------------------------------------------------


def test_an_image_is_opened_once(ct):
    sessions = ImageSessions(opener := Opener())
    assert sessions.open(ct) is sessions.open(ct)
    assert opener.opened == 1


class OtherOpener(Opener):
    """A network that says the opposite, as after a training."""

    def open(self, volume: Volume) -> InteractiveSession:
        network = BrightRegionSam()
        network.weight.data.fill_(2)
        network._segment = lambda picture, prompts, row: -BrightRegionSam._segment(network, picture, prompts, row)
        return InteractiveSession(volume, SlicePredictor(network, bright_contract(), store=PreparedCache()))


@pytest.mark.parametrize("on_disk", [False, True])
def test_open_sessions_go_on_with_another_network_and_keep_what_was_done(ct, tmp_path, on_disk):
    kept_in = tmp_path / "kept" if on_disk else None
    sessions = ImageSessions(Opener(), kept_in=kept_in)
    session = sessions.open(ct).session("anna")
    box = Box(((1, 1, 2), (4, 4, 2)))
    session.add(box, "liver", dimension=2)
    before = session.mask("liver").copy()
    sessions.switch(OtherOpener())
    image = sessions.open(ct)
    assert image.session("anna") is session and image.session("bert").predictor is session.predictor
    assert np.array_equal(session.mask("liver"), before) and session.undo_depth == 1  # until something is asked
    session.add(Point((6, 5, 2)), "liver", dimension=2)
    assert before[2, 2, 2] and not session.mask("liver")[2, 2, 2]  # the whole object is asked of the new network
    session.undo()
    assert np.array_equal(session.mask("liver"), before)
    if on_disk:
        again = ImageSessions(OtherOpener(), kept_in=kept_in).open(ct).session("anna")
        assert np.array_equal(again.mask("liver"), before) and again.redo_depth == 1


def test_a_network_that_opens_the_image_slowly_does_not_take_the_place_of_a_later_one(ct):
    last = OtherOpener()
    click = threading.Thread(target=lambda: sessions.open(ct))

    class Slow(OtherOpener):
        def open(self, volume: Volume) -> InteractiveSession:
            opened = super().open(volume)
            sessions.switch(last)
            click.start()
            click.join(0.05)  # it waits for this one
            return opened

    sessions = ImageSessions(Opener())
    sessions.open(ct)
    sessions.switch(Slow())
    image = sessions.open(ct)
    click.join(60)
    assert image._segmenter is last


def test_what_runs_in_the_background_closes_no_image_that_somebody_works_on(ct):
    sessions, queue = ImageSessions(Opener(), max_images=2), WorkQueue()
    names = [another(ct, f"{number}.nii.gz") for number in range(5)]
    users = [sessions.open(name) for name in names[:2]]
    with queue.in_background(queue.background("batch")):
        for name in names:
            sessions.open(name)
    assert [sessions.open(name) for name in names[:2]] == users


def test_a_network_of_another_image_cannot_answer(ct, tmp_path):
    session = Opener().open(read_volume(ct))
    other = write_volume(Volume(np.zeros((3, 3, 3), np.int16), AFFINE), tmp_path / "small.nii.gz")
    with pytest.raises(SessionError, match=r"the image has \(8, 7, 6\) voxels, the other session's \(3, 3, 3\)"):
        session.answer_with(Opener().open(read_volume(other)))


def test_what_kind_of_values_an_image_holds_may_be_said_for_all_or_with_a_request(ct):
    sessions = ImageSessions(Opener(), modality="CT")
    assert sessions.open(ct).volume.modality == "CT"
    assert sessions.open(ct, modality="other").volume.modality == "other"
    assert sessions.open(ct) is sessions.open(ct, modality="CT")


def test_two_requests_at_once_open_an_image_once(ct):
    sessions = ImageSessions(opener := Opener(delay=0.05))
    threads = [threading.Thread(target=sessions.open, args=(ct,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opener.opened == 1


def test_a_replaced_file_is_another_image(ct):
    before = file_identity(ct)
    write_volume(Volume(np.ones((8, 7, 6), np.int16), AFFINE), ct)
    assert file_identity(ct) != before


def test_a_folder_changes_with_its_files(ct):
    before = file_identity(ct.parent)
    another(ct, "b.nii.gz")
    assert file_identity(ct.parent) != before


def test_the_image_used_longest_ago_is_closed_first(ct):
    sessions = ImageSessions(opener := Opener(), max_images=2)
    b, c = another(ct, "b.nii.gz"), another(ct, "c.nii.gz")
    for path in (ct, b, ct, c, ct):
        sessions.open(path)
    assert (len(sessions), opener.opened) == (2, 3)
    sessions.open(b)
    assert opener.opened == 4


def test_the_newest_image_stays_open_however_large(ct):
    sessions = ImageSessions(Opener(), max_bytes=10)
    sessions.open(ct)
    sessions.open(another(ct, "b.nii.gz"))
    assert len(sessions) == 1


def test_a_damaged_image_is_not_remembered(ct):
    sessions = ImageSessions(Opener())
    content = ct.read_bytes()
    ct.write_bytes(content[:40])
    with pytest.raises(VolumeError):
        sessions.open(ct, key="upload")
    ct.write_bytes(content)
    assert sessions.open(ct, key="upload").volume.shape == (8, 7, 6)


# ---- the task -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".mha"])
def test_the_reply_lies_on_the_grid_of_the_image_and_its_object_is_1(ct, extension):
    task = SamTask(ImageSessions(Opener()), dimension=3)
    request = {"image": str(ct), "roi": [1, 3, 5, 2, 0, 4], "label": "spleen", "result_extension": extension}
    file, params = task(request)
    label = read_label(file)
    assert np.allclose(label.affine, AFFINE, atol=1e-4)
    assert label.array[1:4, 2:6, 0:5].all() and label.array.sum() == 3 * 4 * 5
    assert params["label_names"] == {"spleen": 1}
    assert params["predicted_iou"] == {"spleen": {str(index): 0.9 for index in range(5)}}
    assert {"encode", "decode", "open", "write", "total"} <= set(params["latencies"])


def test_a_wider_type_is_written_when_asked_for(ct):
    task = SamTask(ImageSessions(Opener()), dimension=3)
    file, _ = task(
        {
            "image": str(ct),
            "roi": [1, 3, 5, 2, 0, 4],
            "result_dtype": "int16",
            "result_extension": ".nrrd",
        }
    )
    assert b"type: short" in Path(file).read_bytes()[:500]


def test_a_2d_task_answers_on_one_slice(ct):
    task = SamTask(ImageSessions(Opener()), dimension=2)
    file, _ = task({"image": str(ct), "roi": [1, 3, 5, 2, 4, 4]})
    assert np.unique(np.nonzero(read_label(file).array)[2]).tolist() == [4]


def test_reset_state_starts_the_segment_that_is_named_anew(ct):
    sessions = ImageSessions(Opener())
    request = {"image": str(ct), "roi": [1, 3, 5, 2, 4, 4], "label": "liver"}
    task = SamTask(sessions, dimension=2)
    task(request)
    task(request | {"label": "spleen", "roi": [4, 5, 5, 2, 4, 4]})
    _, params = task(request | {"roi": [1, 3, 5, 2, 3, 3], "reset_state": True})
    assert params["session"]["undo"] == 3
    session = sessions.open(ct).session()
    assert np.flatnonzero(session.mask("liver").any(axis=(0, 1))).tolist() == [3]
    assert np.flatnonzero(session.mask("spleen").any(axis=(0, 1))).tolist() == [4]


# ---- sessions -------------------------------------------------------------------------------------------------------

LIVER = {"roi": [1, 3, 5, 2, 0, 4], "label": "liver"}
SPLEEN = {"roi": [3, 5, 5, 2, 0, 4], "label": "spleen"}


def kept(ct: Path, folder: Path, dimension: int = 3) -> SamTask:
    """A server's task with sessions on disk; each call is another server."""
    return SamTask(ImageSessions(Opener(), kept_in=folder), dimension=dimension)


def test_a_restarted_server_goes_on_where_it_was(ct, tmp_path):
    folder = tmp_path / "sessions"
    one, other = kept(ct, folder), kept(ct, folder)
    file, before = one({"image": str(ct), **LIVER})
    again, after = other({"image": str(ct), **LIVER})
    assert np.array_equal(read_label(again).array, read_label(file).array)
    assert after["encoded_slices"] == 0 and after["predicted_iou"] == before["predicted_iou"]
    assert after["engine"] == "torch"
    _, params = kept(ct, folder)({"image": str(ct), "session": True})
    assert params["label_names"] == {"liver": 1} and params["session"]["undo"] == 1
    assert params["session"]["objects"][0]["interactions"][0]["kind"] == "box"


def test_a_request_may_undo_and_redo_and_gets_all_of_the_session(ct, tmp_path):
    task = kept(ct, tmp_path / "sessions")
    task({"image": str(ct), **LIVER})
    task({"image": str(ct), **SPLEEN})
    file, params = task({"image": str(ct), "undo": True, **SPLEEN})  # the prompts come along, and are not read
    assert params["label_names"] == {"liver": 1} and np.unique(read_label(file).array).tolist() == [0, 1]
    assert (params["session"]["undo"], params["session"]["redo"]) == (1, 1)
    file, params = task({"image": str(ct), "redo": "true"})
    assert params["label_names"] == {"liver": 1, "spleen": 2} and read_label(file).array.max() == 2


def test_nothing_is_painted_over_a_segment_that_is_locked(ct, tmp_path):
    task = kept(ct, tmp_path / "sessions")
    file, _ = task({"image": str(ct), **LIVER})
    liver = read_label(file).array > 0
    _, params = task({"image": str(ct), "lock": "liver"})
    assert params["session"]["objects"][0]["locked"]
    file, _ = task({"image": str(ct), **SPLEEN})
    assert read_label(file).array.sum() == 2 * 4 * 5 and not (read_label(file).array[liver]).any()
    with pytest.raises(SessionError, match="'liver' is locked"):
        task({"image": str(ct), "roi": [0, 1, 0, 1, 0, 1], "label": "liver"})
    _, params = task({"image": str(ct), "unlock": ["liver"], "new_object": ["a", "b"]})
    assert [one["locked"] for one in params["session"]["objects"]] == [False] * 4


def test_a_request_bounds_its_answer_and_is_told_its_measures(ct, tmp_path):
    task = kept(ct, tmp_path / "sessions")
    file, params = task({"image": str(ct), **LIVER, "limits": [1, 2], "statistics": True})
    assert np.flatnonzero(read_label(file).array.any(axis=(0, 1))).tolist() == [1, 2]
    assert params["statistics"]["liver"]["ml"] > 0 and params["session"]["objects"][0]["options"]["limits"] == [1, 2]
    _, params = task({"image": str(ct), "session": True, "statistics": "true"})
    assert set(params["statistics"]) == {"liver"}
    assert {"islands_mm", "holes_mm", "smoothing_mm"} <= set(task.info()["config"])


@pytest.mark.parametrize("key", ["client_id", "user"])
def test_two_users_of_an_image_have_two_sessions(ct, tmp_path, key):
    folder = tmp_path / "sessions"
    task = kept(ct, folder)
    task({"image": str(ct), **LIVER, key: "anna"})
    task({"image": str(ct), **SPLEEN, key: "ben"})
    for user, name in (("anna", "liver"), ("ben", "spleen")):
        _, params = kept(ct, folder)({"image": str(ct), "session": True, key: user})
        assert list(params["label_names"]) == [name]
    assert len(list(folder.iterdir())) == 2


def test_two_clients_of_one_account_take_nothing_from_each_other(ct, tmp_path):
    """Each sends all of its own prompts each time; the name of neither is on the disk."""
    folder, anna = tmp_path / "sessions", {"image": str(ct), "user": "anna"}
    kept(ct, folder)(anna | LIVER | {"client_id": "slicer-xyz"})
    kept(ct, folder)(anna | SPLEEN | {"label": "liver"})
    _, params = kept(ct, folder)(anna | {"session": True})
    boxes = [one["corners"][0] for one in params["session"]["objects"][0]["interactions"]]
    assert boxes == [[1, 2, 0], [3, 2, 0]]
    (file,) = folder.iterdir()
    assert b"slicer-xyz" not in file.read_bytes()


def test_a_doubtful_answer_says_so(ct, monkeypatch):
    monkeypatch.setattr(doubts, "RELIABLE_IOU", 0.95)
    _, params = SamTask(ImageSessions(Opener()), dimension=3)({"image": str(ct), **LIVER})
    assert "below 0.95 on 5 of 5 slices" in params["warnings"]["liver"][0]


def test_the_session_of_a_user_who_was_away_for_long_is_closed_and_found_again_on_disk(ct, tmp_path, monkeypatch):
    monkeypatch.setattr(open_images, "_MOST_USERS", 1)
    task = kept(ct, tmp_path / "sessions")
    task({"image": str(ct), **LIVER, "client_id": "anna"})
    task({"image": str(ct), **SPLEEN, "client_id": "ben"})
    assert task({"image": str(ct), "session": True, "client_id": "anna"})[1]["label_names"] == {"liver": 1}


def test_requests_of_one_user_take_turns_also_where_the_image_is_open_under_two_keys(ct, tmp_path):
    begun, go, opener = threading.Event(), threading.Event(), Opener()
    task = kept(ct, tmp_path / "sessions")
    task._sessions._segmenter, queue, said = opener, WorkQueue(), {}
    keys = {None: "first", task._sessions.open(ct).volume.modality: "second"}
    for modality in keys:
        session = task._sessions.open(ct, modality=modality).session("anna")
        predict = session.predictor.predict

        def slow(*arguments, predict=predict, **options):
            begun.set()
            assert go.wait(60)
            return predict(*arguments, **options)

        session.predictor.predict = slow

    def click(modality):
        with queue.admitted("anna", "sam_3d") as work, doing(work):
            request = {"image": str(ct), **LIVER, "client_id": "anna", "modality": modality or ""}
            said[keys[modality]] = task({**request, "label": keys[modality]})[1]["session"]["undo"]

    threads = [threading.Thread(target=click, args=(modality,), daemon=True) for modality in keys]
    threads[0].start()
    assert begun.wait(60)
    threads[1].start()
    until(lambda: queue.waiting)  # for the device, not with it for the session's file, which the first one holds
    go.set()
    for thread in threads:
        thread.join(30)
    assert said == {"first": 1, "second": 2}


def test_who_waits_for_a_session_that_another_server_works_on_lets_others_have_the_device(ct, tmp_path):
    task, queue, said = kept(ct, tmp_path / "sessions"), WorkQueue(), []
    task._sessions.open(ct).session("anna")
    elsewhere = Journal.of(tmp_path / "sessions", task._sessions.open(ct).volume, "anna")

    def click(user):
        with queue.admitted(user, "sam_3d") as work, doing(work):
            task({"image": str(ct), **LIVER, "client_id": user})
            said.append(user)

    anna = threading.Thread(target=click, args=("anna",), daemon=True)
    with elsewhere.held():
        anna.start()
        until(lambda: any(work.worked > 0 for work, _ in queue.jobs()))  # she had the device, and waits for the session
        click("bob")
        assert said == ["bob"] and anna.is_alive()
    anna.join(30)
    assert said == ["bob", "anna"]


def test_what_requests_take_turns_on_is_a_users_session_of_an_image(ct, tmp_path):
    for kept_in in (None, tmp_path / "sessions"):
        image = ImageSessions(Opener(), kept_in=kept_in).open(ct)
        assert image.turn_of("anna") == image.turn_of("anna") != image.turn_of("ben")


@pytest.mark.parametrize("params", [{"lock": 5}, {"lock": [""]}, {"new_object": [1]}, {"undo": "perhaps"}])
def test_a_command_that_is_none_is_refused(ct, params):
    with pytest.raises(RequestError):
        SamTask(ImageSessions(Opener()), dimension=3)({"image": str(ct), **LIVER, **params})


# ---- errors ---------------------------------------------------------------------------------------------------------


def test_the_servers_folders_are_no_business_of_a_client():
    sentence = "cannot read /home/me/a b.nii.gz (File /tmp/x/y.nii.gz is no gzip file); 1/2 or application/json stay"
    assert (
        without_folders(sentence)
        == "cannot read a b.nii.gz (File y.nii.gz is no gzip file); 1/2 or application/json stay"
    )


# ---- names ----------------------------------------------------------------------------------------------------------


def test_the_labels_are_flare22s_or_those_given():
    assert read_label_names(None)[:2] == ["liver", "right kidney"]
    assert read_label_names("lesion, cyst") == ["lesion", "cyst"]
    for text in ("", " , ", "a,a"):
        with pytest.raises(RequestError, match="different names"):
            read_label_names(text)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b", "x" * 300])
def test_a_name_that_could_leave_its_folder_is_refused(name):
    with pytest.raises(RequestError, match="plain name"):
        check_name(name, "image")


def test_a_request_whose_client_left_ends_before_its_next_slice(ct):
    queue, task = WorkQueue(), SamTask(ImageSessions(Opener()), dimension=3)
    with queue.admitted("anna", "sam_3d") as work, doing(work):
        work.leave()
        with pytest.raises(RequestError, match="client left"):
            task({"image": str(ct), "roi": [1, 3, 1, 3, 1, 3]})
    assert len(queue) == 0 and queue.waiting == 0


@pytest.mark.parametrize(
    ("axes", "plane"),
    [((0, 1, 2), "axial"), ((1, 2, 0), "sagittal"), ((2, 0, 1), "coronal")],
)
def test_a_reply_says_on_which_plane_and_slice_it_answers(tmp_path, axes, plane):
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.5, -1.5, 3.0])[:, axes]
    path = write_volume(Volume(np.zeros((8, 7, 6), np.int16), affine), tmp_path / "ct.nii.gz")
    sessions = ImageSessions(Opener())
    for dimension, index in ((2, 3), (3, None)):
        roi = [1, 3, 1, 3, 3, 3]
        _, params = SamTask(sessions, dimension=dimension)({"image": str(path), "roi": roi})
        assert params["plane"] == plane and params["slice"] == index


def test_a_picture_has_no_plane(tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.zeros((8, 7, 3), np.uint8)).save(photo)
    assert plane_of(read_volume(photo), 2) is None


# ---- start ----------------------------------------------------------------------------------------------------------


def test_monai_label_finds_the_app():
    found = get_class_of_subclass_from_file("main", str(APP / "main.py"), "MONAILabelApp")
    assert found.__name__ == "MonaiSam"


def test_monai_label_finds_the_app_in_a_folder_that_it_may_write_to(tmp_path):
    folder = make_app_folder(tmp_path)
    assert get_class_of_subclass_from_file("main", str(folder / "main.py"), "MONAILabelApp") is MonaiSam
    assert "--app" not in server_command("/studies", port=8001)


def test_files_in_the_options_get_their_full_path(ct, monkeypatch):
    monkeypatch.chdir(ct.parent)
    command = server_command("/studies", port=8001, conf={"checkpoint": ct.name})
    assert command[-1] == str(ct)


def test_the_server_is_started_for_this_machine_only_and_without_tracking():
    command = server_command("/studies", port=8001, conf={"family": "medsam"})
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[-3:] == ["--conf", "family", "medsam"]
    assert server_environment()["MONAI_LABEL_TRACKING_ENABLED"] == "false"


@pytest.mark.parametrize("wanted", ["true", "1", "TRUE", "yes", "on", "perhaps"])
def test_a_login_that_would_protect_nothing_is_refused(wanted, monkeypatch):
    monkeypatch.setenv("MONAI_LABEL_AUTH_ENABLE", wanted)
    with pytest.raises(SettingsError, match="does not use"):
        server_environment()
    monkeypatch.setattr("monailabel_app.server.app.settings.MONAI_LABEL_AUTH_ENABLE", True)
    with pytest.raises(SettingsError, match="does not use"):
        create_app()


@pytest.mark.parametrize("wanted", ["", "false", "0", "False", "no"])
def test_a_login_may_be_switched_off(wanted, monkeypatch):
    monkeypatch.setenv("MONAI_LABEL_AUTH_ENABLE", wanted)
    assert server_environment()["MONAI_LABEL_AUTH_ENABLE"] == wanted


@pytest.mark.parametrize("started_by", ["serve.py", "MONAI Label's command line"])
def test_the_refusal_of_a_login_is_one_sentence(repository, tmp_path, started_by):
    command = [str(repository / "scripts/serve.py"), str(tmp_path)]
    if started_by != "serve.py":
        command = server_command(str(tmp_path), port=free_port())[1:]
    environment = os.environ | {"MONAI_LABEL_AUTH_ENABLE": "true", "PYTHONPATH": str(repository)}
    run = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "error: MONAI_LABEL_AUTH_ENABLE asks for MONAI Label's login, which this server does not use" in run.stderr
