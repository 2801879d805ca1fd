"""NIfTI by nibabel, because ITK refuses affines that are not orthonormal."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from bundle.data.formats.stored import Stored
from bundle.errors import VolumeError

# The header fields in which NIfTI keeps its geometry.
_NIFTI_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "sform_code", "srow_x", "srow_y", "srow_z"),
)
_NIFTI_RGB = np.dtype([(channel, np.uint8) for channel in "RGB"])


def read_nifti(path: Path) -> Stored:
    """Read a NIfTI file; scaled values become float."""
    image = nib.load(path, mmap=False)
    array = np.asanyarray(image.dataobj)
    if array.dtype.fields:  # RGB24 and RGBA32 are stored as records
        array = np.stack([array[channel] for channel in "RGB"], axis=-1)
    elif array.ndim == 2:
        array = array[..., None]
    elif array.ndim > 3:
        array = _drop_trailing_ones(array)
    return Stored(array, image.affine)


def _drop_trailing_ones(array: np.ndarray) -> np.ndarray:
    if any(size != 1 for size in array.shape[3:]):
        raise VolumeError(f"expected one 3D volume, got shape {array.shape}; split the series into one file per volume")
    return array.reshape(array.shape[:3])


def write_nifti(stored: Stored, path: Path, *, source: Path | None, compress: bool) -> None:
    """Write NIfTI-1, with the qform and sform of ``source`` where that file has the same affine.

    ``compress`` has no say here: .nii.gz is compressed and .nii is not.
    """
    array = stored.array
    if array.ndim == 4:
        array = np.ascontiguousarray(array).view(_NIFTI_RGB).reshape(array.shape[:3])
    image = nib.Nifti1Image(array, stored.affine, dtype=array.dtype)
    geometry = _nifti_geometry(source, stored.affine)
    if geometry is None:
        image.set_sform(stored.affine, code=1)
        image.set_qform(stored.affine, code=1)  # the nearest one without shear
    else:
        for field in _NIFTI_GEOMETRY:
            image.header[field] = geometry[field]
    nib.save(image, path)


def _nifti_geometry(source: Path | None, affine: np.ndarray) -> nib.Nifti1Header | None:
    """The header of ``source`` if it is a NIfTI file that places voxels by ``affine``."""
    if source is None or not source.name.lower().endswith((".nii", ".nii.gz")) or not source.is_file():
        return None
    header = nib.load(source).header
    return header if np.array_equal(header.get_best_affine(), affine) else None
