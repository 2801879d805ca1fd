"""The values of DICOM frames: decoded, put through each frame's own rescale slope and intercept, stacked."""

from __future__ import annotations

import math
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import generate_pixel_data_fragment, get_frame_offsets
from pydicom.filebase import DicomBytesIO
from pydicom.pixel_data_handlers.util import apply_modality_lut
from pydicom.tag import Tag
from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage, SecondaryCaptureImageStorage

from bundle.data.formats.dicom_files import read_dataset
from bundle.data.formats.dicom_geometry import Frame
from bundle.errors import VolumeError

_GREY = ("MONOCHROME1", "MONOCHROME2")
_PIXELS = [Tag(0x7FE0, 0x0010), Tag(0x7FE0, 0x0008), Tag(0x7FE0, 0x0009)]  # integers, float, double
# What GDCM would scale by: we scale, because it takes one slope for all frames of a file.
_SCALING = {Tag(0x0028, 0x1052), Tag(0x0028, 0x1053), Tag(0x0028, 0x1054), Tag(0x0028, 0x3000)}
# What a compressed frame begins with (ITU-T T.81 and T.87, T.800 A.4.1 and I.5.1), by the start of the transfer syntax.
_JPEG_2000 = (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")
_BEGINS = {
    "1.2.840.10008.1.2.4.9": _JPEG_2000,
    "1.2.840.10008.1.2.4.20": _JPEG_2000,  # high throughput
    **dict.fromkeys([f"1.2.840.10008.1.2.4.{number}" for number in (5, 6, 7, 8)], (b"\xff\xd8",)),
}


def read_frames(frames: Sequence[Frame]) -> np.ndarray:
    """The values of frames of one size, stacked along k.

    Greys are rescaled by the slope and intercept (or the lookup table) of each frame and are whole numbers where all of
    these are, else float32. MONOCHROME1, in which 0 is white, is inverted. Colours come as RGB, palettes resolved.

    Returns:
        (I, J, K), or (I, J, K, 3) colour.

    Raises:
        VolumeError: a file holds other frames than its tags say.
    """
    columns, rows = frames[0].size
    by_file: dict[Path, list[tuple[int, Frame]]] = {}
    for k, frame in enumerate(frames):
        by_file.setdefault(frame.file, []).append((k, frame))
    stacked = None
    for file, of_file in by_file.items():
        values = decode(of_file[0][1])
        for k, frame in of_file:
            if frame.index >= len(values) or values.shape[1:3] != (rows, columns):
                raise VolumeError(f"{file} holds {values.shape[:3]} frames, rows and columns; its tags say otherwise")
            picture = values[frame.index] if frame.is_color else _rescaled(values[frame.index], frame)
            dtype = picture.dtype if frame.is_color else _smallest_type(picture)
            if stacked is None:
                stacked = np.empty((len(frames), rows, columns, *picture.shape[2:]), dtype)
            elif dtype != stacked.dtype:
                has_fractions = "f" in (dtype.kind, stacked.dtype.kind)
                stacked = stacked.astype(np.float32 if has_fractions else np.promote_types(dtype, stacked.dtype))
            stacked[k] = picture
    return stacked.transpose((2, 1, 0, 3)[: stacked.ndim])


def decode(frame: Frame) -> np.ndarray:
    """The stored values of all frames of the file that a frame is from: (N, rows, columns), or (N, rows, columns, 3).

    pydicom decodes what is not compressed, in a quarter of the time; GDCM knows every compression, and colours.
    """
    dataset = read_dataset(frame.file, force=True)
    if not any(tag in dataset for tag in _PIXELS):
        raise VolumeError(f"{frame.file} holds no pixels, or ends within them")
    if "TransferSyntaxUID" not in dataset.file_meta:  # files from before 1993 have no meta header
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    is_encapsulated = dataset.file_meta.TransferSyntaxUID.is_compressed and not _is_deflated(dataset)
    if is_encapsulated:
        _check_compression(dataset, frame.file)
    elif frame.is_color:
        _check_length(dataset, frame.file)
    if is_encapsulated or frame.is_color:
        return _decode_by_gdcm(dataset)
    values = dataset.pixel_array
    return _stored_bits(values.reshape(-1, *values.shape[-2:]), dataset)


def _is_deflated(dataset: FileDataset) -> bool:
    return dataset.file_meta.TransferSyntaxUID.is_deflated


def _check_compression(dataset: FileDataset, file: Path) -> None:
    """Refuse pixels that are not what their transfer syntax says: GDCM looks for seconds for what is not there.

    They are items, one behind the other (DICOM PS3.5 A.4), of which the first is the table of offsets.

    Raises:
        VolumeError: they are no such items, or begin otherwise.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    begins = next((begins for start, begins in _BEGINS.items() if syntax.startswith(start)), b"")
    pixels = DicomBytesIO(dataset.get("PixelData") or b"")
    pixels.is_little_endian = True
    try:
        get_frame_offsets(pixels)
        fragments = list(generate_pixel_data_fragment(pixels))
    except (ValueError, EOFError, struct.error):  # what pydicom raises on damaged items
        fragments = []
    if not fragments or not fragments[0].startswith(begins):
        raise VolumeError(f"the pixels of {file} are not {syntax.name}, as its transfer syntax says; export it again")


def _check_length(dataset: FileDataset, file: Path) -> None:
    """Refuse fewer bytes of pixels than rows and columns announce: GDCM makes room for all of them first.

    Raises:
        VolumeError: there are fewer.
    """
    names = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    announced = math.prod(int(dataset.get(name) or 1) for name in names) * int(dataset.get("NumberOfFrames") or 1) // 8
    if "422" in str(dataset.get("PhotometricInterpretation")):  # two pixels share their two colours
        announced = announced * 2 // 3
    held = len(dataset.get("PixelData") or b"")
    if held < announced:
        raise VolumeError(f"{file} announces {announced} bytes of pixels and holds {held}; export it again")


def _stored_bits(values: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Drop what old files keep in the bits above those of the value, and continue its sign there."""
    unused = int(dataset.get("BitsAllocated", 0)) - int(dataset.get("HighBit", dataset.get("BitsStored", 1) - 1)) - 1
    if values.dtype.kind == "f" or not 0 < unused < 8 * values.dtype.itemsize:
        return values
    return (values << unused) >> unused


def _decode_by_gdcm(dataset: FileDataset) -> np.ndarray:
    """Decode a copy of the file that holds nothing but its pixels and what describes them."""
    with tempfile.TemporaryDirectory(prefix="monai-sam-dicom-") as folder:
        path = Path(folder, "pixels.dcm")
        copy = FileDataset(str(path), {}, preamble=b"\0" * 128, file_meta=dataset.file_meta)
        copy.is_little_endian, copy.is_implicit_VR = dataset.is_little_endian, dataset.is_implicit_VR
        is_multiframe = int(dataset.get("NumberOfFrames") or 1) > 1
        copy.SOPClassUID = (
            MultiFrameGrayscaleWordSecondaryCaptureImageStorage if is_multiframe else SecondaryCaptureImageStorage
        )
        copy.SOPInstanceUID = dataset.get("SOPInstanceUID") or pydicom.uid.generate_uid()
        copy.file_meta.MediaStorageSOPClassUID = copy.SOPClassUID
        copy.file_meta.MediaStorageSOPInstanceUID = copy.SOPInstanceUID
        for tag in list(dataset.keys()):
            if (tag.group == 0x0028 and tag not in _SCALING) or tag in _PIXELS:
                copy[tag] = dataset.get_item(tag)
        if copy.get("PhotometricInterpretation") in _GREY:
            copy.PhotometricInterpretation = "MONOCHROME2"  # GDCM would invert before the values are rescaled
        copy.save_as(path, write_like_original=False)
        image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    values = sitk.GetArrayFromImage(image)
    is_color = image.GetNumberOfComponentsPerPixel() > 1
    return values if values.ndim == 3 + is_color else values[None]


def _rescaled(values: np.ndarray, frame: Frame) -> np.ndarray:
    """(rows, columns) values of one frame in the unit that its tags name."""
    if frame.tags.get("ModalityLUTSequence"):
        values = apply_modality_lut(values.copy(), frame.tags)
        ends = [float(values.min()), float(values.max())]
    else:
        slope, intercept = _scale(frame)
        ends = [slope * end + intercept for end in _stored_range(frame, values)]
        if (slope, intercept) != (1, 0):
            values = values.astype(_wide(values.dtype, slope, intercept))
            values *= values.dtype.type(slope)
            values += values.dtype.type(intercept)
    if frame.tags.get("PhotometricInterpretation") == "MONOCHROME1":
        values = values.astype(_wide(values.dtype, *ends))
        values = values.dtype.type(sum(ends)) - values
    return values


def _scale(frame: Frame) -> tuple[float, float]:
    slope, intercept = frame.tags.get("RescaleSlope"), frame.tags.get("RescaleIntercept")
    slope = 1.0 if slope in (None, "") else float(slope)
    intercept = 0.0 if intercept in (None, "") else float(intercept)
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise VolumeError(f"the rescale slope of {frame.name} must not be 0, got {slope} (intercept {intercept})")
    return slope, intercept


def _stored_range(frame: Frame, values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value that the bits of a frame can hold."""
    if values.dtype.kind == "f":
        return float(values.min()), float(values.max())
    bits = int(frame.tags.get("BitsStored", 8 * values.dtype.itemsize))
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if frame.tags.get("PixelRepresentation") == 1 else (0, 2**bits - 1)


def _wide(dtype: np.dtype, *numbers: float) -> type:
    """The type to calculate in: integers stay whole where all numbers are, and 64 bits hold every product."""
    return np.float64 if dtype.kind == "f" or any(number != int(number) for number in numbers) else np.int64


def _smallest_type(picture: np.ndarray) -> np.dtype:
    """Of int16, int32 and int64 that holds the values; float32 for floats, and bytes stay bytes."""
    if picture.dtype.kind == "f":
        return np.dtype(np.float32)
    if picture.dtype == np.uint8:
        return picture.dtype
    lowest, highest = int(picture.min()), int(picture.max())
    kinds = (kind for kind in (np.int16, np.int32) if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max)
    return np.dtype(next(kinds, np.int64))
