"""What an audit knows of one labelled image: read once, and kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np

from bundle.data.dataset_files import read_image
from bundle.data.datasets import Item
from bundle.data.grid import check_grid
from bundle.data.labels import count_labels
from bundle.data.prepare import write_json
from bundle.data.volume import Volume, VolumeError, read_label
from bundle.files import read_json

_FORMAT = 1  # of the files; another number makes existing ones stale
PERCENTILES = (1, 50, 99)
SIDE, SLABS = 16, 3  # of a thumbnail: pixels of a side; parts that a volume is averaged in from its lowest slice up


@dataclass(frozen=True)
class Facts:
    """A labelled image as it was found; ``error`` says why it cannot be used, and then nothing else is known.

    Attributes:
        key, patient: of the item.
        image, label: its files.
        error: what reading said.
        shape: (I, J, K).
        spacing: (i, j, k) in mm.
        modality: CT, other or windowed.
        is_color: whether voxels are red, green and blue.
        lowest, highest: intensities.
        percentiles: the 1st, 50th and 99th.
        digest: sha256 of the voxels in RAS+ order, whatever type and order of axes they are stored in.
        thumbnail: intensities of the image shrunk to ``SIDE`` x ``SIDE``, of a volume ``SLABS`` of them.
        objects: name -> voxels of the named labels that it shows.
        unnamed: value -> voxels of others.
    """

    key: str
    patient: str
    image: str
    label: str
    error: str | None = None
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    modality: str = ""
    is_color: bool = False
    lowest: float = 0.0
    highest: float = 0.0
    percentiles: tuple[float, ...] = ()
    digest: str = ""
    thumbnail: tuple[float, ...] = ()
    objects: dict[str, int] = field(default_factory=dict)
    unnamed: dict[str, int] = field(default_factory=dict)

    @property
    def is_picture(self) -> bool:
        """Whether it is one slice."""
        return 1 in self.shape


def facts_of(item: Item, key: str, path: Path) -> tuple[str, Facts]:
    """Read one item, or the file that was written about it where its files have not changed since.

    Args:
        item: labelled.
        key: its name.
        path: where what is found is kept; an image that cannot be read is tried again the next time.

    Returns:
        The key and the facts.
    """
    fingerprint = _fingerprint(item)
    if path.is_file() and (kept := read_json(path))["fingerprint"] == fingerprint:
        return key, Facts(**kept["facts"])
    about = {"key": key, "patient": str(item["patient"]), "image": str(item["image"]), "label": str(item["label"])}
    try:
        image = read_image(item)
        label = check_grid(image, read_label(item["label"]))
    except (VolumeError, OSError, MemoryError) as error:  # a finding of the audit, not its end
        return key, Facts(**about, error=str(error) or type(error).__name__)
    facts = Facts(**about, **_of_image(image), **_of_label(label, item))
    write_json(path, {"fingerprint": fingerprint, "facts": asdict(facts)})
    return key, facts


def _of_image(image: Volume) -> dict[str, object]:
    voxels = _in_ras(image).astype(np.float32)
    return {
        "shape": tuple(map(int, image.shape)),
        "spacing": tuple(round(float(side), 4) for side in image.spacing),
        "modality": image.modality,
        "is_color": image.is_color,
        "lowest": float(voxels.min()),
        "highest": float(voxels.max()),
        "percentiles": tuple(float(value) for value in np.percentile(voxels, PERCENTILES)),
        "digest": hashlib.sha256(f"{voxels.shape}".encode() + np.ascontiguousarray(voxels).tobytes()).hexdigest(),
        "thumbnail": _thumbnail(voxels),
    }


def _in_ras(image: Volume) -> np.ndarray:
    """The voxels with axes as near to right, anterior, superior as they can be: (I, J, K) or (I, J, K, 3)."""
    return nib.orientations.apply_orientation(image.array, nib.orientations.io_orientation(image.affine))


def _thumbnail(voxels: np.ndarray) -> tuple[float, ...]:
    grey = voxels.mean(axis=3) if voxels.ndim == 4 else voxels
    slabs = [grey.squeeze(grey.shape.index(1))] if 1 in grey.shape else _slabs(grey)
    small = [cv2.resize(np.ascontiguousarray(slab), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for slab in slabs]
    return tuple(round(float(value), 3) for value in np.stack(small).ravel())


def _slabs(grey: np.ndarray) -> list[np.ndarray]:
    """``SLABS`` means along the last axis; parts of a thin volume share slices."""
    edges = np.linspace(0, grey.shape[2], SLABS + 1)
    return [grey[:, :, int(a) : max(int(a) + 1, int(np.ceil(b)))].mean(axis=2) for a, b in pairwise(edges)]


def _of_label(label: Volume, item: Item) -> dict[str, object]:
    counts, names = count_labels(label.array), {value: name for name, value in item["labels"].items()}
    return {
        "objects": {names[value]: count for value, count in counts.items() if value in names},
        "unnamed": {str(value): count for value, count in counts.items() if value not in names},
    }


def _fingerprint(item: Item) -> str:
    files = [Path(item[part]) for part in ("image", "label")]
    state = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return hashlib.sha256(json.dumps((_FORMAT, item, state), sort_keys=True, default=str).encode()).hexdigest()
