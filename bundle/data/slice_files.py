"""How prepared slices lie on disk: one PNG each, or one zarr group per volume and plane with a chunk per slice.

Either way a slice is 8-bit, its label map has the same grid, and both keep the size of a pixel in mm.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.formats.medsam import write_zarr
from bundle.data.formats.picture import PICTURE_AFFINE
from bundle.data.slices import SliceEntry
from bundle.data.volume import Volume, write_label, write_volume
from bundle.transforms.contract import Intensity

Record = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ChosenSlices:
    """The slices of one volume that are kept.

    Attributes:
        key: name of the volume, from which its files get theirs.
        image: the volume.
        intensity: the contract's views of it.
        labelled: label values that somebody looked for in it.
        entries: the slices.
    """

    key: str
    image: Volume
    intensity: Intensity
    labelled: Sequence[int]
    entries: Sequence[SliceEntry]

    def picture(self, entry: SliceEntry) -> np.ndarray:
        """(H, W) or (H, W, 3) uint8."""
        return eight_bit(entry.frame.extract(self.image.array, entry.index), self.intensity)

    def spacing(self, entry: SliceEntry) -> tuple[float, float, float]:
        """(x, y, z) mm of the slice as a volume of its own; z is 1, its neighbours may not have been kept."""
        dy, dx = entry.frame.pixel_spacing(self.image.spacing)
        return float(dx), float(dy), 1.0

    def describe(self, entry: SliceEntry) -> Record:
        """What the data list says about a slice."""
        return {
            "labelled": [value for value in self.labelled if value not in entry.lost],
            "plane": entry.frame.plane,
            "index": entry.index,
            "pixel_spacing": list(entry.frame.pixel_spacing(self.image.spacing)),
            "boxes": {str(value): list(box) for value, box in entry.boxes.items()},
            "pixels": {str(value): count for value, count in entry.pixels.items()},
        }


def store_png(chosen: ChosenSlices, output: Path) -> Iterator[Record]:
    """Write ``images/`` and ``labels/``, one PNG per slice; yield an entry of the data list for each."""
    for entry in chosen.entries:
        name = f"{chosen.key}_{entry.frame.plane}_{entry.index:04d}.png"
        affine = PICTURE_AFFINE @ np.diag([*chosen.spacing(entry), 1.0])
        picture = Volume(chosen.picture(entry).swapaxes(0, 1)[:, :, None], affine, "windowed")
        write_volume(picture, output / "images" / name)
        write_label(entry.labels.T[:, :, None], picture, output / "labels" / name)
        yield {"image": f"images/{name}", "label": f"labels/{name}", **chosen.describe(entry)}


def store_zarr(chosen: ChosenSlices, output: Path) -> Iterator[Record]:
    """Write ``slices/``, one group per plane; yield an entry of the data list for each."""
    for plane in dict.fromkeys(entry.frame.plane for entry in chosen.entries):
        entries = [entry for entry in chosen.entries if entry.frame.plane == plane]
        name = f"slices/{chosen.key}_{plane}.zarr"
        arrays = {
            "imgs": np.stack([chosen.picture(entry) for entry in entries]),
            "gts": np.stack([entry.labels for entry in entries]),
        }
        slices = [chosen.describe(entry) for entry in entries]
        _replace_folder(output / name, arrays, spacing=chosen.spacing(entries[0]), slices=slices)
        yield {"image": name, "label": name, "plane": plane, "labelled": chosen.labelled, "slices": slices}


STORAGES: dict[str, Callable[[ChosenSlices, Path], Iterator[Record]]] = {"png": store_png, "zarr": store_zarr}


def eight_bit(picture: np.ndarray, intensity: Intensity) -> np.ndarray:
    """A slice as uint8, (H, W) of one view or (H, W, 3), rounded down as the contract does.

    Args:
        picture: (H, W) intensities, or (H, W, 3) colour, each channel of which goes through the view.
        intensity: the contract's views of the volume.
    """
    if picture.ndim == 3:
        views = intensity if len(intensity) == 3 else intensity * 3
        return np.stack([view.apply(picture[..., i]) for i, view in enumerate(views)], axis=-1).astype(np.uint8)
    channels = [view.apply(picture).astype(np.uint8) for view in intensity]
    return channels[0] if len(channels) == 1 else np.stack(channels, axis=-1)


def _replace_folder(path: Path, arrays: Mapping[str, np.ndarray], **attributes: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        write_zarr(Path(folder, path.name), arrays, **attributes)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(Path(folder, path.name), path)
