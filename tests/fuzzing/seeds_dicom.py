"""Small right DICOM objects: single files, a series, multi-frame, segmentation."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from fuzzing.case import Case
from fuzzing.seeds import COLOUR, LABELS, VOXELS

_CT, _MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
_ENHANCED_CT, _SEG, _SECONDARY = (
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.66.4",
    "1.2.840.10008.5.1.4.1.1.7",
)


def _common(sop_class: str, modality: str, number: int = 1) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{number}"
    dataset.Modality = modality
    dataset.PatientName = "Fuzz^Phantom"
    dataset.PatientID = "1"
    dataset.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.100"
    dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.101"
    dataset.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.102"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = number
    return dataset


def _plane(dataset: Dataset, height: float) -> None:
    dataset.ImagePositionPatient = [-10, 20, height]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [0.8, 0.8]
    dataset.SliceThickness = 2.5


def _pixels(dataset: Dataset, array: np.ndarray) -> None:
    """``array`` is (rows, columns) or (rows, columns, 3), or has frames before these."""
    colour = array.shape[-1] == 3 and array.ndim > 2 and array.dtype == np.uint8
    bits = 8 * array.dtype.itemsize
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = array.shape[-3:-1] if colour else array.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    dataset.PixelData = array.tobytes()


def _slice(number: int = 1) -> Dataset:
    dataset = _common(_CT, "CT", number)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    _plane(dataset, 30 + 2.5 * (number - 1))
    _pixels(dataset, VOXELS[:, :, (number - 1) % 2].T)
    dataset.RescaleIntercept, dataset.RescaleSlope = -1000, 1
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    return dataset


def _stored(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID, meta.ImplementationClassUID = syntax, "1.2.826.0.1.3680043.8.498.1"
    file = FileDataset("", dataset, file_meta=meta, preamble=bytes(128))
    file.is_little_endian, file.is_implicit_VR = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, file, write_like_original=False)
    return buffer.getvalue()


def _one(content: bytes, seed: str) -> Case:
    return Case({"a.dcm": content}, "a.dcm", (seed,))


def dcm() -> list[Case]:
    """One slice in several transfer syntaxes, grey and colour."""
    syntaxes = {
        "explicit": ExplicitVRLittleEndian,
        "implicit": ImplicitVRLittleEndian,
        "big endian": ExplicitVRBigEndian,
        "deflated": DeflatedExplicitVRLittleEndian,
    }
    cases = []
    for name, syntax in syntaxes.items():
        dataset = _slice()
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = VOXELS[:, :, 0].T.astype(">i2").tobytes()
        cases.append(_one(_stored(dataset, syntax), name))
    picture = np.kron(COLOUR[:, :, 0].swapaxes(0, 1), np.ones((4, 4, 1), np.uint8))
    colour = _common(_SECONDARY, "OT")
    _pixels(colour, picture)
    cases.append(_one(_stored(colour), "colour"))
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0]).save(buffer, "jpeg")
    jpeg = _common(_SECONDARY, "OT")
    _pixels(jpeg, picture[..., 0])
    jpeg.PixelData = encapsulate([buffer.getvalue()])
    jpeg["PixelData"].is_undefined_length = True
    cases.append(_one(_stored(jpeg, JPEGBaseline8Bit), "jpeg"))
    cases.append(_one(_run_length_encoded(), "RLE"))
    return cases


def _run_length_encoded() -> bytes:
    """PS3.5 annex G: a header of 16 numbers, then one segment of literal runs for each byte of a pixel."""
    dataset = _slice()
    high, low = (VOXELS[:, :, 0].T.astype(">i2").tobytes()[place::2] for place in (0, 1))
    segments = [bytes([len(part) - 1]) + part for part in (high, low)]
    segments = [part + b"\0" * (len(part) % 2) for part in segments]
    offsets = [2, 64, 64 + len(segments[0])] + [0] * 13
    frame = np.array(offsets, "<u4").tobytes() + b"".join(segments)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].is_undefined_length = True
    return _stored(dataset, RLELossless)


def dcm_series() -> list[Case]:
    """A folder of three slices."""
    files = {f"{number}.dcm": _stored(_slice(number)) for number in (1, 2, 3)}
    return [Case(files, "", ("series",))]


def _frame_groups(dataset: Dataset, count: int, *, segment: bool = False) -> None:
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [0.8, 0.8], 2.5, 2.5
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    if not segment:
        rescale = Dataset()
        rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = -1000, 1, "HU"
        shared.PixelValueTransformationSequence = Sequence([rescale])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number in range(count):
        frame, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [-10, 20, 30 + 2.5 * number]
        content.DimensionIndexValues = [1, number + 1]
        content.StackID, content.InStackPositionNumber = "1", number + 1
        frame.PlanePositionSequence, frame.FrameContentSequence = Sequence([position]), Sequence([content])
        if segment:
            which = Dataset()
            which.ReferencedSegmentNumber = 1
            frame.SegmentIdentificationSequence = Sequence([which])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.NumberOfFrames = count


def _opened_sequences(dataset: Dataset) -> Dataset:
    """Sequences of undefined length: what lies inside may then change its size."""
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _opened_sequences(item)
    return dataset


def dcm_enhanced() -> list[Case]:
    """Enhanced CT of two frames, and a multi-frame secondary capture in colour."""
    dataset = _common(_ENHANCED_CT, "CT")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    _frame_groups(dataset, 2)
    _pixels(dataset, np.ascontiguousarray(VOXELS.T))
    closed = _stored(dataset)
    cine = _common("1.2.840.10008.5.1.4.1.1.7.4", "US")
    _pixels(cine, np.ascontiguousarray(COLOUR.transpose(2, 1, 0, 3)))
    cine.NumberOfFrames = 2
    return [_one(_stored(_opened_sequences(dataset)), "enhanced"), _one(closed, "closed"), _one(_stored(cine), "cine")]


def dcm_seg() -> list[Case]:
    """A binary segmentation of one segment on two frames, one bit a pixel."""
    dataset = _common(_SEG, "SEG")
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.ContentLabel, dataset.SegmentationType = "FUZZ", "BINARY"
    segment, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "10200004", "SCT", "Liver"
    segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType = 1, "liver", "MANUAL"
    segment.SegmentedPropertyCategoryCodeSequence = segment.SegmentedPropertyTypeCodeSequence = Sequence([code])
    dataset.SegmentSequence = Sequence([segment])
    _frame_groups(dataset, 2, segment=True)
    _pixels(dataset, np.ascontiguousarray(LABELS.T))
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.PixelData = np.packbits(LABELS.T.ravel() > 0, bitorder="little").tobytes() + b"\0"
    return [_one(_stored(_opened_sequences(dataset)), "segmentation")]


def magnetic() -> Dataset:
    """A slice of another modality, for folders that mix series."""
    dataset = _slice(2)
    dataset.SOPClassUID, dataset.Modality = _MR, "MR"
    dataset.SeriesInstanceUID += ".9"
    return dataset


def dcm_folder() -> list[Case]:
    """``dcm_series``, a folder of one file, and one of two series."""
    mixed = {"1.dcm": _stored(_slice()), "2.dcm": _stored(_slice(2)), "9.dcm": _stored(magnetic())}
    single = {"1": _stored(_slice())}
    return [*dcm_series(), Case(single, "", ("one file",)), Case(mixed, "", ("two series",))]
