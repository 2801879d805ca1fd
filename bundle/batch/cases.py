"""The cases of a batch run: what an image and its prompts hold, with boxes drawn from a label map."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import IterableDataset

from bundle.batch.case_files import CaseFiles
from bundle.batch.claims import Claims
from bundle.batch.prompt_table import is_table, prompts_of
from bundle.data.formats.dicom import is_dicom
from bundle.data.grid import check_grid
from bundle.data.volume import Volume, read_label, read_volume
from bundle.errors import CaseError, MonaiSamError, SeriesError
from bundle.files import read_json
from bundle.prompts.prompts import ObjectPrompts, read_prompts
from bundle.prompts.simulation import shift_box, tight_box

DIMENSIONS = (2, 3)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Case:
    """One image with what is asked of it.

    Attributes:
        files: where it was read from.
        image: the volume.
        prompts: at least one; several with the same `label` ask for parts (slices) of one object.
        truth: label map on the grid of the image, or None.
    """

    files: CaseFiles
    image: Volume
    prompts: list[ObjectPrompts]
    truth: Volume | None = None


@dataclass(frozen=True)
class FailedCase:
    """A case that could not be read or answered.

    Attributes:
        files: which one.
        reason: why, in a sentence.
    """

    files: CaseFiles
    reason: str


@dataclass(frozen=True)
class ReadCase:
    """Reads a case; the transform of the dataset.

    Attributes:
        dimension: of boxes drawn from a label: 3, one box around each object, or 2, one on each of its slices.
        axis: stored axis that slices are stacked along.
        shift: voxels by which the sides of those boxes move outward within their slices.
        names: name -> value in the label map, or a JSON file of that; None takes the names that the label map has
            (DICOM SEG), or every value as `label_<value>`.
        modality: overrules what the image file says, see `read_volume`.
        series: which series and scan of a DICOM image, see `read_volume`.
    """

    dimension: int = 3
    axis: int = 2
    shift: float = 0.0
    names: Mapping[str, int] | str | Path | None = None
    modality: str | None = None
    series: str | None = None

    def __call__(self, files: CaseFiles) -> Case:
        """Read image, label map and prompts; where there is no prompts file, draw boxes from the label map.

        Raises:
            CaseError: the label map shows nothing to ask for.
            VolumeError, PromptError: a file that cannot be used, or a label map that does not lie on its image.
        """
        image = self._read_image(files.image)
        if self.modality is None and not _states_modality(files.image):
            _log.warning("%s: taken for %s, by its values; --modality says otherwise", files.name, image.modality)
        truth = None if files.label is None else check_grid(image, read_label(files.label))
        if files.prompts is not None:
            return Case(files, image, _prompts_of(files, image), truth)
        named = {segment.name: segment.value for segment in truth.segments} or None
        names = label_names(named if self.names is None else self.names, truth.array)
        boxes = boxes_of_label(truth.array, names, dimension=self.dimension, axis=self.axis, shift=self.shift)
        if not boxes:
            raise CaseError(f"{files.label} shows none of {', '.join(names) or 'its labels'}; there is nothing to ask")
        return Case(files, image, boxes, truth)

    def _read_image(self, path: Path) -> Volume:
        try:
            return read_volume(path, modality=self.modality, series=self.series and str(self.series))
        except SeriesError as error:
            raise CaseError(error.asked_with("--series")) from error


def _prompts_of(files: CaseFiles, image: Volume) -> list[ObjectPrompts]:
    if is_table(files.prompts):
        return prompts_of(files.prompts, files.name)
    return read_prompts(files.prompts, picture=image.shape[2] == 1)


@dataclass(frozen=True)
class GoOn:
    """Reads a case, and gives a `FailedCase` where that cannot be: one bad file of many must not end the run.

    Attributes:
        read: a `ReadCase`.
    """

    read: Callable[[CaseFiles], Case]

    def __call__(self, files: CaseFiles) -> Case | FailedCase:
        """Read a case; errors that are not about its files are raised."""
        try:
            return self.read(files)
        except BAD_CASE as error:
            return failed(files, error)


class OwnCases(IterableDataset):
    """The cases of a run that this worker gets hold of, each held until the next one is asked for.

    Gives a `Case`, a `FailedCase`, or the `CaseFiles` alone of a case that another worker has.

    Args:
        data: as `find_cases` gives them.
        claims: who does which.
        transform: reads a case, such as `GoOn`.

    Raises:
        RunStateError, CaseError: see `Claims.pending`.
    """

    def __init__(
        self, data: Sequence[CaseFiles], claims: Claims, transform: Callable[[CaseFiles], Case | FailedCase]
    ) -> None:
        self.data, self.claims, self.transform = claims.pending(data), claims, transform

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Case | FailedCase | CaseFiles]:
        for files in self.data:
            with self.claims.taken(files) as is_mine:
                yield self.transform(files) if is_mine else files


BAD_CASE = (MonaiSamError, OSError, MemoryError)
"""What a bad file, or prompts that do not fit it, may raise."""


def failed(files: CaseFiles, error: BaseException) -> FailedCase:
    """A case that an error ended."""
    return FailedCase(files, "it needs more memory than there is" if isinstance(error, MemoryError) else str(error))


def _states_modality(image: Path) -> bool:
    """DICOM says what made the picture."""
    return image.suffix != ".zarr" if image.is_dir() else is_dicom(image)


def label_names(names: Mapping[str, int] | str | Path | None, labels: np.ndarray) -> dict[str, int]:
    """Name -> value: what was given, or `label_<value>` for every value above 0 in the label map."""
    if names is None:
        return {f"label_{value}": int(value) for value in np.unique(labels) if value > 0}
    if not isinstance(names, Mapping):
        try:
            names = read_json(Path(str(names)))
        except (OSError, ValueError) as error:
            raise CaseError(f'names must be a JSON file like {{"liver": 1}}, {names} is not: {error}') from error
    if not isinstance(names, Mapping) or not all(type(value) is int and value > 0 for value in names.values()):
        raise CaseError(f"names must map each name to a whole number of at least 1, got {names!r}")
    return dict(names)


def boxes_of_label(
    labels: np.ndarray, names: Mapping[str, int], *, dimension: int = 3, axis: int = 2, shift: float = 0.0
) -> list[ObjectPrompts]:
    """Box prompts around the objects of a label map; objects that it does not show get none.

    Args:
        labels: (I, J, K) integers.
        names: name -> value.
        dimension: 3, one box for each object; 2, one for each object and slice, one voxel thick.
        axis: stored axis that slices are stacked along.
        shift: voxels by which the sides of a box move outward (inward where negative) within its slices; the range of
            slices stays.

    Raises:
        CaseError: on another dimension or axis.
    """
    if dimension not in DIMENSIONS or axis not in (0, 1, 2):
        raise CaseError(f"dimension must be 2 or 3 and axis 0, 1 or 2, got {dimension!r} and {axis!r}")
    prompts = []
    for name, value in names.items():
        mask = labels == value
        around = tight_box(mask).reshape(2, 3).astype(int) if mask.any() else None
        if around is None:
            continue
        first, last = (int(index) for index in around[:, axis])
        ranges = [(first, last)] if dimension == 3 else [(k, k) for k in range(first, last + 1)]
        for low, high in ranges:
            part = mask[tuple(slice(low, high + 1) if other == axis else slice(None) for other in range(3))]
            if part.any():
                prompts.append(ObjectPrompts(box=_box(part, axis, low, high, shift), name=name, label=value))
    return prompts


def _box(part: np.ndarray, axis: int, low: int, high: int, shift: float) -> np.ndarray:
    """(2, 3) corners around a part of the volume that spans the slices `low` to `high`."""
    corners = shift_box(tight_box(part), shift, part.shape).reshape(2, 3)
    corners[:, axis] = low, high
    return corners
