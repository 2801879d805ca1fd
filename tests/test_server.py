"""The server takes what every client sends, refuses the rest with a sentence, and goes on."""

from __future__ import annotations

import http.client
import json
import threading
import time

import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import Study, shared_study
from dicom_files import numbered, write_slice
from PIL import Image
from requests_toolbelt import MultipartDecoder

from bundle.data.volume import read_label


@pytest.fixture(scope="module")
def study() -> Study:
    return shared_study()


def parts(reply: requests.Response) -> list:
    assert reply.status_code == 200, reply.text
    return MultipartDecoder.from_response(reply).parts


def filename(part) -> str:
    return part.headers[b"Content-Disposition"].decode().split('filename="')[1].rstrip('"')


# ---- what is offered ------------------------------------------------------------------------------------------------


def test_info_offers_the_tasks_in_the_form_that_slicer_and_ohif_list(study):
    info = requests.get(f"{study.url}/info/", timeout=10).json()
    assert {name: (model["type"], model["dimension"]) for name, model in info["models"].items()} == {
        "sam_2d": ("deepgrow", 2),
        "sam_3d": ("deepgrow", 3),
        "sam_multi": ("deepedit", 3),
        "sam_class": ("vista3d", 3),
        "sam_auto": ("segmentation", 3),
        "sam_scribbles": ("scribbles", 3),
    }
    assert isinstance(info["labels"], list) and "liver" in info["labels"]  # OHIF appends to the list
    assert [info["models"][name]["labels"] for name in ("sam_2d", "sam_3d")] == [[], []]
    assert info["models"]["sam_auto"]["labels"] == {name: value for value, name in enumerate(info["labels"], start=1)}


# ---- each client's way of asking ------------------------------------------------------------------------------------


def test_ohif_gets_an_uncompressed_nrrd_of_bytes_on_the_grid_of_the_image(study, tmp_path):
    params = {
        "foreground": [study.inside()],
        "background": [],
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
        "result_compress": False,
        "restore_label_idx": False,
    }
    reply = study.post(image="ct", output="image", params=params)
    header, _, voxels = reply.content.partition(b"\n\n")
    assert b"encoding: raw" in header and b"type: unsigned char" in header
    assert len(voxels) == study.image.array.size
    path = tmp_path / "reply.nrrd"
    path.write_bytes(reply.content)
    assert np.allclose(read_label(path).affine, study.image.affine, atol=1e-4)


def test_mitk_gets_the_json_part_first_and_a_nifti_like_the_one_it_sent(study, tmp_path):
    i, j, k = study.inside()
    flat = tmp_path / "post_from_mitk.nii.gz"
    nib.save(nib.Nifti1Image(study.image.array[:, :, k : k + 1], study.image.affine), flat)
    params = {"foreground": [[i, j, 0]], "background": [], "reset_state": True, "restore_label_idx": True}
    first, second = parts(study.post(file=(flat.name, flat.read_bytes()), params=params))
    assert b'name="params"' in first.headers[b"Content-Disposition"]
    assert json.loads(first.text)["label_names"] == {"object": 1}
    assert filename(second).endswith(".nii.gz")
    path = tmp_path / "reply.nii.gz"
    path.write_bytes(second.content)
    assert read_label(path).shape == (*study.image.shape[:2], 1)


def test_cvat_gets_a_picture_for_the_picture_and_the_two_corners_it_sent(study, tmp_path):
    params = {"output": "mask", "foreground": [[20, 16]], "background": [], "roi": [10, 8, 40, 24]}
    _, second = parts(study.post(image="", file=("tmp.png", study.photo.read_bytes()), params=params))
    path = tmp_path / "reply.png"
    path.write_bytes(second.content)
    assert Image.open(path).size == (48, 32)


def test_an_upload_that_was_seen_before_is_not_encoded_again(study):
    file = ("tmp.png", study.photo.read_bytes())
    counts = []
    for column in (11, 12):
        first, _ = parts(study.post(file=file, params={"foreground": [[column, 16]]}))
        counts.append(json.loads(first.text)["encoded_slices"])
    assert counts[1] == 0


def test_output_json_gives_the_parameters_alone(study):
    reply = study.post("sam_3d", image="ct", output="json", params={"roi": study.roi(), "label": "spleen"})
    assert reply.json()["label_names"] == {"spleen": 1}
    assert all(0 <= value <= 1 for value in reply.json()["predicted_iou"]["spleen"].values())


def test_the_server_answers_others_while_it_infers(study):
    whole = [0, study.image.shape[0] - 1, 0, study.image.shape[1] - 1, 0, study.image.shape[2] - 1]
    work = threading.Thread(target=study.post, args=("sam_3d",), kwargs={"image": "ct", "params": {"roi": whole}})
    work.start()
    time.sleep(0.02)
    started = time.perf_counter()
    requests.get(f"{study.url}/info/", timeout=10)
    waited, busy = time.perf_counter() - started, work.is_alive()
    work.join()
    assert not busy or waited < 2.0


# ---- what is refused ------------------------------------------------------------------------------------------------


def refused(reply: requests.Response, status: int, sentence: str, study: Study) -> None:
    assert reply.status_code == status, reply.text
    assert sentence in reply.json()["detail"] and "\n" not in reply.json()["detail"]
    assert requests.get(f"{study.url}/info/", timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("query", "params", "status", "sentence"),
    [
        ({"image": "nobody"}, {"foreground": [[1, 1, 1]]}, 404, "no image 'nobody'"),
        ({"image": "../ct"}, {"foreground": [[1, 1, 1]]}, 400, "plain name"),
        ({"image": "/etc/passwd"}, {"foreground": [[1, 1, 1]]}, 400, "plain name"),
        ({"session_id": "gone"}, {"foreground": [[1, 1, 1]]}, 404, "unknown or has expired"),
        ({"session_id": "../.."}, {"foreground": [[1, 1, 1]]}, 400, "plain name"),
        ({}, {"foreground": [[1, 1, 1]]}, 400, "session_id or a file"),
        ({"image": "ct"}, {}, 400, "no prompt"),
        ({"image": "ct"}, {"foreground": [], "background": []}, 400, "no prompt"),
        ({"image": "ct"}, {"background": [[1, 1, 1]]}, 400, "add a foreground point or a box"),
        ({"image": "ct"}, {"foreground": [[1, 1, 500]]}, 400, "outside the volume"),
        ({"image": "ct"}, {"foreground": [[1, float("nan"), 1]]}, 400, "finite"),
        ({"image": "ct"}, {"roi": [1, 2, 3, 4, 5]}, 400, "roi must be"),
        ({"image": "ct"}, {"foreground": [[1, 1, 1]], "result_extension": ".exe"}, 400, "result_extension"),
        ({"image": "ct"}, {"foreground": [[1, 1, 1]], "result_dtype": "complex"}, 400, "result_dtype"),
        ({"image": "ct"}, "{not json", 400, "params must be JSON"),
        ({"image": "ct"}, "[1, 2]", 400, "params must be a JSON object"),
        ({"image": "ct"}, {"foreground": [[1, 1, 1]] * 20_000}, 400, "this server takes 500"),
        ({"image": "ct"}, '{"foreground": [[1, 1, 1]], "x": ' + "[" * 900 + "]" * 900 + "}", 400, "nested"),
        ({"image": "ct"}, '{"foreground": [[1, 1, 1]], "label": "\\ud800"}', 400, "no Unicode"),
        ({"image": "ct", "output": "poem"}, {"foreground": [[1, 1, 1]]}, 422, "output"),
    ],
)
def test_a_bad_request_gets_a_sentence(study, query, params, status, sentence):
    for model in ("sam_2d", "sam_3d"):
        refused(study.post(model, params=params, **query), status, sentence, study)


def test_others_click_on_while_far_too_many_points_are_refused(study):
    replies = []
    many = {"foreground": [[1, 1, 1]] * 20_000}
    work = threading.Thread(target=lambda: replies.extend(study.post(image="ct", params=many) for _ in range(5)))
    work.start()
    clicks = [study.post(image="ct", params={"foreground": [study.inside()]}) for _ in range(3)]
    work.join()
    assert {reply.status_code for reply in replies} == {400} and {reply.status_code for reply in clicks} == {200}


def test_an_unknown_model_is_named_with_those_there_are(study):
    refused(study.post("unet", image="ct"), 404, "sam_2d, sam_3d", study)


def test_a_request_cannot_name_a_path_of_the_server(study):
    params = {"foreground": [[1, 1, 1]], "image": str(study.ct), "image_key": "mine", "model": "other"}
    refused(study.post(image="nobody", params=params), 404, "no image", study)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("damaged.nii.gz", None, "cannot read"),
        ("empty.nii.gz", b"", "cannot read"),
        ("text.nrrd", b"not a volume", "cannot read"),
        ("unknown.xyz", b"123", "cannot tell the format"),
    ],
)
def test_a_damaged_volume_gets_a_sentence_as_upload_and_as_session(study, name, content, sentence):
    content = study.ct.read_bytes()[:2000] if content is None else content
    params = {"foreground": [[1, 1, 1]]}
    refused(study.post(file=(name, content), params=params), 400, sentence, study)
    session = requests.put(f"{study.url}/session/", files=[("files", (name, content))], timeout=10).json()
    refused(study.post(image="x", session_id=session["session_id"], params=params), 400, sentence, study)


def test_a_file_name_cannot_lead_out_of_its_folder(study):
    reply = requests.put(
        f"{study.url}/session/", files=[("files", ("../../ct.nii.gz", study.ct.read_bytes()))], timeout=9
    )
    assert reply.json()["session_info"]["image"].endswith(f"{reply.json()['session_id']}/ct.nii.gz")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/model/sam_2d"),
        ("POST", "/train/sam_2d"),
        ("POST", "/proxy/dicom/stow/studies"),
        ("GET", "/proxy/dicom/qido/studies"),
        ("GET", "/logs/"),
        ("POST", "/reload"),
    ],
)
def test_routes_that_could_do_harm_are_not_there(study, method, path):
    assert requests.request(method, f"{study.url}{path}", timeout=10).status_code in (404, 405)


def test_names_in_addresses_stay_in_their_folder(study):
    for method, path in (("DELETE", "/session/.."), ("GET", "/datastore/label?label=../ct&tag=final")):
        connection = http.client.HTTPConnection(study.url.removeprefix("http://"), timeout=10)
        connection.request(method, path)
        assert connection.getresponse().status == 400


def test_a_page_of_another_site_cannot_send_a_form(study):
    headers = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    for method, path in (("POST", "/infer/sam_2d"), ("PUT", "/session/"), ("DELETE", "/datastore/image?id=ct")):
        reply = requests.request(method, f"{study.url}{path}", headers=headers, timeout=10)
        refused(reply, 403, "another origin", study)


def test_all_temporary_files_lie_in_the_servers_own_folder(study):
    study.post(image="ct", params={"foreground": [study.inside()]})
    (own,) = (path for path in study.temporary.iterdir() if not path.name.startswith("torchinductor"))  # a cache
    assert own.name.startswith("monai-sam-server-")
    deadline = time.monotonic() + 10  # the answer is removed after it was sent
    while left := [path for path in own.rglob("*") if path.name.endswith((".nii.gz", ".nrrd"))]:
        assert time.monotonic() < deadline, left


def test_only_this_machines_names_are_answered(study):
    assert requests.get(f"{study.url}/info/", headers={"Host": "evil.example"}, timeout=10).status_code == 400


# ---- labels ---------------------------------------------------------------------------------------------------------


def test_a_bad_label_does_not_replace_a_good_one(study, tmp_path):
    good = tmp_path / "good.nii.gz"
    nib.save(nib.Nifti1Image(study.truth.array, study.image.affine), good)
    small = tmp_path / "small.nii.gz"
    nib.save(nib.Nifti1Image(study.truth.array[:-1], study.image.affine), small)
    address = f"{study.url}/datastore/label"

    def save(content: bytes, **query) -> requests.Response:
        query = {"image": "ct", "tag": "checked"} | query
        return requests.put(address, params=query, files={"label": ("label.nii.gz", content)}, timeout=10)

    assert save(good.read_bytes()).status_code == 200
    refused(save(good.read_bytes()[:500]), 400, "not saved", study)
    refused(save(small.read_bytes()), 400, "not saved", study)
    refused(save(good.read_bytes(), image="nobody"), 404, "no image", study)
    refused(save(good.read_bytes(), tag="../../elsewhere"), 400, "plain name", study)
    stored = requests.get(address, params={"label": "ct", "tag": "checked"}, timeout=10).content
    assert stored == good.read_bytes()


@pytest.mark.real_data
def test_a_dicom_series_is_a_session_of_its_files(study, real_data):
    files = [
        ("files", (path.name, path.read_bytes()))
        for path in sorted((real_data / "dcmqi-ct-3slice" / "ct-3slice").glob("*.dcm"))
    ]
    session = requests.put(f"{study.url}/session/", files=files, timeout=20).json()["session_id"]
    reply = study.post("sam_3d", session_id=session, params={"roi": [200, 260, 200, 260, 0, 2]})
    assert filename(parts(reply)[1]).endswith(".nrrd")


def test_of_an_upload_with_several_dicom_series_a_request_chooses_one(study, tmp_path):
    for k in range(8):
        write_slice(tmp_path / f"{k}.dcm", numbered(1000 * k, (40, 36)), (0, 0, 3 * k), InstanceNumber=k + 1)
    write_slice(tmp_path / "scout.dcm", numbered(9, (7, 6)), SeriesInstanceUID="1.2.3.5")
    files = [("files", (path.name, path.read_bytes())) for path in sorted(tmp_path.glob("*.dcm"))]
    session = requests.put(f"{study.url}/session/", files=files, timeout=20).json()["session_id"]
    params = {"foreground": [[20, 20, 3]]}
    refused(
        study.post(session_id=session, params=params),
        400,
        'choose one with "series" in the params of the request: 1.2.3.4, 1.2.3.5',
        study,
    )
    reply = study.post("sam_2d", session_id=session, params={**params, "series": "1.2.3.4"})
    assert filename(parts(reply)[1]).endswith(".nrrd")
