"""The routes of the datastore. Each runs in a thread: a DICOMweb server may let it wait."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, Request, UploadFile
from fastapi.responses import FileResponse
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum, get_mime_type

from bundle.data.limits import LIMITS
from monailabel_app.datastore.dicomweb_store import DicomWebStore
from monailabel_app.datastore.study_files import split_name
from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.errors import RequestError
from monailabel_app.server.body_limits import FORM_LIMITS
from monailabel_app.server.gate import account_of
from monailabel_app.server.images import find_image
from monailabel_app.server.next_sample import renew_scores
from monailabel_app.server.uploads import (
    check_file_name,
    check_image_can_be_read,
    check_label_fits,
    check_name,
    check_names_in_address,
    is_same_image,
    received_file,
)
from monailabel_app.wire.json_values import check_info, read_json

router = APIRouter(prefix="/datastore", tags=["Datastore"], dependencies=[Depends(check_names_in_address)])
Json = Annotated[str, Form()]
_FINAL = DefaultLabelTag.FINAL.value
SAVED_BY = "saved_by"  # in the info of a label: the account; a client cannot say it


class Listing(str, Enum):
    """What of the datastore is told."""

    train = "train"
    stats = "stats"
    all = "all"


@router.get("/")
def list_datastore(output: Listing = Listing.stats) -> Any:
    """How many images and labels there are, all of them, or the pairs to train on."""
    store = app_instance().datastore()
    return {Listing.all: store.json, Listing.train: store.datalist, Listing.stats: store.status}[output]()


# ---- images ---------------------------------------------------------------------------------------------------------


@router.put("/", include_in_schema=False, max_body_size=LIMITS.body_bytes, form_limits=FORM_LIMITS)
@router.put("/image", max_body_size=LIMITS.body_bytes, form_limits=FORM_LIMITS)
def add_image(file: Annotated[UploadFile, File()], image: str = "", params: Json = "{}") -> dict[str, str]:
    """Add an image that can be read; one of the same id stays, and is the answer if it is the same image."""
    info = read_json(params, "params", kept=True)
    app = app_instance()
    image_id = check_name(image or split_name(check_file_name(file))[0], "image")
    if isinstance(app.datastore(), DicomWebStore):
        app.datastore().add_image(image_id, "", {})  # says that it takes none
    with received_file(file) as (path, _):
        stored = app.datastore().get_image_uri(image_id)
        if stored and is_same_image(path, Path(stored)):
            return {"image": image_id}
        if not stored:
            check_image_can_be_read(path)
        added = app.datastore().add_image(image_id, str(path), info)
    renew_scores(app)
    return {"image": added}


@router.get("/image")
def download_image(image: str) -> FileResponse:
    """An image's file."""
    path = _file_of(app_instance(), image)
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=path.name)


@router.head("/image")
def check_image(image: str, check_sum: str = "") -> dict[str, Any]:
    """Whether there is such an image, and whether its file has the digest ``SHA256:<hexadecimal digits>``."""
    path = _file_of(app_instance(), image)
    algorithm, _, digest = check_sum.rpartition(":")
    if algorithm not in ("", "SHA256", "SHA512", "MD5"):
        raise RequestError(f"check_sum must begin with SHA256:, SHA512: or MD5:, got {check_sum[:80]!r}")
    if digest and not file_checksum(path, algorithm or "SHA256").endswith(f":{digest}"):
        raise RequestError(f"the image {image!r} has another check sum", status=404)
    return {}


@router.delete("/", include_in_schema=False)
@router.delete("/image")
def remove_image(id: str) -> dict[str, Any]:
    """Remove an image, its labels and their versions."""
    app_instance().datastore().remove_image(id)
    return {}


@router.get("/image/info")
def image_info(image: str) -> dict[str, Any]:
    """What is known about an image."""
    return app_instance().datastore().get_image_info(image)


@router.put("/image/info")
def update_image_info(image: str, info: Json = "{}") -> None:
    """Add to what is known about an image."""
    app_instance().datastore().update_image_info(image, _read_info(info))


# ---- labels ---------------------------------------------------------------------------------------------------------


@router.put("/label", max_body_size=LIMITS.body_bytes, form_limits=FORM_LIMITS)
def save_label(
    http: Request, image: str, label: Annotated[UploadFile, File()], params: Json = "{}", tag: str = "final"
) -> dict[str, Any]:
    """Save a label; one that is damaged or lies on another grid does not replace the one from before.

    The one from before is kept as a version.
    """
    info = read_json(params, "params", kept=True)
    app = app_instance()
    target = find_image(app, image, "")
    with received_file(label) as (path, _):
        check_label_fits(path, target)
        info.pop(SAVED_BY, None)
        if http.app.state.accounts is not None:
            info[SAVED_BY] = account_of(http.scope).name
        label_id = app.datastore().save_label(image, str(path), tag or _FINAL, info)
    _follow_change(tag or _FINAL)
    return {**(app.on_save_label(image, label_id) or {}), "image": image, "label": label_id}


@router.get("/label")
def download_label(label: str, tag: str, version: int | None = None) -> FileResponse:
    """A label's file, or that of one of its versions."""
    store = app_instance().datastore()
    if version is None:
        path = _label_file(store, label, tag)
    else:
        path = _with_versions(store).label_version(label, tag, version).file
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=path.name)


@router.head("/label")
def check_label(image: str, tag: str) -> dict[str, Any]:
    """Whether there is such a label."""
    _label_file(app_instance().datastore(), image, tag)
    return {}


@router.delete("/label")
def remove_label(id: str, tag: str) -> dict[str, Any]:
    """Remove a label; it stays as a version."""
    app_instance().datastore().remove_label(id, tag)
    _follow_change(tag)
    return {}


@router.get("/label/versions")
def list_label_versions(label: str, tag: str) -> list[dict[str, Any]]:
    """Who saved what was a label before, and when; oldest first."""
    return [version.told() for version in _with_versions(app_instance().datastore()).label_versions(label, tag)]


@router.get("/label/info")
def label_info(label: str, tag: str) -> dict[str, Any]:
    """What is known about a label."""
    return app_instance().datastore().get_label_info(label, tag)


@router.put("/label/info")
def update_label_info(label: str, tag: str, info: Json = "{}") -> None:
    """Add to what is known about a label."""
    app_instance().datastore().update_label_info(label, tag, _read_info(info))
    _follow_change(tag)


@router.put("/updatelabelinfo", include_in_schema=False)
def update_label_info_as_before(label: str, tag: str, params: Json = "{}") -> None:
    """The older name of ``PUT /datastore/label/info``."""
    update_label_info(label, tag, params)


# ---- all of it ------------------------------------------------------------------------------------------------------


@router.get("/dataset")
def download_dataset(background: BackgroundTasks, limit_cases: int | None = None) -> FileResponse:
    """A zip of the images with a final label."""
    if limit_cases is not None and limit_cases < 1:
        raise RequestError(f"limit_cases must be a number from 1, got {limit_cases}")
    path = app_instance().datastore().get_dataset_archive(limit_cases)
    background.add_task(os.unlink, path)
    return FileResponse(path, media_type="application/zip", filename="dataset.zip")


def _follow_change(tag: str) -> None:
    """A label of a tag has changed: what is asked of the images hangs on the final ones."""
    if tag == _FINAL:
        renew_scores(app_instance())


def _with_versions(store: Datastore) -> StudyFolder | DicomWebStore:
    if not isinstance(store, (StudyFolder, DicomWebStore)):
        raise RequestError("this datastore keeps no versions of labels", status=404)
    return store


def _label_file(store: Datastore, label: str, tag: str) -> Path:
    path = Path(store.get_label_uri(label, tag) or "/")
    if not path.is_file():
        raise RequestError(f"there is no label {label!r} of {tag!r}; GET /datastore/?output=all lists them", status=404)
    return path


def _file_of(app: MONAILabelApp, image: str) -> Path:
    path = find_image(app, image, "")
    if isinstance(app.datastore(), DicomWebStore):
        path = Path(app.datastore().get_image_uri(image))
    if not path.is_file():
        raise RequestError(f"the image {image!r} is a folder of files and cannot be downloaded as one", status=404)
    return path


def _read_info(text: str) -> dict[str, Any]:
    info = read_json(text, "info", kept=True)
    info.pop(SAVED_BY, None)
    check_info(info, "info")
    return info
