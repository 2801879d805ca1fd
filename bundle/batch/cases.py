"""The cases of a batch run: what an image and its prompts hold, with boxes drawn from a label map."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset

from bundle.batch.case_files import CaseFiles
from bundle.batch.claims import Claims
from bundle.batch.prompt_table import is_table, prompts_of
from bundle.data.grid import check_grid
from bundle.data.headers.dicom import is_dicom
from bundle.data.volume import Volume, read_label, read_volume
from bundle.errors import CaseError, MonaiSamError, SeriesError
from bundle.files import read_json_object
from bundle.prompts.label_boxes import VolumeBoxesd, names_of_values
from bundle.prompts.prompts import LARGEST_LABEL, ObjectPrompts, read_prompts

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
        boxes: draws box prompts from the label map where there is no prompts file: ``label`` (1, I, J, K) and ``names``
            in, ``prompts`` out.
        names: name -> value in the label map, or a JSON file of that; None takes the names that the label map has
            (DICOM SEG), or every value as `label_<value>`.
        modality: overrules what the image file says, see `read_volume`.
        series: which series and scan of a DICOM image, see `read_volume`.
    """

    boxes: Callable[[Mapping[str, Any]], Mapping[str, Any]] = field(default_factory=lambda: VolumeBoxesd("label"))
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
        boxes = self.boxes({"label": truth.array[None], "names": names})["prompts"]
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
        return prompts_of(files.prompts, files.image)
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
    """Name -> value: what was given, or `label_<value>` for every value above 0 in the label map.

    Raises:
        CaseError: a file that cannot be read, or what is in it maps no names to values of a label map.
    """
    if names is None:
        return names_of_values(labels)
    what = "the names"
    if not isinstance(names, Mapping):
        what = f"the names file {names}"
        names = read_json_object(Path(str(names)), what, CaseError)
    if not isinstance(names, Mapping) or not names:
        raise CaseError(f'{what} must map names to values, as {{"liver": 1}}, got {names!r:.80}')
    for name, value in names.items():
        if type(value) is not int or not 0 < value <= LARGEST_LABEL:
            raise CaseError(
                f"{what} must map {name!r:.80} to a whole number of at least 1 and below 2**32, got {value!r:.80}"
            )
    return dict(names)
