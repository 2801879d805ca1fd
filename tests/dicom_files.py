"""DICOM files made for the tests of reading and writing them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from bundle.data.volume import Volume

CT, MR, PET = ("1.2.840.10008.5.1.4.1.1." + end for end in ("2", "4", "128"))
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1, 0, 0, 0, 1, 0)
SERIES = "1.2.3.4"


def numbered(number: int, size: tuple[int, int] = (5, 4)) -> np.ndarray:
    """(rows, columns) pixels that all hold one number."""
    return np.full(size[::-1], number, np.uint16)


def write_slice(path: Path, pixels: np.ndarray, position: Sequence[float] | None = (0, 0, 0), **tags: Any) -> Path:
    """Write a single-frame file; ``tags`` overrule or add elements, None leaves one out."""
    dataset = _dataset(path, pixels, sop=tags.pop("sop", CT))
    if position is not None:
        dataset.ImagePositionPatient = [float(x) for x in position]
        dataset.ImageOrientationPatient = [float(x) for x in tags.pop("orientation", AXIAL)]
        dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 3
    _set(dataset, tags)
    dataset.save_as(path, write_like_original=False)
    return path


def write_stack(folder: Path, places: Iterable[Sequence[float]], **tags: Any) -> Path:
    """Write slices 0.dcm, 1.dcm, ... at places, the pixels of each holding its number."""
    folder.mkdir(exist_ok=True, parents=True)
    for number, place in enumerate(places):
        write_slice(folder / f"{number}.dcm", numbered(number), place, **{"InstanceNumber": number + 1, **tags})
    return folder


def write_volume_series(
    folder: Path, volume: Volume, axes: str = "LPS", *, numbers_up: bool = True, **tags: Any
) -> Path:
    """Write a volume as a series of files.

    Args:
        folder: to write 0.dcm, 1.dcm, ... into.
        volume: int16.
        axes: towards what the columns of a slice, its rows, and the slices go; LPS is axial, PIR sagittal.
        numbers_up: whether InstanceNumber grows along the slices, or falls.
        tags: of every file.
    """
    turn = ornt_transform(io_orientation(volume.affine), axcodes2ornt(axes))
    array = apply_orientation(volume.array, turn)
    affine = np.diag([-1, -1, 1, 1]) @ volume.affine @ inv_ornt_aff(turn, volume.shape)  # to LPS
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    across, down = (affine[:3, :2] / spacing[:2]).T
    tags |= {"orientation": [*across, *down], "PixelSpacing": [spacing[1], spacing[0]], "SliceThickness": spacing[2]}
    folder.mkdir(parents=True)
    count = array.shape[2]
    for k in range(count):
        number = k + 1 if numbers_up else count - k
        pixels = np.ascontiguousarray(array[:, :, k].T)  # rows, columns
        write_slice(folder / f"{k}.dcm", pixels, (affine @ [0, 0, k, 1])[:3], **{**tags, "InstanceNumber": number})
    return folder


def write_enhanced(
    path: Path,
    pixels: np.ndarray,
    positions: Sequence[Sequence[float]],
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (1, 1),
    slopes: Sequence[float] | None = None,
    frame_content: Sequence[dict[str, Any]] | None = None,
    **tags: Any,
) -> Path:
    """Write (N, rows, columns) frames as one enhanced file, whose geometry lies in the functional groups."""
    dataset = _dataset(path, pixels, sop=ENHANCED_MR)
    dataset.NumberOfFrames = len(pixels)
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(PixelSpacing=list(spacing), SliceThickness=3)]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[float(x) for x in orientation])]
    groups = []
    for number, position in enumerate(positions):
        group = Dataset()
        group.PlanePositionSequence = [_item(ImagePositionPatient=[float(x) for x in position])]
        content = {"DimensionIndexValues": [number + 1], **(frame_content[number] if frame_content else {})}
        group.FrameContentSequence = [_item(**content)]
        if slopes is not None:
            group.PixelValueTransformationSequence = [
                _item(RescaleSlope=slopes[number], RescaleIntercept=0, RescaleType="US")
            ]
        groups.append(group)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], groups
    _set(dataset, tags)
    dataset.save_as(path, write_like_original=False)
    return path


def change(path: Path, **tags: Any) -> Path:
    """Write a file again with other elements."""
    dataset = pydicom.dcmread(path)
    _set(dataset, tags)
    dataset.save_as(path, write_like_original=False)
    return path


def _dataset(path: Path, pixels: np.ndarray, *, sop: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", SERIES, "1.2.9"
    dataset.Modality, dataset.PatientName, dataset.PatientID = "MR", "Test^Generated", "T"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    return dataset


def _item(**values: Any) -> Dataset:
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item


def _set(dataset: Dataset, tags: dict[str, Any]) -> None:
    for name, value in tags.items():
        if value is None:
            if name in dataset:
                delattr(dataset, name)
        else:
            setattr(dataset, name, value)
