"""Label maps written as DICOM SEG, which lies beside the images of its series in a PACS."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from bundle.data.formats.dicom import series_frames
from bundle.data.formats.dicom_geometry import Frame, arrange
from bundle.data.formats.stored import LPS_TO_RAS, Segment, Stored
from bundle.data.headers.dicom import holds_dicom, is_dicom
from bundle.errors import VolumeError

logger = logging.getLogger(__name__)

# What a SEG takes over from its images: it cannot be without the first, the rest may be empty (type 2 in PS3.3).
_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID")
_TAKEN_OVER = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "Modality"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
# Series numbers of what was made of a series follow it at this distance, behind the scanner's own.
_SERIES_NUMBER_OFFSET = 1000


def check_source(source: Path | None, series: str | None) -> tuple[list[Frame], np.ndarray]:
    """Refuse to write a SEG for an image that no SEG can refer to.

    Returns:
        Its frames along k, and the (4, 4) affine from voxel index to LPS mm.

    Raises:
        VolumeError: the image does not come from DICOM files, or these do not say where it lies in the patient.
    """
    if source is None or not source.exists() or not (holds_dicom(source) if source.is_dir() else is_dicom(source)):
        raise VolumeError(
            f"a DICOM SEG refers to the DICOM series it belongs to, and {source or 'the image'} is none; "
            "choose .nii.gz or .nrrd as the ending"
        )
    frames, affine = arrange(series_frames(source, series))
    missing = [keyword for keyword in _NEEDED if any(not frame.tags.get(keyword) for frame in frames)]
    if frames[0].position is None or missing:
        raise VolumeError(
            f"a DICOM SEG says where it lies in the patient, and {source} has no "
            f"{', '.join(missing) or 'position'}; choose .nii.gz or .nrrd as the ending"
        )
    return frames, affine


def write_segmentation(stored: Stored, path: Path, *, source: Path | None, compress: bool) -> None:
    """Write a label map as a binary DICOM SEG that refers to the instances of its image.

    Its frames lie where the image's slices lie, so gantry tilt is no matter. Segments are numbered from 1 without
    gaps, as the standard demands: where the label values are others, a warning says which value became which number.

    Args:
        stored: labels on the grid of the image; ``segments`` name them and give their colours.
        path: the file.
        source: file or folder of the image.
        compress: has no say: every viewer reads SEG uncompressed.

    Raises:
        VolumeError: see ``check_source``; or the image has changed.
    """
    frames, affine = check_source(source, stored.series)
    shape = (*frames[0].size, len(frames))
    if shape != stored.array.shape or not np.allclose(LPS_TO_RAS @ affine, stored.affine, atol=1e-6):
        raise VolumeError(f"{source} is no longer the image that was segmented; it now has {shape} voxels")
    segments = sorted(stored.segments, key=lambda segment: segment.value)
    if missing := set(np.unique(stored.array).tolist()) - {0} - {segment.value for segment in segments}:
        raise VolumeError(f"expected a segment for each label, got none for {sorted(missing)}; name them")
    distance = abs(float(affine[:3, 2] @ frames[0].normal))
    images = [_single_frame(frame, turn, distance) for turn, frame in enumerate(frames, start=1)]
    dataset = _segmentation(images, stored.array.transpose(2, 1, 0), segments)
    _refer_to(dataset, frames, images)
    dataset.save_as(path, write_like_original=False)


def _segmentation(images: Sequence[Dataset], labels: np.ndarray, segments: Sequence[Segment]) -> Dataset:
    """The SEG of labels, (K, rows, columns), that lie on single-frame images."""
    import highdicom as hd  # a second that only its users pay

    from bundle import __version__

    numbers = {segment.value: number for number, segment in enumerate(segments, start=1)}
    if any(value != number for value, number in numbers.items()):
        logger.warning("segments are numbered without gaps: %s", ", ".join(f"{v} -> {n}" for v, n in numbers.items()))
    table = np.zeros(max(numbers, default=0) + 1, np.uint16)
    table[list(numbers)] = list(numbers.values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about names of patients that are not in the recommended form
        return hd.seg.Segmentation(
            source_images=images,
            pixel_array=table[labels],
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_description(segment, numbers[segment.value]) for segment in segments],
            series_instance_uid=generate_uid(prefix=None),
            series_number=int(images[0].SeriesNumber or 0) + _SERIES_NUMBER_OFFSET,
            sop_instance_uid=generate_uid(prefix=None),
            instance_number=1,
            manufacturer="monai-sam",
            manufacturer_model_name="monai-sam",
            software_versions=__version__,
            device_serial_number="0",
            series_description="monai-sam segmentation",
            content_label="SEGMENTATION",
            content_creator_name="monai-sam",
        )


def _single_frame(frame: Frame, turn: int, distance: float) -> Dataset:
    """A frame as the header of a classic image, which highdicom takes whatever the file was; its UID is its turn."""
    image = Dataset()
    for keyword in _NEEDED:
        setattr(image, keyword, frame.tags.get(keyword))
    for keyword in (*_TAKEN_OVER, "SeriesNumber"):
        setattr(image, keyword, frame.tags.get(keyword))
    image.SOPInstanceUID = f"2.25.{turn}"
    image.Columns, image.Rows = frame.size
    image.ImagePositionPatient = frame.position.tolist()
    image.ImageOrientationPatient = frame.orientation.ravel().tolist()
    image.PixelSpacing = frame.spacing[::-1].tolist()
    image.SliceThickness, image.SpacingBetweenSlices = frame.thickness, distance
    return image


def _refer_to(dataset: Dataset, frames: Sequence[Frame], images: Sequence[Dataset]) -> None:
    """Replace the turns in the references by the instances, and the numbers of their frames, that they stand for."""
    by_turn = {image.SOPInstanceUID: frame for image, frame in zip(images, frames, strict=True)}
    instances = {frame.tags.SOPInstanceUID: _reference(frame) for frame in frames}
    dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence = list(instances.values())
    for group in dataset.PerFrameFunctionalGroupsSequence:
        for item in group.DerivationImageSequence[0].SourceImageSequence:
            frame = by_turn[item.ReferencedSOPInstanceUID]
            item.ReferencedSOPInstanceUID = frame.tags.SOPInstanceUID
            if frame.tags.get("NumberOfFrames"):
                item.ReferencedFrameNumber = frame.index + 1


def _reference(frame: Frame) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.tags.SOPClassUID, frame.tags.SOPInstanceUID
    return item


def _description(segment: Segment, number: int) -> Dataset:
    import highdicom as hd
    from pydicom.sr.codedict import codes
    from skimage.color import rgb2lab

    from bundle import __version__

    # PS3.16 CID 7151 codes what it has by that name, as Liver; the rest is tissue with a name.
    keyword = "".join(word.capitalize() for word in segment.name.replace("_", " ").split())
    algorithm = hd.AlgorithmIdentificationSequence(
        name="monai-sam", version=__version__, family=codes.cid7162.ArtificialIntelligence
    )
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],  # as long as LO may be
        segmented_property_category=codes.cid7150.Tissue,
        segmented_property_type=getattr(codes.cid7151, keyword, codes.SCT.Tissue),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
    )
    if segment.color is not None:
        lightness, a, b = rgb2lab(segment.color)  # D65, as dcmqi and 3D Slicer read it
        scaled = np.array([lightness / 100, (a + 128) / 255, (b + 128) / 255]) * 65535
        description.RecommendedDisplayCIELabValue = np.clip(np.round(scaled), 0, 65535).astype(int).tolist()
    return description
