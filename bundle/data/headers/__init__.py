"""What a file says about itself, checked before any library sees it.

The text parsers of ITK overrun fixed buffers (a Name of 300 letters in a MetaImage ends the process), follow names of
other files, and allocate what a header claims; so do other libraries. So each format has a small strict reader of
headers here. It refuses what it does not know; what it lets pass has a size within the limits that the file can really
hold.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bundle.data.headers.archives import check_npy, check_npz, check_zarr
from bundle.data.headers.claims import damage_reported, refusal
from bundle.data.headers.dicom import check_dicom_file, check_dicom_folder
from bundle.data.headers.metaimage import check_metaimage
from bundle.data.headers.nrrd import check_nrrd
from bundle.data.limits import LIMITS, Limits

__all__ = ["check_header", "damage_reported"]

_CHECKS: dict[tuple[str, ...], Callable[[Path, Limits], None]] = {
    (".nrrd", ".nhdr"): check_nrrd,
    (".mha", ".mhd"): check_metaimage,
    (".npz",): check_npz,
    (".npy",): check_npy,
}


def check_header(path: Path, limits: Limits = LIMITS) -> None:
    """Refuse a file or folder that no reader should be given; the check neither reads nor allocates the voxels.

    Args:
        path: an image or label map of any format, by its ending; a folder is zarr or DICOM, any other file DICOM.
        limits: how large it may be.

    Raises:
        VolumeError: the header is damaged, claims what the file does not hold or more than the limits, or names
            another file; the message says which.
    """
    with damage_reported(path):
        _check(path, limits)


def _check(path: Path, limits: Limits) -> None:
    if path.is_dir():
        return check_zarr(path, limits) if path.suffix == ".zarr" else check_dicom_folder(path, limits)
    if not path.is_file():
        raise refusal(path, "it is a device or a pipe; name a file or folder")
    _check_of(path.name.lower())(path, limits)


def _check_of(name: str) -> Callable[[Path, Limits], None]:
    """The check for a file of that name; those that need a library are imported when they are needed."""
    if name.endswith((".nii.gz", ".nii")):
        from bundle.data.headers.nifti import check_nifti

        return check_nifti
    if name.endswith((".png", ".jpg", ".jpeg", ".tif", ".tiff")):
        from bundle.data.headers.pictures import check_picture

        return check_picture
    return next((check for endings, check in _CHECKS.items() if name.endswith(endings)), check_dicom_file)
