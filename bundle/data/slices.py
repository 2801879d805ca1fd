"""Which slices of a labelled volume are worth training on, and what was left out for which reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from bundle.data.labels import count_labels, find_labels
from bundle.data.volume import Volume
from bundle.transforms.frames import SliceFrame


@dataclass(frozen=True)
class SliceFilters:
    """What counts as noise; 0 switches a rule off. The defaults are MedSAM's and SAM-Med2D's.

    Attributes:
        min_voxels: connected components of a volume (26 neighbours) with fewer voxels go (MedSAM: 1000).
        min_pixels: connected components of a slice (8 neighbours) with fewer pixels go (MedSAM: 100).
        min_share: an object that covers less of its slice goes (SAM-Med2D: 0.153 %).
    """

    min_voxels: int = 1000
    min_pixels: int = 100
    min_share: float = 0.00153


@dataclass(frozen=True)
class Dropped:
    """Part of a label that was left out.

    Attributes:
        label: its value.
        reason: "component_3d", "component_2d" or "share", the rule that it fell under.
        parts: number of components.
        size: their voxels or pixels together.
        plane, index: the slice; None for a component of the volume.
    """

    label: int
    reason: str
    parts: int
    size: int
    plane: str | None = None
    index: int | None = None


@dataclass(frozen=True, eq=False)
class SliceEntry:
    """One slice with at least one object.

    Attributes:
        frame: how it was cut.
        index: its number in the frame.
        labels: (H, W) integer, without what was dropped.
        boxes: label -> tight box (x0, y0, x1, y1), corners inclusive.
        pixels: label -> area.
        lost: labels of which nothing is left here: their pixels are now unlabelled, not background.
    """

    frame: SliceFrame
    index: int
    labels: np.ndarray
    boxes: dict[int, tuple[int, int, int, int]]
    pixels: dict[int, int]
    lost: tuple[int, ...]


def index_slices(
    label: Volume, *, planes: Sequence[str] = ("axial",), filters: SliceFilters | None = None
) -> tuple[list[SliceEntry], list[Dropped]]:
    """The slices of a label map that show an object, and what was dropped on the way.

    A picture (one axis of size 1) is its own only slice, whatever ``planes`` says, and has no 3D components.

    Args:
        label: label map.
        planes: of ``bundle.transforms.frames.PLANES``.
        filters: what counts as noise; by default the published rules.
    """
    filters = filters or SliceFilters()
    array, dropped = label.array, []
    if 1 not in label.shape:
        array, dropped = remove_small(array, min_size=filters.min_voxels, reason="component_3d")
    entries = []
    for frame in frames_of(label, planes):
        for index in range(frame.depth):
            # Contiguous copies: everything below walks over the pixels, and a slice may be strided across the volume.
            labels, gone = clean_slice(np.ascontiguousarray(frame.extract(array, index)), filters)
            dropped += [Dropped(**{**asdict(part), "plane": frame.plane, "index": index}) for part in gone]
            if labels.any():
                original = np.ascontiguousarray(frame.extract(label.array, index))
                lost = sorted(count_labels(original).keys() - count_labels(labels).keys())
                entries.append(_entry(frame, index, labels, tuple(lost)))
    return entries, dropped


def frames_of(volume: Volume, planes: Sequence[str]) -> list[SliceFrame]:
    """The frames to cut a volume along: its planes, or the one way that a picture can be seen."""
    if 1 in volume.shape:
        # The last such axis: a picture is (W, H, 1), and so is one that is a single row.
        return [SliceFrame.along(volume.shape, volume.affine, max(i for i in range(3) if volume.shape[i] == 1))]
    return [SliceFrame.of_plane(volume.shape, volume.affine, plane) for plane in planes]


def clean_slice(labels: np.ndarray, filters: SliceFilters) -> tuple[np.ndarray, list[Dropped]]:
    """Apply the rules of a slice to an (H, W) label map; returns a cleaned copy and what was lost."""
    labels, dropped = remove_small(labels, min_size=filters.min_pixels, reason="component_2d")
    for value, count in count_labels(labels).items():
        if count < filters.min_share * labels.size:
            dropped.append(Dropped(value, "share", 1, count))
            labels[labels == value] = 0
    return labels, dropped


def remove_small(labels: np.ndarray, *, min_size: int, reason: str) -> tuple[np.ndarray, list[Dropped]]:
    """Remove connected components (diagonal neighbours connect) of fewer than ``min_size`` elements.

    Args:
        labels: integer array of two or three axes.
        min_size: the smallest that stays.
        reason: of the records.

    Returns:
        A cleaned copy, and one record per label that lost something.
    """
    cleaned, dropped = labels.copy(), []
    if min_size <= 1:
        return cleaned, dropped
    for value, box in find_labels(labels).items():
        components, _ = ndimage.label(labels[box] == value, structure=np.ones((3,) * labels.ndim))
        sizes = np.bincount(components.ravel())
        small = sizes < min_size
        small[0] = False
        if small.any():
            cleaned[box][small[components]] = 0
            dropped.append(Dropped(value, reason, int(small.sum()), int(sizes[small].sum())))
    return cleaned, dropped


def summarise(dropped: Iterable[Dropped], names: dict[int, str]) -> dict[str, dict[str, dict[str, int]]]:
    """Reason -> organ -> how many parts and how many voxels or pixels went."""
    parts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for record in dropped:
        key = record.reason, names.get(record.label, str(record.label))
        parts[key] += record.parts
        sizes[key] += record.size
    summary: dict[str, dict[str, dict[str, int]]] = {}
    for reason, organ in sorted(parts):
        summary.setdefault(reason, {})[organ] = {"parts": parts[reason, organ], "size": sizes[reason, organ]}
    return summary


def _entry(frame: SliceFrame, index: int, labels: np.ndarray, lost: tuple[int, ...]) -> SliceEntry:
    boxes, pixels = {}, {}
    for value, region in find_labels(labels).items():
        rows, columns = region
        boxes[value] = (columns.start, rows.start, columns.stop - 1, rows.stop - 1)
        pixels[value] = int((labels[region] == value).sum())
    return SliceEntry(frame, index, labels, boxes, pixels, lost)
