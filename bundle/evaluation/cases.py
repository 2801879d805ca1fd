"""What is evaluated: labelled images, slices or volumes, each opened when its turn comes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from bundle.data.dataset_files import read_image
from bundle.data.grid import check_grid
from bundle.data.labelled_slices import LabelledSlice
from bundle.data.volume import Volume, read_label
from bundle.errors import VolumeError
from bundle.evaluation.figures import Scene
from bundle.evaluation.protocols import central_slice
from bundle.evaluation.statistics import Record, group_by
from bundle.evaluation.stored_prompts import prompt_from_json
from bundle.interactive.slice_model import SliceView
from bundle.prompts.on_slices import prompt_on_slice
from bundle.transforms.contract import Contract, Intensity
from bundle.transforms.frames import SliceFrame


class Case(ABC):
    """A labelled image.

    Attributes:
        patient: who it shows.
        labels: (H, W) or (I, J, K) integer label map.
        spacing: size of a pixel along the axes of `labels`, in the unit of distance.
        annotated: label values that somebody looked for; None for all of the data set's.
    """

    patient: str
    labels: np.ndarray
    spacing: tuple[float, ...]
    annotated: tuple[int, ...] | None

    @abstractmethod
    def objects(self, organs: Mapping[int, str]) -> Iterator[tuple[int, str]]:
        """Label and name of those of `organs` that are prompted for here."""

    @abstractmethod
    def place(self, mask: np.ndarray) -> dict[str, int]:
        """Which slice is shown of an object with this mask: of a volume `slice`, of a slice nothing."""

    @abstractmethod
    def section(self, array: np.ndarray, place: Mapping[str, Any]) -> np.ndarray:
        """(H, W) of an array on the grid of the labels, at a `place`, which may also be a record with it."""

    @abstractmethod
    def scene(self, label: int, place: Mapping[str, Any]) -> Scene:
        """The object of a label as a report shows it."""

    def looked_for(self, organs: Mapping[int, str]) -> dict[str, int]:
        """Name -> label of the organs that somebody looked for."""
        return {name: label for label, name in organs.items() if self.annotated is None or label in self.annotated}


Cases = Mapping[str, Callable[[], Case]]
"""By key, what opens each, so that one volume at a time is in memory."""


class SliceCase(Case):
    """A labelled slice.

    Args:
        item: the slice.
        pixels_of: distances are in pixels of a picture with this longer side; None is millimetres.
    """

    def __init__(self, item: LabelledSlice, *, pixels_of: float | None = 256.0) -> None:
        self.patient, self.labels, self.annotated = item.patient, item.labels, item.annotated
        self.ids, self.pixel_spacing = item.ids, item.pixel_spacing
        self.view = SliceView(item.picture, item.intensity, item.pixel_spacing)
        self.item = item
        pixel = None if pixels_of is None else pixels_of / max(item.labels.shape)
        self.spacing = item.pixel_spacing if pixel is None else (pixel, pixel)

    def objects(self, organs: Mapping[int, str]) -> Iterator[tuple[int, str]]:
        """Those that the slice offers: not below its `min_pixels`."""
        return ((label, organs[label]) for label in self.ids if label in organs)

    def place(self, mask: np.ndarray) -> dict[str, int]:
        """Nothing: there is one slice."""
        return {}

    def section(self, array: np.ndarray, place: Mapping[str, Any]) -> np.ndarray:
        """The array."""
        return array

    def picture(self) -> np.ndarray:
        """The slice as a person sees it: (H, W) or (H, W, 3) uint8 by the intensity view of highest contrast."""
        return _as_shown(self.view.picture, self.view.intensity)

    def scene(self, label: int, place: Mapping[str, Any]) -> Scene:
        """The whole slice."""
        aspect = self.pixel_spacing[0] / self.pixel_spacing[1]
        return Scene(self.picture(), self.labels == label, aspect=aspect)


class VolumeCase(Case):
    """A labelled volume, whose distances are in millimetres.

    Args:
        patient: who it shows.
        image: the volume.
        labels: its label map, on the same grid.
        contract: of the model, which gives the intensities that are shown.
        axis: array axis that its slices are stacked along.
        annotated: label values that somebody looked for; None for all.
    """

    def __init__(
        self,
        patient: str,
        image: Volume,
        labels: Volume,
        *,
        contract: Contract,
        axis: int = 2,
        annotated: tuple[int, ...] | None = None,
    ) -> None:
        self.patient, self.image, self.labels, self.annotated = patient, image, labels.array, annotated
        self.contract, self.axis, self.spacing = contract, axis, image.spacing
        self.frame = SliceFrame.along(image.shape, image.affine, axis)

    @classmethod
    def read(cls, item: Mapping[str, Any], *, contract: Contract, axis: int = 2) -> VolumeCase:
        """An item of a dataset layout.

        Raises:
            VolumeError: it cannot be read, or the labels do not lie on the image.
        """
        image = read_image(item)
        labels = check_grid(image, read_label(item["label"]))
        annotated = None if item.get("labelled") is None else tuple(item["labelled"])
        return cls(str(item["patient"]), image, labels, contract=contract, axis=axis, annotated=annotated)

    def objects(self, organs: Mapping[int, str]) -> Iterator[tuple[int, str]]:
        """Those that the label map has."""
        return ((label, organ) for label, organ in organs.items() if (self.labels == label).any())

    def place(self, mask: np.ndarray) -> dict[str, int]:
        """The slice that holds the object's middle voxel."""
        return {"slice": central_slice(mask, self.axis)}

    def section(self, array: np.ndarray, place: Mapping[str, Any]) -> np.ndarray:
        """The array on that slice."""
        return self.frame.extract(array, place["slice"])

    def scene(self, label: int, place: Mapping[str, Any]) -> Scene:
        """The slice, with what lies on it of a prompt."""
        intensity = self.contract.intensity(self.image.array, self.image.modality)
        height, width = self.frame.pixel_spacing(self.image.spacing)
        return Scene(
            _as_shown(self.section(self.image.array, place), intensity),
            self.section(self.labels, place) == label,
            aspect=height / width,
            prompt=lambda stored: prompt_on_slice(prompt_from_json(stored), self.frame, place["slice"]),
        )


def scenes_of(cases: Cases, records: Iterable[Record], *, organs: Mapping[int, str]) -> dict[str, Scene]:
    """What `report.overlays_of` shows: `"key organ"` -> slice and object. Each case is opened once.

    Args:
        cases: as those of the run.
        records: of the objects to show; those of other cases are left out.
        organs: label -> name.
    """
    labels = {name: label for label, name in organs.items()}
    scenes = {}
    by_case = group_by((record for record in records if record["key"] in cases), lambda record: record["key"])
    for key, chosen in tqdm(by_case.items(), desc="reading cases to show", leave=False):
        case = cases[key]()
        scenes |= {f"{key} {r['organ']}": case.scene(labels[r["organ"]], r) for r in chosen}
    return scenes


def _as_shown(picture: np.ndarray, intensity: Intensity) -> np.ndarray:
    """Intensities (H, W) or (H, W, 3) as uint8 by the view of highest contrast."""
    narrowest = min(intensity, key=lambda view: view.high - view.low)
    return narrowest.apply(picture).astype(np.uint8)


# ---- lists of cases -------------------------------------------------------------------------------------------------


def slice_cases(
    items: Iterable[LabelledSlice], *, pixels_of: float | None = 256.0, unreadable: Iterable[tuple[str, str]] = ()
) -> Cases:
    """By key; pictures of one patient may share theirs.

    Args:
        items: the slices.
        pixels_of: see `SliceCase`.
        unreadable: key and reason of what could not be read (`Pool`): cases that do not open.
    """
    slices = ((item.key, partial(SliceCase, item, pixels_of=pixels_of)) for item in items)
    return _numbered([*slices, *((key, partial(_refuse, reason)) for key, reason in unreadable)])


def _refuse(reason: str) -> Case:
    raise VolumeError(reason)


def volume_cases(items: Iterable[Mapping[str, Any]], *, contract: Contract, axis: int = 2) -> Cases:
    """The labelled items of a dataset layout, by patient and name of the file; several scans may have the same."""
    labelled = (item for item in items if item.get("label"))
    read = partial(VolumeCase.read, contract=contract, axis=axis)
    return _numbered((f"{item['patient']}/{Path(item['image']).name}", partial(read, item)) for item in labelled)


def _numbered(cases: Iterable[tuple[str, Callable[[], Case]]]) -> Cases:
    """By key; one that was there before gets its number: "ct#2"."""
    times: dict[str, int] = {}
    found = {}
    for key, open_case in cases:
        times[key] = times.get(key, 0) + 1
        found[key if times[key] == 1 else f"{key}#{times[key]}"] = open_case
    return found


def slices_identity(slices: Iterable[LabelledSlice], unreadable: Iterable[tuple[str, str]] = ()) -> str:
    """sha256 of everything that is shown and scored, and of the keys of what could not be read."""
    digest = hashlib.sha256()
    for key, _ in unreadable:
        digest.update(f"without {key} ".encode())
    for item in slices:
        digest.update(f"{item.key} {item.patient} {item.pixel_spacing} {item.picture.shape}".encode())
        digest.update(np.ascontiguousarray(item.picture))
        digest.update(np.ascontiguousarray(item.labels))
    return digest.hexdigest()


def volumes_identity(items: Sequence[Mapping[str, Any]], keys: Iterable[str], axis: int) -> str:
    """sha256 of the axis, the names of the volumes and the sizes of their files; of labelled items.

    Reading them all would cost as much as evaluating them; their times would make a copy of the data another one.
    """
    sizes = [
        f"{_bytes_of(item['image'])} {_bytes_of(item['label'])}"
        f"{item.get('series') or ''} {item.get('read_as') or ''}".strip()
        for item in items
    ]
    return hashlib.sha256("\n".join([f"axis {axis}", *keys, *sizes]).encode()).hexdigest()


def _bytes_of(place: str | Path) -> int:
    """Of a file, or of all files of a folder of DICOM."""
    return sum(path.stat().st_size for path in (Path(place), *Path(place).rglob("*")) if path.is_file())
