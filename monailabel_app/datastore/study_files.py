"""Which files of a folder of studies are images and labels, and the id of each: its name without the ending."""

from __future__ import annotations

import fnmatch
import functools
import logging
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from bundle.data.volume import ENDINGS

logger = logging.getLogger(__name__)

_SEGMENTATION = ".seg.nrrd"  # Slicer's own format, which ends as an image does
_DICOM = ".dcm"  # usually one slice of many, which are opened together as a session
IMAGE_ENDINGS = tuple(ending for ending in ENDINGS if ending not in (_SEGMENTATION, _DICOM))
LABEL_ENDINGS = (_SEGMENTATION, *IMAGE_ENDINGS, _DICOM)
_LONGEST_NAME = 200  # bytes; file systems take 255, and an ending and a temporary file's letters come to it
# Control characters and line ends split a line of the log; halves of surrogate pairs are bytes that are no text.
_UNPRINTED = ("Cc", "Cs", "Zl", "Zp")


def is_plain_name(name: str) -> bool:
    """Whether a name can stand for a file of a folder: visible, of readable letters, not too long, without slashes."""
    return (
        bool(name)
        and not name.startswith(".")
        and not any(letter in "/\\" or unicodedata.category(letter) in _UNPRINTED for letter in name)
        and len(name.encode()) <= _LONGEST_NAME
    )


def split_name(name: str) -> tuple[str, str]:
    """The id and the ending of an image's or label's file, whatever its case; the ending is empty if it is neither."""
    ending = next((ending for ending in LABEL_ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)], name[len(name) - len(ending) :]


def is_image(name: str, patterns: Iterable[str]) -> bool:
    """Whether a file's name is an image's, and of one of the forms that count, as ``*.nii.gz``, whatever its case.

    Hidden files are none: macOS keeps its own of the form ``._name`` beside each file (Project-MONAI/MONAI#8305).
    """
    image_id, ending = split_name(name)
    return (
        ending.lower() in IMAGE_ENDINGS
        and is_plain_name(image_id)
        and any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)
    )


def find_images(
    folder: Path, patterns: Sequence[str], current: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The images of a folder.

    Args:
        folder: the folder of studies.
        patterns: which names count.
        current: id -> ending known so far: where another file of that id comes, the known one stays.

    Returns:
        id -> ending, and the ids of several files of which none was known: id -> names. Which of them is meant, only
        a person can say.
    """
    names = _files(folder)
    if any(split_name(name)[1].lower() == _DICOM for name in names):
        _say_once(f"The DICOM files in {folder} are no images of their own; send a series as session, or use DICOMweb")
    splits = [split_name(name) for name in names if is_image(name, patterns)]
    chosen = _one_for_each(folder, splits, current, must_be_known=True)
    files: dict[str, list[str]] = {}
    for image_id, ending in splits:
        files.setdefault(image_id, []).append(f"{image_id}{ending}")
    unclear = {name: found for name, found in files.items() if len(found) > 1 and name not in current}
    for name, found in unclear.items():
        _say_once(f"In {folder} {', '.join(found)} have one id, {name!r}; none of them is served, rename all but one")
    return {name: ending for name, ending in chosen.items() if name not in unclear}, unclear


def find_labels(folder: Path, images: Collection[str], current: Mapping[str, str]) -> dict[str, str]:
    """The labels of a folder that belong to images: id -> ending; arguments as ``find_images``."""
    splits = [split_name(name) for name in _files(folder)]
    return _one_for_each(folder, [split for split in splits if split[1] and split[0] in images], current)


def _files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def _one_for_each(
    folder: Path, splits: list[tuple[str, str]], current: Mapping[str, str], *, must_be_known: bool = False
) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for name, ending in splits:
        found.setdefault(name, []).append(ending)
    chosen = {}
    for name, endings in found.items():
        first, *others = sorted(endings, key=lambda e: (e != current.get(name), LABEL_ENDINGS.index(e.lower()), e))
        if others and (name in current or not must_be_known):
            files = ", ".join(f"{name}{ending}" for ending in others)
            _say_once(f"In {folder} several files have the id {name!r}: {name}{first} is used, {files} not; rename one")
        chosen[name] = first
    return chosen


@functools.lru_cache(maxsize=1024)
def _say_once(sentence: str) -> None:
    """A folder that changes is looked at again and again; what is odd about it is said the first time."""
    logger.warning(sentence)
