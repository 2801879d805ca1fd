"""DICOM images: one file, or the files of a series in a folder.

`dicom_geometry` says where the frames lie, `dicom_parts` which of them make one scan, `dicom_pixels` what they hold;
segmentations are read and written by `dicom_seg`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError

from bundle.data.formats.dicom_files import read_dataset
from bundle.data.formats.dicom_geometry import Frame, arrange, frames_of
from bundle.data.formats.dicom_parts import Parts, split_parts
from bundle.data.formats.dicom_pixels import read_frames
from bundle.data.formats.dicom_seg import is_segmentation, read_segmentation, read_segments
from bundle.data.formats.stored import LPS_TO_RAS, Segment, Stored
from bundle.data.headers.dicom import dicom_files, is_dicom
from bundle.errors import SeriesError, VolumeError

logger = logging.getLogger(__name__)

# Objects that lie beside images, and what to do with them instead. By modality (PS3.3 C.7.3.1.1.1).
_NO_IMAGES = {
    "SEG": "a segmentation; give it where a label map is asked for",
    "RTSTRUCT": "an RT structure set; convert it to DICOM SEG or NIfTI with 3D Slicer or plastimatch",
    "RTPLAN": "an RT plan",
    "RTDOSE": "an RT dose",
    "RTRECORD": "an RT treatment record",
    "SR": "a structured report",
    "PR": "a presentation state",
    "KO": "a key object selection",
    "REG": "a registration",
    "DOC": "a document",
    "AU": "sound",
    "ECG": "a waveform",
}


def read_dicom(path: Path, *, series: str | None, is_label: bool = False) -> Stored:
    """Read a DICOM file, or the series of a folder (sub-folders are not searched).

    Args:
        path: file or folder.
        series: see `series_frames`.
        is_label: whether a label map is asked for: then the file may be a segmentation, see `dicom_seg`.

    Raises:
        VolumeError: see `series_frames`; or the pixels cannot be read.
    """
    if is_label and path.is_file() and is_segmentation(header := read_header(path)):
        return read_segmentation(header, path)
    frames, affine = arrange(series_frames(path, series))
    if frames[0].position is None and len(frames) > 1:
        logger.warning("%s does not say where its %d frames lie; they are stacked as stored", path, len(frames))
    if (count := len({str(frame.tags.get("FrameOfReferenceUID") or "") for frame in frames})) > 1:
        logger.warning("slices of %s lie in %d frames of reference; they are taken for those of one scan", path, count)
    placed = frames[0].position is not None
    return Stored(read_frames(frames), LPS_TO_RAS @ affine, _modality_of(frames), placed=placed)


def segments_of(path: Path) -> tuple[Segment, ...]:
    """The segments of a DICOM SEG, see `dicom_seg`; none of another DICOM file.

    Raises:
        VolumeError: the file is damaged.
    """
    return read_segments(path) if is_segmentation(read_header(path)) else ()


def _modality_of(frames: Sequence[Frame]) -> str | None:
    tag = str(frames[0].tags.get("Modality") or "")
    return ("CT" if tag == "CT" else "other") if tag else None


# ---- which files ----------------------------------------------------------------------------------------------------


def read_header(path: Path) -> FileDataset:
    """The tags of a DICOM file up to its pixels.

    Raises:
        VolumeError: it is no DICOM file.
    """
    try:
        return read_dataset(path, stop_before_pixels=True, force=is_dicom(path))
    except InvalidDicomError as error:
        raise VolumeError(f"cannot read {path}, it is damaged or no DICOM file") from error


# ---- which series and part ------------------------------------------------------------------------------------------


def series_frames(path: Path, series: str | None) -> list[Frame]:
    """The frames of one scan, in no order.

    Args:
        path: file or folder.
        series: ``UID``, ``UID:N`` or ``:N``: the SeriesInstanceUID, needed where a folder holds several series of
            images, and from 1 the number of the scan, needed where the series holds several (time points, echoes, a
            localizer). The error that asks for it lists them.

    Raises:
        SeriesError: one of several series or scans must be chosen, or there is none of the chosen name.
        VolumeError: there is no image, or its geometry cannot be used.
    """
    uid, _, number = (series or "").partition(":")
    headers = _of_series(path, uid)
    frames = [frame for header in headers for frame in frames_of(header, Path(header.filename))]
    found = split_parts(frames)
    choices = {f"{uid}:{turn}": text for turn, text in enumerate(_part_texts(found), start=1)}
    if number and f"{uid}:{number}" not in choices:
        raise SeriesError(f"{path} has no scan number {number}", choices)
    if not number and len(choices) > 1:
        raise SeriesError(f"{path} holds {found.summary} in one DICOM series", choices)
    return found.parts[int(number or 1) - 1].frames


def _part_texts(found: Parts) -> Iterator[str]:
    for frames, about in found.parts:
        files = frames[0].name if len(frames) == 1 else f"{frames[0].name}, ..."
        yield f"{about}{about and ', '}{len(frames)} slice{'s' if len(frames) > 1 else ''} ({files})"


def _of_series(path: Path, uid: str) -> list[FileDataset]:
    """The headers of the images of one series."""
    files = [path] if path.is_file() else dicom_files(path)
    headers = [read_header(file) for file in files]
    images = [header for header in headers if _is_image(header)]
    if not images:
        raise VolumeError(_no_image(path, headers))
    by_uid: dict[str, list[FileDataset]] = {}
    for header in images:
        by_uid.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    choices = {found: _series_text(of_series) for found, of_series in by_uid.items()}
    if uid and uid not in by_uid:
        raise SeriesError(f"{path} has no DICOM series {uid}", choices)
    if not uid and len(by_uid) > 1:
        raise SeriesError(f"{path} holds {len(by_uid)} DICOM series", choices)
    return by_uid[uid] if uid else images


def _is_image(header: FileDataset) -> bool:
    return "Rows" in header and "Columns" in header and str(header.get("Modality", "")) not in _NO_IMAGES


def _no_image(path: Path, headers: Iterable[FileDataset]) -> str:
    kinds = {str(header.get("Modality", "")) for header in headers}
    if not kinds:
        return f"expected a DICOM series in {path}, got none; name the folder that holds its files"
    texts = [_NO_IMAGES.get(kind, f"an object of modality {kind or 'unknown'}") for kind in sorted(kinds)]
    return f"expected a DICOM image, {path} is {', and '.join(texts)}"


def _series_text(headers: Sequence[FileDataset]) -> str:
    first = headers[0]
    about = [str(first.get("Modality", "")), str(first.get("SeriesDescription", ""))]
    sizes = f"{len(headers)} file{'s' if len(headers) > 1 else ''} of {first.Columns} x {first.Rows}"
    return ", ".join([*filter(None, about), sizes])
