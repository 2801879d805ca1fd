"""DICOM images: one file, or the slices of a series in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bundle.data.formats.itk import from_itk
from bundle.data.formats.stored import Stored
from bundle.errors import VolumeError


def read_dicom_file(path: Path) -> Stored:
    """Read one DICOM file, single-frame or multi-frame."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    modality = reader.GetMetaData("0008|0060").strip() if reader.HasMetaDataKey("0008|0060") else ""
    return from_itk(reader.Execute())._replace(modality=_dicom_modality(modality))


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
    return from_itk(image)._replace(modality=_dicom_modality(modality))


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
