"""The cases of a batch run: which image goes with which prompts, read from files, with boxes drawn from a label."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bundle.data.formats.choice import ending_of
from bundle.data.formats.dicom import is_dicom
from bundle.data.grid import check_grid
from bundle.data.image_files import images_or_series
from bundle.data.volume import ENDINGS, LARGEST_LABEL, Volume, read_label, read_volume
from bundle.errors import CaseError, MonaiSamError, SeriesError
from bundle.files import read_json
from bundle.prompts.label_boxes import DIMENSIONS as DIMENSIONS
from bundle.prompts.label_boxes import VolumeBoxesd, names_of_values
from bundle.prompts.prompts import ObjectPrompts, read_prompts

# In a folder of images, a DICOM series is a folder of its own.
_IMAGE_ENDINGS = tuple(ending for ending in ENDINGS if ending != ".dcm")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case; `name` is that of its results."""

    name: str
    image: Path
    prompts: Path | None = None
    label: Path | None = None


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


# ---- which files ----------------------------------------------------------------------------------------------------


def find_cases(
    image: str | Path | Sequence[str | Path] | None,
    *,
    prompts: str | Path | None = None,
    label: str | Path | None = None,
    done_in: str | Path | None = None,
) -> list[CaseFiles]:
    """Pair images with their prompts files and label maps.

    Args:
        image: a volume (file, or folder of one DICOM series), a list of them, or a folder of volume files; of a folder
            see `bundle.data.image_files`.
        prompts: the prompts file of the image; of several images, a folder of `<image>.json`.
        label: the label map of the image; of several images, a folder of files with the image's name, with or
            without its `_0000` (nnU-Net, FLARE22).
        done_in: leave out the cases that already have their results in this folder: a JSON without an error.

    Raises:
        CaseError: nothing to segment, nothing to ask, a partner that is missing, or two images of one name.
    """
    images = _images(image)
    if prompts is None and label is None:
        raise CaseError(
            "expected prompts or a label to draw boxes from, got neither; "
            "add --prompts prompts.json or --label labels.nii.gz"
        )
    several = len(images) > 1
    cases = [
        CaseFiles(
            name=_stem(path),
            image=path,
            prompts=_partner(prompts, path, "prompts", several=several),
            label=_partner(label, path, "label", several=several),
        )
        for path in images
    ]
    _check_names(cases)
    return [case for case in cases if done_in is None or not _is_done(Path(str(done_in), f"{case.name}.json"))]


def _is_done(report: Path) -> bool:
    if not report.is_file():
        return False
    try:
        return "error" not in read_json(report)
    except (OSError, ValueError):  # of a run that was killed while it wrote, by a version that did so in place
        return False


def _images(image: str | Path | Sequence[str | Path] | None) -> list[Path]:
    if image is None:
        raise CaseError("expected an image, got none; add --image volume.nii.gz, a folder of volumes or a DICOM folder")
    if isinstance(image, Sequence) and not isinstance(image, str):
        return [path for entry in image for path in _images(entry)]
    path = Path(str(image))
    if not path.exists():
        raise CaseError(f"there is no image {path}; give a volume, a folder of volumes or a DICOM folder")
    if path.is_file() or path.suffix == ".zarr":
        return [path]
    return images_or_series(path, _IMAGE_ENDINGS)


def _partner(given: str | Path | None, image: Path, what: str, *, several: bool) -> Path | None:
    """The prompts file or label map of an image."""
    if given is None:
        return None
    path = Path(str(given))
    if not path.exists():
        raise CaseError(f"there is no {what} {path}")
    if path.is_file() and not several:
        return path
    if path.is_file():
        raise CaseError(f"expected a folder of {what} files for several images, got the file {path}")
    endings = (".json",) if what == "prompts" else ENDINGS
    stems = dict.fromkeys((_stem(image), _stem(image).removesuffix("_0000")))
    found = [path / f"{stem}{ending}" for stem, ending in product(stems, endings)]
    if existing := [file for file in found if file.exists()]:
        return existing[0]
    raise CaseError(f"no {what} for {image.name} in {path}; expected a file like {found[0].name}")


def _stem(path: Path) -> str:
    name = path.resolve().name
    return name[: len(name) - len(ending_of(Path(name)))]


def _check_names(cases: Sequence[CaseFiles]) -> None:
    seen: dict[str, CaseFiles] = {}
    for case in cases:
        if case.name in seen:
            other = seen[case.name].image
            raise CaseError(f"{other} and {case.image} would write results of one name; run them one after the other")
        seen[case.name] = case


# ---- what is in them ------------------------------------------------------------------------------------------------


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
            return Case(files, image, read_prompts(files.prompts, picture=image.shape[2] == 1), truth)
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
        try:
            names = read_json(Path(str(names)))
        except OSError as error:
            raise CaseError(f"{what} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise CaseError(f'{what} must be a JSON file like {{"liver": 1}}: {error}') from error
    if not isinstance(names, Mapping) or not names:
        raise CaseError(f'{what} must map names to values, as {{"liver": 1}}, got {names!r:.80}')
    for name, value in names.items():
        if type(value) is not int or not 0 < value <= LARGEST_LABEL:
            raise CaseError(
                f"{what} must map {name!r:.80} to a whole number of at least 1 and below 2**32, got {value!r:.80}"
            )
    return dict(names)
