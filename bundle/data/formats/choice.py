"""Which reader and writer belongs to a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bundle.data import formats
from bundle.data.formats.stored import Segment, Stored
from bundle.data.headers.dicom import is_dicom
from bundle.errors import VolumeError

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
ENDINGS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz", ".npy", ".dcm", *PICTURES)


def ending_of(path: Path) -> str:
    """The one of ``ENDINGS`` that a file has, in lower case; empty if none."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")


def stem_of(path: Path) -> str:
    """The name of a file without the one of ``ENDINGS`` that it has; of a link, that of the file."""
    name = path.resolve().name
    return name[: len(name) - len(ending_of(Path(name)))]


def reader_of(path: Path, *, is_label: bool, series: str | None) -> Callable[[Path], Stored]:
    """The function that reads a file or folder.

    Raises:
        VolumeError: its format is not known.
    """
    ending, key = ending_of(path), "gts" if is_label else "imgs"
    if path.is_dir() and path.suffix == ".zarr":
        return partial(formats.medsam.read_zarr, key=key)
    if path.is_dir():
        return partial(formats.dicom.read_dicom, series=series, is_label=is_label)
    if ending in (".nii.gz", ".nii"):
        return formats.nifti.read_nifti
    if _is_segmentation(path):
        return partial(formats.seg_nrrd.read_segmentation, is_label=is_label)
    if ending in (".nrrd", ".seg.nrrd", ".nhdr"):
        return formats.nrrd.read_nrrd
    if ending in (".mha", ".mhd"):
        return formats.itk.read_itk
    if ending in (".npz", ".npy"):
        return partial(formats.medsam.read_medsam, key=key)
    if ending in PICTURES:
        return partial(formats.picture.read_picture, is_label=is_label)
    if ending == ".dcm" or is_dicom(path):
        return partial(formats.dicom.read_dicom, series=series, is_label=is_label)
    raise VolumeError(f"cannot tell the format of {path}; expected one of {', '.join(ENDINGS)} or a DICOM folder")


def segments_of(path: Path) -> tuple[Segment, ...]:
    """The segments that a file names; none in other formats than 3D Slicer's segmentations and DICOM SEG."""
    if _is_segmentation(path):
        return formats.seg_nrrd.read_segments(path)
    return formats.dicom.segments_of(path) if path.is_file() and is_dicom(path) else ()


def _is_segmentation(path: Path) -> bool:
    return ending_of(path) in (".nrrd", ".seg.nrrd") and path.is_file() and formats.seg_nrrd.has_segments(path)


def writer_of(path: Path, *, key: str) -> Callable[..., None]:
    """The function that writes a file of that name.

    Args:
        path: of the file.
        key: name of the array in a MedSAM archive, "imgs" or "gts".

    Raises:
        VolumeError: no such format is written.
    """
    ending = ending_of(path)
    if ending in (".nii.gz", ".nii"):
        return formats.nifti.write_nifti
    if ending in (".nrrd", ".mha", ".mhd"):
        return formats.itk.write_itk
    if ending == ".npz":
        return partial(formats.medsam.write_medsam, key=key)
    if ending == ".png":
        return formats.picture.write_picture
    if ending == ".dcm" and key == "gts":
        return formats.dicom_seg_writer.write_segmentation
    raise VolumeError(f"cannot write {path.name}; expected .nii, .nii.gz, .nrrd, .mha, .mhd, .npz or .png")
