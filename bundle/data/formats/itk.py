"""MetaImage by SimpleITK, and NRRD written by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bundle.data.formats.stored import LPS_TO_RAS, Stored, in_mm, voxel_sizes
from bundle.data.headers.lengths import mm_of
from bundle.data.headers.metaimage import unit_of_metaimage
from bundle.data.headers.nrrd import read_header
from bundle.errors import VolumeError


def read_itk(path: Path) -> Stored:
    """Read MetaImage, after ``bundle.data.headers.check_header``."""
    reader = sitk.ImageFileReader()
    # By name: otherwise ITK asks each of its readers by content, and a file that was checked as one format could be
    # read as another.
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    return in_mm(from_itk(reader.Execute()), mm_of(unit_of_metaimage(path)), path)


def from_itk(image: sitk.Image) -> Stored:
    if image.GetDimension() == 2:
        image = sitk.JoinSeries(image)
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise VolumeError(f"expected one 3D volume, got size {image.GetSize()}; split it into one file per volume")
    channels = image.GetNumberOfComponentsPerPixel()
    if channels not in (1, 3, 4):
        raise VolumeError(f"expected one value or RGB per voxel, got {channels} values; split them into one file each")
    array = sitk.GetArrayFromImage(image)  # (K, J, I) or (K, J, I, channels)
    array = array.transpose(2, 1, 0) if channels == 1 else array.transpose(2, 1, 0, 3)[..., :3]
    return Stored(array, affine_of(image))


def affine_of(image: sitk.Image | sitk.ImageFileReader) -> np.ndarray:
    """(4, 4) voxel index to RAS mm of the first three axes of an image, or of a reader that has read a header."""
    count = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (count, count))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return LPS_TO_RAS @ affine


def write_itk(stored: Stored, path: Path, *, source: Path | None, compress: bool) -> None:
    """Write NRRD or MetaImage, in the unit of ``source``: ITK takes every unit for mm and shows both in one place."""
    unit = _unit_of(source)
    order = (2, 1, 0, 3)[: stored.array.ndim]
    image = sitk.GetImageFromArray(stored.array.transpose(order), isVector=stored.array.ndim == 4)
    affine = np.diag([*[1 / mm_of(unit)] * 3, 1.0]) @ LPS_TO_RAS @ stored.affine
    spacing = voxel_sizes(affine)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    # Level 1: a label map shrinks a hundredfold either way, and a user waits for it.
    sitk.WriteImage(image, str(path), useCompression=compress, compressionLevel=1)
    if unit != "mm":
        _name_unit(path, unit)


def _unit_of(source: Path | None) -> str:
    """The unit of lengths of a NRRD or MetaImage file; "mm" of others."""
    name = "" if source is None or not source.is_file() else source.name.lower()
    if name.endswith((".nrrd", ".nhdr")):
        return read_header(source).unit
    return unit_of_metaimage(source) if name.endswith((".mha", ".mhd")) else "mm"


def _name_unit(path: Path, unit: str) -> None:
    """Put the unit into a header that ITK wrote, which has no place for it."""
    before, line = (b"\n\n", f'\nspace units: "{unit}" "{unit}" "{unit}"'.encode())
    if not path.name.lower().endswith(".nrrd"):
        before, line = b"ElementDataFile", f"DistanceUnits = {unit}\n".encode()
    header, separator, rest = path.read_bytes().partition(before)
    path.write_bytes(header + line + separator + rest)
