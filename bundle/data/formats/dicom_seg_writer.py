"""Label maps written as DICOM SEG, which lies beside the images of its series in a PACS."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from bundle.data.formats.dicom import holds_dicom, is_dicom, series_frames
from bundle.data.formats.dicom_geometry import Frame, arrange
from bundle.data.formats.stored import LPS_TO_RAS, Segment, Stored
from bundle.errors import VolumeError

logger = logging.getLogger(__name__)

# What every SEG takes over from its images; where they leave it out, it is known to be empty (type 2 in PS3.3).
_TAKEN_OVER = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
# Series numbers of what was made of a series follow it at this distance, behind the scanner's own.
_SERIES_NUMBER_OFFSET = 1000


def check_source(source: Path | None) -> None:
    """Refuse to write a SEG for an image that is no DICOM.

    Raises:
        VolumeError: the image does not come from DICOM files.
    """
    if source is None or not source.exists() or not (holds_dicom(source) if source.is_dir() else is_dicom(source)):
        raise VolumeError(
            f"a DICOM SEG refers to the DICOM series it belongs to, and {source or 'the image'} is none; "
            "choose .nii.gz or .nrrd as the ending"
        )


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
        VolumeError: the image is no DICOM series, has changed, or does not say where it lies in the patient.
    """
    check_source(source)
    frames, affine = arrange(series_frames(source, stored.series))
    shape = (*frames[0].size, len(frames))
    if shape != stored.array.shape or not np.allclose(LPS_TO_RAS @ affine, stored.affine, atol=1e-6):
        raise VolumeError(f"{source} is no longer the image that was segmented; it now has {shape} voxels")
    segments = sorted(stored.segments, key=lambda segment: segment.value)
    if missing := set(np.unique(stored.array).tolist()) - {0} - {segment.value for segment in segments}:
        raise VolumeError(f"expected a segment for each label, got none for {sorted(missing)}; name them")
    labels = stored.array.transpose(2, 1, 0)  # one (rows, columns) for each frame
    distance = abs(float(affine[:3, 2] @ frames[0].normal))
    dataset = _segmentation(_images(frames, source), _in_order_of_images(labels, frames), segments, frames[0], distance)
    dataset.save_as(path, write_like_original=False)


def _segmentation(
    images: list[Dataset], labels: np.ndarray, segments: Sequence[Segment], frame: Frame, distance: float
) -> Dataset:
    """The SEG; ``distance`` is that of the slices along the normal, in mm."""
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
            pixel_measures=hd.PixelMeasuresSequence(frame.spacing[::-1].tolist(), frame.thickness, distance),
            series_instance_uid=generate_uid(prefix=None),
            series_number=int(images[0].get("SeriesNumber") or 0) + _SERIES_NUMBER_OFFSET,
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


def _images(frames: Sequence[Frame], source: Path) -> list[Dataset]:
    """The tags of the image files: one for each slice, or the one file of several frames."""
    files = list(dict.fromkeys(frame.file for frame in frames))
    images = [pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in files]
    if len(files) > 1 and any("NumberOfFrames" in image for image in images):
        raise VolumeError(f"{source} is spread over {len(files)} multi-frame files, a SEG can refer to one; give one")
    if frames[0].position is None or "FrameOfReferenceUID" not in images[0]:
        raise VolumeError(f"{source} does not say where it lies in the patient, a DICOM SEG must; write .nrrd instead")
    for image in images:
        for keyword in _TAKEN_OVER:
            if keyword not in image:
                setattr(image, keyword, None)
    return images


def _in_order_of_images(labels: np.ndarray, frames: Sequence[Frame]) -> np.ndarray:
    """(N, rows, columns): as the slices are sorted, or, of a multi-frame file, all its frames as they are stored."""
    if frames[0].tags.get("NumberOfFrames") is None:
        return labels
    stored = np.zeros((int(frames[0].tags.NumberOfFrames), *labels.shape[1:]), labels.dtype)
    stored[[frame.index for frame in frames]] = labels
    return stored
