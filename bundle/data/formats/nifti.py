"""NIfTI: voxels by nibabel, their place as ITK reads it.

The header of a NIfTI file can place its voxels twice, by qform and by sform, and the standard does not say which counts
where they differ. nibabel takes the sform wherever it has a code; ITK, with which 3D Slicer, MITK and ITK-SNAP show the
image, takes it only if its code is 1 or there is no qform, and always with the voxel sizes of ``pixdim``. The answers
to those programs must lie on what they show, so a file lies where ITK places it. Where ITK refuses to (an sform with
shear and no qform, NIfTI-2, a single 2D slice) it lies where nibabel places it.
"""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from bundle.data.formats.itk import affine_of
from bundle.data.formats.stored import Stored, distance_apart, voxel_sizes
from bundle.errors import VolumeError

logger = logging.getLogger(__name__)

# The header fields in which NIfTI keeps its geometry.
_NIFTI_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "sform_code", "srow_x", "srow_y", "srow_z"),
)
_NIFTI_RGB = np.dtype([(channel, np.uint8) for channel in "RGB"])
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by the code of lengths: unknown, m, mm, micrometres
# Two readings of a header agree if no corner moves by more than this share of a voxel: its numbers are float32.
_SAME_PLACE = 1e-3


def read_nifti(path: Path) -> Stored:
    """Read a NIfTI file; scaled values become float, lengths in metres or micrometres become mm."""
    image = _load(path)
    array = np.asanyarray(image.dataobj)
    if array.dtype.fields:  # RGB24 and RGBA32 are stored as records
        array = np.stack([array[channel] for channel in "RGB"], axis=-1)
    elif array.ndim == 2:
        array = array[..., None]
    elif array.ndim > 3:
        array = _drop_trailing_ones(array)
    affine, other = _placements(image, path)
    if other is not None:
        codes = int(image.header["qform_code"]), int(image.header["sform_code"])
        logger.warning(
            "qform and sform of %s (codes %d and %d) place its voxels up to %.2f mm apart; it is taken where ITK and "
            "3D Slicer show it",
            *(path, *codes, distance_apart(affine, other, array.shape[:3])),
        )
    return Stored(array, affine, step=_step(image), other_affine=other)


def _load(path: Path) -> nib.Nifti1Image:
    image = nib.load(path, mmap=False)
    if not isinstance(image, nib.Nifti1Image):
        raise VolumeError(f"expected a NIfTI volume in {path}, got {type(image).__name__}; save it as a plain volume")
    return image


def _step(image: nib.Nifti1Image) -> float:
    """The scale factor of whole numbers; 0 without one."""
    slope = getattr(image.dataobj, "slope", 1.0)
    return abs(float(slope)) if image.get_data_dtype().kind in "iu" and slope != 1 else 0.0


def _drop_trailing_ones(array: np.ndarray) -> np.ndarray:
    if any(size != 1 for size in array.shape[3:]):
        raise VolumeError(f"expected one 3D volume, got shape {array.shape}; split the series into one file per volume")
    return array.reshape(array.shape[:3])


def _placements(image: nib.Nifti1Image, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Where the voxels lie, and nibabel's other reading of the header; None where there is no other."""
    by_nibabel = image.affine.copy()
    by_nibabel[:3] *= _MM_PER_UNIT[int(image.header["xyzt_units"]) & 7]
    by_itk = _affine_by_itk(path) if int(image.header["sizeof_hdr"]) == 348 else None  # ITK's library knows NIfTI-1
    if by_itk is None or _is_same_place(by_itk, by_nibabel, image.shape):
        return by_nibabel, None
    return by_itk, by_nibabel


def _affine_by_itk(path: Path) -> np.ndarray | None:
    """(4, 4) voxel index to RAS mm as ITK reads the header; None if it refuses it or sees no third axis."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None
    affine = affine_of(reader) if reader.GetDimension() >= 3 else None
    return affine if affine is not None and abs(np.linalg.det(affine)) > 0 else None


def _is_same_place(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> bool:
    shape = (*shape[:3], 1, 1)[:3]
    return distance_apart(one, other, shape) <= _SAME_PLACE * voxel_sizes(other).min()


def write_nifti(stored: Stored, path: Path, *, source: Path | None, compress: bool) -> None:
    """Write NIfTI-1, with the qform and sform of ``source`` where that file has the same affine.

    Otherwise qform and sform say the same; an affine with shear, which a qform cannot hold, is an sform alone.
    ``compress`` has no say here: .nii.gz is compressed and .nii is not.
    """
    array = stored.array
    if array.ndim == 4:
        array = np.ascontiguousarray(array).view(_NIFTI_RGB).reshape(array.shape[:3])
    geometry = _nifti_geometry(source, stored.affine)
    # With an affine of its own an image overrules the header when nibabel saves it.
    image = nib.Nifti1Image(array, stored.affine if geometry is None else None, dtype=array.dtype)
    if geometry is None:
        image.set_sform(stored.affine, code=1)
        image.set_qform(stored.affine, code=1)
        image.header.set_xyzt_units("mm")
        if not _is_same_place(image.get_qform(), stored.affine, array.shape):
            image.set_qform(stored.affine, code=0)
    else:
        for field in _NIFTI_GEOMETRY:
            image.header[field] = geometry[field]
    nib.save(image, path)


def _nifti_geometry(source: Path | None, affine: np.ndarray) -> nib.Nifti1Header | None:
    """The header of ``source`` if it is a NIfTI file that places voxels by ``affine``."""
    if source is None or not source.name.lower().endswith((".nii", ".nii.gz")) or not source.is_file():
        return None
    image = _load(source)
    return image.header if np.array_equal(_placements(image, source)[0], affine) else None
