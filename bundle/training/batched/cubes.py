"""Labelled volumes in cubes of one size, so that a GPU draws windows of them, changes and prompts them at once.

Packed where the readers of images are installed, in pieces that are small enough to be sent anywhere; read where
nothing but PyTorch, NumPy and SciPy is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from bundle.errors import TrainingError
from bundle.files import read_json, sha256_of, write_atomically, write_text

SIDE = 128  # cells along a side of a packed volume
PIECE_BYTES = 16 * 2**20  # of a file at most
LABELS, REGIONS, PHANTOM = range(3)  # what an object comes from
_LEAST_CELLS = 60  # of an object
_SOME_CELLS = 16  # of an object, around which a part of it is shown
_STEP = 8  # HU: finer differences are noise, and cost half of the file
_RANGE = (-1024, 1500)  # HU
_REGION_CELLS = (120, 60_000)
_REGIONS = 40  # of one shade at most
_HOLLOW = 0.22  # share of its box that a grey region fills at least: others are rims and webs


@dataclass(frozen=True, eq=False)
class SourceVolume:
    """A volume to pack.

    Attributes:
        name: of the volume, one of its kind.
        group: volumes of a group share its draws, see ``pack``.
        array: (I, J, K) intensities.
        labels: (I, J, K) label map, 0 is unlabelled.
        spacing: (3,) mm.
        ct: whether the intensities are HU.
        regions: how many maps of grey regions are made of it.
        phantom: whether it was generated.
    """

    name: str
    group: str
    array: np.ndarray
    labels: np.ndarray
    spacing: Sequence[float]
    ct: bool
    regions: int = 0
    phantom: bool = False


@dataclass(frozen=True, eq=False)
class CubeTensors:
    """Packed volumes, and the objects in them.

    Attributes:
        images: (V, 128, 128, 128) int16, HU of CT, of others -1000..1000 between their 0.5 and 99.5 percentiles.
        labels: (V, 128, 128, 128) uint8.
        regions: (R, 128, 128, 128) int16, grey regions, numbered from 1.
        ct: (V,) bool.
        spacing: (V,) float32, mm, side of a cell.
        objects: (M, 9) int64: volume, map of regions or -1 for the labels, value, lowest and highest cell.
        origin: (M,) int64, one of ``LABELS``, ``REGIONS``, ``PHANTOM``.
        sizes: (M,) int64, cells.
        cells: (M, 16, 3) int64, some cells of each object.
        hollow: (M,) bool, whether something else lies in the middle of the box around the object, as of a ring.
        names, groups: of the V volumes.
    """

    images: Tensor
    labels: Tensor
    regions: Tensor
    ct: Tensor
    spacing: Tensor
    objects: Tensor
    origin: Tensor
    sizes: Tensor
    cells: Tensor
    hollow: Tensor
    names: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.objects)

    def to(self, device: torch.device | str) -> CubeTensors:
        """The same on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v.to(device) for name, v in moved.items() if isinstance(v, Tensor)})

    def weights(self, shares: Sequence[float], groups: dict[str, float], *, hollow: float = 1.0) -> Tensor:
        """(M,) float64, how often each object is drawn; they add up to 1.

        Within labels, groups are drawn by their share, the volumes of a group alike, and the objects of a volume
        alike; grey regions, of which there are many small ones, by the fourth root of their size.

        Args:
            shares: of labels, regions and phantoms.
            groups: share of each group among the labelled; .02 of others.
            hollow: how many times as often a hollow object is drawn as another one of its volume and kind.
        """
        weights = torch.zeros(len(self), dtype=torch.float64)
        for origin, share in enumerate(shares):
            here = self.origin == origin
            for volume in self.objects[here, 0].unique().tolist():
                chosen = here & (self.objects[:, 0] == volume)
                size = self.sizes[chosen].double() ** (0.25 if origin == REGIONS else 0.0)
                size = torch.where(self.hollow[chosen], hollow * size, size)
                beside = sum(group == self.groups[volume] for group in self.groups)
                group = groups.get(self.groups[volume], 0.02) / beside if origin == LABELS else 1.0
                weights[chosen] = group * size / size.sum()
            low, high = self.objects[:, 3:6], self.objects[:, 6:9]
            filled = self.sizes / (high - low + 1).prod(dim=1)
            weights[here & (self.origin == REGIONS) & (filled < _HOLLOW)] = 0.0
            if weights[here].any():
                weights[here] *= share / weights[here].sum()
        if not weights.any():
            raise TrainingError("there is nothing to draw: no object of a kind with a share")
        return weights / weights.sum()


def pack(volumes: Iterable[SourceVolume], folder: str | Path) -> None:
    """Pack volumes into a folder, a piece for each, with an index that names them.

    Raises:
        TrainingError: a piece is larger than ``PIECE_BYTES``.
    """
    folder, pieces = Path(folder), []
    for number, volume in enumerate(volumes):
        path = folder / f"cubes_{number:04d}.npz"
        image, labels, valid, spacing = _resampled(volume)
        maps = [_grey_regions(image, valid, seed=7 * number + k) for k in range(volume.regions)]
        regions = np.stack(maps) if maps else np.zeros((0, *image.shape), np.int16)
        arrays = {"image": image, "labels": labels, "regions": regions}

        def write(partial: Path | str, arrays: dict[str, np.ndarray] = arrays) -> None:
            with open(partial, "wb") as file:
                np.savez_compressed(file, **arrays)

        write_atomically(path, write)
        if (size := path.stat().st_size) > PIECE_BYTES:
            raise TrainingError(f"{path.name} has {size} bytes, at most {PIECE_BYTES}; make fewer grey regions of it")
        about = {"name": volume.name, "group": volume.group, "ct": volume.ct, "phantom": volume.phantom}
        pieces.append({"file": path.name, "sha256": sha256_of(path), "spacing": spacing, **about})
    write_text(folder / "index.json", json.dumps({"pieces": pieces}, indent=1) + "\n")


def read_cubes(folder: str | Path) -> CubeTensors:
    """Read what ``pack`` wrote.

    Raises:
        TrainingError: a piece is missing, or is not the one that the index names.
    """
    folder = Path(folder)
    pieces = read_json(folder / "index.json")["pieces"]
    images, labels, regions, objects, origins, sizes, cells, hollow = [], [], [], [], [], [], [], []
    for number, piece in enumerate(pieces):
        path = folder / Path(piece["file"]).name
        if not path.is_file() or sha256_of(path) != piece["sha256"]:
            raise TrainingError(f"{path.name} is missing or is not the packed one; pack the volumes again")
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        maps = [(-1, PHANTOM if piece["phantom"] else LABELS, arrays["labels"])]
        maps += [(len(regions) + k, REGIONS, one) for k, one in enumerate(arrays["regions"])]
        for place, origin, one in maps:
            for row, inside in _objects(one):
                objects.append([number, place, *row])
                origins.append(origin)
                sizes.append(len(inside))
                middle = tuple((first + last) // 2 for first, last in zip(row[1:4], row[4:7], strict=True))
                hollow.append(bool(one[middle] != row[0]))
                cells.append(inside[np.random.default_rng(len(cells)).integers(len(inside), size=_SOME_CELLS)])
        images.append(torch.from_numpy(arrays["image"]))
        labels.append(torch.from_numpy(arrays["labels"]))
        regions += [torch.from_numpy(one) for one in arrays["regions"]]
    return CubeTensors(
        images=torch.stack(images),
        labels=torch.stack(labels),
        regions=torch.stack(regions) if regions else torch.zeros(0, *images[0].shape, dtype=torch.int16),
        ct=torch.tensor([piece["ct"] for piece in pieces]),
        spacing=torch.tensor([piece["spacing"] for piece in pieces]),
        objects=torch.tensor(objects, dtype=torch.int64).view(-1, 9),
        origin=torch.tensor(origins, dtype=torch.int64),
        sizes=torch.tensor(sizes, dtype=torch.int64),
        cells=torch.from_numpy(np.array(cells, np.int64).reshape(-1, _SOME_CELLS, 3)),
        hollow=torch.tensor(hollow, dtype=torch.bool),
        names=tuple(piece["name"] for piece in pieces),
        groups=tuple(piece["group"] for piece in pieces),
    )


def _objects(labels: np.ndarray) -> Iterable[tuple[list[int], np.ndarray]]:
    """Value, lowest and highest cell of each object that is large enough, and its cells (K, 3)."""
    for value, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        if box is not None:
            inside = np.argwhere(labels[box] == value) + [part.start for part in box]
            if len(inside) >= _LEAST_CELLS:
                yield [value, *(part.start for part in box), *(part.stop - 1 for part in box)], inside


def _resampled(volume: SourceVolume) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Image int16, labels uint8 and what lies in the volume, each (128, 128, 128), and the side of a cell in mm."""
    spacing, shape = np.asarray(volume.spacing, dtype=float), np.array(volume.array.shape)
    cell = max(float(spacing.min()), float((shape * spacing).max() / SIDE))
    zoom = spacing / cell
    size = np.minimum(np.round(shape * zoom).astype(int), SIDE)
    places = [(np.arange(n) + 0.5) / z - 0.5 for n, z in zip(size, zoom, strict=True)]
    smooth = ndimage.gaussian_filter(volume.array.astype(np.float32), np.maximum(0, (1 / zoom - 1) / 2))
    grid = np.meshgrid(*places, indexing="ij")
    image = ndimage.map_coordinates(smooth, grid, order=1, mode="nearest")
    labels = ndimage.map_coordinates(volume.labels.astype(np.int32), grid, order=0, mode="nearest")
    if labels.max(initial=0) > 255:
        raise TrainingError(f"{volume.name} has the label {labels.max()}, at most 255 are packed")
    if not volume.ct:
        low, high = np.percentile(image, (0.5, 99.5))
        image = np.clip((image - low) / max(float(high - low), 1e-6) * 2000 - 1000, -1000, 1000)
    image = np.clip(image, *_RANGE).round().astype(np.int16) // _STEP * _STEP
    padding = [((SIDE - n) // 2, SIDE - n - (SIDE - n) // 2) for n in size]
    valid = np.pad(np.ones(size, bool), padding)
    return np.pad(image, padding, mode="edge"), np.pad(labels, padding).astype(np.uint8), valid, cell


def _grey_regions(image: np.ndarray, valid: np.ndarray, *, seed: int) -> np.ndarray:
    """(128, 128, 128) int16: connected pieces of similar shade, as objects that need no labels."""
    random = np.random.default_rng(seed)
    low, high = np.percentile(image[valid], (1, 99))
    smooth = ndimage.gaussian_filter(np.clip(image, low, high).astype(np.float32), random.uniform(0.6, 1.6))
    count = int(random.integers(6, 16))
    ends = np.quantile(smooth[valid], random.uniform(0.05, 0.95, count // 2))
    shades = np.digitize(smooth, np.sort(np.concatenate([ends, random.uniform(low, high, count - count // 2)])))
    found, number = np.zeros(image.shape, np.int16), 0
    for shade in np.unique(shades):
        pieces, _ = ndimage.label(ndimage.binary_opening((shades == shade) & valid))
        sizes = np.bincount(pieces.ravel())
        kept = np.flatnonzero((sizes >= _REGION_CELLS[0]) & (sizes <= _REGION_CELLS[1]))
        kept = kept[kept > 0]
        kept = kept[np.argsort(-sizes[kept])][:_REGIONS]
        numbers = np.zeros(len(sizes), np.int16)
        numbers[kept] = number + 1 + np.arange(len(kept))
        found = np.where(numbers[pieces] > 0, numbers[pieces], found)
        number += len(kept)
    return found
