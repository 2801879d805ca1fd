"""Readers and writers of the file formats; ``bundle.data.volume`` is the door to them.

Every reader returns a ``Stored`` in the index order of the file, every writer takes one. Arrays are (I, J, K) or
(I, J, K, 3), affines (4, 4) float64 from voxel index to RAS+ mm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image, ImageSequence
from PIL.PngImagePlugin import PngInfo

# ITK and DICOM count x towards the patient's left and y towards posterior.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# A picture has no position; this affine shows it the way it is stored when its slice is taken as axial.
PICTURE_AFFINE = LPS_TO_RAS
# The text of a PNG in which we keep the spacing: [x, y, z] in mm. Its own resolution is whole pixels per metre, and in
# other people's pictures it is that of a screen.
_PNG_SPACING = "monai-sam spacing"
# The header fields in which NIfTI keeps its geometry.
_NIFTI_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "sform_code", "srow_x", "srow_y", "srow_z"),
)
_NIFTI_RGB = np.dtype([(channel, np.uint8) for channel in "RGB"])


class VolumeError(ValueError):
    """A file is missing, damaged, of an unknown format, or does not hold what is asked of it."""


class Stored(NamedTuple):
    """What a file holds; ``modality`` is None where the file does not say."""

    array: np.ndarray
    affine: np.ndarray
    modality: str | None = None


# --- NIfTI: nibabel, because ITK refuses affines that are not orthonormal -------------------------------------------


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


# --- NRRD, MetaImage and DICOM: SimpleITK ----------------------------------------------------------------------------


def read_itk(path: Path) -> Stored:
    """Read NRRD or MetaImage."""
    return _from_itk(sitk.ReadImage(str(path)))


def read_dicom_file(path: Path) -> Stored:
    """Read one DICOM file, single-frame or multi-frame."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    modality = reader.GetMetaData("0008|0060").strip() if reader.HasMetaDataKey("0008|0060") else ""
    return _from_itk(reader.Execute())._replace(modality=_dicom_modality(modality))


def read_dicom_folder(folder: Path, series: str | None) -> Stored:
    """Read the DICOM series that lies in a folder (sub-folders are not searched), slices ordered by GDCM.

    Raises:
        VolumeError: no DICOM, several series and none chosen, an unknown series UID, or slices missing.
    """
    found = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not found:
        raise VolumeError(f"expected a DICOM series in {folder}, got none; name the folder that holds its files")
    if series is None and len(found) > 1:
        raise VolumeError(f"{folder} holds {len(found)} DICOM series, choose one with series=: {', '.join(found)}")
    if series is not None and series not in found:
        raise VolumeError(f"{folder} has no DICOM series {series}, only {', '.join(found)}")
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series or found[0])
    return read_dicom_file(Path(files[0])) if len(files) == 1 else _read_dicom_slices(files)


def _read_dicom_slices(files: tuple[str, ...]) -> Stored:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    reader.MetaDataDictionaryArrayUpdateOn()
    image = reader.Execute()
    _check_slice_gaps(reader, len(files))
    modality = reader.GetMetaData(0, "0008|0060").strip() if reader.HasMetaDataKey(0, "0008|0060") else ""
    return _from_itk(image)._replace(modality=_dicom_modality(modality))


def _check_slice_gaps(reader: sitk.ImageSeriesReader, count: int) -> None:
    """Refuse unevenly spaced slices: an affine would put the voxels behind a missing slice in the wrong place."""
    key = "0020|0032"  # Image Position (Patient)
    if not all(reader.HasMetaDataKey(index, key) for index in range(count)):
        return
    positions = np.array([[float(x) for x in reader.GetMetaData(index, key).split("\\")] for index in range(count)])
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    # A tenth of a slice is rounding in the tags; a missing slice is a whole one.
    if gaps.max() - gaps.min() > 0.1 * np.median(gaps):
        raise VolumeError(
            f"expected evenly spaced slices, got gaps of {gaps.min():.2f} to {gaps.max():.2f} mm; "
            "a slice is probably missing or two scans share the series"
        )


def _dicom_modality(tag: str) -> str | None:
    if tag in {"SEG", "RTSTRUCT", "RTPLAN", "SR", "KO", "PR"}:
        raise VolumeError(f"expected a DICOM image, got an object of modality {tag}; name the image series instead")
    return ("CT" if tag == "CT" else "other") if tag else None


def _from_itk(image: sitk.Image) -> Stored:
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
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return Stored(array, LPS_TO_RAS @ affine)


def write_itk(stored: Stored, path: Path, *, source: Path | None, compress: bool) -> None:
    """Write NRRD or MetaImage; ``source`` adds nothing in these formats."""
    order = (2, 1, 0, 3)[: stored.array.ndim]
    image = sitk.GetImageFromArray(stored.array.transpose(order), isVector=stored.array.ndim == 4)
    affine = LPS_TO_RAS @ stored.affine
    spacing = nib.affines.voxel_sizes(affine)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    # Level 1: a label map shrinks a hundredfold either way, and a user waits for it.
    sitk.WriteImage(image, str(path), useCompression=compress, compressionLevel=1)


# --- MedSAM's npz and npy: arrays are (z, y, x), the spacing is (x, y, z) --------------------------------------------


def read_medsam(path: Path, *, key: str) -> Stored:
    """Read a MedSAM archive's ``imgs`` or ``gts``, or a MedSAM npy.

    Arrays are (D, H, W), (D, H, W, 3), (H, W) or (H, W, 3); ``spacing`` is (x, y, z) mm, 1 where it is absent. Our
    own ``affine`` entry, if there is one, says more. MedSAM's npy pictures are floats in [0, 1]; they come back 8-bit.
    """
    return _from_medsam(_medsam_entries(path, key), key, path)


def _from_medsam(entries: Mapping[str, np.ndarray], key: str, path: Path) -> Stored:
    array = entries[key]
    is_color = array.ndim > 2 and array.shape[-1] == 3
    if array.ndim - is_color == 2:
        array = array[None]
    if array.ndim - is_color != 3:
        raise VolumeError(f"expected (D, H, W) or (D, H, W, 3) in {path}, got shape {array.shape}")
    spacing = np.asarray(entries.get("spacing", np.ones(3)), dtype=np.float64)
    affine = entries.get("affine", LPS_TO_RAS @ np.diag([*spacing, 1.0]))
    return Stored(array.transpose((2, 1, 0, 3)[: array.ndim]), affine, _picture_modality(array))


def _medsam_entries(path: Path, key: str) -> dict[str, np.ndarray]:
    if path.suffix.lower() == ".npy":
        array = np.load(path, allow_pickle=False)
        is_unit = array.dtype.kind == "f" and array.size > 0 and array.min() >= 0 and array.max() <= 1
        return {key: np.round(array * 255).astype(np.uint8) if is_unit else array}
    with np.load(path, allow_pickle=False) as archive:
        if key not in archive:
            raise VolumeError(f"expected an entry {key!r} in {path}, got {', '.join(archive) or 'none'}")
        return {name: archive[name] for name in (key, "spacing", "affine") if name in archive}


def write_medsam(stored: Stored, path: Path, *, source: Path | None, compress: bool, key: str) -> None:
    """Write a MedSAM archive, with an ``affine`` entry beside its ``spacing`` so that nothing is lost."""
    entries = {
        key: stored.array.transpose((2, 1, 0, 3)[: stored.array.ndim]),
        "spacing": nib.affines.voxel_sizes(stored.affine),
        "affine": stored.affine,
    }
    (np.savez_compressed if compress else np.savez)(path, **entries)


# --- zarr: the entries of a MedSAM archive with one chunk per slice ---------------------------------------------------


def read_zarr(path: Path, *, key: str) -> Stored:
    """Read ``imgs`` or ``gts`` of a zarr group; ``spacing`` (x, y, z) and, if there, ``affine`` are its attributes."""
    import zarr  # half a second that only its users pay

    group = zarr.open_group(path, mode="r")
    if key not in group:
        raise VolumeError(f"expected an array {key!r} in {path}, got {', '.join(group.array_keys()) or 'none'}")
    placed = {name: np.asarray(group.attrs[name]) for name in ("spacing", "affine") if name in group.attrs}
    return _from_medsam({key: group[key][:], **placed}, key, path)


def write_zarr(path: Path, arrays: Mapping[str, np.ndarray], **attributes: object) -> None:
    """Write (D, H, W[, 3]) arrays as a zarr group, one compressed chunk per slice."""
    import zarr

    group = zarr.open_group(path, mode="w")
    for name, array in arrays.items():
        group.create_array(name, data=array, chunks=(1, *array.shape[1:]))
    group.attrs.update(attributes)


# --- Pictures: Pillow ------------------------------------------------------------------------------------------------


def read_picture(path: Path, *, is_label: bool) -> Stored:
    """Read PNG, JPEG or TIFF (pages are slices): i is the column, j the row.

    A palette is resolved for an image and kept as numbers for a label; RGB with equal channels is grey; opacity is
    dropped. The spacing is 1 mm, except in a PNG of ``write_picture``.
    """
    with Image.open(path) as picture:
        spacing = json.loads(picture.info.get(_PNG_SPACING, "[1, 1, 1]"))
        pages = [_picture_page(page, is_label=is_label) for page in ImageSequence.Iterator(picture)]
    array = np.stack(pages)  # (K, J, I) or (K, J, I, 3)
    if array.ndim == 4 and (array[..., :1] == array).all():
        array = array[..., 0]
    affine = PICTURE_AFFINE @ np.diag([*spacing, 1.0])
    return Stored(array.transpose((2, 1, 0, 3)[: array.ndim]), affine, _picture_modality(array))


def _picture_page(page: Image.Image, *, is_label: bool) -> np.ndarray:
    if page.mode == "LA":
        page = page.convert("L")
    elif page.mode in {"RGBA", "CMYK", "YCbCr", "PA"} or (page.mode == "P" and not is_label):
        page = page.convert("RGB")
    return np.asarray(page)


def write_picture(stored: Stored, path: Path, *, source: Path | None, compress: bool) -> None:
    """Write one slice as an 8-bit, 16-bit or RGB PNG; of the affine it keeps the spacing."""
    array = stored.array
    if array.shape[2] != 1:
        raise VolumeError(f"a picture holds one slice, got {array.shape[2]}; write .nii.gz, .nrrd or .npz instead")
    if array.dtype not in (np.uint8, np.uint16):
        raise VolumeError(f"a PNG holds 8 or 16 bits without sign, got {array.dtype}; write .nii.gz or .nrrd instead")
    texts = PngInfo()
    texts.add_text(_PNG_SPACING, json.dumps(nib.affines.voxel_sizes(stored.affine).tolist()))
    picture = Image.fromarray(np.ascontiguousarray(array[:, :, 0].swapaxes(0, 1)))
    picture.save(path, compress_level=1 if compress else 0, pnginfo=texts)


def _picture_modality(array: np.ndarray) -> str | None:
    """8-bit grey values and colours have been through a window."""
    return "windowed" if array.dtype == np.uint8 else None
