"""Labelled slices in a few flat tensors, so that a GPU draws and changes hundreds of them at once.

A training whose network answers a thousand samples a second cannot wait for NumPy to prepare them one by one. They are
gathered once, mostly into a file (``file.gather_into``); ``BatchedSamples`` draws from the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from bundle import _moved
from bundle.data.hounsfield import tissue_kinds
from bundle.data.labelled_slice import LabelledSlice, describe_sources
from bundle.data.labels import as_int16, count_labels, find_labels
from bundle.errors import TrainingError
from bundle.transforms.contract import MODALITIES

FINE_SIDE = 320  # slices with a longer side also have a copy of half the size, for when the whole of them is shown
QUANTILES = 41  # of the grey values of a slice, evenly spaced from the lowest to the highest
_LARGEST = 2**15 - 1


@dataclass(frozen=True)
class SliceTensors:
    """Slices, their label maps and the objects in them.

    Attributes:
        pixels: (P,) int16, the images one after the other, row by row: HU, 8-bit grey, or what the modality has; of a
            colour picture first all red, then all green, then all blue.
        kinds: (P,) uint8, what a windowed CT made black, see ``hounsfield.tissue_kinds``; 0 in all others.
        labels: (Q,) int16, the label maps, each of the full size of its slice.
        levels: (N, 2, 3) int64, per slice its full and its half size: offset into ``pixels``, height, width. Where
            there is no half size both are the full one.
        channels: (N,) int64, 1 or, in a colour picture, 3.
        label_offsets: (N,) int64, into ``labels``.
        spacing: (N, 2) float32, (dy, dx) in mm.
        modality: (N,) int64, index into ``contract.MODALITIES``.
        views: (N, 3, 2) float32, low and high end of the contract's views.
        quantiles: (N, QUANTILES) float32.
        peak: (N,) float32, the soft-tissue peak of a windowed CT; 0 of what was never in HU.
        has_image: (N,) bool; a slice without a picture has labels alone, and gets colours of its own.
        object_source, object_slice, object_label: (M,) int64, the source (in the order of ``about``), the slice and the
            label value of each object.
        object_box: (M, 4) float32, (x0, y0, x1, y1) in pixels of the slice, corners inclusive.
        object_weight: (M,) float64, how often it is drawn within its source.
        about: per source, its slices and patients.
    """

    pixels: Tensor
    kinds: Tensor
    labels: Tensor
    levels: Tensor
    channels: Tensor
    label_offsets: Tensor
    spacing: Tensor
    modality: Tensor
    views: Tensor
    quantiles: Tensor
    peak: Tensor
    has_image: Tensor
    object_source: Tensor
    object_slice: Tensor
    object_label: Tensor
    object_box: Tensor
    object_weight: Tensor
    about: Mapping[str, Mapping[str, int]]

    def __len__(self) -> int:
        return len(self.object_slice)

    def to(self, device: torch.device | str) -> SliceTensors:
        """The same on another device."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "about"}
        return replace(self, **moved)


def gather_slices(
    sources: Mapping[str, Sequence[LabelledSlice]], *, instances: Sequence[str] = (), never_ct: Sequence[str] = ()
) -> SliceTensors:
    """Gather the slices of several sources in flat tensors.

    Within a source each organ is drawn as often as the others, then each patient that shows it, then each of the
    patient's slices, as ``BalancedDraw`` does. Where label values only number instances, each patient is drawn
    as often as the others, then each slice, then an object by the root of its size: there are many small ones.

    Args:
        sources: per name, its slices.
        instances: sources whose label values number instances instead of naming organs: grey regions, drawn shapes.
        never_ct: sources whose 8-bit pictures are no windowed CT of the abdomen, so that nothing takes them back to HU.
            Colour never is.

    Raises:
        TrainingError: if a source is empty or unknown, or a picture has neither one channel nor three.
    """
    if unknown := sorted({*instances, *never_ct} - set(sources)):
        raise TrainingError(f"{unknown[0]!r} is no source; sources are {', '.join(sources)}")
    rows = _Rows()
    for number, (name, slices) in enumerate(sources.items()):
        if not len(slices):
            raise TrainingError(f"source {name!r} has no labelled slice")
        rows.add_source(slices, number, name, named=name not in instances, ct=name not in never_ct)
    return rows.tensors(describe_sources({name: {"slices": slices} for name, slices in sources.items()}))


def choose(
    tensors: SliceTensors,
    weights: Mapping[str, float],
    *,
    hidden: Mapping[str, Sequence[int]] | None = None,
    without: Sequence[str] = (),
) -> SliceTensors:
    """What a training draws: some of the sources, each so often, without some labels.

    Args:
        tensors: with the weights within each source.
        weights: per source, its share of the draws; sources that are not named are not drawn.
        hidden: per source, label values that are taken out, of the objects and of the label maps.
        without: shell patterns of sources that are not drawn although they have a weight: a modality that is left out.

    Raises:
        TrainingError: for a source that was not gathered, a pattern of none, or when nothing is left of one.
    """
    sources = list(tensors.about)
    for pattern in without:
        if not any(fnmatchcase(name, pattern) for name in weights):
            raise TrainingError(f"no source with a weight fits {pattern!r}; sources are {', '.join(weights)}")
    weights = {name: w for name, w in weights.items() if not any(fnmatchcase(name, p) for p in without)}
    if unknown := [name for name in (*weights, *(hidden or {})) if name not in sources]:
        raise TrainingError(f"{unknown[0]!r} was not gathered, only {', '.join(sources)}; gather the slices again")
    objects, labels = tensors.object_weight.clone(), tensors.labels.clone()
    for number, name in enumerate(sources):
        here = tensors.object_source == number
        values = torch.tensor(list((hidden or {}).get(name, ())), dtype=torch.int64)
        objects[here & torch.isin(tensors.object_label, values)] = 0.0
        for row in tensors.object_slice[here].unique().tolist() if len(values) else ():
            part = labels[tensors.label_offsets[row] :][: int(tensors.levels[row, 0, 1:].prod())]
            part[torch.isin(part.long(), values)] = 0
        if (share := weights.get(name, 0.0)) and not objects[here].any():
            raise TrainingError(f"every label of source {name!r} is hidden; give it no weight")
        objects[here] *= share / objects[here].sum().clamp(min=1e-12)
    about = {name: tensors.about[name] for name in weights}
    return replace(tensors, labels=labels, object_weight=objects / objects.sum(), about=about)


class _Rows:
    """Collects rows of a SliceTensors."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Any]] = {f.name: [] for f in fields(SliceTensors) if f.name != "about"}
        self.sizes = {"pixels": 0, "labels": 0}
        self.known: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self.areas: list[float] = []  # of the objects, or 1 where only their number counts

    def add_source(self, slices: Sequence[LabelledSlice], number: int, name: str, *, named: bool, ct: bool) -> None:
        tree: dict[Any, dict[Any, list[int]]] = {}
        from tqdm import tqdm  # a machine that only trains has none

        for labelled in tqdm(slices, desc=f"gathering {name}", leave=False):
            row = self._add_slice(labelled, ct=ct)
            areas, bounds = count_labels(labelled.labels), find_labels(labelled.labels)
            for organ in labelled.ids:
                group = (int(organ), labelled.patient) if named else (labelled.patient, row)
                tree.setdefault(group[0], {}).setdefault(group[1], []).append(len(self.parts["object_slice"]))
                self.areas.append(1.0 if named else float(areas[organ]) ** 0.5)
                self._add("object_source", number)
                self._add("object_slice", row)
                self._add("object_label", int(organ))
                self._add("object_box", _box(*bounds[organ]))
                self._add("object_weight", 0.0)
        for groups in tree.values():
            for objects in groups.values():
                total = sum(self.areas[place] for place in objects)
                for place in objects:
                    self.parts["object_weight"][place] = self.areas[place] / (len(tree) * len(groups) * total)

    def tensors(self, about: Mapping[str, Mapping[str, int]]) -> SliceTensors:
        types = {"object_weight": torch.float64, "has_image": torch.bool}
        whole = ("levels", "channels", "label_offsets", "modality", "object_source", "object_slice", "object_label")
        types |= dict.fromkeys(whole, torch.int64)
        values = {}
        for name, parts in self.parts.items():
            if name in ("pixels", "kinds", "labels"):
                values[name] = torch.from_numpy(np.concatenate(parts))
            else:
                values[name] = torch.tensor(np.asarray(parts), dtype=types.get(name, torch.float32))
        return with_half_sizes(SliceTensors(**values, about=about))

    def _add(self, name: str, value: Any) -> None:
        self.parts[name].append(value)

    def _add_slice(self, labelled: LabelledSlice, *, ct: bool) -> int:
        row = len(self.parts["label_offsets"])
        picture = np.clip(np.round(labelled.picture), -_LARGEST, _LARGEST).astype(np.int16)
        planes = picture[None] if picture.ndim == 2 else np.moveaxis(picture, -1, 0)
        if planes.ndim != 3 or len(planes) not in (1, 3):
            raise TrainingError(
                f"slice {labelled.key} must be (H, W) grey or (H, W, 3) colour, got {labelled.picture.shape}"
            )
        ct = ct and labelled.modality == "windowed" and len(planes) == 1 and bool(planes.any())
        for name, value in zip(("levels", "quantiles", "peak"), self._picture(planes, labelled, ct=ct), strict=True):
            self._add(name, value)
        self._add("channels", len(planes))
        self._add("label_offsets", self.sizes["labels"])
        self._append("labels", as_int16(labelled.labels, labelled.key).ravel())
        self._add("spacing", labelled.pixel_spacing)
        self._add("modality", MODALITIES.index(labelled.modality))
        views = labelled.intensity if len(labelled.intensity) == 3 else labelled.intensity * 3
        self._add("views", [(view.low, view.high) for view in views])
        self._add("has_image", bool(picture.any()))
        return row

    def _picture(self, planes: np.ndarray, labelled: LabelledSlice, *, ct: bool) -> tuple[Any, ...]:
        """Level, quantiles and peak of a picture (C, H, W); one that was met before is not stored again."""
        identity = labelled.modality, ct, planes.shape, planes.tobytes()
        if identity in self.known:
            return self.known[identity]
        kinds, peak = np.zeros(planes.shape, np.uint8), 0.0
        if ct:
            kinds[0], peak = tissue_kinds(planes[0].astype(np.uint8))
        level = self.sizes["pixels"], *planes.shape[1:]
        self._append("pixels", planes.ravel())
        self._add("kinds", kinds.ravel())
        found = [level] * 2, np.quantile(planes, np.linspace(0, 1, QUANTILES)), peak
        self.known[identity] = found
        return found

    def _append(self, name: str, values: np.ndarray) -> None:
        self._add(name, values)
        self.sizes[name] += values.size


def with_half_sizes(tensors: SliceTensors) -> SliceTensors:
    """With a copy of half the size of every long slice behind the images."""
    levels, pixels, kinds = tensors.levels.clone(), [tensors.pixels], [tensors.kinds]
    end, made = len(tensors.pixels), {}
    rows = zip(levels[:, 0].tolist(), tensors.channels.tolist(), strict=True)
    for row, ((start, height, width), channels) in enumerate(rows):
        if max(height, width) <= FINE_SIDE:
            continue
        if start not in made:
            size = width // 2, height // 2
            made[start] = torch.tensor([end, size[1], size[0]])
            for plane in range(channels):
                part = slice(start + plane * height * width, start + (plane + 1) * height * width)
                full, what = (values[part].view(height, width).numpy() for values in (tensors.pixels, tensors.kinds))
                pixels.append(torch.from_numpy(cv2.resize(full, size, interpolation=cv2.INTER_AREA)).flatten())
                kinds.append(torch.from_numpy(cv2.resize(what, size, interpolation=cv2.INTER_NEAREST_EXACT)).flatten())
                end += size[0] * size[1]
        levels[row, 1] = made[start]
    return replace(tensors, levels=levels, pixels=torch.cat(pixels), kinds=torch.cat(kinds))


def _box(rows: slice, columns: slice) -> tuple[float, float, float, float]:
    return columns.start, rows.start, columns.stop - 1, rows.stop - 1


__getattr__ = _moved.renamed(__name__)  # former names
