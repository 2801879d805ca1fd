"""A DICOMweb server as MONAI Label's datastore: images are its series, final labels its segmentations."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import tempfile
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from monailabel.config import settings
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from bundle.data import guarded
from bundle.data.grid import check_grid
from bundle.data.volume import write_label, write_volume
from bundle.engines.interruption import holding
from bundle.errors import VolumeError
from monailabel_app.datastore.address import one_spelling
from monailabel_app.datastore.dicomweb import DicomWeb, Segmentation, Series, connect, is_uid
from monailabel_app.datastore.label_versions import Version
from monailabel_app.datastore.study_folder import StudyFolder
from monailabel_app.errors import RequestError
from monailabel_app.wire.dicom_seg import label_info_of, match_label_info, write_dicom_seg
from monailabel_app.work import rest

logger = logging.getLogger(__name__)

_FINAL = DefaultLabelTag.FINAL.value
_SERIES = ".series"  # in the cache: the series as they were fetched
_SEG_SERIES = "SeriesInstanceUID"  # in what is known about a label: of its segmentation
_ENDING = ".nii.gz"


def store_at(address: str) -> DicomWebStore:
    """The datastore of the server of an address; the server is not asked yet."""
    address = one_spelling(address)
    return DicomWebStore(connect(address), cache_folder(address))


def cache_folder(address: str) -> Path:
    """Where what is fetched from a server is kept: below ``MONAI_LABEL_DICOMWEB_CACHE_PATH``, or the user's cache."""
    given = settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256(address.encode()).hexdigest()[:32]
    return (Path(given) if given else home / "monai-sam" / "dicomweb") / digest


class DicomWebStore(Datastore):
    """The images and labels of a DICOMweb server; the id of an image, and of its label, is its SeriesInstanceUID.

    The server is the truth: it lists the images, and the segmentation that was made last is the final label. A folder
    of this machine keeps what was fetched, labels of other tags, and what clients said about images. Images and labels
    are added and removed at the server alone, but for a final label, which is sent there.

    Every method that asks the server raises RequestError (502, 504) if it gives no answer.
    """

    def __init__(self, server: DicomWeb, cache: Path) -> None:
        """Args:
        server: the server.
        cache: folder for what is fetched from it, and from no other; it is made.
        """
        self._server = server
        self._kept = StudyFolder(cache, patterns=(f"*{_ENDING}",))
        self._series = cache / _SERIES
        self._series.mkdir(mode=0o700, exist_ok=True)
        for partial in self._series.glob(".*"):  # of a server that was killed while it fetched
            shutil.rmtree(partial, ignore_errors=True)
        self._locks: dict[str, threading.Lock] = {}  # of each series that was asked for

    # ---- images -----------------------------------------------------------------------------------------------------

    def list_images(self) -> list[str]:
        """The ids of all images."""
        return list(self._server.series())

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The ids of the images with a segmentation; the arguments are MONAI Label's and say nothing here."""
        return [uid for uid in self._server.series() if uid in self._server.segmentations()]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """The ids of the images without one."""
        return [uid for uid in self._server.series() if uid not in self._server.segmentations()]

    def series_folder(self, image_id: str) -> str:
        """The folder of a series' DICOM files, fetched if it has to be; empty if the server has no such series."""
        folder = self._series / image_id
        if not is_uid(image_id):
            return ""
        try:
            series = self._server.find(image_id)
        except RequestError as error:
            if not folder.is_dir():
                raise
            logger.warning("The series %s is used as it was fetched: %s", image_id, error)
        else:
            if series is None:
                self._forget(image_id)
                return ""
            with self._alone(image_id):
                if not folder.is_dir():
                    self._fetch(series, folder)
        os.utime(folder)  # its last use
        return str(folder)

    def get_image_uri(self, image_id: str) -> str:
        """The path of an image as NIfTI, made if it has to be; empty if the server has no such series."""
        folder = self.series_folder(image_id)
        if not folder:
            return ""
        with self._alone(image_id):
            if image_id not in self._kept.list_images():
                volume = guarded.read_volume(folder)
                with tempfile.TemporaryDirectory(prefix="monai-sam-series-") as place:
                    self._kept.add_image(image_id, str(write_volume(volume, Path(place, f"{image_id}{_ENDING}"))), {})
        return self._kept.get_image_uri(image_id)

    def get_image(self, image_id: str, params: Any = None) -> io.BytesIO | None:
        """The content of an image as NIfTI, None if there is no such image."""
        path = self.get_image_uri(image_id)
        return io.BytesIO(Path(path).read_bytes()) if path else None

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What the server and clients said about an image; empty if there is no such image."""
        series = self._server.find(image_id)
        return {**series.info, **self._kept.get_image_info(image_id)} if series else {}

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is known about an image; see ``StudyFolder``."""
        self.get_image_uri(image_id)
        self._kept.update_image_info(image_id, info)

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Refused.

        Raises:
            RequestError: always (405).
        """
        raise RequestError(
            "images are added to the DICOMweb server, not here; PUT /session/ takes one for a while", status=405
        )

    def remove_image(self, image_id: str) -> None:
        """Refused.

        Raises:
            RequestError: always (405).
        """
        raise RequestError("images are removed at the DICOMweb server, not here", status=405)

    def _fetch(self, series: Series, folder: Path) -> None:
        partial = Path(tempfile.mkdtemp(dir=self._series, prefix="."))
        try:
            self._server.fetch(series, partial)
            os.rename(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _alone(self, image_id: str) -> AbstractContextManager[None]:
        """Held while a series is fetched, converted or removed; others are not held up, and who waits can be ended."""
        return holding(self._locks.setdefault(image_id, threading.Lock()), idle=rest)

    def _forget(self, image_id: str) -> None:
        """Remove what can be fetched again; labels that lie here alone stay, with their image."""
        with self._alone(image_id):
            shutil.rmtree(self._series / image_id, ignore_errors=True)
            if not set(self._kept.get_labels_by_image_id(image_id)) - {_FINAL} and self._kept.get_image_uri(image_id):
                self._kept.remove_image(image_id)

    # ---- labels -----------------------------------------------------------------------------------------------------

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Tag -> label id, which is the image's."""
        tags = {**self._kept.get_labels_by_image_id(image_id)}
        tags.pop(_FINAL, None)
        return tags | ({_FINAL: image_id} if image_id in self._server.segmentations() else {})

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """The id of an image's label with a tag, empty if there is none."""
        return self.get_labels_by_image_id(image_id).get(tag, "")

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> io.BytesIO | None:
        """The content of a label's file, None if there is no such label."""
        path = self.get_label_uri(label_id, label_tag)
        return io.BytesIO(Path(path).read_bytes()) if path else None

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """The path of a label on the grid of its image, fetched if it has to be; empty if there is no such label.

        Args:
            label_id: SeriesInstanceUID of the image, or of a segmentation that is its newest.
            label_tag: "final" is the segmentation, others are kept here alone.
        """
        image_id = self._up_to_date(label_id, label_tag)
        return self._kept.get_label_uri(image_id, label_tag) if image_id else ""

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is known about a label; empty if there is no such label."""
        image_id = self._up_to_date(label_id, label_tag)
        return self._kept.get_label_info(image_id, label_tag) if image_id else {}

    def segment_names(self, image_id: str) -> tuple[str, ...] | None:
        """The names of the segments of an image's final label; nothing is fetched. None where the server lists none."""
        newest = self._newest_of(image_id)
        return None if newest is None else newest.names

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is known about a label; see ``StudyFolder``."""
        self._kept.update_label_info(self._up_to_date(label_id, label_tag) or label_id, label_tag, info)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Send a final label to the server as DICOM SEG, and keep it; one of another tag is kept here alone.

        Raises:
            RequestError: the server does not take it (502), nothing is labelled, or there is no such image (404).
            VolumeError: label or image cannot be read, or do not lie on each other.
        """
        if not self.get_image_uri(image_id):
            raise RequestError(f"there is no image {image_id!r}; GET /datastore/?output=all lists them", status=404)
        info = dict(label_info)
        if label_tag == _FINAL:
            image = guarded.read_volume(self.series_folder(image_id))
            label = check_grid(image, guarded.read_label(label_filename))
            info["label_info"] = match_label_info(info.get("label_info") or [], label.array)
            with tempfile.TemporaryDirectory(prefix="monai-sam-seg-") as place:
                path = write_dicom_seg(label.array, image, info["label_info"], Path(place, "seg.dcm"))
                info[_SEG_SERIES] = self._server.store(path).series
        return self._kept.save_label(image_id, label_filename, label_tag, info)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove a label that is kept here; it stays as a version.

        Raises:
            RequestError: it is a segmentation of the server (405).
        """
        if label_tag == _FINAL:
            raise RequestError("labels are removed at the DICOMweb server, not here", status=405)
        self._kept.remove_label(label_id, label_tag)

    def label_versions(self, label_id: str, label_tag: str) -> list[Version]:
        """The labels from before that were seen here, oldest first; all segmentations stay on the server."""
        return self._kept.label_versions(label_id, label_tag)

    def label_version(self, label_id: str, label_tag: str, number: int) -> Version:
        """One of them; see ``StudyFolder``."""
        return self._kept.label_version(label_id, label_tag, number)

    def _up_to_date(self, label_id: str, label_tag: str) -> str:
        """The id of the image of a label, once what is kept of the label is what the server has; empty without one."""
        if label_tag != _FINAL:
            return label_id
        newest = self._newest_of(label_id)
        if newest is None:
            if _FINAL in self._kept.get_labels_by_image_id(label_id):  # it was removed at the server
                self._kept.remove_label(label_id, _FINAL)
            return ""
        if self._kept.get_label_info(newest.image, _FINAL).get(_SEG_SERIES) != newest.series:
            self._take(newest)
        return newest.image

    def _newest_of(self, label_id: str) -> Segmentation | None:
        found = self._server.segmentations()
        if label_id in found:
            return found[label_id][-1]
        return next((made[-1] for made in found.values() if made[-1].series == label_id), None)

    def _take(self, segmentation: Segmentation) -> None:
        """Keep a segmentation of the server as label map of its image."""
        if not self.get_image_uri(segmentation.image):
            raise RequestError(f"the DICOMweb server has no series {segmentation.image}", status=404)
        with tempfile.TemporaryDirectory(prefix="monai-sam-seg-") as place:
            self._server.fetch_segmentation(segmentation, seg := Path(place, "seg.dcm"))
            image = guarded.read_volume(self.series_folder(segmentation.image))
            try:
                label = check_grid(image, guarded.read_label(seg))
            except VolumeError as error:
                raise VolumeError(f"the segmentation {segmentation.series} cannot be used: {error}") from error
            info = {_SEG_SERIES: segmentation.series, "label_info": label_info_of(label.segments)}
            path = write_label(label.array, image, Path(place, f"{segmentation.image}{_ENDING}"))
            self._kept.save_label(segmentation.image, str(path), _FINAL, info)

    # ---- the whole --------------------------------------------------------------------------------------------------

    def name(self) -> str:
        """The address of the server."""
        return self._server.address

    def set_name(self, name: str) -> None:
        """Refused.

        Raises:
            RequestError: always (405).
        """
        raise RequestError("the name is the address of the DICOMweb server", status=405)

    def description(self) -> str:
        """What was said about the data set."""
        return self._kept.description()

    def set_description(self, description: str) -> None:
        """Say what the data set is."""
        self._kept.set_description(description)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """``{"image": path, "label": path}`` of each image with a segmentation; all of them are fetched."""
        self._fetch_labelled()
        return self._kept.datalist(full_path)

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Write a zip of the images with a segmentation and those; see ``StudyFolder``."""
        self._fetch_labelled(limit_cases)
        return self._kept.get_dataset_archive(limit_cases)

    def status(self) -> dict[str, Any]:
        """How many images there are, how many have a segmentation, and how many labels each tag has."""
        tags = dict(self._kept.status()["label_tags"])
        completed = len(self.get_labeled_images())
        return {"total": len(self.list_images()), "completed": completed, "label_tags": {**tags, _FINAL: completed}}

    def json(self) -> dict[str, Any]:
        """All images and labels as clients see them; nothing is fetched for it."""
        kept = self._kept.json()
        objects = {}
        for uid, series in self._server.series().items():
            known = kept["objects"].get(uid, {"image": {"ext": _ENDING, "info": {}}, "labels": {}})
            labels = {tag: label for tag, label in known["labels"].items() if tag != _FINAL}
            if made := self._server.segmentations().get(uid):
                same = known["labels"].get(_FINAL, {}).get("info", {})
                info = same if same.get(_SEG_SERIES) == made[-1].series else {_SEG_SERIES: made[-1].series}
                labels[_FINAL] = {"ext": _ENDING, "info": info}
            image = {**known["image"], "info": {**series.info, **known["image"]["info"]}}
            objects[uid] = {"image": image, "labels": labels}
        return {**kept, "name": self.name(), "objects": objects}

    def refresh(self) -> None:
        """Ask the server anew."""
        self._server.look_again()

    def purge(self, older_than: float) -> int:
        """Remove what was fetched and not used since a time (seconds since 1970), and older versions of labels.

        Returns:
            How many series and versions these were.
        """
        old = [folder.name for folder in self._series.glob("[0-9]*") if folder.stat().st_mtime < older_than]
        for image_id in old:
            self._forget(image_id)
        return len(old) + self._kept.purge(older_than)

    def _fetch_labelled(self, most: int | None = None) -> None:
        """Bring what is kept up to date; a segmentation that cannot be used is left out, whoever sent it."""
        kept = self._kept.get_labeled_images()  # of some the segmentation was removed at the server
        for image_id in dict.fromkeys([*kept, *self.get_labeled_images()[: most or None]]):
            try:
                self._up_to_date(image_id, _FINAL)
            except (VolumeError, RequestError) as error:
                if isinstance(error, RequestError) and error.status >= 500:  # it is away: half of the labels is none
                    raise
                logger.warning("The label of the series %s is left out: %s", image_id, error)
                if _FINAL in self._kept.get_labels_by_image_id(image_id):  # an earlier one, which is not final any more
                    self._kept.remove_label(image_id, _FINAL)
