"""What the dataset layouts share: pairs of image and label, who an image shows, and the items made of both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from bundle.data.image_files import image_files
from bundle.data.volume import ENDINGS, Volume, read_label, read_segments, read_volume
from bundle.errors import LayoutError, SeriesError, VolumeError
from bundle.files import read_json_object
from bundle.prompts.prompts import LARGEST_LABEL

Item = dict[str, Any]
# Formats that hold one slice.
_SLICES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".dcm")


def make_item(
    image: Path, label: Path | None, patient: str, names: Mapping[str, int], *, labelled: Sequence[int] | None = None
) -> Item:
    """An item as ``bundle.data.datasets`` describes it; without ``labelled`` a label file annotates all its names."""
    if labelled is None:
        labelled = sorted(names.values()) if label else []
    return {
        "image": str(image),
        "label": str(label) if label else None,
        "patient": patient,
        "labels": dict(names),
        "labelled": [int(value) for value in labelled],
    }


def of_kind(value: Any, kinds: type | tuple[type, ...], what: str, expected: str) -> Any:
    """A value of a JSON file, as it is.

    Args:
        value: of the file.
        kinds: the types that it may have.
        what: its name in a message, with the file.
        expected: what it must be.

    Raises:
        LayoutError: it has another type.
    """
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise LayoutError(f"{what} must be {expected}, got {value!r:.80}")
    return value


def label_of(value: Any, what: str) -> int:
    """A value of a label map, as JSON has it: a whole number (1.0, as NumPy's users write it, is one), or its digits.

    Raises:
        LayoutError: it is none.
    """
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    is_number = type(value) is int or (isinstance(value, str) and re.fullmatch(r"[0-9]{1,20}", value))
    if not is_number or not 0 <= int(value) <= LARGEST_LABEL:
        raise LayoutError(f"{what} must be a whole number from 0 and below 2**32, got {value!r:.80}")
    return int(value)


def names_listed(labels: Any, path: Path) -> dict[str, int]:
    """Name -> value of the ``labels`` of a ``dataset.json``, without the background (0).

    The Decathlon, MONAI and nnU-Net 1 map values to names, nnU-Net 2 names to values.

    Raises:
        LayoutError: they do neither, a name has two values, or nnU-Net's values are regions (lists of values): those
            overlap, a label map cannot hold them.
    """
    what = f"labels of {path}"
    of_kind(labels, Mapping, what, 'an object, as {"1": "liver"} or {"liver": 1}')
    if any(isinstance(value, list) for value in labels.values()):
        raise LayoutError(f"{path} defines regions, expected one value per label; list the parts")
    is_by_value = all(key.isdigit() and isinstance(value, str) for key, value in labels.items())
    names: dict[str, int] = {}
    for name, number in ((value, key) if is_by_value else (key, value) for key, value in labels.items()):
        number = label_of(number, f"the value of {name!r:.80} in {what}")
        if number and names.setdefault(name, number) != number:
            raise LayoutError(f"{what} give {name!r:.80} two values, {names[name]} and {number}; rename one")
    return names


def checked_entry(entry: Any, what: str) -> dict[str, Any]:
    """An entry of a data list whose parts have their types; a path alone is an image.

    Raises:
        LayoutError: naming the part that is missing or has another type.
    """
    entry = {"image": entry} if isinstance(entry, str) else entry
    of_kind(entry, Mapping, what, 'a path or {"image": path, "label": path}')
    of_kind(entry.get("image"), str, f"image of {what}", "one path")
    of_kind(entry.get("label"), (str, type(None)), f"label of {what}", "one path")
    of_kind(entry.get("patient", ""), (str, int), f"patient of {what}", "a text or number")
    of_kind(entry.get("series"), (str, type(None)), f"series of {what}", "a text")
    values = of_kind(entry.get("labelled"), (list, type(None)), f"labelled of {what}", "a list of values")
    if values is not None:
        entry = {**entry, "labelled": [label_of(value, f"a value of labelled of {what}") for value in values]}
    return dict(entry)


def find_pairs(images: Path, labels: Path, *, unlabelled: bool) -> list[tuple[Path, Path | None]]:
    """Each image of a folder with the label of the same case.

    Raises:
        LayoutError: a folder is missing, a label has no image, or nothing is left.
    """
    if not labels.is_dir() and not unlabelled:
        raise LayoutError(f"expected label maps in {labels}, got no such folder")
    pairs = match(files_in(images), files_in(labels) if labels.is_dir() else [], unlabelled=unlabelled)
    return some(pairs, images)


def match(
    images: list[Path], labels: list[Path], *, unlabelled: bool, channel: int = 0
) -> list[tuple[Path, Path | None]]:
    """Each image with its label, which may carry the image's whole stem or leave its channel number out.

    Raises:
        LayoutError: a label has no image.
    """
    by_stem = {stem(path): path for path in labels}
    pairs = [(image, by_stem.pop(stem(image), None) or by_stem.pop(case(image, channel), None)) for image in images]
    if by_stem:
        orphan = next(iter(by_stem.values()))
        raise LayoutError(f"{len(by_stem)} labels have no image, first {orphan}; rename one of the two")
    return [pair for pair in pairs if unlabelled or pair[1]]


def files_in(folder: Path) -> list[Path]:
    """The images or label maps of a folder, by name.

    Raises:
        LayoutError: there is no such folder.
    """
    if not folder.is_dir():
        raise LayoutError(f"expected images in {folder}, got no such folder")
    return image_files(folder)


def stem(path: Path) -> str:
    """The name without the ending of its format; other dots, as those of a UID, stay."""
    endings = (*ENDINGS, ".zarr")
    ending = next((ending for ending in endings if path.name.lower().endswith(ending)), "")
    return path.name[: len(path.name) - len(ending)]


def case(path: Path, channel: int = 0) -> str:
    """The stem without nnU-Net's channel number."""
    return stem(path).removesuffix(f"_{channel:04d}")


def patient_of(image: Path, pattern: str | None, *, channel: int = 0) -> str:
    """Who an image shows: the first group of ``pattern`` on its stem, or without a pattern a volume's own name.

    Raises:
        LayoutError: the pattern does not match, or there is none for a slice: a guess would put one patient's slices
            into training and test.
    """
    if pattern is not None:
        found = re.match(pattern, stem(image))
        if not found:
            raise LayoutError(f"the patient pattern {pattern!r} does not match {stem(image)!r}; pass another patient=")
        return found.group(1)
    if image.name.lower().endswith(_SLICES):
        raise LayoutError(
            f"{image.name} is one slice, and nothing says whose; give `patient` in the data list, or for a folder "
            "patient=, a regular expression whose first group is the patient, '(.+)' where each shows another one"
        )
    return case(image, channel)


def read_image(item: Mapping[str, Any]) -> Volume:
    """The image of an item; its ``series`` chooses among several DICOM series or scans, ``read_as`` is its modality.

    Raises:
        VolumeError: it cannot be read.
    """
    try:
        return read_volume(item["image"], modality=item.get("read_as"), series=item.get("series"))
    except SeriesError as error:
        raise VolumeError(error.asked_with('"series" in its item of the data list')) from error


def values_in(label: Path) -> list[int]:
    """The values other than 0 in a label file, ascending."""
    return [int(value) for value in np.unique(read_label(label).array) if value != 0]


def names_in(label: Path) -> dict[str, int]:
    """Name -> value of a label file: its own segments' (.seg.nrrd), or "label_<value>" of each value that it shows."""
    return segments_in(label) or {f"label_{value}": value for value in values_in(label)}


def segments_in(label: Path) -> dict[str, int]:
    """Name -> value of the segments that a .seg.nrrd names; empty for other files."""
    return {segment.name: segment.value for segment in read_segments(label)}


def moved(root: Path, relative: str) -> Path:
    """A path of a JSON that was written when the dataset's folder had another name."""
    whole = listed(root, relative)
    # Windows paths split at both kinds of slashes.
    return existing(whole if whole.is_file() else root / Path(*PureWindowsPath(relative).parts[1:]))


def listed(root: Path, relative: str) -> Path:
    """A path of a list that may have been written on Windows, with backslashes between the folders.

    Raises:
        LayoutError: the system cannot look for it.
    """
    path = root / relative
    try:
        return path if path.exists() or "\\" not in relative else root / PureWindowsPath(relative).as_posix()
    except OSError as error:  # a name that is too long, or a folder that may not be looked into
        raise LayoutError(f"{str(path)[:200]} is listed and cannot be looked up: {error.strerror}") from error


def existing(path: Path) -> Path:
    """The path of a file that a list names.

    Raises:
        LayoutError: there is no such file.
    """
    if not path.exists():
        raise LayoutError(f"{path} is listed, but there is no such file; check the root folder")
    return path


def some(found: list, where: Path) -> list:
    """What was found.

    Raises:
        LayoutError: it is nothing.
    """
    if not found:
        raise LayoutError(f"found no labelled image by {where}; is this the right layout and root?")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a data set.

    Raises:
        LayoutError: it is missing or damaged, or no object.
    """
    return read_json_object(path, str(path), LayoutError)
