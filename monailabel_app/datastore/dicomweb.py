"""What a DICOMweb server (PS3.18) holds: its image series, and which segmentations refer to them."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from dicomweb_client import DICOMwebClient
from dicomweb_client.ext.gcp.session_utils import create_session_from_gcp_credentials
from dicomweb_client.session_utils import create_session, create_session_from_user_pass
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX
from pydicom.dataset import Dataset
from requests import Session
from requests.adapters import HTTPAdapter
from requests.exceptions import HTTPError, RequestException, Timeout

from bundle.data.formats.dicom_seg import segment_names
from bundle.data.limits import LIMITS
from monailabel_app.errors import RequestError

logger = logging.getLogger(__name__)

TIMEOUTS = (5.0, 60.0)  # seconds to connect, and until the next bytes come
_FRESH = 5.0  # seconds that a listing is good for
_TOLD = ("Modality", "PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "SeriesDescription", "RetrieveURL")
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")  # PS3.5 9.1; a star would be a wildcard of the search
# What the client raises on an answer that is no DICOM, beside pydicom's own errors, which are of these kinds.
_NO_DICOM = (ValueError, KeyError, IndexError, AttributeError, TypeError, OSError, NotImplementedError)


def is_uid(text: str) -> bool:
    """Whether a text is a UID of DICOM."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


@dataclass(frozen=True)
class Series:
    """A series of images.

    Attributes:
        uid: SeriesInstanceUID.
        study: StudyInstanceUID.
        info: what clients are told of it, as OHIF's next sample needs.
    """

    uid: str
    study: str
    info: Mapping[str, str]


@dataclass(frozen=True, order=True)
class Segmentation:
    """A DICOM SEG of the server; the one that sorts last was made last.

    Attributes:
        made: its ContentDate and ContentTime.
        instance: SOPInstanceUID.
        series: its own SeriesInstanceUID.
        study: StudyInstanceUID.
        image: SeriesInstanceUID of the images that it refers to.
        names: of its segments; None where the server does not list them.
    """

    made: str
    instance: str
    series: str
    study: str = field(compare=False)
    image: str = field(compare=False)
    names: tuple[str, ...] | None = field(compare=False, default=None)


class PatientAdapter(HTTPAdapter):
    """Waits no longer than ``TIMEOUTS`` for a server: the client itself would wait for ever."""

    def send(self, *args: Any, timeout: Any = None, **options: Any) -> Any:
        """Send a request."""
        return super().send(*args, timeout=timeout or TIMEOUTS, **options)


def patient(session: Session) -> Session:
    """The session, with an end to its waiting."""
    for scheme in ("http://", "https://"):
        session.mount(scheme, PatientAdapter())
    return session


def connect(address: str) -> DicomWeb:
    """A DICOMweb server, asked as MONAI Label's settings say (``MONAI_LABEL_DICOMWEB_...``)."""
    login = (settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD)
    if "googleapis.com" in address:
        session = create_session_from_gcp_credentials()
    elif all(login):
        session = create_session_from_user_pass(*login)
    else:
        session = create_session()
    client = DICOMwebClientX(
        url=address,
        session=patient(session),
        qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
        wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
        stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
    )
    return DicomWeb(client, settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER)


class DicomWeb:
    """A DICOMweb server as this app needs it. Safe to use from several threads.

    Every method raises RequestError: 502 where the server refuses or answers no DICOM, 504 where it is too slow.
    """

    def __init__(self, client: DICOMwebClient, filters: Mapping[str, Any], *, fresh: float = _FRESH) -> None:
        """Args:
        client: of the server; its session should have ``PatientAdapter``.
        filters: which series are listed, as ``{"Modality": "CT"}``.
        fresh: seconds that a listing is good for.
        """
        client.set_http_retry_params(retry=False)  # whoever clicks waits for it
        self._client = client
        self._filters = dict(filters)
        self._is_empty = False  # at the last listing
        self._lock = threading.Lock()
        self._listed = _Listing(self._list_series, fresh)
        self._segmented = _Listing(self._list_segmentations, fresh)
        self._known: dict[str, tuple[Segmentation, ...]] = {}  # by their own series, which never change

    @property
    def address(self) -> str:
        """Of the server."""
        return str(self._client.base_url)

    def series(self) -> Mapping[str, Series]:
        """The image series by their UID; nothing of them is fetched."""
        return self._listed.current()

    def find(self, uid: str) -> Series | None:
        """A series, listed or not; None if the server has none of that UID."""
        if not is_uid(uid):
            return None
        return self.series().get(uid) or next(iter(self._search({"SeriesInstanceUID": uid})), None)

    def segmentations(self) -> Mapping[str, tuple[Segmentation, ...]]:
        """The segmentations of each image series that has any, in the order in which they were made."""
        return self._segmented.current()

    def look_again(self) -> None:
        """Ask anew at the next question."""
        self._listed.forget()
        self._segmented.forget()

    def fetch(self, series: Series, folder: Path) -> None:
        """Write the instances of a series into a folder, as ``000001.dcm`` and so on.

        Raises:
            RequestError: also where they are more, or larger, than is taken.
        """
        size = 0
        with _asking("does not give the series"):
            for number, instance in enumerate(self._client.iter_series(series.study, series.uid), start=1):
                path = folder / f"{number:06d}.dcm"
                instance.save_as(path, write_like_original=False)
                size += path.stat().st_size
                if number > LIMITS.files or size > LIMITS.data_bytes:
                    raise RequestError(f"the series {series.uid} has more files or bytes than this server takes")
            if not size:
                raise RequestError(f"the DICOMweb server gives no images of the series {series.uid}", status=404)

    def fetch_segmentation(self, segmentation: Segmentation, path: Path) -> None:
        """Write a DICOM SEG into a file."""
        with _asking("does not give the segmentation"):
            place = (segmentation.study, segmentation.series, segmentation.instance)
            self._client.retrieve_instance(*place).save_as(path, write_like_original=False)

    def store(self, path: Path) -> Segmentation:
        """Send a DICOM SEG to the server."""
        dataset = pydicom.dcmread(path)
        with _asking("did not take the segmentation"):
            failed = self._client.store_instances([dataset]).get("FailedSOPSequence")
        if failed:
            reason = int(failed[0].get("FailureReason") or 0)
            raise RequestError(f"the DICOMweb server did not take the segmentation (reason {reason:#06x})", status=502)
        self._segmented.forget()
        return _segmentation_of(dataset)

    def _list_series(self) -> Mapping[str, Series]:
        found = {series.uid: series for series in self._search(self._filters)}
        if not found and not self._is_empty:  # said once, as a listing is asked for again and again
            logger.warning(
                "The DICOMweb server has no series of %s; MONAI_LABEL_DICOMWEB_SEARCH_FILTER says which are listed",
                self._filters,
            )
        self._is_empty = not found
        return found

    def _search(self, filters: Mapping[str, Any]) -> list[Series]:
        with _asking("cannot be searched"):
            found = self._client.search_for_series(
                search_filters=dict(filters), fields=["SeriesDescription"], get_remaining=True
            )
            return [_series_of(Dataset.from_json(item)) for item in found]

    def _list_segmentations(self) -> Mapping[str, tuple[Segmentation, ...]]:
        series = [one for one in self._search({"Modality": "SEG"})]
        self._known = {one.uid: self._known.get(one.uid) or self._look_at(one) for one in series}
        by_image: dict[str, list[Segmentation]] = {}
        for segmentation in (one for found in self._known.values() for one in found):
            by_image.setdefault(segmentation.image, []).append(segmentation)
        return {image: tuple(sorted(found)) for image, found in by_image.items()}

    def _look_at(self, series: Series) -> tuple[Segmentation, ...]:
        """The segmentations of a series of them; one that does not say what it segments is no label of an image."""
        with _asking("does not describe the segmentation"):
            headers = self._client.retrieve_series_metadata(series.study, series.uid)
            datasets = [Dataset.from_json(header, lambda *_: None) for header in headers]  # voxels are not asked for
        found = tuple(_segmentation_of(dataset) for dataset in datasets if dataset.get("ReferencedSeriesSequence"))
        if len(found) < len(datasets):
            logger.warning("In the series %s are segmentations that refer to no images; they are left out", series.uid)
        return found


class _Listing:
    """What a server was asked for lately; while it gives no answer, what it said last."""

    def __init__(self, ask: Callable[[], Mapping[str, Any]], fresh: float) -> None:
        self._ask, self._fresh = ask, fresh
        self._lock = threading.Lock()
        self._answer: Mapping[str, Any] | None = None
        self._asked = -float("inf")

    def current(self) -> Mapping[str, Any]:
        with self._lock:
            if time.monotonic() - self._asked > self._fresh or self._answer is None:
                try:
                    self._answer = self._ask()
                except RequestError as error:
                    if self._answer is None:
                        raise
                    logger.warning("The listing is an older one: %s", error)
                self._asked = time.monotonic()
            return self._answer

    def forget(self) -> None:
        with self._lock:
            self._asked = -float("inf")


@contextmanager
def _asking(failure: str) -> Iterator[None]:
    """Say what failed as a status and a sentence."""
    try:
        yield
    except RequestError:
        raise
    except Timeout as error:
        raise RequestError(f"the DICOMweb server {failure}: it is too slow", status=504) from error
    except HTTPError as error:
        answer = "another status" if error.response is None else str(error.response.status_code)
        raise RequestError(f"the DICOMweb server {failure}: it answers {answer}", status=502) from error
    except RequestException as error:
        raise RequestError(f"the DICOMweb server gives no answer ({type(error).__name__})", status=502) from error
    except _NO_DICOM as error:
        if isinstance(error, OSError):  # a disk of ours that is full
            raise
        sentence = f"the DICOMweb server {failure}: its answer cannot be read ({type(error).__name__})"
        raise RequestError(sentence, status=502) from error


def _series_of(dataset: Dataset) -> Series:
    info = {name: str(dataset.get(name) or "") for name in _TOLD}
    uid = str(dataset.SeriesInstanceUID)
    if not is_uid(uid):  # it becomes the name of a folder
        raise ValueError(f"the server lists a series {uid!r}")
    return Series(uid, str(dataset.StudyInstanceUID), {"SeriesInstanceUID": uid, **info})


def _segmentation_of(dataset: Dataset) -> Segmentation:
    made = f"{dataset.get('ContentDate') or ''} {dataset.get('ContentTime') or ''}"
    uids = dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID
    image = dataset.ReferencedSeriesSequence[0].SeriesInstanceUID
    return Segmentation(made, *map(str, uids), str(image), _names_of(dataset))


def _names_of(dataset: Dataset) -> tuple[str, ...] | None:
    """Of its segments; None where the server does not list them as DICOM does: whoever reads the file says so."""
    try:
        return tuple(segment_names(dataset).values()) if "SegmentSequence" in dataset else None
    except _NO_DICOM:
        return None
