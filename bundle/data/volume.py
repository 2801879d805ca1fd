"""Volumes and label maps: files of every format in, the same grid out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bundle.data.formats.choice import ENDINGS, ending_of, reader_of, segments_of, writer_of
from bundle.data.formats.stored import Segment, Stored, voxel_sizes
from bundle.data.headers import check_header, damage_reported
from bundle.data.headers.dicom import is_dicom
from bundle.data.modality import MODALITIES, guess_modality
from bundle.data.palette import color_of
from bundle.data.values import compact, gaps_filled, smallest_unsigned, whole_numbers
from bundle.errors import VolumeError

__all__ = [
    "ENDINGS",
    "MODALITIES",
    "Segment",
    "Volume",
    "VolumeError",
    "read_label",
    "read_segments",
    "read_volume",
    "write_label",
    "write_volume",
]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or label map and where it lies in the patient.

    Attributes:
        array: (I, J, K) or (I, J, K, 3), index order of the stored file.
        affine: (4, 4) float64, voxel index to RAS+ mm.
        modality: "CT" (Hounsfield units), "windowed" (8-bit, already through a display window) or "other".
        source: the file or folder it was read from.
        placed: whether that file says where the voxels lie; a picture does not, and ``affine`` is only a habit.
        other_affine: the other reading of a NIfTI header whose qform and sform disagree; None where there is none.
        segments: names and colours of the values of a label map, where its file has them (.seg.nrrd, DICOM SEG).
        series: which DICOM series and scan of the source it is, as ``read_volume`` was told.

    Raises:
        VolumeError: the parts do not make a volume.
    """

    array: np.ndarray
    affine: np.ndarray
    modality: str = "other"
    source: Path | None = None
    placed: bool = True
    other_affine: np.ndarray | None = None
    segments: tuple[Segment, ...] = ()
    series: str | None = None

    def __post_init__(self) -> None:
        shape = self.array.shape
        if len(shape) != 3 and not (len(shape) == 4 and shape[3] == 3):
            raise VolumeError(f"a volume must be (I, J, K) or (I, J, K, 3), got shape {shape}")
        if self.array.size == 0:
            raise VolumeError(f"a volume must have voxels, got shape {shape}")
        if self.modality not in MODALITIES:
            raise VolumeError(f"modality must be one of {', '.join(MODALITIES)}, got {self.modality!r}")
        object.__setattr__(self, "affine", _checked_affine(self.affine))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, J, K)."""
        return self.array.shape[:3]

    @property
    def spacing(self) -> np.ndarray:
        """(3,) float, distance in mm between voxels along (i, j, k)."""
        return voxel_sizes(self.affine)

    @property
    def is_color(self) -> bool:
        """Whether each voxel holds red, green and blue."""
        return self.array.ndim == 4


def _checked_affine(affine: np.ndarray) -> np.ndarray:
    try:
        affine = np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise VolumeError(f"the affine must be a (4, 4) matrix of finite numbers, got {str(affine)[:200]}") from error
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise VolumeError(f"the affine must be a (4, 4) matrix of finite numbers, got {affine.tolist()}")
    spacing = voxel_sizes(affine)
    # The volume of a voxel whose edges were scaled to 1 mm: 1 if orthogonal, 0 if flat.
    if (spacing < 1e-6).any() or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
        raise VolumeError(f"the affine is singular, the voxels have no extent along some axis: {affine.tolist()}")
    return affine


def read_volume(path: str | Path, *, modality: str | None = None, series: str | None = None) -> Volume:
    """Read an image of any supported format.

    NIfTI, NRRD, MetaImage, a folder with one DICOM series, one DICOM file, MedSAM npz and npy, zarr of
    ``scripts/prepare.py``, PNG, JPEG, TIFF.
    Voxels that are NaN or infinite become the smallest finite value: they lie outside the field of view. uint8,
    int16 and float32 are kept; other types become the smallest of int16, int32 and float32 that holds them.

    Args:
        path: file, or folder of a DICOM series.
        modality: one of ``MODALITIES``; by default "windowed" for 8-bit colour, else what the file says or, where it
            is silent, a guess (``bundle.data.modality``).
        series: which of several DICOM series and scans: ``UID``, ``UID:N`` or ``:N``, the SeriesInstanceUID and from 1
            the number of a scan (time point, echo, localizer, ...) of that series. The error that asks for it lists
            them.

    Raises:
        SeriesError: one of several series or scans must be chosen.
        VolumeError: missing, damaged, empty, unsupported, or no single 3D volume; the message says what to do.
    """
    path = Path(path)
    stored = _read(path, is_label=False, series=series)
    array = compact(gaps_filled(stored.array, path))
    modality = modality or guess_modality(array, stored.modality, path)
    return _volume_of(path, stored._replace(array=array, modality=modality, series=series))


def volume_of_array(array: np.ndarray, affine: np.ndarray, *, modality: str | None = None) -> Volume:
    """An image that no file holds, with its voxels as ``read_volume`` gives them.

    Args:
        array: (I, J, K) or (I, J, K, 3).
        affine: (4, 4), voxel index to RAS+ mm.
        modality: as ``read_volume``.

    Raises:
        VolumeError: no finite value, complex values, or a shape or affine that makes no volume.
    """
    where = Path("the array")
    array = compact(gaps_filled(array, where))
    return Volume(array, affine, modality or guess_modality(array, None, where))


def read_label(path: str | Path, *, series: str | None = None) -> Volume:
    """Read a label map: (I, J, K) integers >= 0 in the smallest unsigned type that holds them.

    Formats as ``read_volume``, and segmentations of 3D Slicer (.seg.nrrd), whose grid may be cropped to the segments.
    Whole numbers that were stored behind a scale factor, as nibabel does with arrays of floats, are whole again.

    Raises:
        VolumeError: as ``read_volume``, or the values are not whole numbers from 0.
    """
    path = Path(path)
    stored = _read(path, is_label=True, series=series)
    array = stored.array
    if array.ndim != 3 or array.dtype.kind not in "buif":
        raise VolumeError(f"expected one label per voxel in {path}, got shape {array.shape} of {array.dtype}")
    array = array if array.dtype.kind != "f" else whole_numbers(array, stored.step, path)
    if array.min(initial=0) < 0:
        raise VolumeError(f"labels in {path} must be whole numbers from 0, got {array.min()}; is this an image?")
    array = array.astype(smallest_unsigned(array.max(initial=0)), copy=False)
    return _volume_of(path, stored._replace(array=array, modality="other", series=series))


def read_segments(path: str | Path) -> tuple[Segment, ...]:
    """The segments of a .seg.nrrd, whose ``value`` is that of ``read_label``, without its voxels; () of other files.

    Raises:
        VolumeError: missing or damaged.
    """
    path = Path(path)
    _check_exists(path)
    with damage_reported(path):
        return segments_of(path)


def write_label(
    labels: np.ndarray,
    like: Volume,
    path: str | Path,
    *,
    dtype: np.dtype | type | None = None,
    compress: bool = True,
    names: Mapping[str, int] | None = None,
    colors: Mapping[int, tuple[float, float, float]] | None = None,
) -> Path:
    """Write a label map on the grid of ``like``; the file appears complete or not at all.

    Affine and, from NIfTI to NIfTI, qform and sform with their codes are kept exactly. A PNG keeps the spacing alone.

    Args:
        labels: (I, J, K) integer or bool, of the shape of ``like``.
        like: the volume that the labels belong to.
        path: ends in .nii, .nii.gz, .nrrd, .mha, .mhd, .npz or .png, or in .dcm for a DICOM SEG, which ``like`` must
            have been read from a DICOM series for.
        dtype: integer type; by default the smallest unsigned one that holds the labels.
        compress: whether formats that can go either way (NRRD, MetaImage, npz, PNG) compress.
        names: name -> value, kept by DICOM SEG; a value without one is called "label_<value>".
        colors: value -> red, green and blue from 0 to 1, kept by DICOM SEG; a value without them has ``color_of``'s.

    Returns:
        The path written.

    Raises:
        VolumeError: shape, type or ending does not fit.
    """
    labels = np.asarray(labels)
    if labels.shape != like.shape:
        raise VolumeError(f"labels must have the shape {like.shape} of their volume, got {labels.shape}")
    if labels.dtype.kind not in "bui":
        raise VolumeError(f"labels must be integers, got {labels.dtype}; round them first")
    lowest, highest = int(labels.min()), int(labels.max())
    dtype = np.dtype(dtype or smallest_unsigned(highest))
    if dtype.kind not in "ui" or lowest < np.iinfo(dtype).min or highest > np.iinfo(dtype).max:
        raise VolumeError(f"labels from {lowest} to {highest} do not fit into {dtype}; leave dtype out or widen it")
    stored = Stored(labels.astype(dtype, copy=False), like.affine, series=like.series)
    if ending_of(Path(path)) == ".dcm":
        stored = stored._replace(segments=_segments(stored.array, names or {}, colors or {}))
    return _write(stored, like.source, Path(path), "gts", compress)


def _segments(
    labels: np.ndarray, names: Mapping[str, int], colors: Mapping[int, tuple[float, float, float]]
) -> tuple[Segment, ...]:
    """What was named, whether or not it is shown, and what is shown without a name."""
    shown = {value: f"label_{value}" for value in np.unique(labels).tolist() if value}
    named = {**shown, **{value: name for name, value in names.items()}}
    return tuple(Segment(name, value, colors.get(value) or color_of(value)) for value, name in sorted(named.items()))


def write_volume(volume: Volume, path: str | Path, *, compress: bool = True) -> Path:
    """Write an image, in the formats and the manner of ``write_label``; its type is kept.

    Raises:
        VolumeError: the format cannot hold it.
    """
    return _write(Stored(volume.array, volume.affine), volume.source, Path(path), "imgs", compress)


def _volume_of(path: Path, stored: Stored) -> Volume:
    try:
        return Volume(
            stored.array,
            stored.affine,
            stored.modality,
            source=path,
            placed=stored.placed,
            other_affine=stored.other_affine,
            segments=stored.segments,
            series=stored.series,
        )
    except VolumeError as error:
        raise VolumeError(f"{path}: {error}") from error


def _read(path: Path, *, is_label: bool, series: str | None) -> Stored:
    _check_exists(path)
    if series is not None and not path.is_dir() and not is_dicom(path):
        raise VolumeError(f"series chooses among DICOM series, {path} is none; leave it out")
    with damage_reported(path):
        check_header(path)
        return reader_of(path, is_label=is_label, series=series)(path)


def _check_exists(path: Path) -> None:
    try:
        found = path.exists()
    except OSError as error:  # a folder that may not be looked into, a name that no file can have
        raise VolumeError(f"cannot read {str(path)[:300]}: {error.strerror}") from error
    if not found:
        raise VolumeError(f"there is no file or folder {path}")


def check_ending(ending: str) -> None:
    """Refuse an ending that `write_label` does not take.

    Raises:
        VolumeError: naming those that it takes.
    """
    writer_of(Path(f"label{ending}"), key="gts")


def _write(stored: Stored, source: Path | None, path: Path, key: str, compress: bool) -> Path:
    """Write into a folder beside the target and move from there, so that no reader meets half a file."""
    write = writer_of(path, key=key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        write(stored, Path(folder, path.name), source=source, compress=compress)
        # .mhd names a data file: that one moves first, the file that names it last.
        for part in sorted(Path(folder).iterdir(), key=lambda part: part.name == path.name):
            os.replace(part, path.parent / part.name)
    return path
