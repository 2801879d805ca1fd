"""Labelled slices in memory, and what is done with them there; ``labelled_slices.py`` reads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from bundle.errors import TrainingError
from bundle.transforms.contract import Intensity

# What OpenCV interpolates; volumes of more than 16 bits are int32.
_RESIZABLE = (np.uint8, np.uint16, np.int16, np.float32, np.float64)


@dataclass(frozen=True, eq=False)
class LabelledSlice:
    """One slice with its labels.

    Attributes:
        picture: (H, W) intensities of the volume, or (H, W, 3) colour.
        labels: (H, W) integer label map.
        ids: label values that are labelled here; anything else is unlabelled, not background.
        intensity: the contract's views of the volume that the slice came from.
        modality: CT, other or windowed.
        pixel_spacing: (dy, dx) in mm.
        patient: who it shows; no patient may stand in two splits.
        key: name of the slice, unique within its patient.
        annotated: label values that somebody looked for in this slice; None when all of the data set's were.
    """

    picture: np.ndarray
    labels: np.ndarray
    ids: tuple[int, ...]
    intensity: Intensity
    modality: str
    pixel_spacing: tuple[float, float]
    patient: str
    key: str
    annotated: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class LabelledStack:
    """Neighbouring slices of one volume, for networks that see several at once."""

    slices: tuple[LabelledSlice, ...]

    @property
    def patient(self) -> str:
        """Who it shows."""
        return self.slices[0].patient

    @property
    def key(self) -> str:
        """Name of the stack: that of its first slice."""
        return self.slices[0].key

    @property
    def ids(self) -> tuple[int, ...]:
        """Label values that any of its slices shows."""
        return tuple(sorted({i for part in self.slices for i in part.ids}))

    @property
    def annotated(self) -> tuple[int, ...] | None:
        """Label values that somebody looked for, the same in all of its slices; None for all."""
        return self.slices[0].annotated


def without_labels(slices: Iterable[LabelledSlice], values: Sequence[int]) -> list[LabelledSlice]:
    """The slices as if nobody had labelled some values; those that show nothing else are left out."""
    hidden = []
    for part in slices:
        ids = tuple(i for i in part.ids if i not in values)
        if ids:
            hidden.append(replace(part, labels=np.where(np.isin(part.labels, values), 0, part.labels), ids=ids))
    return hidden


def describe_sources(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """What a training draws from, for the metadata of its checkpoint: per source its number of slices and patients."""
    return {
        name: {
            "slices": len(source["slices"]),
            "patients": len({labelled.patient for labelled in source["slices"]}),
        }
        for name, source in sources.items()
    }


def stack_slices(slices: Sequence[LabelledSlice], *, depth: int, step: int | None = None) -> list[LabelledStack]:
    """Group the consecutive slices of each volume into stacks that show at least one object.

    Args:
        slices: in the order of ``cut_slices`` with ``keep_empty``, so that neighbours are neighbours.
        depth: slices of a stack; the last slice of a thinner volume is repeated.
        step: from the start of one stack to the next; by default stacks do not overlap. The last ends with the volume.
    """
    volumes: dict[tuple[str, str], list[LabelledSlice]] = defaultdict(list)
    for part in slices:
        volumes[part.patient, part.key.rpartition("-")[0]].append(part)  # many patients may have a ct.nii.gz
    stacks = []
    for parts in volumes.values():
        parts += parts[-1:] * (depth - len(parts))
        starts = sorted({*range(0, len(parts) - depth, step or depth), len(parts) - depth})
        stacks += [LabelledStack(_known_alike(parts[start : start + depth])) for start in starts]
    return [stack for stack in stacks if stack.ids]


def _known_alike(parts: Sequence[LabelledSlice]) -> tuple[LabelledSlice, ...]:
    """The slices as if nobody had looked for what was not looked for in all of them."""
    if len({part.annotated for part in parts}) == 1:
        return tuple(parts)
    known = tuple(sorted(set.intersection(*(set(part.annotated) for part in parts if part.annotated is not None))))
    alike = []
    for part in parts:
        labels = np.where(np.isin(part.labels, known), part.labels, 0)
        alike.append(replace(part, labels=labels, ids=tuple(i for i in part.ids if i in known), annotated=known))
    return tuple(alike)


def few_slices(slices: Sequence[LabelledSlice], *, count: int = 5, seed: int = 0) -> list[LabelledSlice]:
    """Keep ``count`` slices for few-shot training: a slice of each of so many patients, then second ones.

    Raises:
        TrainingError: if there are fewer slices.
    """
    if len(slices) < count:
        raise TrainingError(f"few-shot training asks for {count} slices, got {len(slices)}; lower the count")
    rng = np.random.default_rng(seed)
    shuffled = [slices[i] for i in rng.permutation(len(slices))]
    times: dict[str, int] = defaultdict(int)
    rank = {}
    for part in shuffled:
        rank[id(part)] = times[part.patient]
        times[part.patient] += 1
    return sorted(shuffled, key=lambda part: rank[id(part)])[:count]


def resized(labelled: LabelledSlice, side: int) -> LabelledSlice:
    """The slice with ``side`` pixels on its longer side: the picture smooth, labels by nearest neighbour."""
    picture, labels, spacing = _scale(labelled.picture, labelled.labels, labelled.pixel_spacing, side)
    return replace(labelled, picture=picture, labels=labels, pixel_spacing=spacing)


def shrunk(
    picture: np.ndarray, labels: np.ndarray, spacing: tuple[float, float], max_side: int | None
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Picture, labels and pixel spacing with at most ``max_side`` pixels on the longer side; None leaves them."""
    if max_side is None or max(labels.shape) <= max_side:
        return picture, labels, spacing
    return _scale(picture, labels, spacing, max_side)


def _scale(
    picture: np.ndarray, labels: np.ndarray, spacing: tuple[float, float], side: int
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    height, width = labels.shape
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    if picture.dtype not in _RESIZABLE:
        picture = picture.astype(np.float32)
    picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=interpolation)
    kind = np.int32 if labels.max() < 2**31 else np.float64  # OpenCV has no uint32
    labels = cv2.resize(np.ascontiguousarray(labels).astype(kind), size, interpolation=cv2.INTER_NEAREST_EXACT)
    labels = labels.astype(np.int64) if kind is np.float64 else labels
    return picture, labels, (spacing[0] * height / size[1], spacing[1] * width / size[0])
