"""Labelled slices held in memory, ready to be drawn from in training and validation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from bundle.data.dataset_files import read_image, stem
from bundle.data.grid import check_grid
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import Volume, read_label
from bundle.errors import TrainingError, VolumeError
from bundle.transforms.contract import Contract, Intensity
from bundle.transforms.dictionary import IntensityViewsd, VolumeToSlicesd

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


def cut_slices(
    volume: Volume,
    labels: Volume | None,
    *,
    patient: str,
    contract: Contract | None = None,
    preprocessing: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
    axes: Sequence[int] = (2,),
    min_pixels: int = 20,
    max_side: int | None = None,
    keep_empty: bool = False,
    annotated: Sequence[int] | None = None,
    name: str | None = None,
) -> list[LabelledSlice]:
    """Cut the slices of a volume that show at least one object of ``min_pixels`` pixels.

    Args:
        volume: the image.
        labels: its label map; None is an unlabelled volume, all of whose slices are kept.
        patient: who it shows.
        contract: gives the intensity views of the volume.
        preprocessing: of a training or evaluation, in place of ``IntensityViewsd`` of a contract: it takes ``image``
            (C, I, J, K), ``label`` (1, I, J, K), ``affine`` and ``modality`` and adds the views, ``intensity``.
        axes: stored axes to slice along.
        min_pixels: smaller objects of a slice are not offered as objects.
        max_side: larger slices are shrunk to this many pixels, because the network would shrink them anyway.
        keep_empty: keep slices without an object as well.
        annotated: label values that somebody looked for; None for all.
        name: of the volume, from which its slices get their keys; by default the patient.

    Raises:
        VolumeError: the label map does not lie on the image, see ``check_grid``.
        TrainingError: for both a contract and a preprocessing, or neither.
    """
    if (contract is None) == (preprocessing is None):
        raise TrainingError("slices are cut with the views of a contract or of a preprocessing, got both or neither")
    labels = None if labels is None else check_grid(volume, labels)
    known = () if labels is None else None if annotated is None else tuple(annotated)
    prepared = (preprocessing or IntensityViewsd("image", contract))(_dictionary_of(volume, labels))
    found = []
    for axis in axes:
        data = VolumeToSlicesd(("image", "label"), axis=axis)(prepared)
        slices = zip(np.moveaxis(data["image"], 1, 0), data["label"][0], strict=True)  # (C, H, W) and (H, W) each
        for index, (picture, truth) in enumerate(slices):
            picture = picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)
            picture, truth, pixel = _shrink(picture, truth, data["pixel_spacing"], max_side)
            values, counts = np.unique(truth, return_counts=True)
            ids = tuple(int(v) for v, n in zip(values, counts, strict=True) if v != 0 and n >= min_pixels)
            if ids or keep_empty or labels is None:
                key = f"{name or patient}-{axis}-{index:04d}"
                found.append(
                    LabelledSlice(
                        picture=picture.copy(),
                        labels=truth.copy(),
                        ids=ids,
                        intensity=data["intensity"],
                        modality=volume.modality,
                        pixel_spacing=pixel,
                        patient=patient,
                        key=key,
                        annotated=known,
                    )
                )
    return found


def _dictionary_of(volume: Volume, labels: Volume | None) -> dict[str, Any]:
    """A volume and its label map as MONAI's transforms take them: channels first, nothing copied."""
    array = np.moveaxis(volume.array, -1, 0) if volume.is_color else volume.array[None]
    truth = np.zeros(volume.shape, np.uint8) if labels is None else labels.array
    return {"image": array, "label": truth[None], "affine": volume.affine, "modality": volume.modality}


def read_pool(items: Iterable[Mapping[str, Any]], **options: Any) -> list[LabelledSlice]:
    """Read the items of a dataset layout and cut them.

    Args:
        items: each with ``image``, ``label`` (None where nobody labelled it), ``patient``, and optionally ``labelled``,
            the label values that were annotated, ``slices``, which say it for each slice along the last axis, and
            ``series`` and ``read_as``, see ``read_image``.
        options: as cut_slices; ``contract`` or ``preprocessing`` gives the intensity views.

    Raises:
        VolumeError: naming every item that cannot be read. They are not left out: a training or an evaluation on fewer
            patients is another one.
    """
    pool: list[LabelledSlice] = []
    failed: list[str] = []
    items = list(items)
    for item in tqdm(items, desc="reading slices", leave=False):
        try:
            found = _read_item(item, options)
        except (VolumeError, OSError) as error:
            failed.append(str(error))
            continue
        pool += _annotated_by_slice(found, item["slices"]) if "slices" in item else found
    if failed:
        several = f"{len(failed)} of {len(items)} items cannot be read; mend them or take them out of the data:"
        raise VolumeError(failed[0] if len(failed) == 1 else "\n  ".join([several, *failed]))
    return pool


def _read_item(item: Mapping[str, Any], options: Mapping[str, Any]) -> list[LabelledSlice]:
    volume = read_image(item)
    labels = read_label(item["label"]) if item.get("label") else None
    patient, name = str(item["patient"]), stem(Path(item["image"]))
    return cut_slices(volume, labels, patient=patient, annotated=item.get("labelled"), name=name, **options)


def _annotated_by_slice(slices: Sequence[LabelledSlice], described: Sequence[Mapping[str, Any]]) -> list[LabelledSlice]:
    """What was looked for in each slice of a prepared zarr: filters may have dropped an organ in some of them."""
    known = [tuple(about["labelled"]) for about in described]
    return [replace(part, annotated=known[int(part.key.rpartition("-")[2])]) for part in slices]


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


def phantom_pool(
    seeds: Sequence[int],
    *,
    contract: Contract,
    shape: tuple[int, int, int] = (112, 96, 48),
    without: Sequence[str] = (),
    **options: Any,
) -> list[LabelledSlice]:
    """Slices of generated patients, one per seed, as if nobody had labelled the organs named in ``without``."""
    pool: list[LabelledSlice] = []
    for seed in tqdm(seeds, desc="making phantoms", leave=False):
        volume, labels, names = make_phantom(shape=shape, spacing=(3.4, 3.4, 5.0), seed=seed)
        slices = cut_slices(volume, labels, contract=contract, patient=f"phantom-{seed}", **options)
        hidden = [names[organ] for organ in without if organ in names]
        pool += without_labels(slices, hidden) if hidden else slices
    return pool


def resized(labelled: LabelledSlice, side: int) -> LabelledSlice:
    """The slice with ``side`` pixels on its longer side: the picture smooth, labels by nearest neighbour."""
    picture, labels, spacing = _scale(labelled.picture, labelled.labels, labelled.pixel_spacing, side)
    return replace(labelled, picture=picture, labels=labels, pixel_spacing=spacing)


def _shrink(
    picture: np.ndarray, labels: np.ndarray, spacing: tuple[float, float], max_side: int | None
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
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
